"""Row 11: four hours without Sentinel, while one indicator in a hundred changes at every tick.

The real sync runs tick by tick on tables in memory that count what they are asked for; Lumen is an
adapter at the border of `requests`. Nothing is delivered meanwhile. The same indicators change at
each tick, so that every version but the last is struck: that is the most strikes there can be, and
the least that is left to send. Counts, not times: they come out alike on any machine.

The last line is what everyday looks like: an indicator that was settled long ago changes, and its
new version leaves at once, without the delay that keeps it behind requests with the older one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from io import BytesIO
from math import ceil
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from benchmarks.feeds import open_feed
from benchmarks.in_memory import MemoryTable, MemoryTables
from benchmarks.pages import PAGE, encode_page
from benchmarks.table import Figure, Scale
from common.backoff import Backoff
from common.clock import SystemClock
from common.delivery import LONGEST_DELIVERY
from common.ledger import Ledger, open_ledger
from common.ledger.problems import Problems
from common.ledger.slots import Slots
from common.ledger.states import RunState
from common.ledger.tables import Operation, Row
from common.queues import drain_time
from common.settings import Secret
from common.transport import PlainSession
from local.services.feed import Feed
from producer.drain import DrainConfig, Sender
from producer.index import VersionIndex
from producer.indicators import Filters
from producer.lumen import LumenClient
from producer.sync import SyncConfig, SyncTools, run_sync

INDICATORS: Final = {Scale.QUICK: 10_000, Scale.FULL: 100_000}
STEP: Final = 100
TICKS: Final = 16
"""Four hours of ticks, one every 15 minutes."""

RATE: Final = 95.0
MOST_OPERATIONS: Final = 4.0
"""A changed indicator's share of a chunk's operations, and a read and a write for its strike, are
well below this."""


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Load, settle, and let the feed change while nothing is delivered."""
    objects = open_feed(feed, INDICATORS[scale])
    tables, queue = CountingTables(age=timedelta(hours=1)), DelayedQueue()
    ledger = open_ledger(tables)
    _tick(objects, tables, queue)
    settle(ledger)
    _tick(objects, tables, queue)  # folds what was settled
    queue.delays.clear()
    _tick(_Stamped(objects, 1), tables, queue)
    prompt = sum(delay < LONGEST_DELIVERY for delay in queue.delays)
    figures = [judge_prompt(prompt, len(queue.delays))]
    settle(ledger)
    queue.delays.clear()
    tables.counts.clear()
    changed = sum(_tick(_Stamped(objects, number), tables, queue) for number in range(2, TICKS + 2))
    fate = [chunk.fate for chunk in ledger.chunks.all()]
    return [
        judge_outage(
            changed=changed,
            struck=sum(one.struck for one in fate)
            + sum(run.folded.struck for run in ledger.runs.latest(10 * TICKS)),
            pending=sum(one.pending for one in fate),
            messages=len(queue.delays),
            operations=tables.counts.total(),
        ),
        *figures,
    ]


def judge_outage(
    *, changed: int, struck: int, pending: int, messages: int, operations: int
) -> Figure:
    """Return the figure of an outage in which `changed` versions were enqueued. Pure."""
    per_change = operations / changed
    left = ceil(pending / 100)
    settled = drain_time(messages, requests_per_minute=RATE) / timedelta(minutes=1)
    return Figure(
        row="11a",
        what=f"storage operations of {TICKS} ticks without Sentinel, 1 % changes at each",
        value=f"{per_change:.2f} a changed indicator",
        reference=f"{changed:,} versions were enqueued, {struck:,} of them struck",
        ratio=None,
        goal=f"at most {MOST_OPERATIONS:g}; all but the last versions struck",
        met=per_change <= MOST_OPERATIONS and struck + pending == changed,
        note=f"{operations:,} table operations; {pending:,} indicators are left for {left} "
        f"requests; the {messages} messages have slots for {settled:.1f} minutes at {RATE:g} a "
        "minute, and those of struck chunks are acknowledged unsent",
    )


def judge_prompt(prompt: int, messages: int) -> Figure:
    """Return the figure of messages of which so many left without the delay. Pure."""
    return Figure(
        row="11b",
        what="chunks of changed indicators, settled long ago, that leave without the delay",
        value=f"{prompt}",
        reference=f"{messages} chunks",
        ratio=None,
        goal="all",
        met=prompt == messages > 0,
    )


