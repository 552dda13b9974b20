"""One bad object costs one object: the table of what may be wrong with one, and with a page."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UnavailableError
from producer import cutting
from producer.cutting import BEYOND_64_BITS, NESTED_TOO_DEEPLY, Unreadable, decode_object
from producer.indicators import Filters, Indicator, Invalid
from producer.lumen import Page, decode_answer, read_page
from producer.versions import Decision
from tests.unit.producer.samples import EVERYTHING, judge, raw_indicator

NEXT = "bmV4dA=="


def encoded(number: int, **changes: object) -> bytes:
    """Return a whole indicator as JSON."""
    return orjson.dumps(raw_indicator(number, **changes))


def with_value(value: bytes) -> bytes:
    """Return an indicator with a property of this JSON, in the middle."""
    return encoded(1, note=0, zone="x").replace(b'"note":0', b'"note":' + value)


def page_of(*objects: bytes) -> bytes:
    """Return Lumen's answer with these objects."""
    listed = b",".join(objects)
    head, tail = b'{"results":{"sourcesystem":"Lumen","stixobjects":[', b']},"next_token":'
    return head + listed + tail + b'"%s"}' % NEXT.encode()


def read(content: bytes) -> Page:
    """Return the page in an answer."""
    return read_page(decode_answer(content))


def verdicts(content: bytes, filters: Filters = EVERYTHING) -> list[Any]:
    """Return what is made of each object of a page, whose token must have been read."""
    page = read(content)
    assert page.next_token == NEXT
    return [judge(record, filters) for record in page.objects]


NOT_JSON: dict[str, tuple[bytes, str]] = {
    **{
        f"control-{code:02x}": (with_value(b'"A%cB"' % code), "unescaped control character")
        for code in (0x00, 0x08, 0x09, 0x0A, 0x0D, 0x1F)
    },
    "control-in-name": (with_value(b'{"a\tb":1}'), "unescaped control character"),
    "high-surrogate": (with_value(b'"\\ud800"'), "surrogate"),
    "low-surrogate": (with_value(b'"x\\uDFFFy"'), "surrogate"),
    "swapped-surrogates": (with_value(b'"\\udc00\\ud800"'), "surrogate"),
    "surrogate-in-name": (with_value(b'{"\\ud800":1}'), "surrogate"),
    "not-utf-8": (with_value(b'"\xff\xfe"'), "not UTF-8"),
    "surrogate-bytes": (with_value(b'"\xed\xa0\x80"'), "not UTF-8"),
    "half-a-letter": (with_value(b'"\xe2\x82"'), "not UTF-8"),
    "nan": (with_value(b"NaN"), "holds NaN"),
    "infinity": (with_value(b"[-Infinity]"), "holds -Infinity"),
    "infinite": (with_value(b"1e999"), BEYOND_64_BITS),
    "endless-number": (with_value(b"-1" + b"0" * 5000), BEYOND_64_BITS),
    "arrays-20000": (with_value(b"[" * 20_000 + b"]" * 20_000), NESTED_TOO_DEEPLY),
    "objects-20000": (with_value(b'{"a":' * 20_000 + b"1" + b"}" * 20_000), NESTED_TOO_DEEPLY),
    "bad-escape": (with_value(b'"C:\\path"'), "is not JSON"),
    "leading-zero": (with_value(b"007"), "is not JSON"),
    "hexadecimal": (with_value(b"0x10"), "is not JSON"),
    "python": (with_value(b"None"), "is not JSON"),
    "single-quotes": (with_value(b"'x'"), "is not JSON"),
    "no-value": (with_value(b""), "is not JSON"),
    "trailing-comma": (with_value(b"[1,]"), "is not JSON"),
    "two-values": (with_value(b"1 2"), "is not JSON"),
    "quote-inside": (with_value(b'"a 5" disk"'), "is not JSON"),
    "quotes-inside": (with_value(b'"a "b" c"'), "is not JSON"),
    "quote-and-comma-inside": (with_value(b'"a", b"'), "is not JSON"),
    "open-quote": (with_value(b'"abc'), "is not JSON"),
    "bracket-too-many": (with_value(b"[]]"), "is not JSON"),
    "brace-too-many": (with_value(b"1") + b"}", "is not JSON"),
    "bracket-behind": (with_value(b"1") + b"]", "is not JSON"),
    "brackets-behind": (with_value(b"1") + b"]}", "is not JSON"),
    "brace-missing": (with_value(b"1")[:-1], "is not JSON"),
    "bracket-missing": (with_value(b"[1"), "is not JSON"),
    "nested-brace-missing": (with_value(b'{"a":{"b":1}'), "is not JSON"),
    "wrong-bracket": (with_value(b"[1}"), "is not JSON"),
    "ends-in-text": (with_value(b"1")[:-1] + b',"name":"abc', "is not JSON"),
    "ends-in-list": (with_value(b"1")[:-1] + b',"labels":["a","b"', "is not JSON"),
    "ends-after-name": (with_value(b"1")[:-1] + b',"labels"', "is not JSON"),
    "ends-after-colon": (with_value(b"1")[:-1] + b',"labels":', "is not JSON"),
}
"""Objects that no parser takes, and a part of the reason that is given."""

