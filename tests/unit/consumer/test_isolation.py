"""The search for refused records: who is rejected, what is sent, what it costs, how it travels."""

import json
import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.envelope import (
    MAX_CHUNKS,
    MAX_ENVELOPE_BYTES,
    MAX_HISTORY,
    MAX_NEW_ENVELOPE_BYTES,
    MAX_TIME,
    Envelope,
    chunk_id_of,
    decode_envelope,
    encode_envelope,
)
from common.ledger.problems import Moment
from consumer.isolation import (
    MAX_BY,
    PROBE_AFTER,
    REQUEST_BUDGET,
    Group,
    Isolation,
    after_accepted,
    after_refused,
    from_json,
    next_indexes,
    start_isolation,
    to_json,
)
from consumer.outcomes import FEW_REFUSED, Done, Unproven, conclude
from consumer.sentinel import RecordError

LATEST = Moment(at=datetime.fromtimestamp(MAX_TIME - 0.123456, UTC), by="f" * MAX_BY)
"""The latest refusal that takes the most room."""

MODERATE = 48
"""Requests that up to four bad records among a hundred may cost: half a minute of the budget."""


class Judge:
    """A Sentinel that refuses every group with a bad record, and keeps what was said of each.

    If it `names` the bad ones it takes the rest of a group. The search is among the records `of`.
    """

    def __init__(
        self, bad: Collection[int], *, names: bool = False, of: Sequence[int] = range(100)
    ) -> None:
        self.bad = frozenset(bad)
        self.of = of
        self.names = names
        self.accepted: list[int] = []
        self.refused: list[tuple[int, ...]] = []
        self.probes = 0

    def answer(self, state: Isolation) -> Isolation:
        """Take the next group, or refuse it; a probe is a record that was taken before."""
        indexes = next_indexes(state, self.of)
        if state.needs_probe:
            self.probes += 1
            assert set(indexes) <= set(self.accepted)
            return after_accepted(state, ())
        assert not any(set(known) <= set(indexes) for known in self.refused if len(known) > 1)
        found = [at for at, number in enumerate(indexes) if number in self.bad]
        if self.names and len(found) < len(indexes):
            self.accepted.extend(set(indexes) - self.bad)
            return after_accepted(state, errors(found))
        if found:
            self.refused.append(indexes)
            return after_refused(state, "bad", errors(found) if self.names else ())
        self.accepted.extend(indexes)
        return after_accepted(state, ())


def errors(indexes: Collection[int]) -> tuple[RecordError, ...]:
    """Return a refusal that names these records."""
    return tuple(RecordError(index=index, messages=("named",)) for index in sorted(indexes))


def search(
    judge: Judge,
    count: int,
    named: Collection[int] = (),
    *,
    between: Callable[[Isolation], Isolation] = lambda state: state,
) -> Isolation:
    """Search to the end without a budget; `between` is what happens to the state on its way."""
    state = start_isolation(range(count), errors(named), since=None)
    while not state.is_over or state.needs_probe:
        state = judge.answer(between(state))
    return state


@st.composite
def chunks(draw: st.DrawFn) -> tuple[int, set[int], set[int]]:
    """Return a count, the bad records among so many, and those of them that are named."""
    count = draw(st.integers(1, 100))
    bad = draw(st.sets(st.integers(0, count - 1)))
    named = draw(st.sets(st.sampled_from(sorted(bad)))) if bad else set()
    return count, bad, named


@given(chunk=chunks())
def test_exactly_the_bad_records_are_rejected(chunk: tuple[int, set[int], set[int]]) -> None:
    """Every good record is accepted once; each bad one had a refusal of its own, or was named."""
    count, bad, named = chunk
    judge = Judge(bad)
    state = search(judge, count, named)
    assert {error.index for error in state.rejected} == bad
    assert len(state.rejected) == len(bad)
    assert sorted(judge.accepted) == sorted(set(range(count)) - bad)
    assert state.accepted == count - len(bad)
    refused_alone = {indexes[0] for indexes in judge.refused if len(indexes) == 1}
    assert bad - named <= refused_alone <= bad


