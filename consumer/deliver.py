"""One delivery of one envelope: decode, take a slot, upload, decide, write down, return.

Returning acknowledges the message; raising means a bug, a crash, or that not even the queue can
be reached, and the host counts it. Whatever is not the message's fault is deferred: a copy with a
delay is enqueued first, then this delivery is acknowledged. A crash between the two leaves two
copies, so a repeated delivery first asks the ledger whether the chunk is already uploaded.
"""

from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, assert_never

import orjson

from common.clock import Clock
from common.envelope import Envelope, decode_envelope
from common.errors import HaltError, TryLaterError, UndecodableError
from common.events import Event, emit
from common.identity import TokenSource
from common.ledger import Ledger
from common.ledger.poison import PoisonedBy
from common.ledger.problems import Kind, Moment, Problems
from common.ledger.states import ChunkState
from common.settings import MAX_OBJECTS_PER_REQUEST
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
from consumer.pacing import ComeBack, Pacer, is_on_time
from consumer.poison import PoisonKeeper
from consumer.receipts import ReceiptWriter
from consumer.refusals import Refusals
from consumer.sentinel import (
    Answer,
    Drift,
    Isolate,
    OperatorNeeded,
    RefreshToken,
    SentinelClient,
    Throttled,
    Unavailable,
    Uploaded,
)

