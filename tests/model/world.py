"""The pipeline's own code between services that are models: Lumen, the queue, Sentinel.

Storage is in memory and tells time by the stage. What Lumen listed, what Sentinel took and when a
request took effect are remembered, so that a history can be judged in the end.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

import orjson

from common.backoff import Backoff
from common.clock import Clock
from common.delivery import LOOK_IS_GOOD_FOR, REQUEST_WITHIN
from common.envelope import Envelope, decode_envelope
from common.errors import ConflictError, GapError, UnavailableError
from common.identity import TokenSource
from common.ledger import Ledger, open_ledger
from common.ledger.chunks import Chunk, Chunks, chunk_of
from common.ledger.partitions import HEAD_KEY, partition_of
from common.ledger.problems import Problems
from common.ledger.rejections import RejectedBy
from common.ledger.runs import Folded
from common.ledger.sends import Sends
from common.ledger.slots import Slots
from common.ledger.states import CLOSED_RUNS, Letter
from common.ledger.tables import Row
from common.queues import MAX_PEEKED
from consumer.poison import PoisonKeeper, handle_poison
from consumer.sentinel import Answer, RecordError, Refused, SentinelClient, Unavailable, Uploaded
from consumer.wiring import make_deliverer
from ops import lost, rejections
from ops.destination import adopt
from ops.poison import Selection, discard, find, replay
from producer.drain import DrainConfig, Sender
from producer.fold import counted
from producer.index import VersionIndex
from producer.indicators import Filters
from producer.lumen import LumenClient, Page, QueryState, QueryStatus
from producer.sync import SyncConfig, SyncTools, run_sync
from tests.fakes.tables import FakeTables
from tests.model.stage import ActorClock, Stage

LEASE = 600.0
HIDDEN = 600.0
"""Seconds for which the host hides a message that it received."""
LOST_AFTER = timedelta(seconds=2 * HIDDEN)
"""Longer than any message of this world is invisible."""
MAX_RECEIVES = 5
THRESHOLDS = (50, 65, 85)
DOMAIN = "domain-name"
HERE = "model/workspace"
THERE = "model/another"
"""To which an operator may move the app, once."""
UNDER_WAY = "under way"
"""The gate behind which Sentinel's answer comes."""
WRITTEN_AGAIN = frozenset({"replace", "transact"})
"""Calls that the storage client repeats when their answer is lost: they find their own write."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an indicator as Lumen lists it."""

    number: int
    modified: int
    confidence: int = 95
    revoked: bool = False
    is_bad: bool = False

    @property
    def indicator_id(self) -> str:
        return f"indicator--00000000-0000-4000-8000-{self.number:012d}"

    @property
    def kind(self) -> str:
        """Which kind of value it is about: its number tells."""
        return DOMAIN if self.number % 2 else "ipv4-addr"

    def record(self) -> dict[str, Any]:
        return {
            "type": "indicator",
            "id": self.indicator_id,
            "created": "2026-01-01T00:00:00Z",
            "modified": f"2026-01-01T00:{self.modified // 60:02d}:{self.modified % 60:02d}.000Z",
            "pattern": f"[{self.kind}:value = '192.0.2.{self.number}']",
            "pattern_type": "stix",
            "valid_from": "2026-01-01T00:00:00Z",
            "confidence": self.confidence,
            "revoked": self.revoked,
            "labels": ["bad"] if self.is_bad else [],
        }


def version_of(record: dict[str, Any]) -> Version:
    """Return the version that a record is."""
    minutes, seconds = record["modified"][14:19].split(":")
    return Version(
        number=int(record["id"][-12:]),
        modified=int(minutes) * 60 + int(seconds),
        confidence=record["confidence"],
        revoked=record["revoked"],
        is_bad=record["labels"] == ["bad"],
    )


@dataclass
class Query:
    """A query that was started: its pages, and whether Lumen still knows it."""

    pages: list[list[Version]]
    started: float
    destination: str
    """What the tick was set for that started it."""
    is_known: bool = True
    was_read: int = 0

    def listed(self) -> Iterator[tuple[int, Version]]:
        """Yield each version that it lists, with the number of its page."""
        return ((at, version) for at, page in enumerate(self.pages) for version in page)