@given(chunk=chunks(), data=st.data())
def test_a_search_among_some_records_of_a_chunk_leaves_the_others_alone(
    chunk: tuple[int, set[int], set[int]], data: st.DataObject
) -> None:
    """What was struck is neither sent nor counted, not even as the probe."""
    count, bad, named = chunk
    others = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    of = tuple(number for number in range(count) if number not in others)
    judge = Judge(bad - others, of=of)
    state = start_isolation(of, errors(named), since=None)
    while not state.is_over or state.needs_probe:
        assert set(next_indexes(state, of)) <= set(of)
        state = judge.answer(state)
    assert {error.index for error in state.rejected} == bad - others
    assert state.accepted == len(of) - len(state.rejected)


@given(chunk=chunks(), struck=st.integers(0, 99))
def test_a_search_does_not_go_on_among_other_records(
    chunk: tuple[int, set[int], set[int]], struck: int
) -> None:
    """One that was struck since makes the search begin again, for what is left."""
    count, _, named = chunk
    fields = to_json(start_isolation(range(count), errors(named), since=None))
    left = [number for number in range(count) if number != struck]
    if len(left) < count:
        with pytest.raises(ValueError, match="search"):
            from_json(fields, indexes=left)


@given(chunk=chunks())
def test_a_group_known_to_be_bad_is_not_sent(chunk: tuple[int, set[int], set[int]]) -> None:
    """Neither one that was refused, nor the second half of one whose first half passed."""
    count, bad, named = chunk
    judge = Judge(bad)
    doomed: set[tuple[int, ...]] = set() if named else {tuple(range(count))}

    def check(state: Isolation) -> Isolation:
        if state.needs_probe:
            return state
        indexes = next_indexes(state, range(count))
        assert len(indexes) == 1 or indexes not in doomed
        if bad.intersection(indexes):
            doomed.add(indexes)
        elif state.groups[0].paired:
            doomed.add(state.groups[1].indexes)
        return state

    search(judge, count, named, between=check)


@pytest.mark.parametrize(("bad", "most"), [(0, 9), (1, 14), (2, 26), (3, 37), (4, MODERATE)])
def test_few_bad_records_of_a_hundred_cost_few_requests(bad: int, most: int) -> None:
    """The worst of a thousand random chunks, and of chunks with the bad ones side by side."""
    rng = random.Random(bad)  # noqa: S311 - a fixed seed
    worst = 0
    for attempt in range(1500):
        start = attempt % (101 - bad)
        found = (
            set(range(start, start + bad)) if attempt < 200 else set(rng.sample(range(100), bad))
        )
        worst = max(worst, search(Judge(found), 100).requests)
    assert worst <= most <= REQUEST_BUDGET


@given(chunk=chunks())
def test_a_search_survives_its_journey_at_every_step(
    chunk: tuple[int, set[int], set[int]],
) -> None:
    """Written to JSON text and read again before each request, it comes to the same end."""
    count, bad, named = chunk

    def travel(state: Isolation) -> Isolation:
        text = json.dumps(to_json(state))
        arrived = from_json(json.loads(text), indexes=range(count))
        assert json.dumps(to_json(arrived)) == text
        return arrived

    state = search(Judge(bad), count, named, between=travel)
    stayed = search(Judge(bad), count, named)
    assert to_json(state) == to_json(stayed)