CARRIED_BY_NONE: dict[str, tuple[bytes, str]] = {
    "u64-and-one": (with_value(b"18446744073709551616"), BEYOND_64_BITS),
    "i64-less-one": (with_value(b"-9223372036854775809"), BEYOND_64_BITS),
    "thirty-digits": (with_value(b"123456789012345678901234567890"), BEYOND_64_BITS),
    "four-hundred-digits": (with_value(b"[1" + b"0" * 400 + b"]"), BEYOND_64_BITS),
    "arrays-300": (with_value(b"[" * 300 + b"]" * 300), NESTED_TOO_DEEPLY),
    "arrays-3000": (with_value(b"[" * 3000 + b"]" * 3000), NESTED_TOO_DEEPLY),
}
"""Objects that are JSON, but that no receiver would read as they are."""

GOOD: dict[str, bytes] = {
    "plain": encoded(1),
    "u64": with_value(b"18446744073709551615"),
    "i64": with_value(b"-9223372036854775808"),
    "float": with_value(b"[1.5,1e30,-0.0,9007199254740993]"),
    "escapes": with_value(rb'"\\\"\u0000\ud83d\ude00\/"'),
    "quotes-and-brackets": with_value(rb'"}, {\"type\": [\"id\"] \\"'),
    "nested-objects": with_value(b'[{"type":"a","id":"b"}, {"type":"a","id":"c"}]'),
    "nested-lists": with_value(b"[[[],{}],[[]]]"),
    "repeated-name": with_value(b'1,"note":2'),
    "blanks": with_value(b" [ 1 ,\r\n\t2 ] "),
}
INVALID = NOT_JSON | CARRIED_BY_NONE
OTHERS: dict[str, list[bytes]] = {
    "none": [],
    "ordinary": [encoded(7)],
    "general": [encoded(7, x_odd=0.5)],
    "damaged": [with_value(b'"a 5" disk"')],
    "control": [with_value(b'"A\tB"')],
}
"""What may be beside an object on its page: each takes another way through the decoders."""


@pytest.mark.parametrize("kind", INVALID)
def test_one_bad_object_costs_one_object(kind: str) -> None:
    """It is invalid with its reason; its neighbours, and the token of the page behind, arrive."""
    bad, reason = INVALID[kind]
    before, after = encoded(0), encoded(2)
    found = verdicts(page_of(before, bad, after, after))
    assert [type(verdict) for verdict in found] == [Indicator, Invalid, Indicator, Indicator]
    assert reason in found[1].reason
    assert [found[0], found[2]] == [judge(orjson.loads(raw), EVERYTHING) for raw in (before, after)]


@pytest.mark.parametrize("kind", INVALID)
@pytest.mark.parametrize("place", ["first", "last", "alone", "twice"])
def test_a_bad_object_may_be_anywhere(kind: str, place: str) -> None:
    """At the ends of a page, as all of it, and beside another one."""
    bad = INVALID[kind][0]
    good = encoded(0)
    objects = {
        "first": [bad, good],
        "last": [good, bad],
        "alone": [bad],
        "twice": [good, bad, bad, good],
    }[place]
    kinds = [Invalid if item is bad else Indicator for item in objects]
    assert [type(verdict) for verdict in verdicts(page_of(*objects))] == kinds


