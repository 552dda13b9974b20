"""The feeds that the Lumen simulator hands out, and the judge of what must come of them."""

import gzip
import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest

from local.services.feed import (
    REQUIRED_FIELDS,
    Feed,
    FileFeed,
    ListFeed,
    SyntheticFeed,
    expected_ids,
    parts_of,
)
from producer.indicators import Filters, Listed, examine

ONE, TWO, THREE = (f"indicator--0000000{n}-0000-4000-8000-000000000000" for n in (1, 2, 3))

GOOD: dict[str, Any] = {
    "type": "indicator",
    "id": ONE,
    "created": "2026-01-01T00:00:00.000Z",
    "modified": "2026-01-01T00:00:00.000Z",
    "pattern": "[domain-name:value = 'a.example']",
    "pattern_type": "stix",
    "valid_from": "2026-01-01T00:00:00.000Z",
    "confidence": 80,
}


def decoded(feed: Feed) -> list[Any]:
    """Every object of a feed."""
    return [json.loads(encoded) for encoded in feed.encoded(0, len(feed))]


def test_a_feed_is_the_same_however_it_is_read() -> None:
    """Any slice of an equal feed has the same bytes; another seed has others."""
    whole = SyntheticFeed(500, seed=7).encoded(0, 500)
    assert SyntheticFeed(500, seed=7).encoded(123, 130) == whole[123:130]
    assert SyntheticFeed(500, seed=7).encoded(490, 600) == whole[490:]
    assert not set(SyntheticFeed(500, seed=8).encoded(0, 500)) & set(whole)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 200])
@pytest.mark.parametrize("later", [1, 6])
def test_the_parts_of_a_feed_are_the_feed(size: int, later: int) -> None:
    """Half of it first, then the rest in order, in that many parts at most; none is empty."""
    feed = SyntheticFeed(size)
    parts = parts_of(feed, later)
    assert [one for part in parts for one in part.encoded(0, len(part))] == feed.encoded(0, size)
    assert [one for part in parts for one in part.encoded(0, 1000)] == feed.encoded(0, size)
    assert all(len(part) for part in parts)
    assert len(parts) <= 1 + later
    assert not parts or len(parts[0]) == size - size // 2


def test_a_million_indicators_are_ready_at_once() -> None:
    """The end of a large feed is computed without what comes before it."""
    feed = SyntheticFeed(1_000_000)
    assert (len(feed), len(feed.encoded(999_990, 1_000_010))) == (1_000_000, 10)


def test_synthetic_indicators_have_the_shape_and_mix_of_the_real_ones() -> None:
    """Every required field, unique ids and values, about 500 bytes, the mix of the contract."""
    feed = SyntheticFeed(4000)
    found = decoded(feed)
    assert all(set(REQUIRED_FIELDS) <= set(one) for one in found)
    assert len({one["id"] for one in found}) == len({one["name"] for one in found}) == 4000
    assert 450 < sum(map(len, feed.encoded(0, 4000))) / 4000 < 600
    assert sum("ipv4-addr" in one["pattern"] for one in found) == 1000
    texts = [one for one in found if isinstance(one["confidence"], str)]
    assert 0.2 < len(texts) / 4000 < 0.3
    assert {int(one["confidence"]) for one in found} == set(range(30, 101))
    assert all(one["created"] <= one["modified"] < one["valid_until"] for one in found)


def test_synthetic_values_are_reserved_and_ids_are_uuids() -> None:
    """No indicator names a host that may exist."""
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
    for one in decoded(SyntheticFeed(1000)):
        if "ipv4-addr" in one["pattern"]:
            assert ipaddress.ip_address(one["name"]) in ipaddress.ip_network("198.18.0.0/15")
        else:
            assert re.search(r"\.(example(\.(com|net|org))?|test|invalid)$", one["name"])
        assert re.fullmatch(
            r"indicator--[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
            one["id"],
        )
        assert stamp.fullmatch(one["created"])
        assert stamp.fullmatch(one["valid_until"])


def test_addresses_stay_reserved_in_the_largest_feeds() -> None:
    """Past the benchmark network, addresses are of class E."""
    (late,) = SyntheticFeed(1_000_000).encoded(999_999, 1_000_000)
    assert ipaddress.ip_address(json.loads(late)["name"]) in ipaddress.ip_network("240.0.0.0/4")


def test_a_changed_feed_keeps_ids_and_renews_its_share() -> None:
    """About that share has a later ``modified``; all else is the same to the byte."""
    feed = SyntheticFeed(4000)
    pairs = list(zip(decoded(feed), decoded(feed.changed(0.1, 1)), strict=True))
    assert all(old["id"] == new["id"] for old, new in pairs)
    renewed = [(old, new) for old, new in pairs if old != new]
    assert 0.08 < len(renewed) / 4000 < 0.12
    assert all(old["modified"] < new["modified"] for old, new in renewed)


