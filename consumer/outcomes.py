"""What becomes of a chunk after Sentinel's answer: uploaded, deferred, or given up. Pure.

The rule behind the table: a chunk is given up only for what is its own fault. A server error may be
the fault of one chunk, but only while others pass; so an attempt counts against a chunk only when
Sentinel has accepted something since the attempt before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from common.envelope import Attempt, Envelope
from common.ledger.problems import Kind
from consumer.deferral import ATTEMPT_CAP, OPERATOR_CAP, Defer, defer_for_operator, growing
from consumer.isolation import Isolation
from consumer.sentinel import (
    THROTTLED,
    Answer,
    Drift,
    Isolate,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    Throttled,
    Unavailable,
    Uploaded,
)

LONG_ATTEMPTS: Final = 5
"""Attempts at the longest delay after which a chunk that alone meets server errors is given up."""

DRIFT_ATTEMPTS: Final = 5
"""Attempts after which a chunk that alone meets answers without a name is given up."""

FEW_REFUSED: Final = 4
"""Records of a chunk that may be refused while none of it is accepted: so many bad ones may stand
at its head. With one more the search ends, unless others are known to pass."""

THROTTLED_FOR: Final = timedelta(minutes=5)
"""Time without any success after which a chunk that is throttled again is a problem."""

REFUSING_EVERYTHING: Final = (
    "Sentinel refuses every record it is sent: not the records but the request is wrong (a bad "
    "release or a changed API); nothing is given up, see docs/contracts.md"
)

NOTHING_PROVEN: Final = (
    "Sentinel refuses records of this chunk: it waits until Sentinel is seen to accept anything"
)

WAITS_FOR_PROOF: Final = (
    "1 record that Sentinel refused waits for proof: it is rejected once Sentinel is seen to "
    "accept anything between two refusals; nothing to do where the feed is quiet"
)

THROTTLED_ON_AND_ON: Final = (
    "Sentinel answers 429 and has accepted nothing for minutes: another sender uses the same "
    "identity (give it one of its own), or SENTINEL_REQUESTS_PER_MINUTE is too high (lower it)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was `sent` is uploaded; `rejected` records stay behind, each with its reason.

    All are indexes in the chunk. `stray` are errors that name no record of the request.
    """

    sent: tuple[int, ...]
    rejected: tuple[RecordError, ...] = ()
    stray: tuple[RecordError, ...] = ()

    @property
    def accepted(self) -> int:
        """How many records Sentinel took."""
        return len(self.sent) - len(self.rejected) - len(self.stray)


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Keep the message as poison."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """A record was refused, but so was everything else: it proves nothing."""


Outcome = Done | Defer | GiveUp


def decide(
    answer: Answer, envelope: Envelope, *, sent: Sequence[int], others_pass: bool
) -> Outcome:
    """Return what becomes of a chunk after `answer` to the records at the indexes in `sent`.

    `others_pass`: Sentinel has accepted something since this chunk's last attempt. `attempt` of
    the envelope counts the attempts before this one that count, `deferrals` all of them.
    """
    match answer:
        case Uploaded(rejected=rejected, stray=stray):
            return Done(sent=tuple(sent), rejected=rejected, stray=stray)
        case Throttled(reason=reason, wait=wait):
            return Defer(reason=reason, seconds=wait)
        case OperatorNeeded(reason=reason) | RefreshToken(reason=reason):
            return defer_for_operator(envelope, reason)
        case Unavailable(reason=reason):
            limit = ATTEMPT_CAP.bit_length() + LONG_ATTEMPTS
            return _defer_or_give_up(envelope, reason, limit=limit, counts=others_pass)
        case Drift(reason=reason):
            return _defer_or_give_up(envelope, reason, limit=DRIFT_ATTEMPTS, counts=others_pass)
        case Isolate():
            return defer_for_operator(envelope, REFUSING_EVERYTHING)
        case _:
            assert_never(answer)


def conclude(
    state: Isolation, *, sent: Sequence[int], others_pass: bool
) -> Done | GiveUp | Unproven | None:
    """Return what an isolation among the records in `sent` has come to; None while it goes on.

    `others_pass`: Sentinel accepted something of anybody that was sent after the latest refusal of
    this chunk's search before this one, which had found no proof. So an acceptance lies between
    two refusals. Where a part of the chunk itself was accepted, the probe is the proof.
    """
    if state.is_denied:
        return Unproven()
    if state.needs_probe:
        return None
    nothing_passes = bool(state.rejected) and not (others_pass or state.accepted)
    # Records that the refusal named are no sign of it while the others were not sent without them.
    are_many = len(state.rejected) > FEW_REFUSED and state.requests > 1
    if nothing_passes and (state.is_over or state.is_spent or are_many):
        return Unproven()
    if state.is_over:
        return Done(sent=tuple(sent), rejected=state.rejected)
    if state.is_spent:
        return GiveUp(
            reason=f"too many refused records: {len(state.rejected)} found in "
            f"{state.requests} requests"
        )
    return None


def problem_of(answer: Answer, *, refusals_are_many: bool, is_throttled_on: bool) -> Kind | None:
    """Return the problem that an answer means for the whole feed, if any."""
    match answer:
        case Uploaded():
            return None
        case Throttled():
            return Kind.THROTTLED if is_throttled_on else None
        case OperatorNeeded() | RefreshToken():
            return Kind.ACCESS
        case Unavailable():
            return Kind.UNAVAILABLE
        case Drift():
            return Kind.DRIFT
        case Isolate():
            return Kind.REFUSING if refusals_are_many else None
        case _:
            assert_never(answer)


def reason_of(answer: Answer) -> str:
    """Return why an answer did not take the chunk, in words for the operator."""
    match answer:
        case Uploaded():
            return ""
        case Isolate():
            return REFUSING_EVERYTHING
        case Throttled():
            return THROTTLED_ON_AND_ON
        case _:
            return answer.reason


def is_throttled_again(envelope: Envelope, *, now: datetime) -> bool:
    """Whether a chunk that is throttled now was so the last time, too, and waits for minutes.

    The first entry of a history is never dropped, so it tells since when.
    """
    if not envelope.history or envelope.history[-1].reason != THROTTLED:
        return False
    first = time_of(envelope.history[0])
    return first is not None and now - first >= THROTTLED_FOR


def time_of(attempt: Attempt) -> datetime | None:
    """Return when an attempt failed; None when that is unreadable."""
    try:
        moment = datetime.fromisoformat(attempt.at)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _defer_or_give_up(envelope: Envelope, reason: str, *, limit: int, counts: bool) -> Outcome:
    if not counts:
        units = growing(envelope.deferrals, cap=OPERATOR_CAP)
        return Defer(reason=reason, units=units)
    if envelope.attempt + 1 >= limit:
        return GiveUp(reason=f"{reason}; given up after {envelope.attempt + 1} attempts")
    return Defer(reason=reason, units=growing(envelope.attempt, cap=ATTEMPT_CAP), counts=True)
