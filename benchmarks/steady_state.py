"""Row 5: what a sync costs Sentinel when next to nothing has changed.

The pipeline loads a feed, 1 % of it changes, and a second sync sends the difference. Its requests
are counted against the fewest that could carry the changes, and against those of a connector that
keeps no state and so sends everything again. Counts, not times: they come out alike on any machine.
"""

import math
from pathlib import Path
from typing import Final

from benchmarks.feeds import Changed, open_feed
from benchmarks.pipeline import deliver_all, open_cloud, sync
from benchmarks.table import Figure, Scale
from local.feed import expected_ids

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
        lost = len(cloud.sentinel.missing(expected_ids(second, threshold=THRESHOLD)))
    changed = len(expected_ids(second.changes(), threshold=THRESHOLD))
    assert (lost, run["enqueued"]) == (0, changed), "the second sync did not send the difference"
    passing = run["enqueued"] + run["unchanged"]
    return judge(scale, sent=sent, changed=changed, passing=passing, size=len(first))


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
