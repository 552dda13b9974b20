"""What becomes of a chunk after Sentinel's answer: uploaded, deferred, or given up. Pure.

The rule behind the table: a chunk is given up only for what is its own fault. A server error may be
the fault of one chunk, but only while others pass; so an attempt counts against a chunk only when
Sentinel has accepted something since the attempt before.
"""

from dataclasses import dataclass
from typing import Final, assert_never

from common.envelope import Envelope
from common.ledger.problems import Kind
from consumer.deferral import ATTEMPT_CAP, OPERATOR_CAP, Defer, defer_for_operator, growing
from consumer.isolation import Isolation
from consumer.sentinel import (
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
"""Records refused alone, with none accepted, after which a search goes on: so many bad ones may
stand at the head of a chunk."""

REFUSING_EVERYTHING: Final = (
    "Sentinel refuses every record it is sent: not the records but the request is wrong (a bad "
    "release or a changed API); nothing is given up, see docs/contracts.md"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The chunk is uploaded; `rejected` records stay behind, each with its reason.

    `stray` are errors that name no record of the chunk.
    """

    accepted: int
    rejected: tuple[RecordError, ...] = ()
    stray: tuple[RecordError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Keep the message as poison."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """A record was refused, but so was everything else: it proves nothing."""


Outcome = Done | Defer | GiveUp


def decide(answer: Answer, envelope: Envelope, *, others_pass: bool) -> Outcome:
    """Return what becomes of a chunk after `answer`.

    `others_pass`: Sentinel has accepted something since this chunk's last attempt. `attempt` of
    the envelope counts the attempts before this one that count, `deferrals` all of them.
    """
    match answer:
        case Uploaded(rejected=rejected, stray=stray):
            refused = min(envelope.count, len(rejected) + len(stray))
            return Done(accepted=envelope.count - refused, rejected=rejected, stray=stray)
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


def conclude(state: Isolation, *, sentinel_accepts: bool) -> Done | GiveUp | Unproven | None:
    """Return what an isolation has come to; None while it has to go on.

    `sentinel_accepts`: Sentinel took something since the chunk was refused. Without that, refused
    records prove nothing; but where they are few, the next ones may show that others pass.
    """
    nothing_passes = bool(state.rejected) and not (sentinel_accepts or state.accepted)
    # Records that the refusal named are no sign of it while the others were not sent without them.
    are_many = len(state.rejected) > FEW_REFUSED and state.requests > 1
    if nothing_passes and (state.is_over or state.is_spent or are_many):
        return Unproven()
    if state.is_over:
        return Done(accepted=state.accepted, rejected=state.rejected)
    if state.is_spent:
        return GiveUp(
            reason=f"too many refused records: {len(state.rejected)} found in "
            f"{state.requests} requests"
        )
    return None


def problem_of(answer: Answer, *, refusals_are_many: bool) -> Kind | None:
    """Return the problem that an answer means for the whole feed, if any."""
    match answer:
        case Uploaded() | Throttled():
            return None
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
        case _:
            return answer.reason


def _defer_or_give_up(envelope: Envelope, reason: str, *, limit: int, counts: bool) -> Outcome:
    if not counts:
        units = growing(envelope.deferrals, cap=OPERATOR_CAP)
        return Defer(reason=reason, units=units)
    if envelope.attempt + 1 >= limit:
        return GiveUp(reason=f"{reason}; given up after {envelope.attempt + 1} attempts")
    return Defer(reason=reason, units=growing(envelope.attempt, cap=ATTEMPT_CAP), counts=True)
