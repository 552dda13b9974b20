"""Traffic: several instances of the consumer at one queue, one Sentinel, and who judges them.

Sentinel refuses whole requests for records that are bad, and everything during an outage. Requests
overlap: while one is under way another instance may deliver something. Everything is remembered in
order, so that a rejection can be judged by the rule: a record is rejected only if it was refused
alone in two requests, and a request was sent after the first and accepted before the second.
"""

import json
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from common.envelope import Envelope, chunk_id_of, decode_envelope, encode_envelope
from common.errors import UnavailableError
from consumer.sentinel import Answer, Uploaded, classify_answer
from tests.fakes.clock import START
from tests.fakes.crash import Crash
from tests.unit.consumer.samples import Bench, envelope

CROWD = 1_000_000
"""Chunks of others, which are always good, are numbered from here."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request: when it was sent and answered, as numbers of events; what it held, if accepted."""

    sent: int
    answered: int
    ids: tuple[str, ...]
    was_accepted: bool


@dataclass
class WatchedSentinel:
    """Refuses what holds a bad record, by one of the forms there are, and all during an outage."""

    bad: frozenset[str] = frozenset()
    form: str = "400"
    outages: Sequence[range] = ()
    """Numbers of the requests to which everything is refused."""
    meanwhile: Callable[[], None] = lambda: None
    requests: list[Request] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    sent: int = 0
    events: int = 0
    destination: str = "sentinel.example/workspace"

    def upload(self, objects: bytes, *, count: int, token: str) -> Answer:
        ids = tuple(record["id"] for record in json.loads(objects))
        assert len(ids) == count
        sent = self._event()
        self.sent += 1
        is_out = any(self.sent in outage for outage in self.outages)
        named = [at for at, name in enumerate(ids) if is_out or name in self.bad]
        answer = self._answer(named, count)
        if isinstance(answer, Uploaded):
            self.accepted |= {name for at, name in enumerate(ids) if at not in named}
        self.meanwhile()  # the answer is on its way
        was_accepted = isinstance(answer, Uploaded)
        self.requests.append(Request(sent, self._event(), ids, was_accepted))
        return answer

    def _answer(self, named: Sequence[int], count: int) -> Answer:
        errors = [{"recordIndex": at, "errorMessages": [f"bad {at}"]} for at in named]
        body = json.dumps({"errors": errors} if "named" in self.form else {"message": "no"})
        if named and (self.form.startswith("400") or len(named) == count):
            return classify_answer(400, {}, body.encode(), count=count, now=START)
        body = json.dumps({"errors": errors})
        return classify_answer(200, {}, body.encode(), count=count, now=START)

    def _event(self) -> int:
        self.events += 1
        return self.events


