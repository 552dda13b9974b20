"""Row 5: what a sync costs Sentinel when next to nothing has changed.

The pipeline loads a feed, 1 % of it changes, and a second sync sends the difference. Its requests
are counted against the fewest that could carry the changes, and against those of a connector that
keeps no state and so sends everything again. Counts, not times: they come out alike on any machine.
The newest version of everything must be at Sentinel in the end, or the row fails.

Nothing that is unchanged is sent again, however much later: Sentinel republishes what it holds by
itself. So the version index of this run is asked once more, as a sync on each of the next 30 days
would ask it.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson

from benchmarks.feeds import Changed, open_feed
from benchmarks.pages import PAGE, encode_page
from benchmarks.pipeline import deliver_all, open_cloud, sync
from benchmarks.table import Figure, Scale
from common.ledger import open_ledger
from common.ledger.tables import AzureTables
from common.settings import Secret, StorageSettings
from local.cloud import LocalCloud
from local.services.accepted_objects import Accepted, digest
from local.services.feed import Feed, expected_ids
from producer.entries import Keeping
from producer.fold import FoldConfig, survey
from producer.index import VersionIndex
from producer.indicators import Filters, Indicator, judge_page
from producer.known import Known
from producer.lumen import decode_answer, read_page
from producer.versions import Policy

CHUNK: Final = 100
STEP: Final = 100
"""Every hundredth indicator changes."""

INDICATORS: Final = {Scale.QUICK: 20_000, Scale.FULL: 200_000}
THRESHOLD: Final = 65

DAYS: Final = 30
"""Days on which nothing that is unchanged may be sent."""


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
        known, today = _known(cloud)
    changed = len(expected_ids(second.changes(), threshold=THRESHOLD))
    assert (len(old), run["enqueued"]) == (0, changed), (
        "the second sync did not send the difference"
    )
    passing = run["enqueued"] + run["unchanged"]
    again = [sent_again(known, second, day=today + day) for day in range(1, DAYS + 1)]
    return [
        *judge(scale, sent=sent, changed=changed, passing=passing, size=len(first)),
        judge_again(again, passing=passing),
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


def _known(cloud: LocalCloud) -> tuple[Known, int]:
    """Return what the next sync knows, and its day."""
    tables = AzureTables(StorageSettings(connection_string=Secret(cloud.connection_string)))
    ledger, index = open_ledger(tables), VersionIndex(tables)
    ((destination,), _) = index.destinations()
    today = int(time.time() // 86_400)
    found = survey(
        runs=ledger.runs,
        chunks=ledger.chunks,
        index=index,
        config=FoldConfig(destination=destination, keeping=Keeping()),
        tick="the-next",
        today=today,
        keep_going=lambda: None,
    )
    return found.known, today


def sent_again(known: Known, feed: Feed, *, day: int) -> int:
    """Return how many indicators of `feed` a sync on that day sends, given what is `known`."""
    filters, policy = Filters(threshold=THRESHOLD), Policy(today=day)
    count = 0
    for start in range(0, len(feed), PAGE):
        page = read_page(decode_answer(encode_page(feed, start, following="more")))
        verdicts = judge_page(page.objects, filters, known, policy)
        count += sum(isinstance(verdict, Indicator) for verdict in verdicts)
    return count


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
            goal="1 x: exactly the fewest",
            met=sent == fewest,
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


def judge_again(again: Sequence[int], *, passing: int) -> Figure:
    """Return the figure of days that each send so many unchanged indicators again. Pure."""
    return Figure(
        row="5c",
        what=f"unchanged indicators sent again within {len(again)} days, a sync a day",
        value=f"{sum(again):,}",
        reference=f"{passing:,} are held",
        ratio=None,
        goal="0",
        met=not any(again),
    )
