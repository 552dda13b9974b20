"""Nothing is lost, as a machine: any order of deliveries, crashes, copies, folds and operators.

The queue is modelled as the host keeps it: a message stays until its delivery is acknowledged, is
delivered again after a crash, and after five of them is copied to the poison queue.
"""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain, count
from typing import Any, cast

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.backoff import Backoff
from common.envelope import Envelope, chunk_id_of, decode_envelope, pack_body
from common.errors import PipelineError, UnavailableError
from common.fingerprints import to_array
from common.ledger import Ledger, open_ledger
from common.ledger.fold import Fold, fold_chunks
from common.ledger.problems import Problems
from common.ledger.runs import Counts, Cursor, Run, RunRow
from common.ledger.slots import Slots
from common.ledger.states import ChunkState, RunState
from consumer.deferral import Deferrer
from consumer.deliver import Deliverer
from consumer.pacing import Pacer
from consumer.poison import PoisonKeeper, handle_poison
from consumer.sentinel import (
    Answer,
    Isolate,
    OperatorNeeded,
    RecordError,
    SentinelClient,
    Throttled,
    Unavailable,
    Uploaded,
)
from ops.poison import Selection, discard, find, replay
from ops.reconciliation import reconcile
from producer.chunking import PackedChunk
from producer.drain import Sender
from producer.indicators import canonical_json, fingerprint_of
from tests.fakes.clock import START, FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables

RATE = 95.0
CHUNK = 2
MAX_DELIVERIES = 5


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Fuse:
    """Lets operation number `left` of storage fail, and with `error` None none of them."""

    left: int = 0
    error: Callable[[], BaseException] | None = None

    def __call__(self, *_: object) -> None:
        if self.error is None:
            return
        self.left -= 1
        if self.left < 0:
            raise self.error()


@dataclass
class Sentinel:
    """Answers what it was told, and remembers which records it took, or refused alone."""

    answer: Answer = field(default_factory=Uploaded)
    answered: set[int] = field(default_factory=set)

    def upload(self, objects: bytes, *, count: int, token: str) -> Answer:
        if isinstance(self.answer, Uploaded) or count == 1:
            records = orjson.loads(objects)
            self.answered.update(fingerprint_of(canonical_json(record)) for record in records)
        return self.answer


class Tokens:
    """Always has one."""

    def token(self) -> str:
        return "token"

    def refresh(self, *, refused: str) -> str:
        return "token"


ANSWERS: dict[str, Answer] = {
    "uploaded": Uploaded(),
    "one rejected": Uploaded(rejected=(RecordError(index=0, messages=("bad",)),)),
    "refused": Isolate(reason="400"),
    "throttled": Throttled(reason="429", wait=5.0),
    "an outage": Unavailable(reason="503"),
    "no role": OperatorNeeded(reason="403"),
}

faults = st.tuples(
    st.sampled_from([None, None, Crash, lambda: UnavailableError("storage")]), st.integers(0, 8)
)


@dataclass
class Message:
    """A message of the queue as the host sees it."""

    text: str
    deliveries: int = 0


