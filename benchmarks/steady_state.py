"""Row 5: what a sync costs Sentinel when next to nothing has changed.

The pipeline loads a feed, 1 % of it changes, and a second sync sends the difference. Its requests
are counted against the fewest that could carry the changes, and against those of a connector that
keeps no state and so sends everything again. Counts, not times: they come out alike on any machine.
The newest version of everything must be at Sentinel in the end, or the row fails.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from benchmarks.feeds import Changed, open_feed
from benchmarks.pages import PAGE
from benchmarks.pipeline import deliver_all, open_cloud, sync
from benchmarks.table import Figure, Scale
from local.accepted_objects import Accepted, digest
from local.feed import Feed, expected_ids

CHUNK: Final = 100
STEP: Final = 100
"""Every hundredth indicator changes."""

INDICATORS: Final = {Scale.QUICK: 20_000, Scale.FULL: 200_000}
THRESHOLD: Final = 65


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Load a feed, change 1 % of it, and count what the second sync sends."""
    first = open_feed(feed, INDICATORS[scale])
    second = Changed(first, STEP)
    with open_cloud(first) as cloud:
        host = cloud.start_host()
        sync(host)
        deliver_all(host)
        loaded = cloud.sentinel.count(method="POST")
        cloud.lumen.replace_feed(second)
        run = sync(host)
        deliver_all(host)
        sent = cloud.sentinel.count(method="POST") - loaded
        old = stale(cloud.sentinel.accepted, second)
    changed = len(expected_ids(second.changes(), threshold=THRESHOLD))
    assert (len(old), run["enqueued"]) == (0, changed), (
        "the second sync did not send the difference"
    )
    passing = run["enqueued"] + run["unchanged"]
    return judge(scale, sent=sent, changed=changed, passing=passing, size=len(first))


def stale(accepted: Mapping[str, Accepted], feed: Feed) -> set[str]:
    """Return the ids of wanted indicators whose newest version is not what Sentinel holds. Pure.

    The app makes a number of a confidence that is text, and leaves all else as it was.
    """
    wanted = expected_ids(feed, threshold=THRESHOLD)
    newest = {
        one["id"]: digest({**one, "confidence": int(one["confidence"])})
        for start in range(0, len(feed), PAGE)
        for one in map(orjson.loads, feed.encoded(start, start + PAGE))
        if isinstance(one, dict) and one.get("id") in wanted
    }
    return {
        name
        for name, version in newest.items()
        if name not in accepted or accepted[name].digest != version
    }


def judge(scale: Scale, *, sent: int, changed: int, passing: int, size: int) -> list[Figure]:
    """Return the figures of a second sync that made `sent` requests. Pure."""
    fewest, stateless = math.ceil(changed / CHUNK), math.ceil(passing / CHUNK)
    what = f"second sync of {size:,} indicators, {changed:,} of {passing:,} wanted ones changed"
    fewer = 90.0 if scale is Scale.FULL else 0.9 * stateless / fewest
    rounding = "" if scale is Scale.FULL else " (so few changes hardly fill their requests)"
    return [
        Figure(
            row="5a",
            what=what,
            value=f"{sent:,} requests",
            reference=f"{fewest:,}, the fewest possible",
            ratio=sent / fewest,
            goal="at most 1.05 x, or one more",
            met=sent <= max(fewest * 1.05, fewest + 1),
        ),
        Figure(
            row="5b",
            what="the same against a connector without state",
            value=f"{sent:,} requests",
            reference=f"{stateless:,} requests",
            ratio=stateless / sent,
            goal=f"at least {fewer:.0f} x fewer{rounding}",
            met=stateless >= fewer * sent,
        ),
    ]