class ModelLumen:
    """Lists each version once (deltas), or the newest of everything (snapshots)."""

    def __init__(self, stage: Stage, *, snapshots: bool) -> None:
        self._stage = stage
        self._snapshots = snapshots
        self._newest: dict[int, Version] = {}
        self._changed: list[Version] = []
        self.queries: list[Query] = []
        self.page_size = 3
        self.fails: Callable[[], bool] = lambda: False

    def change(self, version: Version) -> None:
        """Let an indicator have another version from now on."""
        self._changed.append(version)
        self._newest[version.number] = version

    @property
    def has_news(self) -> bool:
        """Whether something changed that no query has listed."""
        return bool(self._changed)

    def list_again(self) -> None:
        """Let the next query list the newest version of everything."""
        self._changed = list(self._newest.values())

    def start_query(self, *, before: Callable[[], object], **_: object) -> str | None:
        before()
        while self.fails():  # refused, and tried again after a while
            self._stage.gate("waiting to ask again")
            before()
        # No gate here: looking at the clock and asking count as one step.
        rng = self._stage.rng
        listed = list(self._newest.values()) if self._snapshots else self._changed
        if self._snapshots:
            rng.shuffle(listed)
        self._changed = []
        size = self.page_size
        pages = [listed[at : at + size] for at in range(0, len(listed), size)] or [[]]
        actor = self._stage.current
        destination = "" if actor is None else actor.destination
        self.queries.append(Query(pages=pages, started=self._stage.now, destination=destination))
        self._stage.gate("lumen answers")
        return str(len(self.queries) - 1)

    def query_status(self, cache_id: str, **_: object) -> QueryStatus:
        self._call()
        self._query(int(cache_id))
        return QueryStatus(state=QueryState.COMPLETED, token=f"{cache_id}-0")

    def fetch_page(self, token: str, **_: object) -> Page:
        self._call()
        number, at = map(int, token.split("-"))
        query = self._query(number)
        query.was_read = max(query.was_read, at + 1)
        last = at + 1 == len(query.pages)
        return Page(
            objects=[version.record() for version in query.pages[at]],
            next_token=None if last else f"{number}-{at + 1}",
        )

    def _query(self, number: int) -> Query:
        query = self.queries[number]
        if not query.is_known:
            raise GapError("Lumen does not know the query any more")
        return query

    def _call(self) -> None:
        self._stage.gate("lumen")
        if self.fails():
            raise UnavailableError("Lumen is out")


@dataclass
class Message:
    """A message of the queue."""

    text: str
    visible_at: float
    receives: int = 0
    receipt: int = 0
    is_deleted: bool = False