NOT_THE_RECORDS: Final = "the body does not hold the records that the envelope counts"
TOO_MANY_RECORDS: Final = f"Sentinel takes {MAX_OBJECTS_PER_REQUEST} records at once, not so many"

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
        pacer: Pacer,
        deferrer: Deferrer,
        keeper: PoisonKeeper,
        clock: Clock,
    ) -> None:
        self._sentinel = sentinel
        self._tokens = tokens
        self._ledger = ledger
        self._problems = problems
        self._pacer = pacer
        self._deferrer = deferrer
        self._keeper = keeper
        self._receipts = ReceiptWriter(ledger=ledger, clock=clock)
        self._clock = clock
        self._refusals = Refusals(clock)

    def deliver(self, message: str, *, dequeue_count: int) -> None:
        """Take one message to an outcome and write it down.

        Guarantee: on return the chunk is uploaded, poisoned or on the queue again, and the
        ledger says so. Called twice: uploads again at worst. If it dies halfway: the host
        delivers the message again. Raises when neither the outcome nor a later try could be
        stored; then the host still has the message.
        """
        try:
            envelope = decode_envelope(message)
        except UndecodableError as error:
            self._keeper.keep_undecodable(message, str(error), by=PoisonedBy.CONSUMER)
            return
        is_first = dequeue_count <= 1 and envelope.is_first_delivery
        if not is_first and self._is_uploaded(envelope):
            emit(Event.CHUNK_REPEATED, run=envelope.run_id, chunk=envelope.key)
            self._end_without_success(envelope)
            return
        try:
            envelope, outcome, sent = self._work(envelope)
            in_time = is_first and _is_in_time(envelope, sent)
            self._write_down(outcome, envelope, message, in_time=in_time)
        except _OUR_TROUBLE as error:
            # The ledger is out of reach: the queue is the safe place, and this the reason.
            self._deferrer.defer(envelope, defer_for_operator(envelope, str(error)))

    def _work(self, envelope: Envelope) -> tuple[Envelope, Outcome | ComeBack, Moment | None]:
        """Send requests until there is an outcome, or it is better to come back for the next.

        Returns the envelope with what it has been through, that, and when it was sent last.
        """
        began = self._clock.monotonic()
        sent: Moment | None = None
        permit = self._pacer.permit(envelope.slot)
        while not isinstance(permit, ComeBack):
            state = _search_of(envelope)
            answer, sent = self._upload(envelope, state)
            self._take_note(answer, envelope, sent)
            if state is None and isinstance(answer, Isolate):
                flaw = _flaw_of(envelope)
                if flaw is not None:
                    return envelope, GiveUp(reason=f"{answer.reason}; {flaw}"), sent
                if not self._refusals.may_search():
                    return envelope, decide(answer, envelope, others_pass=False), sent
                emit(Event.CHUNK_ISOLATING, run=envelope.run_id, chunk=envelope.key)
                state = start_isolation(
                    envelope.count, answer.refused, since=_unproven_since(envelope)
                )
            elif state is not None and isinstance(answer, Uploaded) and not answer.stray:
                state = after_accepted(state, answer.rejected)
            elif state is not None and isinstance(answer, Isolate):
                state = after_refused(state, answer.reason, answer.refused)
            else:
                if state is not None and isinstance(answer, Uploaded):
                    answer = Drift(reason="Sentinel named records that the request did not have")
                return envelope, self._decide(answer, envelope), sent
            outcome = self._conclude(state)
            if isinstance(outcome, Unproven):
                return *self._without_proof(envelope, state), sent
            if outcome is not None:
                return replace(envelope, isolation=None), outcome, sent
            envelope = replace(envelope, isolation=to_json(state))
            is_long = self._clock.monotonic() - began >= LONGEST_SEARCH
            permit = self._pacer.come_back() if is_long else self._pacer.next_permit()
        return envelope, permit, sent

    def _without_proof(self, envelope: Envelope, state: Isolation) -> tuple[Envelope, Defer]:
        """Return the chunk to defer whose refusals prove nothing; the next time it is sent whole.

        Somebody may be accepted until then. When nobody was, it is a problem of the whole feed.
        """
        reason = NOTHING_PROVEN
        if state.since is not None:
            reason = REFUSING_EVERYTHING
            with suppress(*_OUR_TROUBLE):
                self._problems.raise_problem(Kind.REFUSING, reason, met_by=envelope.name)
        since = since_to_json(self._problems.moment())
        return replace(envelope, isolation=since), defer_for_operator(envelope, reason)

    def _upload(self, envelope: Envelope, state: Isolation | None) -> tuple[Answer, Moment]:
        """Send the whole chunk, or the next group of the search; return when it was sent, too.

        After a server error or a refused token it is sent once more, if a send slot is near.
        """
        objects, count = _next_request(envelope, state)
        sent = self._problems.moment()
        try:
            token = self._tokens.token()
            sent = self._problems.moment()
            answer = self._sentinel.upload(objects, count=count, token=token)
            if isinstance(answer, RefreshToken):
                token = self._tokens.refresh(refused=token)
            elif not isinstance(answer, Unavailable):
                return answer, sent
            if self._pacer.near_permit() is None:
                return answer, sent
            sent = self._problems.moment()
            return self._sentinel.upload(objects, count=count, token=token), sent
        except _OUR_TROUBLE as error:
            # No token or no slot: it is not Sentinel that failed, so nothing counts.
            return OperatorNeeded(reason=str(error)), sent

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

    def _decide(self, answer: Answer, envelope: Envelope) -> Outcome:
        since = time_of(envelope.history[-1]) if envelope.history else None
        last = None if since is None else self._problems.last_success()
        others_pass = since is not None and last is not None and last > since
        return decide(answer, envelope, others_pass=others_pass)

    def _conclude(self, state: Isolation) -> Done | GiveUp | Unproven | None:
        """Conclude; whether others pass is asked only where the chunk itself has no proof."""
        others_pass = False
        if state.since is not None and state.rejected and not state.accepted:
            others_pass = self._problems.has_success_after(state.since)
        return conclude(state, others_pass=others_pass)

    def _is_uploaded(self, envelope: Envelope) -> bool:
        """Ask the ledger; when it cannot be asked, uploading again is the safe answer."""
        try:
            chunk = self._ledger.chunks.get(envelope.run_id, envelope.key)
        except _OUR_TROUBLE:
            return False
        return chunk is not None and chunk.state is ChunkState.UPLOADED

    def _write_down(
        self, outcome: Outcome | ComeBack, envelope: Envelope, message: str, *, in_time: bool
    ) -> None:
        match outcome:
            case Done():
                self._receipts.write(outcome, envelope, in_time=in_time)
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


def _is_in_time(envelope: Envelope, sent: Moment | None) -> bool:
    """Whether what was sent last went out in the chunk's slot."""
    return sent is not None and envelope.slot is not None and is_on_time(envelope.slot, sent.at)


def _search_of(envelope: Envelope) -> Isolation | None:
    """Return the search that an envelope carries; a damaged one is begun anew."""
    if envelope.isolation is None or _flaw_of(envelope) is not None:
        return None
    try:
        return from_json(envelope.isolation, count=envelope.count)
    except (KeyError, TypeError, ValueError):
        return None


def _flaw_of(envelope: Envelope) -> str | None:
    """Return why a chunk cannot be searched, if so: the state of a search would not fit, say."""
    if envelope.count > MAX_OBJECTS_PER_REQUEST:
        return TOO_MANY_RECORDS
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


def _next_request(envelope: Envelope, state: Isolation | None) -> tuple[bytes, int]:
    """Return the records to send next as a JSON array, and how many they are."""
    if state is None:
        return envelope.body, envelope.count
    objects = _records_of(envelope)
    indexes = next_indexes(state)
    chosen = [objects[index] for index in indexes]
    return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS), len(indexes)
