"""One delivery of one message, and one request: decode, slot, token, row, post, decide, record.

Returning acknowledges the message. Raising means a bug, a crash, or an unreachable queue; the host
counts it. A failure that is not the message's fault defers it: a delayed copy is enqueued first,
then this delivery is acknowledged. The parts of a split chunk, too, are enqueued before the
acknowledgement. A crash between the two steps leaves duplicates. They do no harm: each delivery
reads the chunk's row right before its request, and sends no settled record.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from common.clock import Clock
from common.delivery import LOOK_IS_GOOD_FOR
from common.envelope import Envelope, decode_envelope
from common.errors import (
    HaltError,
    LaterVersionError,
    TryLaterError,
    UnavailableError,
    UndecodableError,
)
from common.events import Event, emit, traced
from common.identity import TokenSource
from common.ledger import Ledger
from common.ledger.acceptance import ENOUGH_RAISES, Acceptance, Mark
from common.ledger.poison import PoisonedBy
from common.ledger.problems import OF_ONE_MESSAGE, ProblemKind, Problems
from common.ledger.sends import Sends
from consumer.deferral import ATTEMPT_CAP, Defer, Deferrer, defer_for_operator, growing, stamp
from consumer.look import Look, NotNow, Sendable, Settled, judge_look
from consumer.outcomes import (
    MANY_REFUSALS,
    ONE_WAITS,
    THROTTLED_FOR,
    Done,
    GiveUp,
    Outcome,
    Split,
    decide,
    is_of_many,
    is_throttled_again,
    problem_of,
    reason_of,
)
from consumer.pacing import ComeBack, Go, Pacer
from consumer.pausing import PauseWatch
from consumer.poison import PoisonKeeper
from consumer.receipts import ReceiptWriter
from consumer.sentinel import (
    Answer,
    Drift,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    Refused,
    SentinelClient,
    Throttled,
    Unavailable,
    Uploaded,
)
from consumer.split import is_flawed, objects_of, part_of

NOT_THE_RECORDS: Final = "the body does not hold the records that the envelope counts"

LOOKS: Final = 2
"""Most looks at a row for one request."""

_OUR_TROUBLE = (TryLaterError, HaltError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request and its answer: what the row allowed, and when the request was sent."""

    look: Sendable
    answer: Answer
    at: datetime


