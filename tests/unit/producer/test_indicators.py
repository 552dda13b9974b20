"""What becomes of one object: the table of confidences, kinds, faults, and the canonical form."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.fingerprints import id_hash
from common.records import NO_END
from producer.indicators import (
    REQUIRED_TEXTS,
    TOO_LARGE,
    Filters,
    Indicator,
    Invalid,
    Verdict,
    canonical_json,
    fingerprint_of,
    judge_page,
    kinds_of,
)
from producer.versions import Decision, KnownVersion, Policy
from tests.unit.producer.samples import (
    EVERYTHING,
    DictKnown,
    indicator,
    judge,
    raw_indicator,
    without,
)

IPV4 = "[ipv4-addr:value = '198.18.0.1']"
DOMAIN = "[domain-name:value = 'a.example']"
BOTH = f"{IPV4} OR {DOMAIN}"
OTHER = "[url:value = 'https://a.example/']"

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # lone surrogates included
    | st.just(complex("nan")),  # what no JSON is made of
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4)
    ),
    max_leaves=12,
)


def sent(verdict: object) -> dict[str, Any]:
    """Return the object that Sentinel would receive."""
    assert isinstance(verdict, Indicator)
    found = json.loads(verdict.body)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        (70, 70),
        ("70", 70),
        (" 70 ", 70),
        ("70.0", 70),
        ("+70", 70),
        (70.0, 70),
        (70.9, 70),
        (0, 0),
        ("0", 0),
        (100, 100),
        ("100", 100),
    ],
)
def test_a_confidence_in_any_spelling_is_sent_as_an_integer(
    confidence: object, expected: int
) -> None:
    """Integers, whole-number texts and floats from 0 to 100 arrive as that integer."""
    found = sent(judge(raw_indicator(confidence=confidence), EVERYTHING))["confidence"]
    assert (found, type(found)) == (expected, int)


@pytest.mark.parametrize(
    "confidence",
    [
        True,
        False,
        None,
        "",
        "high",
        "1e2",
        "0x10",
        "70%",
        "7 0",
        "NaN",
        "9" * 10,
        "9" * 5000,
        -1,
        "-1",
        -0.5,
        101,
        "101",
        100.5,
        10**400,
        1e308,
        float("inf"),
        float("nan"),
        complex("nan"),
        [80],
        {"value": 80},
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_confidence_that_is_no_number_from_0_to_100_is_invalid(confidence: object) -> None:
    """Nothing is guessed: such an object is kept with the reason, whatever the threshold."""
    verdict = judge(raw_indicator(confidence=confidence), EVERYTHING)
    assert isinstance(verdict, Invalid)
    assert verdict.reason == "confidence is not a number from 0 to 100"


def test_a_missing_confidence_counts_as_zero_and_is_not_made_up() -> None:
    """It passes a threshold of 0, without the property being added, and no other."""
    bare = without(raw_indicator(), "confidence")
    assert "confidence" not in sent(judge(bare, EVERYTHING))
    assert judge(bare, Filters(threshold=1)) is Decision.FILTERED


@pytest.mark.parametrize(
    ("confidence", "threshold", "passes"),
    [
        (64, 65, False),
        (65, 65, True),
        ("64", 65, False),
        ("65", 65, True),
        (64.9, 65, False),
        (100, 100, True),
        (99.9, 100, False),
        (0, 0, True),
    ],
)
def test_the_threshold_is_the_lowest_confidence_that_is_sent(
    confidence: object, threshold: int, passes: bool
) -> None:
    """The comparison is made with the integer that would be sent."""
    verdict = judge(raw_indicator(confidence=confidence), Filters(threshold=threshold))
    assert isinstance(verdict, Indicator if passes else Decision)


@pytest.mark.parametrize(
    ("pattern", "ipv4", "domain", "passes"),
    [
        (IPV4, True, False, True),
        (IPV4, False, True, False),
        (DOMAIN, True, False, False),
        (DOMAIN, False, True, True),
        (BOTH, True, False, True),
        (BOTH, False, True, True),
        (BOTH, False, False, False),
        (IPV4, False, False, False),
        (DOMAIN, False, False, False),
        (OTHER, False, False, True),
        (OTHER, True, True, True),
    ],
)
def test_the_switches_leave_out_what_is_only_about_a_kind_switched_off(
    pattern: str, ipv4: bool, domain: bool, passes: bool
) -> None:
    """A pattern about both kinds needs one switch; one about neither needs none."""
    filters = Filters(threshold=0, ipv4=ipv4, domain=domain)
    verdict = judge(raw_indicator(pattern=pattern), filters)
    assert isinstance(verdict, Indicator if passes else Decision)


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [
        (IPV4, {"ipv4-addr"}),
        (BOTH, {"ipv4-addr", "domain-name"}),
        ("[ipv4-addr : value = '198.18.0.1']", {"ipv4-addr"}),
        ("[ipv4-addr\t:\n value='198.18.0.1']", {"ipv4-addr"}),
        ("[domain-name:'value' = 'a.example']", {"domain-name"}),
        ("[domain-name:value IN ('a.example', 'ipv4-addr:value')]", {"domain-name"}),
        ("[url:value = 'https://a.example/'] AND [domain-name : value = 'b']", {"domain-name"}),
        ("[(url:value = 'a' OR ipv4-addr:value = '198.18.0.1')]", {"ipv4-addr"}),
        ("[url:value = 'a' AND NOT domain-name:value LIKE '%.b']", {"domain-name"}),
        ("[EXISTS ipv4-addr:value]", {"ipv4-addr"}),
        ("[ipv4-addr:value ISSUBSET '198.18.0.0/15'] FOLLOWEDBY [domain-name:value='b']",
         {"ipv4-addr", "domain-name"}),
        ("[url:value = 'ipv4-addr:value']", set()),
        ("[url:value = 'https://a.example/?q=domain-name:value = \\'x\\'']", set()),
        ("[url:value = 'it\\'s [ipv4-addr:value = ']", set()),
        ("[url:value = '\\\\'] OR [ipv4-addr:value = 'x']", {"ipv4-addr"}),
        ("[url:value = 'a\nipv4-addr:value']", set()),
        ("[url:value = 'open [ipv4-addr:value", set()),
        ("[url:value = 'a' /* ipv4-addr:value */]", set()),
        ("[url:value = 'a'] // domain-name:value\nOR [ipv4-addr:value = 'x']", {"ipv4-addr"}),
        ("[url:value = 'https://a'] OR [ipv4-addr:value = '//x']", {"ipv4-addr"}),
        ("[x-ipv4-addr:value = 'x']", set()),
        ("[ipv4-addr:value_of = 'x']", set()),
        ("[ipv4-addr:resolves_to_refs[*].value = 'x']", set()),
        ("[ipv6-addr:value = '::1']", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_kinds_are_read_from_the_object_paths(pattern: str, kinds: set[str]) -> None:
    """With blanks, in any part of a compound; never from a string or a comment."""
    assert kinds_of(pattern) == kinds


def test_a_pattern_of_any_length_is_read_in_one_pass() -> None:
    """What looks like the beginning of a string or a comment, over and over, costs nothing.

    Of this length, a pass for each beginning would take hours.
    """
    for piece in ("'", "/*", "//", "'\\", "ipv4-addr", "ipv4-addr:", "ipv4-addr" + " " * 50):
        assert kinds_of(piece * (2_000_000 // len(piece))) == set()


@pytest.mark.parametrize(
    ("pattern", "other"), [(IPV4, False), (DOMAIN, False), (BOTH, False), (OTHER, True)]
)
def test_another_kind_is_marked(pattern: str, other: bool) -> None:
    """An indicator on neither an address nor a domain passes and says so, to be counted."""
    assert indicator(pattern=pattern).other_kind is other


@pytest.mark.parametrize("name", REQUIRED_TEXTS)
@pytest.mark.parametrize("value", [None, "", "  ", 7, ["x"], {"x": "y"}])
def test_a_required_text_that_is_none_makes_an_object_invalid(name: str, value: object) -> None:
    """The reason names the property, be it missing, empty or of another type."""
    for record in ({**raw_indicator(), name: value}, without(raw_indicator(), name)):
        verdict = judge(record, EVERYTHING)
        assert isinstance(verdict, Invalid)
        assert verdict.reason == f"{name} is missing or not a text"


@pytest.mark.parametrize(
    "record",
    [
        None,
        "indicator",
        7,
        ["indicator"],
        {},
        raw_indicator(type="malware"),
        raw_indicator(type=None),
        raw_indicator(id="indicator--7"),
        raw_indicator(id="malware--00000000-0000-4000-8000-000000000000"),
        raw_indicator(id="indicator--00000000-0000-4000-8000-000000000000 "),
    ],
    ids=lambda record: repr(record)[:30],
)
def test_what_is_no_indicator_is_invalid(record: object) -> None:
    """Whatever else stands in the list is kept with a reason and its content."""
    verdict = judge(record, Filters(threshold=100))
    assert isinstance(verdict, Invalid)
    assert verdict.reason
    assert json.loads(verdict.content) == record


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("\ud800", "cannot carry"),
        (2**64, "beyond 64 bits"),
        (-(2**63) - 1, "beyond 64 bits"),
        (complex("nan"), "cannot carry"),
        ({"deep": ["\udfff"]}, "cannot carry"),
    ],
    ids=["surrogate", "huge", "huge-negative", "nan", "nested"],
)
def test_what_json_cannot_carry_makes_one_invalid_record(value: object, reason: str) -> None:
    """The content is kept all the same, in printable form."""
    verdict = judge(raw_indicator(note=value), EVERYTHING)
    assert isinstance(verdict, Invalid)
    assert reason in verdict.reason
    assert verdict.indicator_id == raw_indicator()["id"]
    assert b"note" in verdict.content


def test_an_invalid_record_shows_a_short_printable_id_and_pattern() -> None:
    """What ends in a table row is ASCII and bounded, whatever the source sent."""
    verdict = judge(raw_indicator(id="\ud800" * 500, pattern="ü" * 500), EVERYTHING)
    assert isinstance(verdict, Invalid)
    assert verdict.indicator_id == "?" * 100
    assert verdict.pattern == "?" * 100


def test_nesting_without_end_is_one_invalid_record() -> None:
    """An object too deep for JSON's own recursion is refused like any other."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert isinstance(judge(raw_indicator(deep=deep), EVERYTHING), Invalid)
    assert isinstance(judge(deep, EVERYTHING), Invalid)


