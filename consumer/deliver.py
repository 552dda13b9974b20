"""One delivery of one envelope: decode, take a slot, upload, decide, write down, return.

Returning acknowledges the message; raising means a bug, a crash, or that not even the queue can
be reached, and the host counts it. Whatever is not the message's fault is deferred: a copy with a
delay is enqueued first, then this delivery is acknowledged. A crash between the two leaves two
copies, so a repeated delivery first asks the ledger whether the chunk is already uploaded.
"""

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, assert_never

import orjson

from common.clock import Clock
from common.envelope import MAX_TIME, Envelope, decode_envelope
from common.errors import HaltError, TryLaterError, UndecodableError
from common.events import Event, emit
from common.identity import TokenSource
from common.ledger import Ledger
from common.ledger.poison import PoisonedBy
from common.ledger.problems import Kind, Problems
from common.ledger.states import ChunkState
from consumer.deferral import Defer, Deferrer, defer_for_operator, stamp
from consumer.isolation import (
    Isolation,
    after_accepted,
    after_refused,
    from_json,
    next_indexes,
    start_isolation,
    to_json,
)
from consumer.outcomes import (
    REFUSING_EVERYTHING,
    Done,
    GiveUp,
    Outcome,
    Unproven,
    conclude,
    decide,
    problem_of,
    reason_of,
)
from consumer.pacing import ComeBack, Pacer
from consumer.poison import PoisonKeeper
from consumer.receipts import ReceiptWriter
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

MANY_REFUSALS: Final = 20
"""Refused requests in a row, with none accepted, after which chunks are no longer searched."""

SEARCH_EVERY: Final = 60.0
"""Seconds between two searches while everything is refused: how recovery is noticed even when
every chunk has a bad record."""

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
            return
        try:
            envelope, outcome = self._work(envelope)
            self._write_down(outcome, envelope, message)
        except _OUR_TROUBLE as error:
            # The ledger is out of reach: the queue is the safe place, and this the reason.
            self._deferrer.defer(envelope, defer_for_operator(envelope, str(error)))

    def _work(self, envelope: Envelope) -> tuple[Envelope, Outcome | ComeBack]:
        """Send requests until there is an outcome or the next send slot is too far away."""
        permit = self._pacer.permit(envelope.slot)
        while not isinstance(permit, ComeBack):
            state = _search_of(envelope)
            answer = self._upload(envelope, state)
            self._take_note(answer, envelope)
            if state is None and isinstance(answer, Isolate):
                if not self._refusals.may_search():
                    return envelope, decide(answer, envelope, others_pass=False)
                emit(Event.CHUNK_ISOLATING, run=envelope.run_id, chunk=envelope.key)
                state = start_isolation(
                    envelope.count, answer.refused, since=self._refused_since(envelope)
                )
            elif state is not None and isinstance(answer, Uploaded) and not answer.stray:
                state = after_accepted(state, answer.rejected)
            elif state is not None and isinstance(answer, Isolate):
                state = after_refused(state, answer.reason)
            else:
                if state is not None and isinstance(answer, Uploaded):
                    answer = Drift(reason="Sentinel named records that the request did not have")
                return envelope, self._decide(answer, envelope)
            outcome = self._conclude(state)
            if isinstance(outcome, Unproven):
                with suppress(*_OUR_TROUBLE):
                    self._problems.raise_problem(Kind.REFUSING, REFUSING_EVERYTHING)
                envelope = replace(envelope, isolation={"since": state.since})
                return envelope, defer_for_operator(envelope, REFUSING_EVERYTHING)
            if outcome is not None:
                return replace(envelope, isolation=None), outcome
            envelope = replace(envelope, isolation=to_json(state))
            permit = self._pacer.next_permit()
        return envelope, permit

    def _upload(self, envelope: Envelope, state: Isolation | None) -> Answer:
        """Send the whole chunk, or the next group of the search.

        After a server error or a refused token it is sent once more, if a send slot is near.
        """
        objects, count = _next_request(envelope, state)
        try:
            token = self._tokens.token()
            answer = self._sentinel.upload(objects, count=count, token=token)
            if isinstance(answer, RefreshToken):
                token = self._tokens.refresh(refused=token)
            elif not isinstance(answer, Unavailable):
                return answer
            if isinstance(self._pacer.next_permit(), ComeBack):
                return answer
            return self._sentinel.upload(objects, count=count, token=token)
        except _OUR_TROUBLE as error:
            # No token or no slot: it is not Sentinel that failed, so nothing counts.
            return OperatorNeeded(reason=str(error))

    def _take_note(self, answer: Answer, envelope: Envelope) -> None:
        """Tell everybody whom an answer concerns: the slots, the problems, the next search."""
        match answer:
            case Uploaded():
                self._refusals.accepted()
                with suppress(*_OUR_TROUBLE):
                    self._problems.note_success(after_trouble=envelope.deferrals > 0)
            case Isolate():
                self._refusals.refused()
            case Throttled(wait=wait):
                with suppress(*_OUR_TROUBLE):
                    self._pacer.throttled(wait)
            case Drift(reason=reason):
                emit(Event.CONTRACT_DRIFT, reason=reason)
            case _:
                pass
        kind = problem_of(answer, refusals_are_many=self._refusals.are_many)
        if kind is not None:
            with suppress(*_OUR_TROUBLE):
                self._problems.raise_problem(kind, reason_of(answer))

    def _decide(self, answer: Answer, envelope: Envelope) -> Outcome:
        since = _last_attempt(envelope)
        others_pass = since is not None and self._sentinel_accepts(since)
        return decide(answer, envelope, others_pass=others_pass)

    def _refused_since(self, envelope: Envelope) -> float:
        """Return when this chunk was first refused with nothing to prove whose fault it was."""
        known = (envelope.isolation or {}).get("since")
        if isinstance(known, float) and 0 <= known < MAX_TIME:
            return known
        return self._clock.now().timestamp()

    def _conclude(self, state: Isolation) -> Done | GiveUp | Unproven | None:
        needs_proof = bool(state.rejected) and not state.accepted
        since = datetime.fromtimestamp(state.since, UTC)
        return conclude(state, sentinel_accepts=needs_proof and self._sentinel_accepts(since))

    def _sentinel_accepts(self, since: datetime) -> bool:
        """Whether Sentinel has accepted anything of anybody since then."""
        last = self._problems.last_success()
        return last is not None and last > since

    def _is_uploaded(self, envelope: Envelope) -> bool:
        """Ask the ledger; when it cannot be asked, uploading again is the safe answer."""
        try:
            chunk = self._ledger.chunks.get(envelope.run_id, envelope.key)
        except _OUR_TROUBLE:
            return False
        return chunk is not None and chunk.state is ChunkState.UPLOADED

    def _write_down(self, outcome: Outcome | ComeBack, envelope: Envelope, message: str) -> None:
        match outcome:
            case Done():
                self._receipts.write(outcome, envelope)
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