def test_changes_add_up() -> None:
    """The second change leaves in place what the first has changed and it has not."""
    once = SyntheticFeed(2000).changed(0.2, 1)
    twice = once.changed(0.2, 2)
    base, first, second = (feed.encoded(0, 2000) for feed in (SyntheticFeed(2000), once, twice))
    kept = sum(b != f == s for b, f, s in zip(base, first, second, strict=True))
    moved = sum(f != s for f, s in zip(first, second, strict=True))
    assert 0.12 < kept / 2000 < 0.2
    assert 0.16 < moved / 2000 < 0.24


def test_malformed_objects_are_of_several_kinds_and_none_is_expected() -> None:
    """The share is kept, every object is JSON, and the judge expects just the others."""
    feed = SyntheticFeed(2000, malformed=0.2)
    plain = SyntheticFeed(2000).encoded(0, 2000)
    broken = [a for a, b in zip(feed.encoded(0, 2000), plain, strict=True) if a != b]
    assert 0.16 < len(broken) / 2000 < 0.24
    assert len({type(json.loads(one)) for one in broken}) == 4
    assert len(expected_ids(feed, threshold=0)) == 2000 - len(broken)


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, True),
        ({"confidence": "60"}, True),
        ({"confidence": 60}, True),
        ({"confidence": 59}, False),
        ({"confidence": "59"}, False),
        ({"confidence": 100}, True),
        ({"confidence": 101}, False),
        ({"confidence": 60.0}, True),
        ({"confidence": "60.0"}, True),
        ({"confidence": " +60.9 "}, True),
        ({"confidence": 59.99}, False),
        ({"confidence": 100.5}, False),
        ({"confidence": 1e300}, False),
        ({"confidence": "6e1"}, False),
        ({"confidence": "high"}, False),
        ({"confidence": True}, False),
        ({"confidence": None}, False),
        ({"id": ""}, False),
        ({"id": "indicator--not-a-uuid"}, False),
        ({"id": ONE.upper()}, False),
        ({"id": ONE.replace("0", "A")}, True),
        ({"id": ONE + " "}, False),
        ({"created": " "}, False),
        ({"pattern_type": "\t"}, False),
        ({"revoked": True}, False),
        ({"revoked": False}, True),
        ({"revoked": "true"}, True),
        ({"pattern": 7}, False),
        ({"type": "malware"}, False),
    ],
)
def test_the_judge_knows_who_passes(change: dict[str, Any], *, passes: bool) -> None:
    """As the product does: confidence counts as number or text, broken objects do not."""
    found = {**GOOD, **change}
    assert expected_ids(ListFeed([found]), threshold=60) == ({found["id"]} if passes else set())
    (verdict,) = [examine(found, Filters(threshold=60))]
    assert (isinstance(verdict, Listed) and verdict.passes) == passes


@pytest.mark.parametrize("name", REQUIRED_FIELDS)
def test_the_judge_misses_each_field(name: str) -> None:
    """An object without one of the fields is not expected."""
    broken = {key: value for key, value in GOOD.items() if key != name}
    assert expected_ids(ListFeed([broken, 7, None, [GOOD]]), threshold=0) == set()


@pytest.mark.parametrize(("threshold", "passes"), [(0, True), (1, False)])
def test_without_a_confidence_it_is_0(threshold: int, *, passes: bool) -> None:
    """STIX leaves it optional."""
    found = {key: value for key, value in GOOD.items() if key != "confidence"}
    assert bool(expected_ids(ListFeed([found]), threshold=threshold)) == passes
    verdict = examine(found, Filters(threshold=threshold))
    assert isinstance(verdict, Listed)
    assert verdict.passes == passes


def test_the_judge_filters_by_type() -> None:
    """Each type can be left out; an indicator on neither passes in any case."""
    feed = ListFeed(
        [
            GOOD,
            {**GOOD, "id": TWO, "pattern": "[ipv4-addr:value = '198.18.0.1']"},
            {**GOOD, "id": THREE, "pattern": "[url:value = 'https://a.example/']"},
        ]
    )
    assert expected_ids(feed, threshold=60, ipv4=False) == {ONE, THREE}
    assert expected_ids(feed, threshold=60, domain=False) == {TWO, THREE}
    assert expected_ids(feed, threshold=60, ipv4=False, domain=False) == {THREE}