@given(order=st.permutations(sorted(raw_indicator())))
def test_the_canonical_form_does_not_depend_on_key_order(order: list[str]) -> None:
    """The same properties in any order make the same bytes and the same fingerprint."""
    record = raw_indicator()
    shuffled = judge({name: record[name] for name in order}, EVERYTHING)
    assert shuffled == indicator()


def test_the_canonical_form_is_what_is_sent_and_hashed() -> None:
    """Sorted keys, no spaces, UTF-8; the fingerprint is 64 bits of a hash over those bytes."""
    found = indicator(name="Zürich", x={"b": 1, "a": [1, 2]})
    expected = json.dumps(
        json.loads(found.body), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert found.body == expected.encode()
    assert found.fingerprint == fingerprint_of(found.body)
    assert 0 <= found.fingerprint < 2**64


@pytest.mark.parametrize("confidence", ["80", 80.0, " 80 "])
def test_spellings_of_one_confidence_make_one_fingerprint(confidence: object) -> None:
    """What is remembered is what was sent, so the spelling of the source does not matter."""
    assert indicator(confidence=confidence) == indicator(confidence=80)


def test_a_changed_property_makes_another_fingerprint() -> None:
    """Whatever changes in an indicator makes it new."""
    variants = [
        indicator(),
        indicator(modified="2026-01-03T00:00:00Z"),
        indicator(confidence=81),
        indicator(extra=None),
        indicator(extra=[]),
    ]
    assert len({found.fingerprint for found in variants}) == len(variants)


@given(record=ANY_JSON)
def test_judging_never_raises(record: object) -> None:
    """Any value that a parser may return has a verdict."""
    assert isinstance(judge(record, EVERYTHING), Indicator | Decision | Invalid)


@given(name=st.sampled_from(sorted(raw_indicator())), value=ANY_JSON)
def test_judging_never_raises_for_one_odd_property(name: str, value: object) -> None:
    """An indicator with any one property replaced has a verdict, and what passes is sound."""
    verdict = judge({**raw_indicator(), name: value}, EVERYTHING)
    if isinstance(verdict, Indicator):
        found = sent(verdict)
        assert canonical_json(found) == verdict.body
        assert type(found["confidence"]) is int
        assert 0 <= found["confidence"] <= 100


# Versions

STRICT = Filters(threshold=65, ipv4=False, domain=False)
TODAY = 20_000


def version(found: Indicator, **changes: Any) -> KnownVersion:
    """Return an indicator as a version that is known."""
    values = {"is_recent": False, **changes}
    return KnownVersion(found.fingerprint, found.modified, **values)


def judged(
    *records: object, known: DictKnown | None = None, filters: Filters = EVERYTHING, **options: Any
) -> list[Verdict]:
    """Return what becomes of the objects of a page."""
    return list(judge_page(records, filters, known or DictKnown(), Policy(today=TODAY), **options))


def known_as(record: dict[str, Any], **changes: Any) -> DictKnown:
    """Return a tick's knowledge of one indicator."""
    return DictKnown({id_hash(record["id"]): version(indicator_of(record), **changes)})


def indicator_of(record: dict[str, Any]) -> Indicator:
    """Return a record as it is sent."""
    found = judge(record, EVERYTHING)
    assert isinstance(found, Indicator)
    return found


def test_an_indicator_has_what_its_record_needs() -> None:
    """A hash of its id, the fingerprint, milliseconds of `modified`, the day of `valid_until`."""
    found = indicator(7, valid_until="2026-02-01T12:00:00Z")
    assert found.id_hash == id_hash(raw_indicator(7)["id"])
    assert (found.modified, found.ends_on) == (1_767_312_000_000, 20_485)
    assert indicator(7).ends_on == NO_END
    assert indicator(7, valid_until="some day").ends_on == NO_END


@pytest.mark.parametrize("revoked", [True, False, None, "true", 1])
@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_revoked_and_unknown_is_sent_only_on_request(
    revoked: object, *, wanted: bool
) -> None:
    """Sentinel has nothing of it; after the loss of an index it may be sent all the same."""
    verdict = judge(raw_indicator(revoked=revoked), Filters(threshold=0, unknown_revoked=wanted))
    assert isinstance(verdict, Indicator) is (wanted or revoked is not True)


@pytest.mark.parametrize(
    "change",
    [{"confidence": 1}, {"revoked": True}, {"pattern": IPV4}, {"name": "x"}],
    ids=["less confidence", "revoked", "another kind", "anything"],
)
@pytest.mark.parametrize("modified", ["2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z"])
def test_a_newer_version_of_a_known_indicator_passes_every_filter(
    change: dict[str, Any], modified: str
) -> None:
    """A drop in confidence, a revocation, a kind switched off: Sentinel must hear of it."""
    known = known_as(raw_indicator())
    (verdict,) = judged(raw_indicator(modified=modified, **change), known=known, filters=STRICT)
    assert isinstance(verdict, Indicator)
    assert (verdict.correction, verdict.is_known, verdict.is_recent) == (True, True, False)
    assert known.versions[verdict.id_hash] == KnownVersion(
        verdict.fingerprint, verdict.modified, is_on_its_way=True
    )


def test_a_newer_version_that_passes_is_no_correction() -> None:
    """Only what the filters would have dropped is counted as one."""
    record = raw_indicator()
    (verdict,) = judged(raw_indicator(name="x"), known=known_as(record, is_recent=True))
    assert isinstance(verdict, Indicator)
    assert (verdict.correction, verdict.is_known, verdict.is_recent) == (False, True, True)
    (fresh,) = judged(record)
    assert isinstance(fresh, Indicator)
    assert (fresh.is_known, fresh.is_recent) == (False, False)


@pytest.mark.parametrize("filters", [EVERYTHING, STRICT])
def test_the_same_and_older_versions_are_left_out(filters: Filters) -> None:
    """Whether they pass or not."""
    record = raw_indicator(modified="2026-01-02T00:00:00.001Z")
    known = known_as(record)
    before = dict(known.versions)
    assert judged(record, known=known, filters=filters) == [Decision.UNCHANGED]
    assert judged(raw_indicator(name="x"), known=known, filters=filters) == [Decision.OLDER]
    assert known.versions == before


def test_an_older_version_that_json_cannot_carry_is_older() -> None:
    """It would not be sent anyway, so nobody has to be told of it."""
    known = known_as(raw_indicator())
    older = raw_indicator(modified="2025-01-01T00:00:00Z", note="\ud800")
    assert judged(older, known=known) == [Decision.OLDER]
    (newer,) = judged(raw_indicator(note="\ud800"), known=known)
    assert isinstance(newer, Invalid)


def test_versions_of_one_page_are_compared_with_each_other() -> None:
    """In the order of listing: newer ones are sent each, the same and older ones are not."""
    first, second = raw_indicator(name="a"), raw_indicator(modified="2026-02-01T00:00:00Z")
    verdicts = judged(first, first, second, first, second, raw_indicator(1))
    assert [v if isinstance(v, Decision) else type(v) for v in verdicts] == [
        Indicator,
        Decision.UNCHANGED,
        Indicator,
        Decision.OLDER,
        Decision.UNCHANGED,
        Indicator,
    ]
    later = verdicts[2]
    assert isinstance(later, Indicator)
    assert (later.is_known, later.is_recent) == (True, True)


def test_a_page_that_repeats_one_id_takes_little_memory() -> None:
    """Whoever lists it so often: what is kept for an object does not grow with their number."""
    same = [raw_indicator() for _ in range(4000)]
    tracemalloc.start()
    verdicts = judged(*same)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdicts.count(Decision.UNCHANGED) == len(same) - 1
    assert peak < len(same) * 8000


def test_what_was_filtered_is_not_known() -> None:
    """So a later version that passes is enqueued, and one that does not is filtered again."""
    low = raw_indicator(confidence=1)
    found = judged(low, low, raw_indicator(confidence=90), low, filters=Filters(threshold=65))
    assert found[:2] == [Decision.FILTERED, Decision.FILTERED]
    assert isinstance(found[2], Indicator)
    assert isinstance(found[3], Indicator)
    assert found[3].correction


def test_what_does_not_fit_is_invalid_and_not_known() -> None:
    """It is kept with that reason, its content, id and pattern; its neighbours go on."""
    known = DictKnown()
    big = raw_indicator(1, name="big")
    verdicts = judged(
        raw_indicator(0), big, known=known, fits=lambda found: b"big" not in found.body
    )
    assert isinstance(verdicts[0], Indicator)
    refused = verdicts[1]
    assert isinstance(refused, Invalid)
    assert (refused.reason, refused.indicator_id) == (TOO_LARGE, big["id"])
    assert refused.pattern == big["pattern"]
    assert json.loads(refused.content) == big
    assert list(known.versions) == [id_hash(raw_indicator(0)["id"])]


def test_positions_count_only_valid_objects() -> None:
    """What is known is found for the right object, whatever stands between them."""
    known = known_as(raw_indicator(3))
    verdicts = judged(None, raw_indicator(1), {}, raw_indicator(3), "x", known=known)
    assert [type(verdict) for verdict in verdicts] == [
        Invalid,
        Indicator,
        Invalid,
        Decision,
        Invalid,
    ]
    assert verdicts[3] is Decision.UNCHANGED
