"""One delivery of one envelope: decode, take a slot, look at the row, upload, decide, write down.

Returning acknowledges the message; raising means a bug, a crash, or that not even the queue can
be reached, and the host counts it. Whatever is not the message's fault is deferred: a copy with a
delay is enqueued first, then this delivery is acknowledged. A crash between the two leaves two
copies; each looks at the chunk's row right before each request, and what is settled is not sent.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

import orjson

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
from common.events import Event, emit
from common.identity import TokenSource
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.poison import PoisonedBy
from common.ledger.problems import Kind, Moment, Problems
from common.ledger.sends import Sends
from consumer.deferral import Defer, Deferrer, defer_for_operator, stamp
from consumer.isolation import (
    Isolation,
    after_accepted,
    after_refused,
    from_json,
    next_indexes,
    since_from_json,
    since_to_json,
    start_isolation,
    to_json,
)
from consumer.look import Look, NotNow, Sendable, Settled, judge_look
from consumer.outcomes import (
    NOTHING_PROVEN,
    REFUSING_EVERYTHING,
    THROTTLED_FOR,
    Done,
    GiveUp,
    Outcome,
    Unproven,
    conclude,
    decide,
    is_throttled_again,
    problem_of,
    reason_of,
    time_of,
)
from consumer.pacing import ComeBack, Pacer
from consumer.poison import PoisonKeeper
from consumer.receipts import ReceiptWriter
from consumer.refusals import Refusals
from consumer.sentinel import (
    Answer,
    Drift,
    Isolate,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    SentinelClient,
    Throttled,
    Unavailable,
    Uploaded,
)

NOT_THE_RECORDS: Final = "the body does not hold the records that the envelope counts"

LOOKS: Final = 2
"""Looks at a row for one request."""

LONGEST_SEARCH: Final = 30.0
"""Seconds of one delivery after which a search goes back on the queue with what it has found. It
may take 100 requests of 6 to 8 s: `functionTimeout` must not end it, nor a crash cost all of it."""

_OUR_TROUBLE = (TryLaterError, HaltError)


class Deliverer:
    """Delivers envelopes. Safe to use from several threads."""

    def __init__(
        self,
        *,
        sentinel: SentinelClient,
        tokens: TokenSource,
        ledger: Ledger,
        problems: Problems,
        sends: Sends,
        pacer: Pacer,
        deferrer: Deferrer,
        keeper: PoisonKeeper,
        clock: Clock,
    ) -> None:
        self._sentinel = sentinel
        self._tokens = tokens
        self._ledger = ledger
        self._problems = problems
        self._sends = sends
        self._pacer = pacer
        self._deferrer = deferrer
        self._keeper = keeper
        self._receipts = ReceiptWriter(ledger=ledger, clock=clock)
        self._clock = clock
        self._refusals = Refusals(clock)

    def deliver(self, message: str) -> None:
        """Take one message to an outcome and write it down.

        Guarantee: on return the chunk is settled, poisoned or on the queue again, and the
        ledger says so. Called twice: uploads again at worst. If it dies halfway: the host
        delivers the message again. Raises when neither the outcome nor a later try could be
        stored; then the host still has the message.
        """
        try:
            envelope = decode_envelope(message)
        except UndecodableError as error:
            self._keeper.keep_undecodable(message, str(error), by=PoisonedBy.CONSUMER)
            return
        except LaterVersionError as error:
            self._deferrer.put_back(message, str(error))
            return
        try:
            self._write_down(*self._work(envelope), message)
        except _OUR_TROUBLE as error:
            # The ledger is out of reach: the queue is the safe place, and this the reason.
            self._deferrer.defer(envelope, defer_for_operator(envelope, str(error)))

    def _work(
        self, envelope: Envelope
    ) -> tuple[Outcome | ComeBack | Settled, Envelope, Chunk | None]:
        """Send requests until there is an outcome, or it is better to come back for the next.

        Returns that, the envelope with what it has been through, and the row as it was last seen.
        """
        began = self._clock.monotonic()
        permit = self._pacer.permit(envelope.slot)
        row: Chunk | None = None
        while not isinstance(permit, ComeBack):
            request, answer, sent = self._upload(envelope)
            if not isinstance(request, Request):
                return request, envelope, row
            row = request.look.chunk
            if request.search is not None and isinstance(answer, Uploaded) and answer.stray:
                answer = Drift(reason="Sentinel named records that the request did not have")
            self._take_note(answer, envelope, sent)
            outcome, envelope = self._follow(request, answer, envelope)
            if outcome is not None:
                return outcome, envelope, row
            is_long = self._clock.monotonic() - began >= LONGEST_SEARCH
            permit = self._pacer.come_back() if is_long else self._pacer.next_permit()
        return permit, envelope, row

    def _follow(
        self, request: "Request", answer: Answer, envelope: Envelope
    ) -> tuple[Outcome | None, Envelope]:
        """Return what follows from an answer: no outcome while a search goes on."""
        search, indexes = request.search, request.look.indexes
        if search is None and isinstance(answer, Isolate):
            flaw = _flaw_of(envelope)
            if flaw is not None:
                return GiveUp(reason=f"{answer.reason}; {flaw}"), envelope
            if not self._refusals.may_search():
                return decide(answer, envelope, sent=indexes, others_pass=False), envelope
            emit(Event.CHUNK_ISOLATING, run=envelope.run_id, chunk=envelope.key)
            search = start_isolation(indexes, answer.refused, since=_unproven_since(envelope))
        elif search is not None and isinstance(answer, Uploaded):
            search = after_accepted(search, answer.rejected)
        elif search is not None and isinstance(answer, Isolate):
            search = after_refused(search, answer.reason, answer.refused)
        else:
            return self._decide(answer, envelope, sent=indexes), envelope
        outcome = self._conclude(search, sent=indexes)
        if isinstance(outcome, Unproven):
            return self._without_proof(envelope, search)
        carried = None if outcome is not None else to_json(search)
        return outcome, replace(envelope, isolation=carried)

    def _without_proof(self, envelope: Envelope, state: Isolation) -> tuple[Defer, Envelope]:
        """Return the chunk to defer whose refusals prove nothing; the next time it is sent whole.

        Somebody may be accepted until then. When nobody was, it is a problem of the whole feed.
        """
        reason = NOTHING_PROVEN
        if state.since is not None:
            reason = REFUSING_EVERYTHING
            with suppress(*_OUR_TROUBLE):
                self._problems.raise_problem(Kind.REFUSING, reason, met_by=envelope.name)
        since = since_to_json(self._problems.moment())
        return defer_for_operator(envelope, reason), replace(envelope, isolation=since)

    def _upload(self, envelope: Envelope) -> tuple["Request | Unsent", Answer, Moment]:
        """Send what may be sent: the whole chunk, or the next group of the search.

        After a server error or a refused token it is sent once more, if a send slot is near, and
        on a look of its own. Returns the last request, its answer, and when it was sent; or why
        there is none.
        """
        sent = self._problems.moment()
        request: Request | Unsent = Defer(reason="")
        answer: Answer = NOTHING_SENT
        try:
            token = self._tokens.token()
            request, answer, sent = self._send(envelope, token)
            if not isinstance(request, Request):
                return request, answer, sent
            if isinstance(answer, RefreshToken):
                token = self._tokens.refresh(refused=token)
            elif not isinstance(answer, Unavailable):
                return request, answer, sent
            if self._pacer.near_permit() is None:
                return request, answer, sent
            return self._send(envelope, token)
        except _OUR_TROUBLE as error:
            # No token, no slot or no row: it is not Sentinel that failed, so nothing counts.
            trouble = OperatorNeeded(reason=str(error))
            self._take_note(trouble, envelope, sent)
            return defer_for_operator(envelope, trouble.reason), trouble, sent

    def _send(self, envelope: Envelope, token: str) -> tuple["Request | Unsent", Answer, Moment]:
        """Look at the chunk's row and send one request on it; no request where it says so.

        A look that took too long is repeated once: storage that is so slow is an outage.
        """
        for _ in range(LOOKS):
            self._sends.note(self._sentinel.destination)
            began = self._clock.boottime()
            look = self._look(envelope)
            if isinstance(look, Settled):
                return look, NOTHING_SENT, self._problems.moment()
            if isinstance(look, NotNow):
                waits = defer_for_operator(envelope, look.reason)
                return waits, NOTHING_SENT, self._problems.moment()
            request = _plan(envelope, look)
            sent = self._problems.moment()
            if self._clock.boottime() - began <= LOOK_IS_GOOD_FOR:
                answer = self._sentinel.upload(
                    request.objects, count=len(request.chosen), token=token
                )
                return request, _in_chunk(answer, request), sent
        raise UnavailableError("the ledger takes too long to tell what may be sent")

    def _look(self, envelope: Envelope) -> Look:
        """Look at the chunk's row; where there is none, at the id of the ledger."""
        chunk = self._ledger.chunks.get(envelope.run_id, envelope.key)
        ledger_id = None if chunk is not None else self._ledger.chunks.known_ledger_id()
        return judge_look(
            envelope, chunk, ledger_id=ledger_id, destination=self._sentinel.destination
        )

    def _take_note(self, answer: Answer, envelope: Envelope, sent: Moment) -> None:
        """Tell everybody whom an answer concerns: the slots, the problems, the next search."""
        match answer:
            case Uploaded():
                self._refusals.accepted()
                with suppress(*_OUR_TROUBLE):
                    is_known = envelope.deferrals > 0 or envelope.isolation is not None
                    self._problems.note_success(sent, after_trouble=is_known)
            case Isolate():
                self._refusals.refused()
            case Throttled(wait=wait):
                with suppress(*_OUR_TROUBLE):
                    self._pacer.throttled(wait)
            case Drift(reason=reason):
                emit(Event.CONTRACT_DRIFT, reason=reason)
            case _:
                pass
        with suppress(*_OUR_TROUBLE):
            kind = problem_of(
                answer,
                refusals_are_many=self._refusals.are_many,
                is_throttled_on=isinstance(answer, Throttled) and self._is_throttled_on(envelope),
            )
            if kind is not None:
                self._problems.raise_problem(kind, reason_of(answer), met_by=envelope.name)

    def _is_throttled_on(self, envelope: Envelope) -> bool:
        """Whether throttling goes on, for this chunk and for everybody."""
        now = self._clock.now()
        if not is_throttled_again(envelope, now=now):
            return False
        last = self._problems.last_success()
        return last is None or now - last >= THROTTLED_FOR

    def _end_without_success(self, envelope: Envelope) -> None:
        """Let no problem stand for a chunk that waits no more; a success of its closes them all."""
        with suppress(*_OUR_TROUBLE):
            self._problems.chunk_ended(envelope.name)

    def _decide(self, answer: Answer, envelope: Envelope, *, sent: Sequence[int]) -> Outcome:
        others_pass = False
        if isinstance(answer, Unavailable | Drift) and envelope.history:
            since, last = time_of(envelope.history[-1]), self._problems.last_success()
            others_pass = since is not None and last is not None and last > since
        return decide(answer, envelope, sent=sent, others_pass=others_pass)

    def _conclude(
        self, state: Isolation, *, sent: Sequence[int]
    ) -> Done | GiveUp | Unproven | None:
        """Conclude; whether others pass is asked only where the chunk itself has no proof."""
        others_pass = False
        if state.since is not None and state.rejected and not state.accepted:
            others_pass = self._problems.has_success_after(state.since)
        return conclude(state, sent=sent, others_pass=others_pass)

    def _write_down(
        self,
        outcome: Outcome | ComeBack | Settled,
        envelope: Envelope,
        row: Chunk | None,
        message: str,
    ) -> None:
        match outcome:
            case Settled():
                emit(Event.CHUNK_REPEATED, run=envelope.run_id, chunk=envelope.key)
                self._end_without_success(envelope)
            case Done():
                self._receipts.write(outcome, envelope, row)
                if not outcome.accepted:
                    self._end_without_success(envelope)
            case Defer():
                self._deferrer.defer(envelope, outcome)
            case ComeBack():
                self._deferrer.postpone(envelope, outcome)
            case GiveUp(reason=reason):
                at = stamp(self._clock.now())
                last = envelope.deferred(at=at, reason=reason, counts=True)
                self._keeper.keep_envelope(last, message, reason, by=PoisonedBy.CONSUMER)
            case _:
                assert_never(outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: the records at the indexes in `chosen`, and the search that it belongs to."""

    look: Sendable
    chosen: tuple[int, ...]
    objects: bytes
    search: Isolation | None


Unsent = Settled | Defer
"""Why no request was sent."""

NOTHING_SENT: Final = OperatorNeeded(reason="no request was sent")


def _plan(envelope: Envelope, look: Sendable) -> Request:
    """Return the next request for a chunk, of what may be sent of it."""
    search = _search_of(envelope, look.indexes)
    chosen = look.indexes if search is None else next_indexes(search, look.indexes)
    objects = envelope.body
    if len(chosen) < envelope.count:
        records = _records_of(envelope)
        part = [records[index] for index in chosen if index < len(records)]
        objects = orjson.dumps(part, option=orjson.OPT_SORT_KEYS)
    return Request(look=look, chosen=chosen, objects=objects, search=search)


def _in_chunk(answer: Answer, request: Request) -> Answer:
    """Return an answer to a part of a chunk with the indexes of the chunk.

    In a search they stay those of the group, which the search knows how to read.
    """
    if request.search is not None:
        return answer
    match answer:
        case Uploaded(rejected=rejected):
            return replace(answer, rejected=_renumbered(rejected, request.chosen))
        case Isolate(refused=refused):
            return replace(answer, refused=_renumbered(refused, request.chosen))
        case _:
            return answer


def _renumbered(errors: Sequence[RecordError], chosen: Sequence[int]) -> tuple[RecordError, ...]:
    return tuple(replace(error, index=chosen[error.index]) for error in errors)


def _search_of(envelope: Envelope, indexes: Sequence[int]) -> Isolation | None:
    """Return the search that an envelope carries; one that is damaged is begun again."""
    if envelope.isolation is None or _flaw_of(envelope) is not None:
        return None
    try:
        return from_json(envelope.isolation, indexes=indexes)
    except (KeyError, TypeError, ValueError):
        return None


def _flaw_of(envelope: Envelope) -> str | None:
    """Return why a chunk cannot be searched, if so."""
    return NOT_THE_RECORDS if len(_records_of(envelope)) != envelope.count else None


def _unproven_since(envelope: Envelope) -> Moment | None:
    """Return the latest refusal of a search that ended without proof, if there was one."""
    return None if envelope.isolation is None else since_from_json(envelope.isolation)


def _records_of(envelope: Envelope) -> list[Any]:
    """Return the records in the body; none where it is no array of them."""
    try:
        records = orjson.loads(envelope.body)
    except orjson.JSONDecodeError:
        return []
    return records if isinstance(records, list) else []
