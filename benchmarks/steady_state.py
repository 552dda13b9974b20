"""Row 5: what a sync costs Sentinel when next to nothing has changed.

The pipeline loads a feed, 1 % of it changes, and a second sync sends the difference. Its requests
are counted against the fewest that could carry the changes, and against those of a connector that
keeps no state and so sends everything again. Counts, not times: they come out alike on any machine.
The newest version of everything must be at Sentinel in the end, or the row fails.

Not obvious: that is a tick of the first days. An indicator that does not change stays known for
half to all of its lifetime, and is then sent again; what was loaded at once comes back bit by bit
over the second half. What each tick of that time adds is read off the known indicators of this run,
by asking them what they are at each of those moments.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Final

import orjson
from common.ledger.known import TABLE as KNOWN_TABLE
from common.ledger.known import Known

from benchmarks.feeds import Changed, open_feed
from benchmarks.in_memory import MemoryTables
from benchmarks.pages import PAGE
from benchmarks.pipeline import deliver_all, open_cloud, sync
from benchmarks.table import SHOWN, Figure, Scale
from common.ledger.tables import AzureTables, Row
from common.settings import Secret, StorageSettings
from local.accepted_objects import Accepted, digest
from local.cloud import LocalCloud
from local.feed import Feed, expected_ids

CHUNK: Final = 100
STEP: Final = 100
"""Every hundredth indicator changes."""

INDICATORS: Final = {Scale.QUICK: 20_000, Scale.FULL: 200_000}
THRESHOLD: Final = 65

LIFETIME: Final = timedelta(days=7)
"""`REUPLOAD_AFTER_DAYS`, by default."""

TICK: Final = timedelta(minutes=15)
"""Between two syncs, by default."""


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
        back = expiring(_known_rows(cloud))
    changed = len(expected_ids(second.changes(), threshold=THRESHOLD))
    assert (len(old), run["enqueued"]) == (0, changed), (
        "the second sync did not send the difference"
    )
    passing = run["enqueued"] + run["unchanged"]
    assert sum(back) == passing, "not all that was loaded comes back"
    return [
        *judge(scale, sent=sent, changed=changed, passing=passing, size=len(first)),
        judge_second_half(back, changed=changed, passing=passing),
    ]


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


def expiring(rows: Sequence[Row]) -> list[int]:
    """Return how many known indicators of one day each tick of the second half sends again. Pure.

    `rows` are those of the ledger's known indicators.
    """
    tables = MemoryTables()
    tables.table(KNOWN_TABLE).merge_all(rows)
    known = Known(tables)
    (day,) = {row.partition for row in rows}
    start = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) + LIFETIME / 2
    left = [
        sum(map(len, known.load(as_of=start + number * TICK, lifetime=LIFETIME)))
        for number in range(LIFETIME // TICK // 2 + 1)
    ]
    return [before - after for before, after in pairwise(left)]


def _known_rows(cloud: LocalCloud) -> list[Row]:
    storage = StorageSettings(connection_string=Secret(cloud.connection_string))
    return list(AzureTables(storage).table(KNOWN_TABLE).query())


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


def judge_second_half(back: Sequence[int], *, changed: int, passing: int) -> Figure:
    """Return the figure of ticks that each send `back` again besides what has changed. Pure."""
    fewest, stateless = math.ceil(changed / CHUNK), math.ceil(passing / CHUNK)
    sent = fmean(math.ceil((changed + again) / CHUNK) for again in back)
    return Figure(
        row="5c",
        what=f"the same in the second half of {LIFETIME.days} days after the first load",
        value=f"{sent:.1f} requests",
        reference=f"{fewest:,}, the fewest for what has changed",
        ratio=sent / fewest,
        goal=SHOWN,
        met=None,
        note=f"mean of {len(back)} ticks, computed: each sends {fmean(back):,.0f} unchanged ones "
        f"again ({min(back):,} to {max(back):,}), besides {changed:,} changed ones; "
        f"{stateless / sent:.1f} x fewer than without state",
    )
