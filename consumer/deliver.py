"""One delivery of one envelope: decode, upload, decide, write down, return.

Returning acknowledges the message; raising means a bug, a crash, or that not even the queue can
be reached, and the host counts it. Whatever is not the message's fault is deferred: a copy with a
delay is enqueued first, then this delivery is acknowledged. A crash between the two leaves two
copies, so a repeated delivery first asks the ledger whether the chunk is already uploaded.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, assert_never

from common.clock import Clock
from common.envelope import Envelope, decode_envelope
from common.errors import CredentialError, TryLaterError, UndecodableError
from common.events import Event, emit
from common.identity import TokenSource
from common.ledger import Ledger
from common.ledger.poison import PoisonedBy
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.states import ChunkState
from consumer.deferral import (
    MAX_DELAY,
    Defer,
    Deferrer,
    defer_for_operator,
    growing_delay,
    stamp,
)
from consumer.poison import PoisonKeeper
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

HOURLY_ATTEMPTS: Final = 5
"""Attempts an hour apart after which a chunk that only meets server errors is given up."""

DRIFT_ATTEMPTS: Final = 5
"""Attempts after which a chunk that only meets answers without a name is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The chunk is uploaded; `rejected` records stay behind, each with its reason."""

    accepted: int
    rejected: tuple[RecordError, ...]
    stray: tuple[RecordError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Keep the message as poison."""

    reason: str


Outcome = Done | Defer | GiveUp


def decide(answer: Answer, envelope: Envelope) -> Outcome:
    """Return what becomes of a chunk after `answer`; pure.

    `attempt` of the envelope counts the failed attempts before this one that count, `deferrals`
    all of them.
    """
    match answer:
        case Uploaded(rejected=rejected, stray=stray):
            refused = min(envelope.count, len(rejected) + len(stray))
            return Done(accepted=envelope.count - refused, rejected=rejected, stray=stray)
        case Throttled(reason=reason, wait=wait):
            return Defer(reason=reason, delay=wait, counts=False)
        case OperatorNeeded(reason=reason) | RefreshToken(reason=reason):
            return defer_for_operator(envelope, reason)
        case Unavailable(reason=reason):
            delay = growing_delay(envelope.attempt, cap=MAX_DELAY)
            limit = _attempts_before(MAX_DELAY) + HOURLY_ATTEMPTS
            return _defer_or_give_up(envelope, reason, delay, limit)
        case Drift(reason=reason):
            delay = growing_delay(envelope.attempt, cap=MAX_DELAY)
            return _defer_or_give_up(envelope, reason, delay, DRIFT_ATTEMPTS)
        case Isolate(reason=reason):
            return GiveUp(reason=reason)
        case _:
            assert_never(answer)


def _attempts_before(cap: float) -> int:
    return next(n for n in range(64) if growing_delay(n, cap=cap) >= cap)


def _defer_or_give_up(envelope: Envelope, reason: str, delay: float, limit: int) -> Outcome:
    if envelope.attempt + 1 >= limit:
        return GiveUp(reason=f"{reason}; given up after {envelope.attempt + 1} attempts")
    return Defer(reason=reason, delay=delay, counts=True)


class Deliverer:
    """Delivers envelopes. Safe to use from several threads."""

    def __init__(
        self,
        *,
        sentinel: SentinelClient,
        tokens: TokenSource,
        ledger: Ledger,
        deferrer: Deferrer,
        keeper: PoisonKeeper,
        clock: Clock,
    ) -> None:
        self._sentinel = sentinel
        self._tokens = tokens
        self._ledger = ledger
        self._deferrer = deferrer
        self._keeper = keeper
        self._clock = clock

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
        if (dequeue_count > 1 or envelope.deferrals) and self._is_uploaded(envelope):
            emit(Event.CHUNK_REPEATED, run=envelope.run_id, chunk=envelope.key)
            return
        outcome = decide(self._upload(envelope), envelope)
        if isinstance(outcome, Defer):
            self._deferrer.defer(envelope, outcome)
            return
        try:
            self._write_down(outcome, envelope, message)
        except (TryLaterError, CredentialError) as error:
            # The ledger is out of reach: the queue is the safe place, and this the reason.
            self._deferrer.defer(envelope, defer_for_operator(envelope, str(error)))

    def _upload(self, envelope: Envelope) -> Answer:
        try:
            token = self._tokens.token()
            answer = self._post(envelope, token)
            if isinstance(answer, RefreshToken):
                answer = self._post(envelope, self._tokens.refresh(refused=token))
        except (CredentialError, TryLaterError) as error:
            # No token: nothing was tried at Sentinel, so nothing counts against the message.
            return OperatorNeeded(reason=str(error))
        return answer

    def _post(self, envelope: Envelope, token: str) -> Answer:
        return self._sentinel.upload(envelope.body, count=envelope.count, token=token)

    def _is_uploaded(self, envelope: Envelope) -> bool:
        """Ask the ledger; when it cannot be asked, uploading again is the safe answer."""
        try:
            chunk = self._ledger.chunks.get(envelope.run_id, envelope.key)
        except (TryLaterError, CredentialError):
            return False
        return chunk is not None and chunk.state is ChunkState.UPLOADED

    def _write_down(self, outcome: Done | GiveUp, envelope: Envelope, message: str) -> None:
        match outcome:
            case Done():
                self._record_receipt(outcome, envelope)
            case GiveUp(reason=reason):
                at = stamp(self._clock.now())
                last = envelope.deferred(at=at, reason=reason, counts=True)
                self._keeper.keep_envelope(last, message, reason, by=PoisonedBy.CONSUMER)
            case _:
                assert_never(outcome)

    def _record_receipt(self, done: Done, envelope: Envelope) -> None:
        """Keep the rejections first: a chunk row that says uploaded has them all."""
        now = self._clock.now()
        rejected = envelope.count - done.accepted
        if rejected:
            self._ledger.rejections.record(rejections_of(done, envelope, at=now))
        self._ledger.chunks.record_uploaded(
            envelope, accepted=done.accepted, rejected=rejected, at=now
        )
        if done.stray:
            emit(
                Event.CONTRACT_DRIFT,
                run=envelope.run_id,
                chunk=envelope.key,
                reason="Sentinel named records that the chunk does not have",
                stray=len(done.stray),
            )
        emit(
            Event.CHUNK_UPLOADED,
            run=envelope.run_id,
            chunk=envelope.key,
            accepted=done.accepted,
            rejected=rejected,
            deferrals=envelope.deferrals,
        )


def rejections_of(done: Done, envelope: Envelope, *, at: datetime) -> list[Rejection]:
    """Return the rejections of a receipt, each with the record it speaks of."""
    objects = json.loads(envelope.body)
    rejections = []
    for error in (*done.rejected, *done.stray):
        known = objects[error.index] if 0 <= error.index < len(objects) else None
        shown: dict[str, Any] = known if isinstance(known, dict) else {}
        rejections.append(
            Rejection(
                run_id=envelope.run_id,
                position=f"chunk-{envelope.key}-{error.index}",
                rejected_by=RejectedBy.SENTINEL,
                indicator_id=str(shown.get("id", "")),
                pattern=str(shown.get("pattern", "")),
                reason="; ".join(error.messages) or "no reason given",
                content=b"" if known is None else json.dumps(known).encode(),
                at=at,
            )
        )
    return rejections
