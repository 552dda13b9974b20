"""Everything around a sync run, in memory: clock, ledger, queue, Lumen, and ways to break it."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import orjson

from common.backoff import Backoff
from common.envelope import Envelope, decode_envelope
from common.ledger import Ledger, open_ledger
from common.ledger.runs import Run
from common.ledger.tables import Row
from ops.status import Reconciliation, reconcile
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


class Crash(BaseException):
    """The process ends here: nothing catches it, and nothing works after it."""


@dataclass
class World:
    """One pipeline's producer. `after` is called when a write to the ledger has been applied."""

    lumen: ScriptedLumen
    clock: FakeClock = field(default_factory=FakeClock)
    tables: FakeTables = field(default_factory=FakeTables)
    queue: FakeQueue = field(default_factory=FakeQueue)
    after: Callable[[], None] = lambda: None

    @property
    def ledger(self) -> Ledger:
        return open_ledger(LateTables(self))

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
        return [found["id"] for envelope in self.envelopes for found in orjson.loads(envelope.body)]

    def tick(
        self,
        *,
        chunk_size: int = 4,
        max_pages: int = 1000,
        time_budget: float = 1500.0,
        poll_timeout: float = 300.0,
        threshold: int = 65,
    ) -> Run | None:
        """Run what is due once, as a fresh process would."""
        backoff = Backoff(tries=3)
        rng = random.Random(0)  # noqa: S311 - a fixed seed
        ledger = self.ledger
        sender = Sender(queue=self.queue, ledger=ledger, backoff=backoff, clock=self.clock, rng=rng)
        tools = SyncTools(
            lumen=cast("LumenClient", self.lumen), ledger=ledger, sender=sender, clock=self.clock
        )
        config = SyncConfig(
            drain=DrainConfig(
                filters=Filters(threshold=threshold), chunk_size=chunk_size, max_pages=max_pages
            ),
            poll_timeout=poll_timeout,
            time_budget=time_budget,
            lease=LEASE,
        )
        return run_sync(config, tools, owner="test")

    def settle(self) -> None:
        """Let the consumer upload everything that is on the queue."""
        for envelope in self.envelopes:
            self.ledger.chunks.record_uploaded(
                envelope, accepted=envelope.count, rejected=0, at=self.clock.now()
            )

    def fates(self) -> list[Reconciliation]:
        """Return the fate of every run's indicators, the newest first."""
        return [reconcile(run, self.ledger.chunks.of_run(run.run_id)) for run in self.runs]

    def repair(self) -> None:
        """Let everything work again."""
        self.tables.before = lambda _table, _operation: None
        self.queue.before = lambda _text: None
        self.lumen.before = lambda _call, _argument: None
        self.after = lambda: None


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


class LateTables:
    """The world's tables, calling its `after` once a write is applied: an answer can get lost."""

    def __init__(self, world: World) -> None:
        self._world = world

    def table(self, name: str) -> "LateTable":
        return LateTable(self._world, self._world.tables.table(name))


class LateTable:
    """One table of them."""

    def __init__(self, world: World, table: FakeTable) -> None:
        self._world = world
        self._table = table

    def get(self, partition: str, key: str) -> Row | None:
        return self._table.get(partition, key)

    def insert(self, row: Row) -> str:
        etag = self._table.insert(row)
        self._world.after()
        return etag

    def merge(self, row: Row) -> None:
        self._table.merge(row)
        self._world.after()

    def replace(self, row: Row) -> str:
        etag = self._table.replace(row)
        self._world.after()
        return etag

    def delete(self, partition: str, key: str) -> None:
        self._table.delete(partition, key)
        self._world.after()

    def query(self, partition: str | None = None, *, limit: int | None = None) -> Iterator[Row]:
        return self._table.query(partition, limit=limit)

    def merge_all(self, rows: Sequence[Row]) -> None:
        self._table.merge_all(rows)
        self._world.after()


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
