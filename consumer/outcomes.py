"""What follows from Sentinel's answer: uploaded, split, deferred, or given up. One table, pure.

The rule behind it: a failure counts against a message only if the message is at fault. Sentinel may
be refusing, or failing, everything. So a failure counts only if Sentinel has accepted any other
upload since this message's previous failure; the first one never counts. A refusal that counts
splits a message of many and rejects the record of a message of one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from common.envelope import Attempt, Envelope
from common.ledger.acceptance import WAITS_FOR_PROOF
from common.ledger.problems import ProblemKind
from consumer.deferral import ATTEMPT_CAP, Defer, defer_for_operator, growing
from consumer.sentinel import (
    THROTTLED,
    Answer,
    Drift,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    Refused,
    Throttled,
    Unavailable,
    Uploaded,
)

UNAVAILABLE_LIMIT: Final = 10
"""A message that alone meets server errors is given up at this many failures that count: hours."""

DRIFT_LIMIT: Final = 4
"""The same for answers that the contract does not describe."""

_LIMITS: Final = {Unavailable: UNAVAILABLE_LIMIT, Drift: DRIFT_LIMIT}

MANY_REFUSALS: Final = 20
"""After this many refusals in a row, an instance reports that Sentinel refuses everything."""

THROTTLED_FOR: Final = timedelta(minutes=5)
"""After this time without any success, a chunk that is throttled again raises a problem."""

REFUSING_EVERYTHING: Final = (
    "Sentinel refuses every record: the requests are wrong, not the records (a bad "
    "release or a changed API); nothing is given up, see docs/contracts.md"
)

ONE_WAITS: Final = (
    "1 record that Sentinel refused waits for proof: it is rejected once Sentinel has "
    "accepted another upload between two refusals; nothing to do in a quiet feed"
)

THROTTLED_ON_AND_ON: Final = (
    "Sentinel answers 429 and has accepted nothing for minutes: another sender uses the same "
    "identity (give it one of its own), or SENTINEL_REQUESTS_PER_MINUTE is too high (lower it)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The `sent` records are uploaded, except the `rejected` ones, each with its reason.

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
class Split:
    """Send the records at the indexes in each of `parts` in messages of their own."""

    parts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Keep the message as poison."""

    reason: str


Outcome = Done | Split | Defer | GiveUp


def decide(
    answer: Answer, envelope: Envelope, *, sent: tuple[int, ...], accepted_since: bool
) -> Outcome:
    """Return what follows from `answer` to the records at the indexes in `sent`.

    `accepted_since`: Sentinel has accepted something since this message's failure before; for a
    refusal of many, a grant says as much. `attempt` of the envelope counts the failures before this
    one that count, `deferrals` all of them.
    """
    match answer:
        case Uploaded(rejected=rejected, stray=stray):
            return Done(sent=sent, rejected=rejected, stray=stray)
        case Refused() if not accepted_since:
            return defer_for_operator(envelope, WAITS_FOR_PROOF)
        case Refused(named=named) if is_of_many(envelope):
            return Split(parts=split_indexes(sent, {error.index for error in named}))
        case Refused(reason=reason, named=named):
            error = named[0] if named else RecordError(index=sent[0], messages=(reason,))
            return Done(sent=sent, rejected=(error,))
        case Unavailable(reason=reason) | Drift(reason=reason):
            return _failed(envelope, reason, limit=_LIMITS[type(answer)], counts=accepted_since)
        case Throttled(reason=reason, wait=wait):
            return Defer(reason=reason, seconds=wait)
        case OperatorNeeded(reason=reason) | RefreshToken(reason=reason):
            return defer_for_operator(envelope, reason)
        case _:
            assert_never(answer)


def is_of_many(envelope: Envelope) -> bool:
    """Whether a message carries many records, even if few of them are still to be sent.

    A refusal of such a message says nothing of a single record. So its last record is not rejected,
    but sent in a message of its own.
    """
    return len(envelope.indexes) > 1


def split_indexes(sent: tuple[int, ...], named: set[int]) -> tuple[tuple[int, ...], ...]:
    """Return the named records and the others; without names, two halves. In order.

    One record is one part.
    """
    if len(sent) == 1:
        return (sent,)
    if 0 < len(named) < len(sent):
        return (
            tuple(index for index in sent if index not in named),
            tuple(index for index in sent if index in named),
        )
    middle = len(sent) // 2
    return sent[:middle], sent[middle:]


def problem_of(
    answer: Answer, *, refusals_are_many: bool, is_throttled_on: bool, fails_alone: bool
) -> ProblemKind | None:
    """Return the problem that an answer means for the whole feed, if any."""
    match answer:
        case Uploaded():
            return None
        case Throttled():
            return ProblemKind.THROTTLED if is_throttled_on else None
        case OperatorNeeded() | RefreshToken():
            return ProblemKind.ACCESS
        case Unavailable() | Drift() if fails_alone:
            return ProblemKind.FAILING
        case Unavailable():
            return ProblemKind.UNAVAILABLE
        case Drift():
            return ProblemKind.DRIFT
        case Refused():
            return ProblemKind.REFUSING if refusals_are_many else None
        case _:
            assert_never(answer)


def reason_of(answer: Answer) -> str:
    """Return why the chunk was not accepted, in words for the operator."""
    match answer:
        case Uploaded():
            return ""
        case Refused():
            return REFUSING_EVERYTHING
        case Throttled():
            return THROTTLED_ON_AND_ON
        case _:
            return answer.reason


def is_throttled_again(envelope: Envelope, *, now: datetime) -> bool:
    """Whether a throttled chunk was throttled last time, too, and has waited for minutes.

    The first entry of a history is never dropped, so it says since when.
    """
    if not envelope.history or envelope.history[-1].reason != THROTTLED:
        return False
    first = _time_of(envelope.history[0])
    return first is not None and now - first >= THROTTLED_FOR


def _time_of(attempt: Attempt) -> datetime | None:
    """Return when an attempt failed; None when that is unreadable."""
    try:
        moment = datetime.fromisoformat(attempt.at)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _failed(envelope: Envelope, reason: str, *, limit: int, counts: bool) -> Defer | GiveUp:
    if not counts:
        return defer_for_operator(envelope, reason)
    failures = envelope.attempt + 1
    if failures >= limit:
        return GiveUp(reason=f"{reason}; given up after {failures} failures that count")
    return Defer(reason=reason, units=growing(envelope.attempt, cap=ATTEMPT_CAP), counts=True)