@cache
def largest_new_envelope() -> Envelope:
    """Return an envelope of 100 records as large as the producer makes them."""
    noise = random.Random(0).randbytes(MAX_NEW_ENVELOPE_BYTES)  # noqa: S311 - a fixed seed

    def of_size(size: int) -> Envelope:
        body = noise[:size]
        return Envelope(
            run_id="20260101T000000-0badcafe",
            chunk_id=chunk_id_of(body),
            sequence=MAX_CHUNKS - 1,
            count=100,
            body=body,
            fingerprints=tuple(2**64 - 1 - number for number in range(100)),
        )

    def size_of(size: int) -> int:
        return len(encode_envelope(of_size(size)))

    body_size = bisect_right(range(len(noise) * 3 // 4), MAX_NEW_ENVELOPE_BYTES, key=size_of) - 1
    return of_size(body_size)


def with_story(sent: Envelope, state: Isolation) -> Envelope:
    """Return an envelope with a full history, a slot and a search."""
    for _ in range(MAX_HISTORY + 2):
        sent = sent.deferred(at="2026-01-01T00:00:00.000000+00:00", reason="x" * 500, counts=True)
    return replace(sent.moved_to(MAX_TIME - 0.123456), isolation=to_json(state))


@given(chunk=chunks(), messages=st.lists(st.text(max_size=500), max_size=10))
def test_a_search_fits_whatever_the_service_says(
    chunk: tuple[int, set[int], set[int]], messages: list[str]
) -> None:
    """An envelope as large as a new one may be still fits, at every step of a search."""
    count, bad, named = chunk
    whole = with_story(largest_new_envelope(), Isolation(groups=(), since=LATEST))
    room = MAX_ENVELOPE_BYTES - len(encode_envelope(whole))
    refused = tuple(RecordError(index=index, messages=tuple(messages)) for index in named)
    state = start_isolation(range(count), refused, since=LATEST)
    while not state.is_over or state.needs_probe:
        if bad.intersection(next_indexes(state, range(count))):
            state = after_refused(state, " ".join(messages))
        else:
            state = after_accepted(state, ())
        assert len(json.dumps(to_json(state), separators=(",", ":"))) <= room


def test_the_largest_envelope_carries_the_longest_story() -> None:
    """Full history, a slot, and a hundred rejections in the service's longest words: 64 KiB."""
    words = ('\U0001f600"\\\x00é' * 100,) * 10
    said = tuple(RecordError(index=number, messages=words) for number in range(100))
    longest = Isolation(groups=(), since=LATEST, rejected=said, requests=REQUEST_BUDGET)
    sent = with_story(largest_new_envelope(), longest)
    text = encode_envelope(sent)
    assert MAX_NEW_ENVELOPE_BYTES < len(text) <= MAX_ENVELOPE_BYTES
    assert decode_envelope(text) == sent


FIELDS = ["groups", "rejected", "since", "by", "accepted", "requests", "in_a_row"]


@given(
    damage=st.dictionaries(
        st.sampled_from(FIELDS),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.just(10**400)
            | st.floats()
            | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
            max_leaves=12,
        ),
    ),
    dropped=st.sampled_from(["", *FIELDS]),
)
def test_a_damaged_search_is_refused_or_whole(damage: dict[str, object], dropped: str) -> None:
    """It raises one of three errors, or accounts for every record of the chunk."""
    fields = {**to_json(start_isolation(range(5), errors({1}), since=None)), **damage}
    fields.pop(dropped, None)
    try:
        state = from_json(fields, indexes=range(5))
    except (KeyError, TypeError, ValueError):
        return
    waiting = [index for group in state.groups for index in group.indexes]
    refused = [error.index for error in state.rejected]
    assert len({*waiting, *refused}) + state.accepted == 5
    assert set(next_indexes(state, range(5))) <= set(range(5))
    for error in state.rejected:
        assert all(message.isascii() and message.isprintable() for message in error.messages)
    assert state.requests >= 1


@pytest.mark.parametrize(
    "fields",
    [
        {"rejected": [], "accepted": 5, "in_a_row": 0},
        {"rejected": [[n, "bad"] for n in range(5)], "accepted": 0, "in_a_row": 0},
        {"rejected": [[4, "bad"]], "accepted": 4, "in_a_row": 0},
        {"rejected": [[4, "bad"]], "accepted": 4, "in_a_row": -1},
    ],
    ids=["all accepted", "all rejected", "nothing in doubt", "less than none"],
)
def test_a_search_that_claims_to_be_over_is_refused(fields: dict[str, object]) -> None:
    """Nothing is put back on the queue when it is over: what says so did not come from here."""
    with pytest.raises(ValueError, match="search"):
        from_json({"groups": [], "requests": 9, **fields}, indexes=range(5))


def test_what_was_refused_after_the_last_acceptance_is_proven_by_a_probe() -> None:
    """The last record alone is refused: a record that was taken goes out once more, and decides."""
    state = start_isolation(range(2), (), since=None)
    state = after_refused(after_accepted(state, ()), "bad")
    assert state.is_over
    assert next_indexes(state, range(2)) == (0,)
    passed, denied = after_accepted(state, ()), after_refused(state, "bad")
    both, named = (0, 1), after_refused(state, "bad", errors({0}))
    assert conclude(state, sent=both, others_pass=False) is None
    done = Done(sent=both, rejected=state.rejected)
    assert conclude(passed, sent=both, others_pass=False) == done
    assert done.accepted == 1
    assert conclude(denied, sent=both, others_pass=True) == Unproven()
    assert conclude(named, sent=both, others_pass=True) == Unproven()


@given(chunk=chunks())
def test_exactly_the_bad_records_are_rejected_where_they_are_named(
    chunk: tuple[int, set[int], set[int]],
) -> None:
    """Also where the group has no other record, so that all of it is refused."""
    count, bad, named = chunk
    judge = Judge(bad, names=True)
    state = search(judge, count, named)
    assert {error.index for error in state.rejected} == bad
    assert sorted(judge.accepted) == sorted(set(range(count)) - bad)


def test_a_group_that_is_named_as_a_whole_is_not_halved() -> None:
    """The second half is bad: two halves and the probe, and no record of it went out alone."""
    judge = Judge(range(50, 100), names=True)
    groups = (Group(indexes=tuple(range(50))), Group(indexes=tuple(range(50, 100))))
    state = Isolation(groups=groups)
    while not state.is_over or state.needs_probe:
        state = judge.answer(state)
    assert (len(state.rejected), state.requests, judge.probes) == (50, 4, 1)


def test_what_a_refusal_says_of_a_record_is_kept() -> None:
    """In its words if it has any, else in those of the refusal; translated to the chunk's index."""
    state = start_isolation(range(4), (), since=None)
    state = after_accepted(state, ())
    named = (
        RecordError(index=0, messages=("first", "second")),
        RecordError(index=1, messages=()),
    )
    state = replace(state, groups=(Group(indexes=(2, 3)),))
    assert after_refused(state, "refused", named).rejected == (
        RecordError(index=2, messages=("first", "second")),
        RecordError(index=3, messages=("refused",)),
    )
    assert after_refused(state, "refused", named[:1]).rejected == ()


@given(chunk=chunks(), works=st.integers(1, 60))
def test_a_refusal_of_everything_that_begins_in_a_search_rejects_nothing(
    chunk: tuple[int, set[int], set[int]], works: int
) -> None:
    """From some request on all is refused: soon the search ends without proof, or it had ended."""
    count, bad, named = chunk
    judge = Judge(bad)
    state = start_isolation(range(count), errors(named), since=None)
    outcome = conclude(state, sent=range(count), others_pass=False)
    for _ in range(works):
        if outcome is not None:
            return
        state = judge.answer(state)
        outcome = conclude(state, sent=range(count), others_pass=False)
    accepted, requests = state.accepted, state.requests
    while outcome is None:
        state = after_refused(state, "all of it")
        outcome = conclude(state, sent=range(count), others_pass=False)
    if state.requests > requests:
        assert outcome == Unproven()
        limit = PROBE_AFTER + 1 if accepted else 7 + 2 * (FEW_REFUSED + 1)
        assert state.requests - requests <= limit


@given(count=st.integers(1, 100), refusals=st.integers(1, 30))
def test_a_refusal_of_everything_that_ends_in_a_search_rejects_nothing(
    count: int, refusals: int
) -> None:
    """What was refused alone before the first acceptance goes out once more, and passes."""
    state = start_isolation(range(count), (), since=None)
    for _ in range(refusals):
        if conclude(state, sent=range(count), others_pass=False) is not None:
            return
        state = after_refused(state, "all of it")
    while (outcome := conclude(state, sent=range(count), others_pass=False)) is None:
        state = after_accepted(state, ())
    assert outcome in (Done(sent=tuple(range(count))), Unproven())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_a_chunk_that_is_only_too_large_loses_nothing(count: int) -> None:
    """When both halves of what was refused pass, nobody is rejected."""
    state = search(Judge(()), count)
    assert state.rejected == ()
    assert state.accepted == count


@given(count=st.integers(2, 100), data=st.data())
def test_records_that_a_200_names_are_the_groups_own(count: int, data: st.DataObject) -> None:
    """Indexes in an answer count within its group, and are translated to those of the chunk."""
    state = start_isolation(range(count), (), since=None)
    expected: set[int] = set()
    while not state.is_over:
        indexes = next_indexes(state, range(count))
        named = data.draw(st.sets(st.integers(0, len(indexes) - 1), max_size=len(indexes) - 1))
        expected |= {indexes[number] for number in named}
        state = after_accepted(state, errors(named))
    assert {error.index for error in state.rejected} == expected
    assert state.accepted == count - len(expected)