class ModelQueue:
    """A storage queue: messages hidden for a time, by the stage's clock."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.messages: list[Message] = []
        self.smallest: dict[tuple[str, int], int] = {}
        """How many records the smallest message had that carried a record of a chunk."""
        self.fails: Callable[[], bool] = lambda: False

    def send(self, text: str, *, delay: float = 0.0) -> None:
        self._stage.gate("send")
        if self.fails():
            raise UnavailableError("the queue is out")
        self.put(text, delay=delay)
        self._stage.gate("sent")

    def put(self, text: str, *, delay: float = 0.0) -> None:
        """Put a message on the queue."""
        self.messages.append(Message(text, self._stage.now + max(delay, 0.0)))
        envelope = decode_envelope(text)
        for index in envelope.indexes:
            record = envelope.name, index
            self.smallest[record] = min(envelope.count, self.smallest.get(record, envelope.count))

    def depth(self) -> int:
        return len(self.messages)

    def peek(self) -> list[str]:
        self._stage.gate("peek")
        oldest = sorted(self.visible(), key=lambda message: message.visible_at)
        return [message.text for message in oldest[:MAX_PEEKED]]

    def visible(self) -> list[Message]:
        """Return the messages that can be received now."""
        return [found for found in self.messages if found.visible_at <= self._stage.now]

    def receive(self, message: Message) -> int:
        """Hide a message; return the receipt under which it may be deleted."""
        message.visible_at = self._stage.now + HIDDEN
        message.receives += 1
        message.receipt += 1
        return message.receipt

    def delete(self, message: Message, receipt: int) -> None:
        """Remove a message, unless somebody else has received it since."""
        if message.receipt == receipt and message in self.messages:
            self.messages.remove(message)


@dataclass(eq=False)
class InFlight:
    """A request that has been sent and takes effect between now and `until`."""

    versions: list[Version]
    until: float
    answer: Answer | None = None


class ModelSentinel:
    """Holds the version of each indicator that took effect last.

    For a bad one it refuses the request as a whole where it `refuses_whole`, and then `names` it or
    not; else it takes the others. During an outage it `refuses_all`.
    """

    def __init__(self, stage: Stage, destination: str) -> None:
        self._stage = stage
        self.destination = destination
        self.holds: dict[int, Version] = {}
        self.refused: set[Version] = set()
        """Bad versions that it has seen."""
        self.is_lenient = False
        """Whether it takes what it refused before: what was wrong with it has been put right."""
        self.refuses_whole = False
        self.names = True
        self.refuses_all = False
        self.fails: Callable[[], bool] = lambda: False
        self.sent = 0
        self.offences: list[str] = []
        self.may_be_sent: Callable[[list[Version]], str] = lambda _versions: ""
        """Returns what is wrong with sending these versions now."""
        self._in_flight: list[InFlight] = []
        stage.on_time.append(self._take_effect)

    def upload(self, objects: bytes, *, count: int, token: str) -> Answer:
        self.sent += 1
        versions = [version_of(record) for record in orjson.loads(objects)]
        assert len(versions) == count
        offence = self.may_be_sent(versions)
        if offence:
            self.offences.append(offence)
        if self.fails():
            return Unavailable(reason="Sentinel is out")
        request = InFlight(versions=versions, until=self._stage.now + REQUEST_WITHIN - 1)
        self._in_flight.append(request)
        self._stage.gate(UNDER_WAY)
        answer = self._apply(request)
        self._stage.gate("answered")
        if self.fails():
            return Unavailable(reason="the answer was lost")
        return answer

    def _refuses(self, version: Version) -> bool:
        return version.is_bad and not self.is_lenient

    def _apply(self, request: InFlight) -> Answer:
        if request.answer is not None:
            return request.answer
        self._in_flight.remove(request)
        request.answer = self._answer(request.versions)
        if isinstance(request.answer, Uploaded):
            taken = [version for version in request.versions if not self._refuses(version)]
            self.holds |= {version.number: version for version in taken}
        self.refused |= {version for version in request.versions if self._refuses(version)}
        return request.answer

    def _answer(self, versions: list[Version]) -> Answer:
        bad = [
            at for at, version in enumerate(versions) if self._refuses(version) or self.refuses_all
        ]
        errors = tuple(RecordError(index=index, messages=("bad",)) for index in bad)
        if bad and (self.refuses_whole or len(bad) == len(versions)):
            return Refused(reason="bad", named=errors if self.names else ())
        return Uploaded(rejected=errors)

    def _take_effect(self, now: float) -> None:
        for request in list(self._in_flight):
            if request.until <= now:
                self._apply(request)


class InlineExecutor(Executor):
    """Runs everything at once, on the caller's thread."""

    def __init__(self, *_: object) -> None:
        """Take what a thread pool takes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future carries it
            future.set_exception(error)
        return future


class FixedToken:
    """A token that is always good."""

    def token(self) -> str:
        return "token"

    def refresh(self, *, refused: str) -> str:
        return refused


class WatchedChunks(Chunks):
    """Tells of a chunk before it is declared lost.

    Not behind the answer: that may be lost, and others may fold the row before it comes.
    """

    def __init__(self, tables: FakeTables, *, told: Callable[[Chunk], None]) -> None:
        super().__init__(tables)
        self._told = told

    def declare_lost(self, chunk: Chunk, *, at: datetime, reason: str) -> bool:
        self._told(chunk)
        return super().declare_lost(chunk, at=at, reason=reason)


@dataclass
class World:
    """One pipeline."""

    stage: Stage
    snapshots: bool = False
    tables: FakeTables = field(init=False)
    queue: ModelQueue = field(init=False)
    poison_queue: ModelQueue = field(init=False)
    lumen: ModelLumen = field(init=False)
    sentinel: ModelSentinel = field(init=False)
    """The workspace that the app is set for now."""
    left: ModelSentinel | None = None
    """The one that it was set for before."""
    clock: Clock = field(init=False)
    lost_ids: set[int] = field(default_factory=set)
    """Hashes of indicators whose message was cleared, or whose chunk was declared lost."""
    lost_chunks: set[str] = field(default_factory=set)
    """Names of chunks that were declared lost, or may have been: the call was made."""
    discarded: dict[tuple[str, int], int] = field(default_factory=dict)
    """Records that an operator gave up for good, by chunk and index: the numbers of indicators."""
    offences: list[str] = field(default_factory=list)
    """Records that were given up though nobody said so."""
    removed: dict[str, Folded] = field(default_factory=dict)
    """By run: what its removed rows said when they were removed."""
    chunk_size: int = 2
    max_pages: int = 1000
    threshold: int = THRESHOLDS[1]
    domains: bool = True
    storage_fails: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.tables = FakeTables(monotonic=lambda: self.stage.now)
        self.tables.before = self._before_a_call
        self.tables.after = self._after_a_call
        self.tables.on_removal = self._note_removal
        self.queue = ModelQueue(self.stage)
        self.poison_queue = ModelQueue(self.stage)
        self.lumen = ModelLumen(self.stage, snapshots=self.snapshots)
        self.sentinel = ModelSentinel(self.stage, HERE)
        self.clock = ActorClock(self.stage)
        self.sentinel.may_be_sent = self._may_be_sent

    def _before_a_call(self, table: str, operation: str) -> None:
        self.stage.gate(f"{table} {operation}")
        if self.storage_fails():
            raise UnavailableError("storage is out")

    def _after_a_call(self, table: str, operation: str) -> None:
        """The call took effect; its answer may be lost, and a client writes again by itself."""
        self.stage.gate(f"{table} {operation} done")
        if self.storage_fails():
            if operation in WRITTEN_AGAIN and self.stage.rng.random() < 0.5:
                raise ConflictError("the row has changed: this very call changed it")
            raise UnavailableError("the answer was lost")

    def _note_removal(self, table: str, row: Row) -> None:
        if table == "chunks" and "records" in row.data:
            chunk = chunk_of(row)
            self._look_for_offences(chunk)
            before = self.removed.get(chunk.run_id, Folded())
            self.removed[chunk.run_id] = before + counted([chunk])

    def _look_for_offences(self, chunk: Chunk) -> None:
        """Note what a row that is removed says was discarded, without an operator's word on it."""
        name = f"{chunk.run_id}/{chunk.key}"
        if chunk.void or name in self.lost_chunks:
            return
        self.offences += [
            f"record {index} of {name} was discarded, and nobody gave it up"
            for index, letter in enumerate(chunk.each)
            if letter == Letter.DISCARDED and (name, index) not in self.discarded
        ]

    def lose_ledger(self) -> None:
        """Lose every table, and what they said."""
        self.tables.lose()
        self.removed.clear()

    def _may_be_sent(self, versions: list[Version]) -> str:
        """Return which of these are void or settled in their row, for longer than a look is good.

        The row is read past the gates: this is the judge's own look.
        """
        actor = self.stage.current
        envelope = None if actor is None else actor.delivers
        if envelope is None:
            return ""
        row, age = self.tables.peek("chunks", partition_of(envelope.run_id), envelope.key)
        ledger, _ = self.tables.peek("chunks", "ledger", "id")
        is_ours = ledger is not None and ledger.data["ledger_id"] == envelope.ledger_id
        if age <= LOOK_IS_GOOD_FOR or not is_ours:  # of a ledger that was lost: it has no row
            return ""
        if row is None:
            return f"{envelope.name} was sent, whose row is gone"
        chunk = chunk_of(row)
        records = dict(zip(envelope.indexes, orjson.loads(envelope.body), strict=True))
        allowed = {version_of(records[index]) for index in chunk.to_send if index in records}
        wrong = [version for version in versions if version not in allowed]
        return f"{envelope.name} was sent with {wrong}, which are void or settled" if wrong else ""

    def may_fold(self, envelope: Envelope) -> bool:
        """Whether the row of a message is settled and its run closed, by the judge's own look."""
        row, _ = self.tables.peek("chunks", partition_of(envelope.run_id), envelope.key)
        head, _ = self.tables.peek("chunks", partition_of(envelope.run_id), HEAD_KEY)
        if row is None or head is None:
            return True
        return chunk_of(row).is_settled and head.data["state"] in CLOSED_RUNS

    def move(self) -> None:
        """Set the app for another workspace; who is at work goes on with the one before."""
        before, self.left = self.sentinel, self.sentinel
        self.sentinel = ModelSentinel(self.stage, THERE)
        self.sentinel.refuses_whole, self.sentinel.names = before.refuses_whole, before.names
        self.sentinel.fails, self.sentinel.may_be_sent = before.fails, before.may_be_sent

    @property
    def workspaces(self) -> list[ModelSentinel]:
        """The present workspace, and the one before it."""
        return [self.sentinel, *([] if self.left is None else [self.left])]

    def adopt(self) -> None:
        """Let what waits for the workspace before go to the present one."""
        sends = Sends(self.tables, clock=self.clock)
        adopt(self.ledger, sends, destination=self.sentinel.destination)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.tables)

    def tick(self) -> None:
        """Run what is due, as a fresh process would."""
        if self.stage.current is not None:
            self.stage.current.destination = self.sentinel.destination
        backoff, rng = Backoff(tries=2, base=0.0, cap=0.0), random.Random(0)  # noqa: S311
        ledger = self.ledger
        sender = Sender(
            queue=self.queue,
            ledger=ledger,
            slots=Slots(self.tables, clock=self.clock, requests_per_minute=6000),
            backoff=backoff,
            clock=self.clock,
            rng=rng,
            threads=InlineExecutor,
        )
        run_sync(
            SyncConfig(
                drain=DrainConfig(
                    filters=Filters(threshold=self.threshold, domain=self.domains),
                    destination=self.sentinel.destination,
                    chunk_size=self.chunk_size,
                    max_pages=self.max_pages,
                ),
                lease=LEASE,
                requests_per_minute=6000,
            ),
            SyncTools(
                lumen=cast("LumenClient", self.lumen),
                ledger=ledger,
                index=VersionIndex(self.tables),
                sender=sender,
                queue=self.queue,
                problems=Problems(self.tables, clock=self.clock),
                clock=self.clock,
            ),
            owner="model",
        )

    def deliver(self, message: Message, receipt: int) -> None:
        """Deliver one message and acknowledge it, as a fresh instance would."""
        if self.stage.current is not None:
            self.stage.current.delivers = decode_envelope(message.text)
        make_deliverer(
            self.tables,
            queue=self.queue,
            sentinel=cast("SentinelClient", self.sentinel),
            tokens=cast("TokenSource", FixedToken()),
            clock=self.clock,
            rng=random.Random(0),  # noqa: S311
            requests_per_minute=6000,
            first_delay=5.0,
        ).deliver(message.text)
        self.stage.gate("acknowledge")
        self.queue.delete(message, receipt)

    def keep_poison(self, message: Message, receipt: int) -> None:
        """Keep one message of the poison queue."""
        keeper = PoisonKeeper(ledger=self.ledger, clock=self.clock)
        handle_poison(message.text, keeper=keeper, queue=self.poison_queue, upload_queue=self.queue)
        self.stage.gate("acknowledge")
        self.poison_queue.delete(message, receipt)

    def replay_all(self) -> None:
        """Replay everything that is kept."""
        ledger = self.ledger
        slots = Slots(self.tables, clock=self.clock, requests_per_minute=6000)
        entries = find(ledger, Selection(all_kept=True))
        self._exhaust(
            replay(entries, ledger=ledger, queue=self.queue, slots=slots, clock=self.clock)
        )

    def discard_one(self) -> None:
        """Discard one of what is kept, and remember which indicators that gives up.

        Not those of which a smaller message was on the queue: it answers for them.
        """
        entries = find(self.ledger, Selection(all_kept=True))
        if not entries:
            return
        entry = self.stage.rng.choice(entries)
        record = self.ledger.poison.get(entry.run_id, entry.poison_id)
        if record is not None:
            envelope = decode_envelope(record.message)
            objects = zip(envelope.indexes, orjson.loads(envelope.body), strict=True)
            self.discarded |= {
                (envelope.name, index): version_of(one).number
                for index, one in objects
                if self.queue.smallest[envelope.name, index] >= envelope.count
            }
        self._exhaust(discard([entry], ledger=self.ledger, clock=self.clock))

    def retry_all(self) -> None:
        """Ask for everything that Sentinel refused to be sent once more."""
        ledger = self.ledger
        found = rejections.find(ledger, rejections.Selection())
        refused = [one for one in found if one.rejected_by is RejectedBy.SENTINEL]
        self._exhaust(rejections.retry(refused, ledger=ledger, at=self.clock.now(), by="model"))

    def declare_lost(self) -> None:
        """Declare lost what waits without a message, and remember which indicators it was about."""
        ledger = replace(self.ledger, chunks=WatchedChunks(self.tables, told=self._note_lost))
        self._exhaust(
            lost.declare_lost(
                lost.candidates(ledger),
                ledger=ledger,
                traces=lost.look_for_messages(ledger, (self.queue, self.poison_queue)),
                at=self.clock.now(),
                by="model",
                older_than=LOST_AFTER,
            )
        )

    def _note_lost(self, chunk: Chunk) -> None:
        """Remember a chunk that is about to be declared lost."""
        self.lost_chunks.add(f"{chunk.run_id}/{chunk.key}")
        self.lost_ids |= {record.id_hash for record in chunk.unpacked()}

    @staticmethod
    def _exhaust(handled: Iterator[object]) -> None:
        for _ in handled:
            pass
