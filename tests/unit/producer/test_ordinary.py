"""The fast lane and the general way come to the same verdicts, byte for byte."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.services.feed import SyntheticFeed
from producer.indicators import Filters, Indicator, Invalid, canonical_json
from producer.lumen import read_page
from producer.ordinary import OrdinaryIndicator, decode_ordinary_page, to_record
from producer.ordinary import canonical_json as ordinary_json
from producer.versions import Decision
from tests.unit.producer.samples import EVERYTHING, judge, raw_indicator

PROPERTIES = tuple(OrdinaryIndicator.__struct_fields__)


def answer(*objects: object, **fields: object) -> bytes:
    """Return Lumen's answer with a page of these objects."""
    results = {"sourcesystem": "Lumen", "stixobjects": objects}
    return orjson.dumps({"results": results, "next_token": None, **fields})


def decoded(*objects: object) -> list[Any]:
    """Return the objects as the fast lane decodes them; it must take them."""
    page = decode_ordinary_page(answer(*objects))
    assert page is not None
    found: list[Any] = page["results"]["stixobjects"]
    return found


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "confidence": st.integers(-1, 101) | st.sampled_from(["70", " 70", "70.0", "+7", "1e1", "x"]),
    "revoked": st.booleans(),
    **dict.fromkeys(("indicator_types", "labels", "object_marking_refs"), st.lists(texts)),
}


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A whole indicator with some of its properties changed, left out or added, in any order."""
    record = raw_indicator(draw(st.integers(0, 9)))
    for name in draw(st.lists(st.sampled_from(PROPERTIES), max_size=4)):
        if draw(st.booleans()):
            record[name] = draw(VALUES.get(name, texts))
        else:
            record.pop(name, None)
    order = list(record)
    draw(st.randoms()).shuffle(order)
    return {name: record[name] for name in order}


@given(record=records(), threshold=st.integers(0, 100), ipv4=st.booleans(), domain=st.booleans())
def test_both_ways_come_to_the_same_verdict(
    record: dict[str, Any], threshold: int, ipv4: bool, domain: bool
) -> None:
    """The same body, fingerprint, reason: which way a page took cannot be seen in what is sent."""
    filters = Filters(threshold=threshold, ipv4=ipv4, domain=domain)
    (fast,) = (judge(found, filters) for found in decoded(record))
    general = judge(orjson.loads(orjson.dumps(record)), filters)
    if isinstance(fast, Invalid) and isinstance(general, Invalid):
        assert orjson.loads(fast.content) == orjson.loads(general.content)
        assert (fast.reason, fast.indicator_id) == (general.reason, general.indicator_id)
    else:
        assert fast == general


@pytest.mark.parametrize(
    "pattern",
    [
        "[ipv4-addr:value = '198.18.0.1']",
        "[domain-name:value = 'a.example']",
        "[domain-name:value = 'ipv4-addr:value']",
        "[ipv4-addr:value = '198.18.0.1'] OR [domain-name:value = 'a.example']",
        "[domain-name:value = 'a\nb']",
        "[domain-name:value = 'bücher.example']",
        "[url:value = 'https://a.example/']",
        "[ipv4-addr:value='198.18.0.1']",
    ],
)
@pytest.mark.parametrize("ipv4", [True, False])
@pytest.mark.parametrize("domain", [True, False])
def test_a_pattern_is_of_the_same_kinds_both_ways(pattern: str, ipv4: bool, domain: bool) -> None:
    """However a pattern is written, the operator's switches mean the same."""
    filters = Filters(threshold=0, ipv4=ipv4, domain=domain)
    record = raw_indicator(pattern=pattern)
    (found,) = decoded(record)
    assert judge(found, filters) == judge(record, filters)


@given(record=records())
def test_what_is_declared_in_order_is_written_as_canonical_json(record: dict[str, Any]) -> None:
    """Keys sorted, escapes and all: the two libraries write the same bytes."""
    (found,) = decoded(record)
    assert ordinary_json(found) == canonical_json(record)
    assert to_record(found) == record


def test_the_properties_are_declared_in_alphabetical_order() -> None:
    """Their order is that of the JSON, so a new one has one place."""
    assert list(PROPERTIES) == sorted(PROPERTIES)


def test_judging_twice_gives_the_same() -> None:
    """A page may be judged again after a checkpoint that was not stored."""
    (found,) = decoded(raw_indicator(confidence="80"))
    assert judge(found, EVERYTHING) == judge(found, EVERYTHING)
    assert judge(found, Filters(threshold=81)) is Decision.FILTERED


def test_the_pages_of_the_feed_are_ordinary() -> None:
    """What Lumen is known to send takes the fast lane."""
    objects = [orjson.loads(item) for item in SyntheticFeed(200, seed=1).encoded(0, 200)]
    assert all(isinstance(judge(found, EVERYTHING), Indicator) for found in decoded(*objects))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"cache_id":"x"}',
        answer(raw_indicator(), raw_indicator(x_extra=1)),
        answer(raw_indicator(confidence=80.0)),
        answer(raw_indicator(confidence=True)),
        answer(raw_indicator(name=None)),
        answer(raw_indicator(labels=["a", 1])),
        answer(raw_indicator(), "text"),
        answer(raw_indicator(), status="COMPLETED"),
        answer(raw_indicator())[:-1],
        answer(raw_indicator(name="x")).replace(b'"x"', b'"\xff"'),
    ],
)
def test_anything_out_of_the_ordinary_takes_the_general_way(content: bytes) -> None:
    """One odd value, and the whole page is decoded as if this lane were not there."""
    assert decode_ordinary_page(content) is None


def test_a_page_has_the_same_token_both_ways() -> None:
    """An empty page too."""
    page = decode_ordinary_page(answer(next_token="opaque"))
    assert page is not None
    assert read_page(page).next_token == "opaque"
    assert read_page(page).objects == []