@pytest.mark.parametrize(
    ("pattern", "without_ipv4"),
    [
        ("[ipv4-addr : value = '198.18.0.1']", False),
        ("[url:value = 'ipv4-addr:value']", True),
        ("[domain-name:value = 'a'] OR [ipv4-addr:value = 'b']", True),
        ("[url:value = 'it\\'s'] OR [ipv4-addr:value = 'b']", False),
    ],
)
def test_the_judge_reads_object_paths(pattern: str, *, without_ipv4: bool) -> None:
    """Blanks do not matter, nor does what a string holds; one of two kinds is enough."""
    feed = ListFeed([{**GOOD, "pattern": pattern}])
    assert bool(expected_ids(feed, threshold=0, ipv4=False)) == without_ipv4


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        (b'"A\tB"', False),
        (b'"\\ud800"', False),
        (b"NaN", False),
        (b"18446744073709551615", True),
        (b"18446744073709551616", False),
        (b'"123456789012345678901234567890"', True),
        (b"[" * 300 + b"]" * 300, False),
        (b"[" + b"[]," * 300 + b"[]]", True),
    ],
)
def test_the_judge_expects_what_every_receiver_reads(value: bytes, *, passes: bool) -> None:
    """What is not JSON, is nested deeply, or has a number beyond 64 bits, is not expected."""
    encoded = json.dumps(GOOD).encode()[:-1] + b',"note":' + value + b"}"
    assert bool(expected_ids(ListFeed([encoded]), threshold=0)) == passes


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_is_read_line_by_line(tmp_path: Path, *, compressed: bool) -> None:
    """Plain and compressed files hand out their lines unchanged, empty ones left out."""
    lines = SyntheticFeed(3).encoded(0, 3)
    text = b"\n\n".join(lines) + b"\n"
    path = tmp_path / ("feed.jsonl.gz" if compressed else "feed.jsonl")
    path.write_bytes(gzip.compress(text) if compressed else text)
    feed = FileFeed(path)
    assert (len(feed), feed.encoded(0, 9)) == (3, lines)


BUNDLE = {"type": "bundle", "id": "bundle--1", "objects": [GOOD, {**GOOD, "id": TWO}]}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("whole", [BUNDLE, BUNDLE["objects"]], ids=["bundle", "list"])
def test_a_file_may_be_one_bundle_or_list(
    tmp_path: Path, whole: object, indent: int | None
) -> None:
    """On one line or many; its objects are the feed."""
    path = tmp_path / "feed.json"
    path.write_text(json.dumps(whole, indent=indent) + "\n", encoding="utf-8")
    feed = FileFeed(path)
    assert decoded(feed) == BUNDLE["objects"]
    assert expected_ids(feed, threshold=60) == {ONE, TWO}


def test_one_object_on_many_lines_is_a_feed_of_one(tmp_path: Path) -> None:
    """As a person would write it."""
    path = tmp_path / "feed.json"
    path.write_text(json.dumps(GOOD, indent=2), encoding="utf-8")
    assert decoded(FileFeed(path)) == [GOOD]


def test_a_large_number_in_a_list_stays_as_it_is(tmp_path: Path) -> None:
    """It is for the product to say what becomes of it."""
    path = tmp_path / "feed.json"
    path.write_text(json.dumps([GOOD | {"note": 10**30}]), encoding="utf-8")
    assert decoded(FileFeed(path))[0]["note"] == 10**30


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("7", "neither objects nor a list or bundle"),
        ('"text"', "neither objects nor a list or bundle"),
        ("[[]]", "object 1: JSON, but not an object"),
        ('{"type":"bundle","objects":{}}', "neither objects nor a list or bundle"),
        ('{"type":"bundle","objects":[{},null]}', "object 2: JSON, but not an object"),
        ('{}\n{"type":"bundle","objects":[]}', "line 2: a bundle among lines"),
        ("{}\n[{}]", "line 2: JSON, but not an object"),
    ],
)
def test_what_is_no_feed_is_named(tmp_path: Path, content: str, told: str) -> None:
    """Nothing is taken for a feed that it is not."""
    path = tmp_path / "feed.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        FileFeed(path)


@pytest.mark.parametrize("content", ["", "[]", '{"type":"bundle"}'])
def test_an_empty_feed_has_no_objects(tmp_path: Path, content: str) -> None:
    """The demo says so and runs nothing."""
    path = tmp_path / "feed.json"
    path.write_text(content, encoding="utf-8")
    assert len(FileFeed(path)) == 0


@pytest.mark.parametrize("bad", [b'{"id":', b"[1]"])
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes) -> None:
    """The error says which file and which line."""
    path = tmp_path / "feed.jsonl"
    path.write_bytes(b"{}\n" + bad + b"\n")
    with pytest.raises(ValueError, match=r"feed\.jsonl, line 2"):
        FileFeed(path)
