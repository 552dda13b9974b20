"""Everything around a sync run, in memory: clock, ledger, queue, Lumen, and ways to break it."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from common.backoff import Backoff
from common.envelope import Envelope, decode_envelope
from common.ledger import Ledger, open_ledger
from common.ledger.chunks import Chunk
from common.ledger.problems import Problems
from common.ledger.runs import Run
from common.ledger.slots import Slots
from common.reconciliation import Reconciliation, reconcile
from consumer.look import Sendable, judge_look
from producer.drain import DrainConfig, Sender
from producer.index import VersionIndex
from producer.indicators import Filters
from producer.lumen import LumenClient
from producer.sync import SyncConfig, SyncTools, run_sync
from tests.fakes.clock import FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables
from tests.unit.producer.samples import raw_indicator
from tests.unit.producer.scripted_lumen import ScriptedLumen

LEASE = 600.0
TICK = 900.0
RATE = 95.0
WORKSPACE = "workspace|sentinel"


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


@dataclass
class World:
    """One pipeline's producer."""

    lumen: ScriptedLumen
    clock: FakeClock = field(default_factory=FakeClock)
    queue: FakeQueue = field(default_factory=FakeQueue)

    def __post_init__(self) -> None:
        self.tables = FakeTables(self.clock.monotonic)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.tables)

    @property
    def problems(self) -> Problems:
        return Problems(self.tables, clock=self.clock)

    @property
    def runs(self) -> list[Run]:
        """Every run, the newest first."""
        return list(self.ledger.runs.latest(100))

    @property
    def chunks(self) -> list[Chunk]:
        """Every chunk that has a row."""
        return list(self.ledger.chunks.all())

    @property
    def envelopes(self) -> list[Envelope]:
        """Every message on the queue, in the order of their runs' chunks."""
        found = [decode_envelope(sent.text) for sent in self.queue.sent]
        return sorted(found, key=lambda envelope: (envelope.run_id, envelope.key))

    @property
    def enqueued_ids(self) -> list[str]:
        """The ids of the indicators on the queue, repeats included."""
        return [found for envelope in self.envelopes for found in ids_of(envelope)]

    @property
    def sendable_ids(self) -> list[str]:
        """The ids of the indicators on the queue that a consumer would send."""
        return [found for e, look in self._looks() for found in _chosen(e, look)]

    def tick(
        self,
        *,
        chunk_size: int = 4,
        max_pages: int = 1000,
        poll_timeout: float = 300.0,
        threshold: int = 65,
        destination: str = WORKSPACE,
        owner: str = "test",
        **settings: Any,
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
            index=VersionIndex(self.tables),
            sender=sender,
            queue=self.queue,
            problems=self.problems,
            clock=self.clock,
        )
        config = SyncConfig(
            drain=DrainConfig(
                filters=Filters(threshold=threshold),
                destination=destination,
                chunk_size=chunk_size,
                max_pages=max_pages,
            ),
            poll_timeout=poll_timeout,
            lease=LEASE,
            requests_per_minute=RATE,
            **settings,
        )
        return run_sync(config, tools, owner=owner)

    def settle(self) -> None:
        """Let the consumer upload everything on the queue that may be sent; messages stay."""
        for envelope, look in self._looks():
            self._upload(envelope, look)

    def consume(self, *, rejected: int = 0, of_run: str | None = None) -> list[str]:
        """Upload and take away what is on the queue; return the ids that were sent, in order."""
        sent: list[str] = []
        keys = set()
        for envelope, look in self._looks():
            if of_run in (None, envelope.run_id):
                sent += _chosen(envelope, look)
                self._upload(envelope, look, rejected=rejected)
                keys.add(envelope.name)
        self.queue.sent = [s for s in self.queue.sent if decode_envelope(s.text).name not in keys]
        return sent

    def fates(self) -> list[Reconciliation]:
        """Return the fate of every run's indicators, the newest first."""
        return [reconcile(run, self.ledger.chunks.outcomes(run.run_id)) for run in self.runs]

    def repair(self) -> None:
        """Let everything work again."""
        self.tables.before = lambda _table, _operation: None
        self.tables.after = lambda _table, _operation: None
        self.queue.before = lambda _text: None
        self.lumen.before = lambda _call, _argument: None

    def _looks(self) -> list[tuple[Envelope, Sendable]]:
        """Return what may be sent of each message, judged as the consumer does."""
        chunks = self.ledger.chunks
        found = []
        for envelope in self.envelopes:
            look = judge_look(
                envelope,
                chunks.get(envelope.run_id, envelope.key),
                ledger_id=chunks.known_ledger_id(),
                destination=WORKSPACE,
            )
            if isinstance(look, Sendable):
                found.append((envelope, look))
        return found

    def _upload(self, envelope: Envelope, look: Sendable, *, rejected: int = 0) -> None:
        row = self.ledger.chunks.get(envelope.run_id, envelope.key)
        assert row is not None
        self.ledger.chunks.record_uploaded(
            row, sent=look.indexes, rejected=set(look.indexes[:rejected]), at=self.clock.now()
        )


def _chosen(envelope: Envelope, look: Sendable) -> list[str]:
    ids = ids_of(envelope)
    return [ids[index] for index in look.indexes]


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
