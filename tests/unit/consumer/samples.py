"""Envelopes as the consumer receives them, and the doubles that one delivery needs."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from common.envelope import Attempt, Envelope, chunk_id_of, decode_envelope, encode_envelope
from common.fingerprints import id_hash
from common.ledger import Ledger, chunks, open_ledger
from common.ledger.acceptance import ENOUGH_RAISES, Acceptance
from common.ledger.chunks import Chunk, insertion, voiding
from common.ledger.partitions import partition_of
from common.ledger.poison import PoisonRecord
from common.ledger.problems import Problem, ProblemKind, Problems
from common.ledger.runs import Run
from common.ledger.sends import Sends
from common.ledger.slots import Slots
from common.ledger.states import RunState
from common.ledger.tables import Row
from common.records import Record, pack_records
from consumer.deferral import Deferrer
from consumer.deliver import Deliverer
from consumer.outcomes import DRIFT_LIMIT, UNAVAILABLE_LIMIT
from consumer.pacing import Pacer
from consumer.pausing import PauseWatch
from consumer.poison import PoisonKeeper
from consumer.sentinel import (
    Answer,
    Drift,
    OperatorNeeded,
    RefreshToken,
    Refused,
    SentinelClient,
    Throttled,
    Unavailable,
    Uploaded,
    classify_answer,
)
from tests.fakes.clock import START, FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables

ANSWERS: dict[str, Answer] = {
    "uploaded": Uploaded(),
    "refused": Refused(reason="why"),
    "refresh": RefreshToken(reason="why"),
    "operator": OperatorNeeded(reason="why"),
    "throttled": Throttled(reason="why", wait=7.0),
    "unavailable": Unavailable(reason="why"),
    "drift": Drift(reason="why"),
}

LIMITS = {"unavailable": UNAVAILABLE_LIMIT, "drift": DRIFT_LIMIT}
"""Failures that count after which a message is given up."""

RUN = "20260101T000000-0badcafe"
FIRST_DELAY = 60.0
RATE = 95.0
LEDGER = "00c0ffee00c0ffee"
HERE = "sentinel.example/workspace"


def envelope(
    *, count: int = 3, attempt: int = 0, deferrals: int = 0, history: Sequence[Attempt] = ()
) -> Envelope:
    """Return the envelope of a chunk of `count` small indicators."""
    objects = [{"id": f"indicator--{n}", "pattern": f"[x = '{n}']"} for n in range(count)]
    body = json.dumps(objects, separators=(",", ":")).encode()
    return Envelope(
        run_id=RUN,
        chunk_id=chunk_id_of(body),
        sequence=7,
        count=count,
        body=body,
        fingerprints=tuple(range(count)),
        epoch=2,
        ledger_id=LEDGER,
        attempt=attempt,
        deferrals=deferrals,
        history=tuple(history),
    )


def row_of(sent: Envelope, *, destination: str = HERE) -> Chunk:
    """Return the row that the producer writes before it enqueues an envelope."""
    records = pack_records(
        Record(id_hash=id_hash(f"indicator--{number}"), fingerprint=fingerprint)
        for number, fingerprint in enumerate(sent.fingerprints)
    )
    return chunks.row_of(sent, destination=destination, records=records, at=START)


@dataclass
class ScriptedSentinel:
    """Gives the answers it was given, the last one for ever, and remembers what was posted."""

    answers: list[Answer | BaseException] = field(default_factory=lambda: [Uploaded()])
    posted: list[tuple[bytes, int, str]] = field(default_factory=list)
    destination: str = HERE

    def upload(self, objects: bytes, *, count: int, token: str) -> Answer:
        self.posted.append((objects, count, token))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class PickySentinel:
    """Refuses a whole request that holds a bad record; `before` may give another answer.

    If it `names` them it takes the others, as a 200 with errors says. `accepted` has the ids it
    took, `refused` how often it refused each group of ids, `asked` how many it was sent last.
    """

    bad: frozenset[str] = frozenset()
    before: Callable[[], Answer | None] = lambda: None
    names: bool = False
    asked: int = 0
    accepted: set[str] = field(default_factory=set)
    refused: Counter[tuple[str, ...]] = field(default_factory=Counter)
    requests: int = 0
    destination: str = HERE

    def upload(self, objects: bytes, *, count: int, token: str) -> Answer:
        ids = tuple(record["id"] for record in json.loads(objects))
        assert len(ids) == count
        self.requests += 1
        self.asked = count
        answer = self.before()
        if answer is not None:
            return answer
        if self.names:
            self.accepted.update(set(ids) - self.bad)
            return named_in_200([at for at, name in enumerate(ids) if name in self.bad], count)
        if self.bad.intersection(ids):
            self.refused[ids] += 1
            return Refused(reason="Sentinel refused the request (400)")
        self.accepted.update(ids)
        return Uploaded()


def named_in_200(indexes: Sequence[int], count: int) -> Answer:
    """Return what a 200 means that names these of `count` records."""
    errors = [{"recordIndex": index, "errorMessages": [f"bad {index}"]} for index in indexes]
    body = json.dumps({"errors": errors}).encode()
    return classify_answer(200, {}, body, count=count, now=START)


@dataclass
class ScriptedTokens:
    """Hands out numbered tokens; `before` is called with what is asked and may raise."""

    asked: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _what: None

    def token(self) -> str:
        self.asked.append("token")
        self.before("token")
        return "token-1"

    def refresh(self, *, refused: str) -> str:
        self.asked.append(f"refresh {refused}")
        self.before("refresh")
        return "token-2"


@dataclass
class Bench:
    """One consumer with everything around it in memory."""

    sentinel: Any = field(default_factory=ScriptedSentinel)
    tokens: ScriptedTokens = field(default_factory=ScriptedTokens)
    clock: FakeClock = field(default_factory=FakeClock)
    tables: FakeTables = field(default_factory=FakeTables)
    queue: FakeQueue = field(default_factory=FakeQueue)

    def __post_init__(self) -> None:
        self.tables.monotonic = self.clock.monotonic
        self.name_ledger(LEDGER)
        self.restart()

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.tables)

    @property
    def keeper(self) -> PoisonKeeper:
        return PoisonKeeper(ledger=self.ledger, clock=self.clock)

    @property
    def deferrer(self) -> Deferrer:
        return Deferrer(
            queue=self.queue,
            ledger=self.ledger,
            clock=self.clock,
            rng=random.Random(0),  # noqa: S311 - a fixed seed
            first_delay=FIRST_DELAY,
        )

    @property
    def problems(self) -> Problems:
        return Problems(self.tables, clock=self.clock)

    @property
    def open_problems(self) -> dict[ProblemKind, Problem]:
        """The problems that stand."""
        return {problem.kind: problem for problem in self.problems.open()}

    def restart(self) -> None:
        """Let a fresh process take over: what the old one only remembered is gone."""
        slots = Slots(self.tables, clock=self.clock, requests_per_minute=RATE)
        self.pacer = Pacer(slots, clock=self.clock)
        self.deliverer = Deliverer(
            sentinel=cast("SentinelClient", self.sentinel),
            tokens=self.tokens,
            ledger=self.ledger,
            problems=self.problems,
            acceptance=Acceptance(self.tables, clock=self.clock),
            sends=Sends(self.tables, clock=self.clock),
            pacer=self.pacer,
            pauses=PauseWatch(self.ledger.control, clock=self.clock),
            deferrer=self.deferrer,
            keeper=self.keeper,
            clock=self.clock,
        )

    def others_pass(self) -> None:
        """Let Sentinel accept chunks of another instance at this moment, one after the other."""
        with self._untouched():
            self.problems.note_success(self.clock.now())
            other = Acceptance(self.tables, clock=self.clock)
            for _ in range(ENOUGH_RAISES):
                other.accepted(other.read())

    def answer(self, *answers: Answer | BaseException) -> None:
        """Let Sentinel answer this from now on."""
        self.sentinel.answers = list(answers)

    def repair(self) -> None:
        """Let storage work again."""
        self.tables.before = lambda _table, _operation: None
        self.queue.before = lambda _text: None

    def name_ledger(self, ledger_id: str) -> None:
        """Give the ledger this id, as the first run does or a restored account has it."""
        with self._untouched():
            row = Row(partition="ledger", key="id", data={"ledger_id": ledger_id})
            self.tables.table("chunks").merge(row)

    def enqueue(self, *sent: Envelope, destination: str = HERE) -> None:
        """Write the rows of envelopes, where they have none, as the producer does."""
        with self._untouched():
            for envelope_sent in sent:
                if self.chunk(envelope_sent) is not None:
                    continue
                run = self.ledger.runs.get(envelope_sent.run_id) or self.ledger.runs.create(
                    Run(
                        run_id=envelope_sent.run_id,
                        state=RunState.RUNNING,
                        started_at=START,
                        updated_at=START,
                    )
                )
                row = row_of(envelope_sent, destination=destination)
                self.ledger.runs.save(run, rows=[insertion(row)])

    def settle(
        self, sent: Envelope, *, accepted: Sequence[int] = (), rejected: Sequence[int] = ()
    ) -> None:
        """Record an answer, as another delivery does."""
        with self._untouched():
            self.ledger.chunks.record_uploaded(
                self.row(sent), sent=[*accepted, *rejected], rejected=rejected, at=self.clock.now()
            )

    def void(self, sent: Envelope) -> None:
        """Make a chunk void, as the next tick of its run does."""
        run = self.ledger.runs.get(sent.run_id)
        assert run is not None
        self.ledger.runs.save(run, rows=[voiding(self.row(sent))])

    def remove_row(self, sent: Envelope) -> None:
        """Fold a chunk away."""
        self.tables.table("chunks").delete(partition_of(sent.run_id), sent.key)

    def deliver(self, message: Envelope | str) -> None:
        """Deliver a message. An envelope has its row, which is written first; a text as it is."""
        if isinstance(message, Envelope):
            self.enqueue(message)
            message = encode_envelope(message)
        self.deliverer.deliver(message)

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """Let what others do neither fail nor be counted."""
        hooks = self.tables.before, self.tables.after
        self.tables.before = self.tables.after = lambda _table, _operation: None
        yield
        self.tables.before, self.tables.after = hooks

    def take(self) -> tuple[Envelope, float]:
        """Take the one message from the queue; return it with its delay."""
        (sent,) = self.queue.sent
        self.queue.sent.clear()
        return decode_envelope(sent.text), sent.delay

    def chunk(self, of: Envelope) -> Chunk | None:
        """Return the chunk's row."""
        return self.ledger.chunks.get(of.run_id, of.key)

    def row(self, of: Envelope) -> Chunk:
        """Return the chunk's row, which is there."""
        chunk = self.chunk(of)
        assert chunk is not None
        return chunk

    @property
    def poison(self) -> list[PoisonRecord]:
        """Every poison record."""
        return list(self.ledger.poison.all())


def serve(
    bench: Bench, sent: Envelope, deliveries: int, *, between: Callable[[], None] = lambda: None
) -> int:
    """Deliver a message and its copies; return how many deliveries until nothing is queued.

    `between` is called before each delivery. One that only moved to a later slot is not counted.
    """
    between()
    bench.deliver(sent)
    delivery = 1
    while bench.queue.sent and delivery < deliveries:
        copy, delay = bench.take()
        bench.clock.advance(delay)
        between()
        bench.deliver(copy)
        delivery += copy.slot is None
    return delivery
