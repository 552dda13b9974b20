"""Fingerprints in bulk: packed and unpacked, and a set of many in little memory."""

import random
from array import array

from hypothesis import given
from hypothesis import strategies as st

from common.fingerprints import (
    SPACE,
    Doubts,
    KnownSet,
    KnownVersions,
    from_array,
    id_hash,
    pack,
    to_array,
    unpack,
    version_mark,
)

fingerprints = st.integers(0, SPACE - 1) | st.sampled_from([0, 1, SPACE - 1, SPACE // 2])


@given(values=st.lists(fingerprints))
def test_packing_keeps_every_bit(values: list[int]) -> None:
    """Both ways of packing make the same bytes, and each reads the other's."""
    assert unpack(pack(values)) == tuple(values)
    assert list(to_array(pack(values))) == values
    assert from_array(array("Q", values)) == pack(values)


@given(parts=st.lists(st.lists(fingerprints, max_size=200), max_size=4), asked=fingerprints)
def test_a_known_set_has_what_was_put_in_and_nothing_else(
    parts: list[list[int]], asked: int
) -> None:
    """From any number of parts, in any order, empty ones included."""
    members = {value for part in parts for value in part}
    known = KnownSet(*(array("Q", part) for part in parts))
    assert all(member in known for member in members)
    neighbours = {value + step for value in members for step in (-1, 1)}
    assert [v for v in neighbours - members | {asked} - members if v in known] == []
    assert len(known) == sum(map(len, parts))


def test_a_large_known_set_is_merged_without_loss() -> None:
    """Parts of many thousands, more than are sorted at once."""
    rng = random.Random(0)  # noqa: S311 - a fixed seed
    values = [rng.getrandbits(64) for _ in range(150_000)]
    run = array("Q", sorted(values[100_000:]))
    known = KnownSet(array("Q", values[:100_000]), runs=[run])
    assert len(known) == len(values)
    assert all(value in known for value in values)
    assert not any(value ^ 1 in known for value in values)


def test_what_is_no_fingerprint_is_not_known() -> None:
    """Neither another type nor a number out of range."""
    known = KnownSet(array("Q", [0, SPACE - 1]))
    assert [value for value in (-1, SPACE, "0", None, b"") if value in known] == []


def test_what_was_called_off_is_sent_though_it_is_known() -> None:
    """And nothing else is, whatever its id."""
    doubts = Doubts(fingerprints=array("Q", [7, 3]))
    assert [n for n in range(10) if doubts.concern(str(n), n)] == [3, 7]
    known = KnownVersions({1, 3}, doubts)
    assert [n for n in range(5) if known.has("any", n)] == [1]


@given(
    versions=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=20),
    name=st.sampled_from("abcde"),
    version=st.integers(0, 10),
)
def test_a_late_version_makes_every_other_one_doubtful(
    versions: list[tuple[str, int]], name: str, version: int
) -> None:
    """The very version that came late is not, however often, unless another one came late, too."""
    prints = {pair: id_hash(repr(pair)) for pair in [*versions, (name, version)]}
    doubts = Doubts(
        ids=array("Q", (id_hash(name) for name, _ in versions)),
        versions=array("Q", (version_mark(id_hash(p[0]), prints[p]) for p in versions)),
    )
    of_it = {number for other, number in versions if other == name}
    expected = bool(of_it) and of_it != {version}
    assert doubts.concern(name, prints[name, version]) is expected