class Pipeline(RuleBasedStateMachine):
    """Producer, queue, host, consumer, operator and fold over one ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.tables = FakeTables()
        self.fuse = Fuse()
        self.tables.before = self.fuse
        self.sender_queue = FakeQueue()
        self.sender_queue.before = self.fuse
        self.poison_queue = FakeQueue()
        self.poison_queue.before = self.fuse
        self.queue: list[Message] = []
        self.poison_messages: list[str] = []
        self.sentinel = Sentinel()
        self.numbers = count()
        self.made: dict[tuple[str, str], frozenset[int]] = {}
        self.checkpointed: set[tuple[str, str]] = set()
        self.cleared: set[tuple[str, str]] = set()
        self.pool = ThreadPoolExecutor(1)
        self.deliverer = self._new_deliverer()

    def teardown(self) -> None:
        self.pool.shutdown()

    # Helpers

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.tables)

    def _slots(self) -> Slots:
        return Slots(self.tables, clock=self.clock, requests_per_minute=RATE)

    def _problems(self) -> Problems:
        return Problems(self.tables, clock=self.clock)

    def _keeper(self) -> PoisonKeeper:
        return PoisonKeeper(ledger=self.ledger, problems=self._problems(), clock=self.clock)

    def _new_deliverer(self) -> Deliverer:
        return Deliverer(
            sentinel=cast("SentinelClient", self.sentinel),
            tokens=Tokens(),
            ledger=self.ledger,
            problems=self._problems(),
            pacer=Pacer(self._slots(), clock=self.clock),
            deferrer=Deferrer(
                queue=self.sender_queue,
                ledger=self.ledger,
                clock=self.clock,
                rng=random.Random(0),  # noqa: S311 - a fixed seed
                first_delay=60.0,
            ),
            keeper=self._keeper(),
            clock=self.clock,
        )

    def _under(self, fault: Any, action: Callable[[], object]) -> bool:
        """Do something that storage may interrupt; return whether it came to its end."""
        self.fuse.error, self.fuse.left = fault
        try:
            action()
        except Crash:
            self.deliverer = self._new_deliverer()
            return False
        except PipelineError:
            return False
        finally:
            self.fuse.error = None
            self.queue += [Message(item.text) for item in self.sender_queue.sent]
            self.sender_queue.sent.clear()
            self.poison_messages += [item.text for item in self.poison_queue.sent]
            self.poison_queue.sent.clear()
            self.clock.advance(30)
        return True

    def _pick(self, data: st.DataObject) -> Message:
        return data.draw(st.sampled_from(self.queue))

    # Rules

    @rule(chunks=st.integers(1, 3), fault=faults)
    def produce(self, chunks: int, fault: Any) -> None:
        """A run enqueues chunks and dies anywhere, or does not; it is over in any case."""
        number = next(self.numbers)
        run = self.ledger.runs.create(
            Run(
                run_id=f"20260101T{number:06d}-0badcafe",
                state=RunState.RUNNING,
                started_at=self.clock.now(),
                updated_at=self.clock.now(),
            )
        )
        row = RunRow(self.ledger.runs, run, self.clock)
        packed = tuple(self._pack(run.run_id, sequence) for sequence in range(chunks))
        sender = Sender(
            queue=self.sender_queue,
            ledger=self.ledger,
            slots=self._slots(),
            backoff=Backoff(tries=1),
            clock=self.clock,
            rng=random.Random(0),  # noqa: S311 - a fixed seed
        )

        def work() -> None:
            total = chunks * CHUNK
            sender.enqueue(packed, self.pool)
            row.save(cursor=Cursor(sequence=chunks), counts=Counts(fetched=total, enqueued=total))

        self._under(fault, work)
        current = self.ledger.runs.get(run.run_id)
        assert current is not None
        checkpointed = current.cursor is not None
        self.ledger.runs.save(current, state=RunState.COMPLETE if checkpointed else RunState.GAP)
        on_queue = {decode_envelope(message.text).key for message in self.queue}
        for chunk in packed:
            if checkpointed or chunk.envelope.key in on_queue:
                key = (run.run_id, chunk.envelope.key)
                self.made[key] = frozenset(chunk.envelope.fingerprints)
                self.cleared.discard(key)
                if checkpointed:
                    self.checkpointed.add(key)

    def _pack(self, run_id: str, sequence: int) -> PackedChunk:
        records = [canonical_json({"id": f"{run_id}-{sequence}-{n}"}) for n in range(CHUNK)]
        body = b"[" + b",".join(records) + b"]"
        envelope = Envelope(
            run_id=run_id,
            chunk_id=chunk_id_of(body),
            sequence=sequence,
            count=CHUNK,
            body=body,
            fingerprints=tuple(map(fingerprint_of, records)),
        )
        return PackedChunk(envelope=envelope, packed_body=pack_body(body))

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), answer=st.sampled_from(list(ANSWERS)), fault=faults)
    def deliver(self, data: st.DataObject, answer: str, fault: Any) -> None:
        """The host delivers a message; what ends without an outcome is delivered again."""
        message = self._pick(data)
        message.deliveries += 1
        self.sentinel.answer = ANSWERS[answer]
        done = self._under(
            fault,
            lambda: self.deliverer.deliver(message.text, dequeue_count=message.deliveries),
        )
        if done:
            self.queue.remove(message)
        elif message.deliveries >= MAX_DELIVERIES:
            self.poison_messages.append(message.text)
            self.queue.remove(message)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """The host has seen a message crash too often."""
        message = self._pick(data)
        self.poison_messages.append(message.text)
        self.queue.remove(message)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        """A crash between copy and acknowledgement leaves two messages."""
        self.queue.append(replace(self._pick(data), deliveries=1))

    @precondition(lambda self: self.queue)
    @rule()
    def clear_the_queue(self) -> None:
        """Somebody removes every message."""
        for message in self.queue:
            envelope = decode_envelope(message.text)
            self.cleared.add((envelope.run_id, envelope.key))
        self.queue.clear()

    @precondition(lambda self: self.poison_messages)
    @rule(fault=faults)
    def keep_poison(self, fault: Any) -> None:
        """The poison handler puts back or keeps; the host deletes only when it returns."""
        text = self.poison_messages[0]
        if self._under(
            fault,
            lambda: handle_poison(
                text,
                keeper=self._keeper(),
                queue=self.poison_queue,
                upload_queue=self.sender_queue,
            ),
        ):
            self.poison_messages.remove(text)

    @rule(fault=faults)
    def fold(self, fault: Any) -> None:
        """A new run begins, and dies while folding or does not."""
        found = self.ledger
        queues_are_empty = not self.queue and not self.poison_messages
        folds: list[Fold] = []

        def work() -> None:
            folds.append(
                fold_chunks(
                    run_id="20280101T000000-0badcafe",
                    is_full=False,
                    runs=found.runs,
                    chunks=found.chunks,
                    known=found.known,
                    at=self.clock.now(),
                    queues_are_empty=queues_are_empty,
                    keep_going=lambda: None,
                )
            )

        if self._under(fault, work) and queues_are_empty:
            self._check_that_what_was_cleared_is_sent_anew(folds[0])

    def _check_that_what_was_cleared_is_sent_anew(self, fold: Fold) -> None:
        """No message, so no chunk in flight but poison, and none that waits for an outcome."""
        chunks = list(self.ledger.chunks.all())
        assert all(chunk.state is not ChunkState.QUEUED for chunk in chunks)
        poisoned = [chunk for chunk in chunks if chunk.state is ChunkState.POISONED]
        expected = {mark for chunk in poisoned for mark in to_array(chunk.fingerprints)}
        uploaded = [chunk for chunk in chunks if chunk.state is ChunkState.UPLOADED]
        waiting = {mark for chunk in uploaded for mark in to_array(chunk.fingerprints)}
        assert set(fold.in_flight.fingerprints) - waiting == expected - waiting

    @rule(fault=faults)
    def replay_all(self, fault: Any) -> None:
        """An operator replays everything that is kept."""
        self._under(
            fault,
            lambda: list(
                replay(
                    find(self.ledger, Selection(all_kept=True)),
                    ledger=self.ledger,
                    queue=self.sender_queue,
                    slots=self._slots(),
                    clock=self.clock,
                )
            ),
        )

    @rule(fault=faults)
    def discard_all(self, fault: Any) -> None:
        """An operator discards everything that is kept."""
        self._under(
            fault,
            lambda: list(
                discard(
                    find(self.ledger, Selection(all_kept=True)),
                    ledger=self.ledger,
                    clock=self.clock,
                )
            ),
        )

    # What always holds

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every chunk is on a queue, uploaded, folded away, or kept or discarded as poison."""
        held = set()
        for text in [*(m.text for m in self.queue), *self.poison_messages]:
            envelope = decode_envelope(text)
            held.add((envelope.run_id, envelope.key))
        ledger = self.ledger
        finished = {ChunkState.UPLOADED, ChunkState.DISCARDED}
        held |= {(c.run_id, c.key) for c in ledger.chunks.all() if c.state in finished}
        kept = find(ledger, Selection(all_kept=True))
        held |= {(record.run_id, record.poison_id) for record in kept}
        # A row that waits for an outcome is what is left of a message that somebody removed. Where
        # there is no row either, the cursor has not passed the chunk: it is read again.
        rows = {(c.run_id, c.key) for c in ledger.chunks.all()}
        held |= self.cleared & (rows | (self.made.keys() - self.checkpointed))
        folded = {run.run_id: run.folded for run in ledger.runs.latest(1000)}
        for run_id, key in self.made.keys() - held:
            assert folded[run_id].has(int(key.partition("-")[0])), key

    @invariant()
    def the_books_balance(self) -> None:
        """Every run's indicators have a known fate at every moment."""
        for run in self.ledger.runs.latest(1000):
            fate = reconcile(run, self.ledger.chunks.of_run(run.run_id))
            assert fate.balanced, (run, fate)

    @invariant()
    def only_what_sentinel_answered_for_is_known(self) -> None:
        """A fingerprint that was never uploaded does not hide its indicator."""
        known = self.ledger.known.load(as_of=START, lifetime=timedelta(days=7))
        assert set(chain(*known)) <= self.sentinel.answered


TestNothingIsLost = Pipeline.TestCase
TestNothingIsLost.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