def settle(ledger: Ledger) -> None:
    """Upload every chunk, as the consumers would."""
    for chunk in list(ledger.chunks.all()):
        if chunk.to_send:
            ledger.chunks.record_uploaded(
                chunk, sent=chunk.to_send, rejected=(), at=SystemClock().now()
            )


def _tick(feed: Feed, tables: MemoryTables, queue: "DelayedQueue") -> int:
    """Run a sync to its end; return how many indicators it enqueued."""
    clock, rng = SystemClock(), Random(0)  # noqa: S311 - jitter
    backoff = Backoff(base=0.0, cap=0.0, tries=1)
    ledger = open_ledger(tables)
    session = PlainSession()
    session.mount("https://", _FeedLumen(feed))
    tools = SyncTools(
        lumen=LumenClient(
            base_url="https://lumen.invalid",
            api_key=Secret("a-key"),
            backoff=backoff,
            clock=clock,
            rng=rng,
            session=session,
        ),
        ledger=ledger,
        index=VersionIndex(tables),
        sender=Sender(
            queue=queue,
            ledger=ledger,
            slots=Slots(tables, clock=clock, requests_per_minute=RATE),
            backoff=backoff,
            clock=clock,
            rng=rng,
        ),
        queue=queue,
        problems=Problems(tables, clock=clock),
        clock=clock,
    )
    drain = DrainConfig(filters=Filters(threshold=0), destination="api.invalid/the-workspace")
    run = run_sync(SyncConfig(drain=drain, poll_interval=0.0), tools, owner="benchmark")
    assert run is not None
    assert run.state is RunState.COMPLETE, run.reason
    return run.counts.enqueued


class _Stamped:
    """A feed of which every `STEP`-th object was modified at the `number`-th tick."""

    def __init__(self, feed: Feed, number: int) -> None:
        self._feed = feed
        self._modified = f"2027-01-01T{number:02d}:00:00.000Z"

    def __len__(self) -> int:
        return len(self._feed)

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """See :class:`Feed`."""
        found = self._feed.encoded(start, stop)
        for at in range(-start % STEP, len(found), STEP):
            found[at] = orjson.dumps({**orjson.loads(found[at]), "modified": self._modified})
        return found


class _FeedLumen(BaseAdapter):
    """Answers the three calls of Lumen's API with a feed."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer one call."""
        answer = requests.Response()
        answer.status_code = 200
        answer.raw = HTTPResponse(
            BytesIO(self._body(str(request.url).rpartition("/")[2])), preload_content=False
        )
        return answer

    def close(self) -> None:
        """Nothing is open."""

    def _body(self, last: str) -> bytes:
        if last == "reputation-query":
            return b'{"cache_id":"the-query"}'
        if last == "the-query":
            return b'{"status":"COMPLETED","token_id":"page-0"}'
        start = int(last.removeprefix("page-"))
        return encode_page(self._feed, start, following=f"page-{start + PAGE}")


class DelayedQueue:
    """Takes every message and keeps only its delay; to the producer it looks empty."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    def send(self, text: str, *, delay: float = 0.0) -> None:  # noqa: ARG002 - the queue's shape
        self.delays.append(delay)

    def depth(self) -> int:
        return 0


class CountingTables(MemoryTables):
    """Tables that count what Azure would bill: each call, and a transaction as one."""

    def __init__(self, *, age: timedelta) -> None:
        super().__init__(age=age)
        self.counts: Counter[str] = Counter()

    def table(self, name: str) -> MemoryTable:
        return self._tables.setdefault(name, _CountingTable(self._age, self.counts))


class _CountingTable(MemoryTable):
    def __init__(self, age: timedelta, counts: "Counter[str]") -> None:
        super().__init__(age)
        self._counts = counts

    def get(self, partition: str, key: str) -> Row | None:
        self._counts["get"] += 1
        return super().get(partition, key)

    def replace(self, row: Row) -> str:
        self._counts["replace"] += 1
        return super().replace(row)

    def merge(self, row: Row) -> None:
        self._counts["merge"] += 1
        super().merge(row)

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        before = dict(self._counts)
        etags = super().transact(operations)
        self._counts.clear()
        self._counts.update(before)
        self._counts["transact"] += 1
        return etags

    def query(self, partition: str | None = None, **options: Any) -> Iterator[Row]:
        self._counts["query"] += 1
        return super().query(partition, **options)