@pytest.mark.parametrize("neighbours", OTHERS)
@pytest.mark.parametrize("kind", [*INVALID, *GOOD])
def test_a_verdict_does_not_depend_on_the_neighbours(kind: str, neighbours: str) -> None:
    """Whatever is beside an object, and whichever decoder took the page, it comes out the same."""
    raw = GOOD[kind] if kind in GOOD else INVALID[kind][0]
    alone = verdicts(page_of(raw))
    beside = OTHERS[neighbours]
    found = verdicts(page_of(*beside, raw, *beside))
    assert len(found) == 2 * len(beside) + 1
    assert found[len(beside)] == alone[0]
    assert type(alone[0]) is (Indicator if kind in GOOD else Invalid)


@pytest.mark.parametrize("kind", NOT_JSON)
def test_the_content_of_what_is_not_json_is_its_bytes(kind: str) -> None:
    """It is kept as it came, with the id and the pattern where they can be read."""
    bad = NOT_JSON[kind][0]
    _, verdict, _ = verdicts(page_of(encoded(0), bad, encoded(2)))
    assert verdict.content.strip() == bad.strip()
    assert verdict.indicator_id == raw_indicator(1)["id"]
    assert verdict.pattern == raw_indicator(1)["pattern"]


@pytest.mark.parametrize("kind", CARRIED_BY_NONE)
def test_the_content_of_a_number_or_depth_that_nobody_reads_is_json(kind: str) -> None:
    """With every digit, and every bracket."""
    _, verdict = verdicts(page_of(encoded(0), CARRIED_BY_NONE[kind][0]))
    assert json.loads(verdict.content) == json.loads(CARRIED_BY_NONE[kind][0])


@pytest.mark.parametrize("value", [b"18446744073709551616", b"1" + b"0" * 5000])
@pytest.mark.parametrize("beside", OTHERS)
def test_a_confidence_beyond_64_bits_is_invalid_by_every_decoder(value: bytes, beside: str) -> None:
    """On an ordinary page, on another one, on one that is cut: never the confidence of a float."""
    raw = encoded(1).replace(b'"confidence":80', b'"confidence":' + value)
    for filters in (EVERYTHING, Filters(threshold=100)):
        assert isinstance(verdicts(page_of(raw, *OTHERS[beside]), filters)[0], Invalid)


def test_what_is_below_the_threshold_is_filtered_whatever_is_beside_it() -> None:
    """A filtered object that could not be sent anyway is no matter of its page either."""
    raw = with_value(b"18446744073709551616").replace(b'"confidence":80', b'"confidence":1')
    for beside in OTHERS.values():
        assert verdicts(page_of(raw, *beside), Filters(threshold=50))[0] is Decision.FILTERED


@pytest.mark.parametrize("separator", [b"", b" ", b",,", b" , , ", b"\n,\n", b", "], ids=repr)
def test_the_commas_between_objects_may_be_wrong(separator: bytes) -> None:
    """One too few or too many costs nothing: where an object ends can be seen all the same."""
    content = page_of(encoded(0) + separator + encoded(1), with_value(b'"A\tB"'))
    assert [type(found) for found in verdicts(content)] == [Indicator, Indicator, Invalid]


@pytest.mark.parametrize("listed", [b"null", b"7", b'"text"', b"[]", b"[1,[2]]", b"true", b"{}"])
def test_what_is_no_object_is_cut_like_one(listed: bytes) -> None:
    """A value of another type between objects is one invalid record."""
    found = verdicts(page_of(encoded(0), listed, with_value(b'"A\tB"'), encoded(2)))
    assert [type(verdict) for verdict in found] == [Indicator, Invalid, Invalid, Indicator]
    assert json.loads(found[1].content) == json.loads(listed)


BROKEN = page_of(encoded(0), with_value(b'"A\tB"'), encoded(2, refs=[{"labels": ["x"]}]))


def test_a_page_that_ends_too_early_is_cut_short() -> None:
    """Wherever it ends, no part of it is taken for a page: it is asked for again."""
    for size in range(len(BROKEN)):
        with pytest.raises(UnavailableError, match="cut short"):
            decode_answer(BROKEN[:size])


@pytest.mark.parametrize("kind", NOT_JSON)
def test_a_damaged_page_that_ends_too_early_is_cut_short(kind: str) -> None:
    """What is damaged hides no missing end."""
    content = page_of(encoded(0), NOT_JSON[kind][0], encoded(2, refs=[{"labels": ["x"]}]))
    for size in range(content.rindex(b'"labels"'), len(content), 7):
        with pytest.raises(UnavailableError, match="cut short"):
            decode_answer(content[:size])


