"""Everything around a sync run, in memory: clock, ledger, queue, Lumen, and ways to break it."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import orjson

from common.backoff import Backoff
from common.envelope import Envelope, decode_envelope
from common.fingerprints import id_hash, pack
from common.ledger import Ledger, open_ledger
from common.ledger.runs import Run
from common.ledger.slots import Slots
from common.ledger.tables import Row
from ops.reconciliation import Reconciliation, reconcile
from producer.drain import DrainConfig, Sender
from producer.indicators import Filters
from producer.lumen import LumenClient
from producer.sync import SyncConfig, SyncTools, run_sync
from tests.fakes.clock import FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTable, FakeTables
from tests.unit.producer.samples import raw_indicator
from tests.unit.producer.scripted_lumen import ScriptedLumen

LEASE = 600.0
TICK = 900.0
REUPLOAD_AFTER = timedelta(days=7)
RATE = 95.0


class Crash(BaseException):
    """The process ends here: nothing catches it, and nothing works after it."""


@dataclass
class FailAt:
    """Counts calls and raises at one of them (`at`, from 0), or from that one on (`lasting`)."""

    error: Callable[[], BaseException]
    at: int = 10**9
    lasting: bool = False
    calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, *_: object) -> None:
        with self._lock:
            call = self.calls
            self.calls += 1
        if call == self.at or (self.lasting and call > self.at):
            raise self.error()


class LateTables(FakeTables):
    """Tables that call `after` once a write is applied: its answer can get lost.

    `replaced` is called with what a replace has written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.after: Callable[[], None] = lambda: None
        self.replaced: Callable[[LateTable, Row], None] = lambda _table, _row: None
        self._late: dict[str, LateTable] = {}

    def table(self, name: str) -> FakeTable:
        return self._late.setdefault(name, LateTable(name, self))


class LateTable(FakeTable):
    """One of them."""

    def __init__(self, name: str, tables: LateTables) -> None:
        super().__init__(name, tables)
        self._late = tables

    def insert(self, row: Row) -> str:
        etag = super().insert(row)
        self._late.after()
        return etag

    def merge(self, row: Row) -> None:
        super().merge(row)
        self._late.after()

    def replace(self, row: Row) -> str:
        etag = super().replace(row)
        self._late.after()
        self._late.replaced(self, row)
        return etag

    def delete(self, partition: str, key: str) -> None:
        super().delete(partition, key)
        self._late.after()

    def merge_all(self, rows: Sequence[Row]) -> None:
        super().merge_all(rows)
        self._late.after()

    def delete_all(self, keys: Sequence[tuple[str, str]]) -> None:
        super().delete_all(keys)
        self._late.after()


@dataclass
class World:
    """One pipeline's producer."""

    lumen: ScriptedLumen
    clock: FakeClock = field(default_factory=FakeClock)
    tables: LateTables = field(default_factory=LateTables)
    queue: FakeQueue = field(default_factory=FakeQueue)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.tables)

    @property
    def runs(self) -> list[Run]:
        """Every run, the newest first."""
        return list(self.ledger.runs.latest(100))

    @property
    def envelopes(self) -> list[Envelope]:
        """Every message on the queue, in the order of their runs' chunks."""
        found = [decode_envelope(sent.text) for sent in self.queue.sent]
        return sorted(found, key=lambda envelope: (envelope.run_id, envelope.sequence))

    @property
    def enqueued_ids(self) -> list[str]:
        """The ids of the indicators on the queue, repeats included."""
        return [found for envelope in self.envelopes for found in ids_of(envelope)]

    def tick(
        self,
        *,
        chunk_size: int = 4,
        max_pages: int = 1000,
        time_budget: float = 1500.0,
        poll_timeout: float = 300.0,
        threshold: int = 65,
        reupload_after: timedelta = REUPLOAD_AFTER,
    ) -> Run | None:
        """Run what is due once, as a fresh process would."""
        backoff = Backoff(tries=3)
        rng = random.Random(0)  # noqa: S311 - a fixed seed
        ledger = self.ledger
        sender = Sender(
            queue=self.queue,
            ledger=ledger,
            slots=Slots(self.tables, clock=self.clock, requests_per_minute=RATE),
            backoff=backoff,
            clock=self.clock,
            rng=rng,
        )
        tools = SyncTools(
            lumen=cast("LumenClient", self.lumen),
            ledger=ledger,
            sender=sender,
            queue=self.queue,
            poison_queue=FakeQueue(),
            clock=self.clock,
        )
        config = SyncConfig(
            drain=DrainConfig(
                filters=Filters(threshold=threshold), chunk_size=chunk_size, max_pages=max_pages
            ),
            poll_timeout=poll_timeout,
            time_budget=time_budget,
            lease=LEASE,
            reupload_after=reupload_after,
            requests_per_minute=RATE,
        )
        return run_sync(config, tools, owner="test")

    def settle(self) -> None:
        """Let the consumer upload everything that is on the queue."""
        for envelope in self.envelopes:
            self.ledger.chunks.record_uploaded(
                envelope, accepted=envelope.count, rejected=0, at=self.clock.now()
            )

    def consume(
        self, *, rejected: int = 0, late: bool = False, of_run: str | None = None
    ) -> list[str]:
        """Upload and take away what is on the queue; return its indicators' ids, in order."""
        uploaded = [found for found in self.envelopes if of_run in (None, found.run_id)]
        for envelope in uploaded:
            refused = min(rejected, envelope.count)
            self.ledger.chunks.record_uploaded(
                envelope,
                accepted=envelope.count - refused,
                rejected=refused,
                at=self.clock.now(),
                late_ids=pack(map(id_hash, ids_of(envelope))) if late else b"",
            )
        keys = {found.key for found in uploaded}
        self.queue.sent = [s for s in self.queue.sent if decode_envelope(s.text).key not in keys]
        return [found for envelope in uploaded for found in ids_of(envelope)]

    def fates(self) -> list[Reconciliation]:
        """Return the fate of every run's indicators, the newest first."""
        return [reconcile(run, self.ledger.chunks.of_run(run.run_id)) for run in self.runs]

    def repair(self) -> None:
        """Let everything work again."""
        self.tables.before = lambda _table, _operation: None
        self.queue.before = lambda _text: None
        self.lumen.before = lambda _call, _argument: None
        self.tables.after = lambda: None


def ids_of(envelope: Envelope) -> list[str]:
    """Return the ids of a chunk's indicators, in order."""
    return [found["id"] for found in orjson.loads(envelope.body)]


def feed(shapes: Sequence[str]) -> list[list[object]]:
    """Return pages by their letters: i wanted, f filtered, x invalid, o wanted of another kind."""
    numbers = iter(range(10_000))

    def made(kind: str) -> object:
        match kind:
            case "i":
                return raw_indicator(next(numbers))
            case "o":
                return raw_indicator(next(numbers), pattern="[url:value = 'x']")
            case "f":
                return raw_indicator(next(numbers), confidence=10)
            case _:
                return {"type": "indicator", "n": next(numbers)}

    return [[made(kind) for kind in shape] for shape in shapes]


def wanted_ids(pages: Sequence[Sequence[object]]) -> list[str]:
    """Return the ids that must arrive, written against the letters of `feed`."""
    return [
        record["id"]
        for page in pages
        for record in page
        if isinstance(record, dict) and record.get("confidence", 0) >= 65
    ]