class Deliverer:
    """Delivers messages. Safe to use from several threads."""

    def __init__(
        self,
        *,
        sentinel: SentinelClient,
        tokens: TokenSource,
        ledger: Ledger,
        problems: Problems,
        acceptance: Acceptance,
        sends: Sends,
        pacer: Pacer,
        pauses: PauseWatch,
        deferrer: Deferrer,
        keeper: PoisonKeeper,
        clock: Clock,
    ) -> None:
        self._sentinel = sentinel
        self._tokens = tokens
        self._ledger = ledger
        self._problems = problems
        self._acceptance = acceptance
        self._sends = sends
        self._pacer = pacer
        self._pauses = pauses
        self._deferrer = deferrer
        self._keeper = keeper
        self._receipts = ReceiptWriter(ledger=ledger, clock=clock)
        self._clock = clock
        self._refused_in_a_row = 0
        self._refused_at = 0
        """The acceptance number at these refusals; when it changes, the count starts again."""
        self._failing: set[str] = set()
        """The messages that failed since the last acceptance, two at most."""
        self._failing_at = 0
        """The acceptance number at these failures."""
        self._throttled_at: datetime | None = None
        """When this instance met the first 429 since something was accepted."""

    def deliver(self, message: str) -> None:
        """Bring one message to an outcome and record it.

        Guarantee: on return its records are settled, poisoned or on the queue again, and the ledger
        says so. Called twice: uploads again at worst. If it dies halfway: the host delivers the
        message again. Raises if neither the outcome nor a delayed copy could be stored; the host
        then still has the message.
        """
        try:
            envelope = decode_envelope(message)
        except UndecodableError as error:
            self._keeper.keep_undecodable(message, str(error), by=PoisonedBy.CONSUMER)
            return
        except LaterVersionError as error:
            self._deferrer.put_back(message, str(error))
            return
        with traced(envelope.trace_parent):
            try:
                self._deliver(envelope, message)
            except _OUR_TROUBLE as error:
                # No slot, no token, no row, or the outcome was not recorded: Sentinel did not fail,
                # so this is no attempt. The message waits on the queue, with this reason.
                self._deferrer.defer(envelope, defer_for_operator(envelope, str(error)))

    def _deliver(self, envelope: Envelope, message: str) -> None:
        pause = self._pauses.current()
        if pause is not None:  # first of all: a paused message takes no slot and asks for no token
            self._deferrer.hold(envelope, pause)
            return
        if not self._pacer.is_on_time(envelope.slot):
            look = self._look(envelope)  # if there is nothing to send, take no slot
            if not isinstance(look, Sendable):
                self._record_unsent(look, envelope)
                return
        permit = self._pacer.permit(envelope.slot, soon=envelope.part is not None)
        if isinstance(permit, ComeBack):
            self._deferrer.postpone(envelope, permit)
            return
        mark = self._mark(envelope)
        found = self._request(envelope, permit)
        if isinstance(found, ComeBack):
            self._deferrer.postpone(envelope, found)
            return
        if not isinstance(found, Exchange):
            self._record_unsent(found, envelope)
            return
        self._take_note(found, envelope, mark)
        outcome, envelope = self._decide(found, envelope, mark)
        self._record(outcome, envelope, found.look, message)

    def _mark(self, envelope: Envelope) -> Mark | None:
        """Read the acceptance number before the request, if the request's failure may need it."""
        had_trouble = envelope.part is not None or envelope.failed is not None
        with suppress(*_OUR_TROUBLE):
            return self._acceptance.before_request(always=had_trouble)
        return None

    def _request(self, envelope: Envelope, permit: Go) -> Exchange | Settled | NotNow | ComeBack:
        """Send a request; after a server error or a refused token a second one, if a slot is near.

        If our own storage prevents the second request, the answer to the first is the outcome.
        """
        token = self._access_token(envelope)
        found = self._send(envelope, token, permit)
        match found:
            case Exchange(answer=RefreshToken()):
                token = self._access_token(envelope, refused=token)
            case Exchange(answer=Unavailable()):
                pass
            case _:
                return found
        with suppress(*_OUR_TROUBLE):
            # Only a near slot: waiting here is billed, waiting on the queue is free.
            again = self._pacer.near_permit()
            second = None if again is None else self._send(envelope, token, again)
            if second is not None and not isinstance(second, ComeBack):
                return second
        return found

    def _access_token(self, envelope: Envelope, *, refused: str = "") -> str:
        """Return a token. Without one no message can be sent, so this raises a problem."""
        try:
            return self._tokens.refresh(refused=refused) if refused else self._tokens.token()
        except _OUR_TROUBLE as error:
            self._raise_problem(OperatorNeeded(reason=str(error)), envelope)
            raise

    def _send(
        self, envelope: Envelope, token: str, permit: Go
    ) -> Exchange | Settled | NotNow | ComeBack:
        """Look at the chunk's row and send what may be sent, if anything.

        A look that took too long is repeated once; a second one means that storage is unavailable.
        A permit that is no longer good is replaced, so that slow storage does not hold requests
        back and let them go together.
        """
        for _ in range(LOOKS):
            self._sends.note(self._sentinel.destination)
            began = self._clock.boottime()
            look = self._look(envelope)
            if not isinstance(look, Sendable):
                return look
            objects, count = objects_of(envelope, look.indexes), len(look.indexes)
            if not self._pacer.is_good(permit):
                other = self._pacer.next_permit(soon=envelope.part is not None)
                if isinstance(other, ComeBack):
                    return other
                permit = other
            at = self._clock.now()
            if self._clock.boottime() - began <= LOOK_IS_GOOD_FOR:
                answer = self._sentinel.upload(objects, count=count, token=token)
                return Exchange(look=look, answer=_in_chunk(answer, look.indexes), at=at)
        raise UnavailableError("the ledger takes too long to answer what may be sent")

    def _look(self, envelope: Envelope) -> Look:
        """Look at the chunk's row; if there is none, at the ledger's id."""
        chunk = self._ledger.chunks.get(envelope.run_id, envelope.key)
        ledger_id = None if chunk is not None else self._ledger.chunks.known_ledger_id()
        return judge_look(
            envelope, chunk, ledger_id=ledger_id, destination=self._sentinel.destination
        )

    def _take_note(self, found: Exchange, envelope: Envelope, mark: Mark | None) -> None:
        """Record what an answer means for other messages: slots, problems, acceptance number."""
        match found.answer:
            case Uploaded():
                self._refused_in_a_row = 0
                self._failing = set()
                with suppress(*_OUR_TROUBLE):
                    self._acceptance.accepted(mark)
                with suppress(*_OUR_TROUBLE):
                    had_trouble = envelope.deferrals > 0 or envelope.part is not None
                    self._problems.note_success(found.at, after_trouble=had_trouble)
            case Refused():
                self._count_refusal(envelope)
                self._acceptance.refused()
            case Throttled(wait=wait):
                with suppress(*_OUR_TROUBLE):
                    self._pacer.throttled(wait)
            case Drift(reason=reason):
                emit(Event.CONTRACT_DRIFT, reason=reason)
            case _:
                pass
        self._raise_problem(found.answer, envelope)

    def _count_refusal(self, envelope: Envelope) -> None:
        """Count refusals in a row, with no acceptance by any instance between them.

        A record that was refused alone before is not counted again: it waits for proof.
        """
        if envelope.refused and not is_of_many(envelope):
            return
        number = self._acceptance.last_read
        if number != self._refused_at:
            self._refused_at, self._refused_in_a_row = number, 0
        self._refused_in_a_row += 1

    def _raise_problem(self, answer: Answer, envelope: Envelope) -> None:
        """Raise the problem that an answer means for the whole feed, if any."""
        name = envelope.message_name
        wait = self._time_without_try(answer, envelope)
        with suppress(*_OUR_TROUBLE):
            kind = problem_of(
                answer,
                refusals_are_many=self._refused_in_a_row >= MANY_REFUSALS,
                is_throttled_on=isinstance(answer, Throttled)
                and self._is_throttled_on(envelope, wait),
                fails_alone=isinstance(answer, Unavailable | Drift) and self._fails_alone(name),
            )
            if kind is ProblemKind.FAILING:
                what = f"{reason_of(answer)}; so far only {name} meets this"
                self._problems.raise_problem(kind, what, subject=name, no_try_for=wait)
            elif kind is not None:
                self._problems.raise_problem(kind, reason_of(answer), no_try_for=wait)

    def _time_without_try(self, answer: Answer, envelope: Envelope) -> timedelta:
        """Return for how long a message may wait beyond the usual longest wait, after `answer`."""
        match answer:
            case Throttled(wait=wait):
                return timedelta(seconds=wait)
            case Unavailable() | Drift():
                return self._deferrer.longest(growing(envelope.attempt, cap=ATTEMPT_CAP))
            case _:
                return timedelta(0)

    def _is_throttled_on(self, envelope: Envelope, wait: timedelta) -> bool:
        """Whether all requests have been throttled for minutes, or must `wait` for minutes."""
        now, last = self._clock.now(), self._problems.last_success()
        first = self._throttled_at
        if first is None or (last is not None and last >= first):
            self._throttled_at = first = now
        if wait >= THROTTLED_FOR:
            return True
        if now - first < THROTTLED_FOR and not is_throttled_again(envelope, now=now):
            return False
        return last is None or now - last >= THROTTLED_FOR

    def _fails_alone(self, name: str) -> bool:
        """Whether no other message failed on this instance since any instance had an acceptance."""
        number = self._acceptance.read().number
        if number != self._failing_at:
            self._failing_at, self._failing = number, set()
        if len(self._failing) <= 1:
            self._failing.add(name)
        return len(self._failing) == 1

    def _decide(
        self, found: Exchange, envelope: Envelope, mark: Mark | None
    ) -> tuple[Outcome, Envelope]:
        """Return the outcome, and the envelope with the acceptance number of a failure.

        A failure stores the number read after its answer. A later failure compares it with the
        number read before its own request, and counts if enough was accepted in between. The stored
        number stays until a failure counts. Refusals and other failures do not prove each other:
        when the kind changes, the comparison starts again. A refused message of many records may
        also be split by a grant (`Acceptance.may_split`).
        """
        answer, sent = found.answer, found.look.indexes
        if isinstance(answer, Refused) and is_flawed(envelope):
            return GiveUp(reason=NOT_THE_RECORDS), envelope
        accepted_since, noted = False, envelope
        if isinstance(answer, Refused | Unavailable | Drift):
            accepted_since, noted = self._note_failure(answer, envelope, mark)
        if isinstance(answer, Refused) and not accepted_since:
            if is_of_many(envelope):
                accepted_since = self._is_granted()
            elif envelope.refused:  # again, and nothing was accepted since
                self._report_waiting(envelope)
        return decide(answer, envelope, sent=sent, accepted_since=accepted_since), noted

    def _note_failure(
        self, answer: Answer, envelope: Envelope, mark: Mark | None
    ) -> tuple[bool, Envelope]:
        """Return whether anything was accepted since the previous failure, and the envelope."""
        accepted_since, failed, refused = False, envelope.failed, isinstance(answer, Refused)
        if refused is not envelope.refused:
            failed = None
        if failed is not None and mark is not None:
            accepted_since = mark.number >= failed + ENOUGH_RAISES
            failed = None if accepted_since else min(failed, mark.number)
        if failed is None:
            with suppress(*_OUR_TROUBLE):  # without a stored number no later failure counts
                failed = self._acceptance.read().number
        return accepted_since, replace(envelope, failed=failed, refused=refused)

    def _is_granted(self) -> bool:
        """Whether a message of many records may be split without a proof that it is at fault."""
        with suppress(*_OUR_TROUBLE):
            return self._acceptance.may_split()
        return False

    def _report_waiting(self, envelope: Envelope) -> None:
        with suppress(*_OUR_TROUBLE):
            name = envelope.message_name
            self._problems.raise_problem(ProblemKind.UNPROVEN, ONE_WAITS, subject=name)

    def _end_of(self, envelope: Envelope) -> None:
        """End the problems of this one message: it has an outcome now.

        `note_success` does not suffice: it ends only problems raised before the accepted request.
        """
        if envelope.refused or envelope.failed is not None:
            with suppress(*_OUR_TROUBLE):
                self._problems.end(OF_ONE_MESSAGE, subject=envelope.message_name)

    def _record_unsent(self, look: Settled | NotNow, envelope: Envelope) -> None:
        """Record that there is nothing to send, or that nothing may be sent yet."""
        if isinstance(look, NotNow):
            self._deferrer.defer(envelope, defer_for_operator(envelope, look.reason))
            return
        emit(Event.CHUNK_REPEATED, run=envelope.run_id, chunk=envelope.key)

    def _record(self, outcome: Outcome, envelope: Envelope, look: Sendable, message: str) -> None:
        match outcome:
            case Done():
                self._receipts.write(outcome, envelope, look.chunk)
                self._end_of(envelope)
            case Split(parts=parts):
                self._split(parts, envelope, look)
            case Defer():
                self._deferrer.defer(envelope, outcome)
            case GiveUp(reason=reason):
                at = stamp(self._clock.now())
                last = envelope.deferred(at=at, reason=reason, counts=True)
                self._keeper.keep_envelope(last, message, reason, by=PoisonedBy.CONSUMER)
                self._end_of(envelope)
            case _:
                assert_never(outcome)

    def _split(self, parts: Sequence[Sequence[int]], envelope: Envelope, look: Sendable) -> None:
        """Put parts on the queue, each at a slot ahead of the backlog where one is free.

        The letters are written first, because each part gets an answer of its own. If it dies
        halfway: the message is split again; the duplicates end when their records are settled.
        """
        if look.chunk is not None:
            self._ledger.chunks.record_split(look.chunk, parts)
        for indexes in parts:
            self._deferrer.enqueue(part_of(envelope, indexes), self._pacer.come_back(soon=True))
        sizes = [len(indexes) for indexes in parts]
        emit(
            Event.CHUNK_SPLIT,
            run=envelope.run_id,
            chunk=envelope.key,
            first=sizes[0],
            second=sum(sizes[1:]),
        )


def _in_chunk(answer: Answer, indexes: Sequence[int]) -> Answer:
    """Return an answer with the indexes of the chunk instead of those of the request."""
    match answer:
        case Uploaded(rejected=rejected):
            return replace(answer, rejected=_renumbered(rejected, indexes))
        case Refused(named=named):
            return replace(answer, named=_renumbered(named, indexes))
        case _:
            return answer


def _renumbered(errors: Sequence[RecordError], indexes: Sequence[int]) -> tuple[RecordError, ...]:
    return tuple(replace(error, index=indexes[error.index]) for error in errors)