@pytest.mark.parametrize(
    "content",
    [
        b'{"next_token":"bmV4dA==","results":{"stixobjects":[%s],"sourcesystem":"Lumen"}}',
        b'{"results":{"n":[{"stixobjects":[1]}],"stixobjects":[%s]},"next_token":"bmV4dA=="}',
        b'\xef\xbb\xbf{"results":{"stixobjects":[%s]},"next_token":"bmV4dA=="}',
        b' {\n "results" : { "stixobjects" : [ %s ] } , "next_token" : "bmV4dA==" }\n',
        b'{"results":{"stixobjects":[%s]},"odd":NaN,"next_token":"bmV4dA=="}',
    ],
)
def test_what_is_around_the_objects_may_be_in_any_order(content: bytes) -> None:
    """The list is found by its name and place, and what is behind it is read."""
    objects = b",".join([encoded(0), with_value(b'"A\tB"'), encoded(2)])
    found = verdicts(content.replace(b"%s", objects))
    assert [type(verdict) for verdict in found] == [Indicator, Invalid, Indicator]


def test_an_inline_page_is_cut_too() -> None:
    """The older form of a status answer keeps its state."""
    content = page_of(encoded(0), with_value(b'"A\tB"'))
    answer = decode_answer(content[:-1] + b',"status":"COMPLETED"}')
    assert answer["status"] == "COMPLETED"
    assert [type(found) for found in read_page(answer).objects] == [dict, Unreadable]


@given(
    at=st.integers(0, len(encoded(1)) - 1),
    damage=st.binary(min_size=0, max_size=3) | st.sampled_from([b'"', b"{", b"}", b"[", b"]"]),
)
def test_a_damage_of_any_kind_costs_one_object(at: int, damage: bytes) -> None:
    """Bytes put in place of one byte of an object: what is behind the one after it arrives."""
    raw = encoded(1)
    bad = raw[:at] + damage + raw[at + 1 :]
    found = verdicts(page_of(encoded(0), bad, encoded(2), encoded(3), encoded(4)))
    assert found[0] == judge(raw_indicator(0), EVERYTHING)
    assert found[-2:] == [judge(raw_indicator(number), EVERYTHING) for number in (3, 4)]


@settings(max_examples=40)
@given(objects=st.lists(st.sampled_from([*INVALID, *GOOD]), max_size=6))
def test_any_mixture_is_cut_into_its_objects(objects: list[str]) -> None:
    """As many verdicts as objects, each the one that it has alone."""
    raw = [GOOD[kind] if kind in GOOD else INVALID[kind][0] for kind in objects]
    found = verdicts(page_of(*raw))
    assert found == [verdict for item in raw for verdict in verdicts(page_of(item))]


def test_a_page_that_is_damaged_all_over_comes_to_an_end() -> None:
    """Its objects lack their ends: the work is bounded, and nothing of the page is dropped."""
    raw = with_value(b"[{}")[:-1]
    page = read(page_of(*[raw] * 2000))
    assert all(isinstance(found, Unreadable) for found in page.objects)
    assert sum(len(found.content) for found in page.objects) >= 2000 * len(raw)


def test_an_object_is_decoded_or_said_to_be_unreadable() -> None:
    """Never an exception, and nothing in between."""
    assert decode_object(b'{"a":1}') == {"a": 1}
    assert isinstance(decode_object(b'{"a":1} x'), Unreadable)
    assert isinstance(decode_object(b""), Unreadable)


@pytest.mark.parametrize("between", [b"]},", b'],"a":1},'])
def test_brackets_that_close_nothing_are_told_without_the_rest_of_the_page(
    between: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would cost a look at the whole page behind it: hours for a page of 64 MiB."""
    looked_at: list[int] = []
    decode = cutting._envelope

    def counted(head: bytes, tail: bytes) -> dict[str, Any] | None:
        looked_at.append(len(tail))
        return decode(head, tail)

    monkeypatch.setattr(cutting, "_envelope", counted)
    count = 500
    page = page_of((b'{"type":1,"id":2}' + between) * count + b'{"type":1,"id":2}')
    assert len(read_page(decode_answer(page)).objects) == count + 1
    assert sum(looked_at) < len(page)