@dataclass
class Traffic:
    """Messages that are delivered in any order, by several instances, as `rng` will have it."""

    rng: random.Random
    sentinel: WatchedSentinel = field(default_factory=WatchedSentinel)
    instances: int = 2
    crashes: float = 0.0
    waiting: list[tuple[float, str]] = field(default_factory=list)
    overlap: float = 0.0
    crowd: int = 0
    parts: list[float] = field(default_factory=list)
    """When each part was put on the queue."""

    def __post_init__(self) -> None:
        self.bench = Bench(sentinel=self.sentinel)
        self._deliverers = []
        for _ in range(self.instances):
            self.bench.restart()
            self._deliverers.append(self.bench.deliverer)
        self._depth = 0
        self.sentinel.meanwhile = self._meanwhile

    def put(self, *sent: Envelope) -> None:
        """Put new chunks on the queue."""
        self.bench.enqueue(*sent)
        now = self.bench.clock.elapsed
        self.waiting += [(now, encode_envelope(message)) for message in sent]

    def accept_other(self) -> None:
        """Let some instance deliver a good chunk of others, now."""
        self.crowd += 1
        body = json.dumps([{"id": f"indicator--{CROWD + self.crowd}"}]).encode()
        other = replace(
            envelope(count=1), sequence=10_000 + self.crowd, body=body, chunk_id=chunk_id_of(body)
        )
        self.bench.enqueue(other)
        text = encode_envelope(replace(other, slot=self.bench.clock.now().timestamp()))
        if not self._deliver(text):
            self.waiting.append((self.bench.clock.elapsed, text))

    def deliver_any(self) -> None:
        """Deliver any message that waits, at its time or later."""
        self._take(self.rng.randrange(len(self.waiting)))

    def deliver_next(self) -> None:
        """Deliver the message that is due next, if there is one."""
        if self.waiting:
            self._take(min(range(len(self.waiting)), key=lambda at: self.waiting[at]))

    def _take(self, at: int) -> None:
        due, text = self.waiting.pop(at)
        self.bench.clock.advance(max(0.0, due - self.bench.clock.elapsed))
        if not self._deliver(text) or self.rng.random() < self.crashes:
            self.waiting.append((self.bench.clock.elapsed, text))  # delivered again

    def _deliver(self, text: str) -> bool:
        """Deliver a message; return whether it was acknowledged."""
        bench = self.bench
        if self._depth == 0 and self.rng.random() < self.crashes:
            error = Crash if self.rng.random() < 0.5 else UnavailableError
            bench.tables.before = bench.queue.before = self._fail_at(self.rng.randrange(9), error)
        self._depth += 1
        try:
            self.rng.choice(self._deliverers).deliver(text)
        except (Crash, UnavailableError):
            return False
        finally:
            self._depth -= 1
            if self._depth == 0:
                bench.repair()
            now = bench.clock.elapsed
            for item in bench.queue.sent:
                self.waiting.append((now + item.delay, item.text))
                new = decode_envelope(item.text)
                if new.part is not None and not new.deferrals and not new.postponed:
                    self.parts.append(now)
            bench.queue.sent.clear()
        return True

    @staticmethod
    def _fail_at(at: int, error: type[BaseException]) -> Callable[..., None]:
        """Return a hook that raises at one call."""
        calls = iter(range(10**9))

        def hook(*_: object) -> None:
            if next(calls) == at:
                raise error("storage")

        return hook

    def _meanwhile(self) -> None:
        """While a request is under way, another instance delivers something; answers cross."""
        if self._depth == 1 and self.waiting and self.rng.random() < self.overlap:
            hooks = self.bench.tables.before, self.bench.queue.before
            self.bench.repair()
            self.deliver_any()
            self.bench.tables.before, self.bench.queue.before = hooks

    @property
    def rejected(self) -> set[str]:
        """The ids that were rejected."""
        return {
            kept.indicator_id for kept in self.bench.ledger.rejections.of_run(envelope().run_id)
        }

    def unproven(self) -> set[str]:
        """Return the rejected records for which the rule does not hold."""
        return {name for name in self.rejected if not self._is_proven(name)}

    def _is_proven(self, name: str) -> bool:
        refused = [r for r in self.sentinel.requests if r.ids == (name,) and not r.was_accepted]
        taken = [r for r in self.sentinel.requests if r.was_accepted]
        return any(
            first.answered < between.sent and between.answered < second.sent
            for first in refused
            for second in refused
            for between in taken
        )


def numbered(number: int, *, count: int, first: int) -> Envelope:
    """Return the envelope of chunk `number`, whose records are numbered from `first`."""
    objects = [{"id": f"indicator--{n}"} for n in range(first, first + count)]
    body = json.dumps(objects, separators=(",", ":")).encode()
    return replace(envelope(count=count), sequence=number, body=body, chunk_id=chunk_id_of(body))


def ids_of(numbers: Collection[int]) -> frozenset[str]:
    """Return the ids of records by number."""
    return frozenset(f"indicator--{number}" for number in numbers)


def seeded(seed: int) -> random.Random:
    """Return the numbers of a seed, which decide what happens next."""
    return random.Random(seed)  # noqa: S311 - not for secrets
