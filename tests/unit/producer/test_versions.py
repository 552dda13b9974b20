"""The decision about a listed version: every row of its table, plain rules, any order."""

import itertools
from copy import replace
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.versions import Decision, KnownVersion, Policy, decide, is_due

ENQUEUED, FILTERED, UNCHANGED, OLDER = (
    Decision.ENQUEUED,
    Decision.FILTERED,
    Decision.UNCHANGED,
    Decision.OLDER,
)
TODAY = 20_000
PLAIN = Policy(today=TODAY)
SAME = KnownVersion(fingerprint=7, modified=1000)


def decided(
    known: KnownVersion | None,
    *,
    modified: int = 1000,
    fingerprint: int = 7,
    passes: bool = True,
    policy: Policy = PLAIN,
) -> Decision:
    """Return the decision about a version, which is `SAME` where nothing else is said."""
    return decide(
        modified=modified, fingerprint=fingerprint, passes=passes, known=known, policy=policy
    )


@pytest.mark.parametrize(("passes", "expected"), [(True, ENQUEUED), (False, FILTERED)])
def test_filters_decide_about_what_is_unknown(*, passes: bool, expected: Decision) -> None:
    """Of an unknown id the filters have the word, whatever the policy."""
    for policy in (PLAIN, Policy(today=TODAY, full=True), Policy(today=TODAY, reupload_after=1)):
        assert decided(None, passes=passes, policy=policy) is expected


@pytest.mark.parametrize("passes", [True, False])
@pytest.mark.parametrize(
    ("modified", "fingerprint", "expected"),
    [
        (999, 7, OLDER),
        (999, 8, OLDER),
        (1000, 7, UNCHANGED),
        (1000, 8, ENQUEUED),
        (1001, 7, ENQUEUED),
        (1001, 8, ENQUEUED),
    ],
    ids=["older", "older and another", "the same", "another at once", "newer", "newer and another"],
)
def test_what_is_known_decides_alone(
    modified: int, fingerprint: int, passes: bool, expected: Decision
) -> None:
    """By `modified`, where that is equal by order of listing; no filter has a word in it."""
    found = decided(SAME, modified=modified, fingerprint=fingerprint, passes=passes)
    assert found is expected


@pytest.mark.parametrize(
    ("known", "policy", "expected"),
    [
        (SAME, PLAIN, UNCHANGED),
        (replace(SAME, is_void=True), PLAIN, ENQUEUED),
        (replace(SAME, is_on_its_way=True), PLAIN, UNCHANGED),
        (replace(SAME, entered_on=TODAY - 999), PLAIN, UNCHANGED),
        (replace(SAME, entered_on=TODAY - 6), Policy(today=TODAY, reupload_after=7), UNCHANGED),
        (replace(SAME, entered_on=TODAY - 7), Policy(today=TODAY, reupload_after=7), ENQUEUED),
        (replace(SAME, entered_on=None), Policy(today=TODAY, reupload_after=7), UNCHANGED),
        (SAME, Policy(today=TODAY, full=True), ENQUEUED),
        (replace(SAME, is_on_its_way=True), Policy(today=TODAY, full=True), UNCHANGED),
        (replace(SAME, is_recent=False), Policy(today=TODAY, full=True), ENQUEUED),
    ],
    ids=[
        "known",
        "void",
        "on its way",
        "no refresh",
        "not due",
        "due",
        "in a row",
        "full",
        "full, but on its way",
        "full, from the index",
    ],
)
def test_the_same_version_is_sent_again_for_three_reasons(
    known: KnownVersion, policy: Policy, expected: Decision
) -> None:
    """It is void, it is due, or everything was asked for and it is not on its way."""
    assert decided(known, policy=policy) is expected
    assert decided(known, policy=policy, passes=False) is expected


@pytest.mark.parametrize("modified", [0, 999])
def test_an_older_version_is_never_sent(modified: int) -> None:
    """Whatever is known of the newer one, and whatever was asked for."""
    policy = Policy(today=TODAY, reupload_after=1, full=True)
    for is_void, entered_on in itertools.product([True, False], [None, 0]):
        known = replace(SAME, is_void=is_void, entered_on=entered_on)
        assert decided(known, modified=modified, policy=policy) is OLDER


@pytest.mark.parametrize(
    ("entered_on", "after", "expected"),
    [(None, 1, False), (0, 0, False), (TODAY, 1, False), (TODAY - 1, 1, True), (0, 1, True)],
)
def test_when_a_version_is_due(entered_on: int | None, after: int, expected: bool) -> None:
    """So many days after it was entered; never where that is 0, nor while it has a row."""
    known = replace(SAME, entered_on=entered_on)
    assert is_due(known, Policy(today=TODAY, reupload_after=after)) is expected


@dataclass(frozen=True)
class Listed:
    """A version as Lumen lists it."""

    number: int
    modified: int
    fingerprint: int
    passes: bool


listings = st.lists(
    st.builds(
        Listed,
        number=st.integers(0, 2),
        modified=st.integers(0, 4),
        fingerprint=st.integers(0, 2),
        passes=st.booleans(),
    ),
    max_size=30,
)


@given(listed=listings)
def test_the_newest_version_is_the_last_that_is_sent(listed: list[Listed]) -> None:
    """In any order of listing: from the first that passes on, whatever is newest was sent last."""
    known: dict[int, KnownVersion] = {}
    expected: dict[int, Listed] = {}
    sent: dict[int, Listed] = {}
    for version in listed:
        decision = decided(
            known.get(version.number),
            modified=version.modified,
            fingerprint=version.fingerprint,
            passes=version.passes,
        )
        before = expected.get(version.number)
        if before is None:
            assert decision is (ENQUEUED if version.passes else FILTERED)
        else:
            is_same = (version.modified, version.fingerprint) == (
                before.modified,
                before.fingerprint,
            )
            assert (decision is OLDER) == (version.modified < before.modified)
            assert (decision is UNCHANGED) == is_same
        if decision is ENQUEUED:
            sent[version.number] = version
            known[version.number] = KnownVersion(version.fingerprint, version.modified)
        if (before is None and version.passes) or (
            before is not None and version.modified >= before.modified
        ):
            expected[version.number] = version
    assert {n: (v.modified, v.fingerprint) for n, v in sent.items()} == {
        n: (v.modified, v.fingerprint) for n, v in expected.items()
    }


@given(
    known=st.none()
    | st.builds(
        KnownVersion,
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**48 - 1),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(0, 2**15 - 1),
        st.booleans(),
    ),
    policy=st.builds(
        Policy,
        today=st.integers(0, 2**15),
        reupload_after=st.integers(0, 400),
        full=st.booleans(),
    ),
    modified=st.integers(0, 2**48 - 1),
    fingerprint=st.integers(0, 2**64 - 1),
    passes=st.booleans(),
)
def test_the_decision_is_total(
    known: KnownVersion | None, policy: Policy, modified: int, fingerprint: int, passes: bool
) -> None:
    """Every input has one; what is filtered is unknown, what is unchanged or older is known."""
    decision = decided(
        known, modified=modified, fingerprint=fingerprint, passes=passes, policy=policy
    )
    assert decision in Decision
    assert (decision is FILTERED) == (known is None and not passes)
    assert known is not None or decision in (ENQUEUED, FILTERED)
