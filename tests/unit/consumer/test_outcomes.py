"""What follows from an answer: the decision as a table, and its properties."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ledger.acceptance import WAITS_FOR_PROOF
from consumer.deferral import ATTEMPT_CAP, OPERATOR_CAP, Defer
from consumer.outcomes import (
    DRIFT_LIMIT,
    Done,
    GiveUp,
    Outcome,
    Split,
    decide,
    split_indexes,
)
from consumer.sentinel import (
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
from tests.unit.consumer.samples import (
    ANSWERS,
    FIRST_DELAY,
    LIMITS,
    envelope,
)

ALL = (0, 1, 2)


NAMING_ONE = Refused(reason="why", named=(RecordError(index=1, messages=("bad",)),))
NAMING_ALL = Refused(
    reason="why", named=tuple(RecordError(index=index, messages=("bad",)) for index in ALL)
)
WAITS = Defer(reason=WAITS_FOR_PROOF, units=4.0)
LATER = Defer(reason="why", units=4.0)
BY_SEVEN = Defer(reason="why", seconds=7.0)

TABLE: list[tuple[Answer, bool, Outcome, Outcome]] = [
    (Uploaded(), False, Done(sent=ALL), Done(sent=(1,))),
    (Uploaded(), True, Done(sent=ALL), Done(sent=(1,))),
    (Refused(reason="why"), False, WAITS, WAITS),
    (
        Refused(reason="why"),
        True,
        Split(parts=((0,), (1, 2))),
        Done(sent=(1,), rejected=(RecordError(index=1, messages=("why",)),)),
    ),
    (NAMING_ONE, False, WAITS, WAITS),
    (NAMING_ONE, True, Split(parts=((0, 2), (1,))), Done(sent=(1,), rejected=NAMING_ONE.named)),
    (NAMING_ALL, False, WAITS, WAITS),
    (NAMING_ALL, True, Split(parts=((0,), (1, 2))), Done(sent=(1,), rejected=NAMING_ONE.named)),
    (RefreshToken(reason="why"), False, LATER, LATER),
    (RefreshToken(reason="why"), True, LATER, LATER),
    (OperatorNeeded(reason="why"), False, LATER, LATER),
    (OperatorNeeded(reason="why"), True, LATER, LATER),
    (Throttled(reason="why", wait=7.0), False, BY_SEVEN, BY_SEVEN),
    (Throttled(reason="why", wait=7.0), True, BY_SEVEN, BY_SEVEN),
    (Unavailable(reason="why"), False, LATER, LATER),
    (Unavailable(reason="why"), True, replace(LATER, counts=True), replace(LATER, counts=True)),
    (Drift(reason="why"), False, LATER, LATER),
    (Drift(reason="why"), True, replace(LATER, counts=True), replace(LATER, counts=True)),
]
"""Answer, whether Sentinel has accepted something since, what follows for many and for one."""


@pytest.mark.parametrize(("answer", "accepted_since", "many", "one"), TABLE)
def test_what_follows_from_an_answer(
    answer: Answer, accepted_since: bool, many: Outcome, one: Outcome
) -> None:
    """The one table: answer, many or one, and whether something was accepted since."""
    sent = envelope(deferrals=2, attempt=2)
    assert decide(answer, sent, sent=ALL, accepted_since=accepted_since) == many
    if isinstance(answer, Refused):  # of one record it names that one or none
        answer = replace(answer, named=NAMING_ONE.named if answer.named else ())
    alone = replace(sent, count=1, part=(1,))
    assert decide(answer, alone, sent=(1,), accepted_since=accepted_since) == one


@pytest.mark.parametrize("sent", [ALL, (1,)], ids=["many", "one"])
@pytest.mark.parametrize("attempt", range(30))
@pytest.mark.parametrize("name", ANSWERS)
def test_only_failures_that_count_use_a_message_up(
    name: str, attempt: int, sent: tuple[int, ...]
) -> None:
    """The tenth server error, the fourth answer without a name; of nothing else any number."""
    tired = envelope(attempt=attempt, deferrals=attempt)
    limit = LIMITS.get(name)
    outcome = decide(ANSWERS[name], tired, sent=sent, accepted_since=True)
    if limit is None:
        assert not isinstance(outcome, GiveUp)
    elif attempt + 1 < limit:
        units = min(2.0**attempt, ATTEMPT_CAP)
        assert outcome == Defer(reason="why", units=units, counts=True)
    else:
        assert isinstance(outcome, GiveUp)
        assert outcome.reason == f"why; given up after {attempt + 1} failures that count"
    waiting = decide(ANSWERS[name], tired, sent=sent, accepted_since=False)
    assert isinstance(waiting, Done if name == "uploaded" else Defer)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("operator", 1.0, OPERATOR_CAP), ("refresh", 1.0, OPERATOR_CAP), ("drift", 1.0, 4.0)],
)
def test_delays_grow_from_the_first_to_their_cap(name: str, first: float, last: float) -> None:
    """Doubling, never shrinking."""
    delays = []
    for failures in range(DRIFT_LIMIT - 1 if name == "drift" else 10):
        sent = envelope(attempt=failures, deferrals=failures)
        outcome = decide(ANSWERS[name], sent, sent=ALL, accepted_since=True)
        assert isinstance(outcome, Defer)
        delays.append(outcome.units)
    assert (delays[0], delays[-1]) == (first, last)
    assert all(later == min(2 * earlier, last) for earlier, later in pairwise(delays))


def test_trouble_is_borne_for_hours_before_a_chunk_is_given_up() -> None:
    """The failures that count last more than four hours together."""
    total = 0.0
    for attempt in range(100):
        tired = envelope(attempt=attempt)
        outcome = decide(ANSWERS["unavailable"], tired, sent=ALL, accepted_since=True)
        if not isinstance(outcome, Defer):
            break
        total += outcome.units * FIRST_DELAY
    assert 4 * 3600 <= total <= 12 * 3600


@pytest.mark.parametrize("deferrals", [0, 1, 50, 500, 10**6])
@pytest.mark.parametrize("accepted_since", [False, True])
@pytest.mark.parametrize("name", ["throttled", "operator", "refresh"])
def test_what_is_not_the_messages_fault_never_poisons_it(
    name: str, deferrals: int, accepted_since: bool
) -> None:
    """However often it was deferred, and whatever else it has been through."""
    tired = envelope(deferrals=deferrals, attempt=min(deferrals, 9))
    outcome = decide(ANSWERS[name], tired, sent=ALL, accepted_since=accepted_since)
    assert isinstance(outcome, Defer)
    assert not outcome.counts
    assert outcome.units <= OPERATOR_CAP


@given(
    sent=st.sets(st.integers(0, 99), min_size=2).map(sorted).map(tuple),
    data=st.data(),
)
def test_a_split_carries_each_record_once_and_none_twice(
    sent: tuple[int, ...], data: st.DataObject
) -> None:
    """Two parts, each smaller than the whole and in order; what was named stays together."""
    named = set(data.draw(st.lists(st.sampled_from(sent))))
    parts = split_indexes(sent, named)
    assert len(parts) == 2
    assert sorted(index for part in parts for index in part) == list(sent)
    assert all(part and list(part) == sorted(part) for part in parts)
    if 0 < len(named) < len(sent):
        assert set(parts[1]) == named
    else:
        assert abs(len(parts[0]) - len(parts[1])) <= 1


@pytest.mark.parametrize(
    ("rejected", "stray", "accepted"),
    [(0, 0, 3), (1, 0, 2), (2, 0, 1), (0, 1, 2), (1, 1, 1), (0, 2, 1)],
)
def test_accepted_and_rejected_add_up_to_the_chunk(
    rejected: int, stray: int, accepted: int
) -> None:
    """A stray error counts as a rejected record: what is not known to be accepted is not."""
    errors = tuple(RecordError(index=index, messages=()) for index in range(rejected))
    strays = tuple(RecordError(index=100 + index, messages=()) for index in range(stray))
    answer = Uploaded(rejected=errors, stray=strays)
    outcome = decide(answer, envelope(), sent=ALL, accepted_since=True)
    assert outcome == Done(sent=ALL, rejected=errors, stray=strays)
    assert outcome.accepted == accepted