class Refusals:
    """Counts refused requests in a row: many of them mean that no record is at fault."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._searched = float("-inf")

    @property
    def are_many(self) -> bool:
        """Whether Sentinel seems to refuse everything."""
        return self._in_a_row >= MANY_REFUSALS

    def accepted(self) -> None:
        """Note a request that was taken."""
        with self._lock:
            self._in_a_row = 0

    def refused(self) -> None:
        """Note a request that was refused as a whole."""
        with self._lock:
            self._in_a_row += 1

    def may_search(self) -> bool:
        """Whether a refused chunk may be searched for bad records now."""
        with self._lock:
            now = self._clock.monotonic()
            if self._in_a_row >= MANY_REFUSALS and now - self._searched < SEARCH_EVERY:
                return False
            self._searched = now
            return True


def _last_attempt(envelope: Envelope) -> datetime | None:
    """Return when an envelope was last deferred; None when never, or when that is unreadable."""
    if not envelope.history:
        return None
    try:
        moment = datetime.fromisoformat(envelope.history[-1].at)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _search_of(envelope: Envelope) -> Isolation | None:
    """Return the search that an envelope carries; a damaged one is begun anew."""
    if envelope.isolation is None:
        return None
    try:
        return from_json(envelope.isolation, count=envelope.count)
    except (KeyError, TypeError, ValueError):
        return None


def _next_request(envelope: Envelope, state: Isolation | None) -> tuple[bytes, int]:
    """Return the records to send next as a JSON array, and how many they are."""
    if state is None:
        return envelope.body, envelope.count
    objects = orjson.loads(envelope.body)
    indexes = next_indexes(state)
    chosen = [objects[index] for index in indexes]
    return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS), len(indexes)
