"""Fingerprints in bulk: 64 bits each, packed as eight bytes little-endian wherever they are stored.

In memory a large number of them is an `array("Q")`: eight bytes each, where Python integers in a
set would take ten times as much.
"""

import hashlib
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Final

FINGERPRINT_BYTES: Final = 8
SPACE: Final = 2**64
"""Fingerprints are below this."""

_NONE: Final = array("Q")


def pack(fingerprints: Iterable[int]) -> bytes:
    """Return fingerprints as bytes."""
    values = tuple(fingerprints)
    return struct.pack(f"<{len(values)}Q", *values)


def unpack(packed: bytes) -> tuple[int, ...]:
    """Return the fingerprints that `pack` packed."""
    return struct.unpack(f"<{len(packed) // FINGERPRINT_BYTES}Q", packed)


def to_array(packed: bytes) -> "array[int]":
    """Return packed fingerprints as an array."""
    fingerprints = array("Q", packed)
    if sys.byteorder != "little":
        fingerprints.byteswap()
    return fingerprints


def from_array(fingerprints: "array[int]") -> bytes:
    """Return an array packed."""
    if sys.byteorder == "little":
        return fingerprints.tobytes()
    swapped = array("Q", fingerprints)
    swapped.byteswap()
    return swapped.tobytes()


class KnownSet:
    """A large, fixed set of fingerprints: one sorted array, and where each prefix begins in it.

    Fingerprints are hashes, so that their first bits spread evenly: `in` looks among a few dozen.
    """

    def __init__(self, *parts: "array[int]", runs: Iterable["array[int]"] = ()) -> None:
        """`parts` are in any order; `runs` are sorted, which saves sorting them."""
        self._sorted = _merged([*_sorted_runs(parts), *runs])
        prefix_bits = max(0, len(self._sorted).bit_length() - _BITS_LEFT)
        self._shift = 64 - prefix_bits
        bounds = (prefix << self._shift for prefix in range((1 << prefix_bits) + 1))
        self._starts = array("L", (bisect_left(self._sorted, bound) for bound in bounds))

    def __contains__(self, fingerprint: object) -> bool:
        if not self._sorted or not isinstance(fingerprint, int) or not 0 <= fingerprint < SPACE:
            return False
        prefix = fingerprint >> self._shift
        end = self._starts[prefix + 1]
        at = bisect_left(self._sorted, fingerprint, self._starts[prefix], end)
        return at < end and self._sorted[at] == fingerprint

    def __len__(self) -> int:
        """How many there are; one that is in two parts counts twice."""
        return len(self._sorted)


_BITS_LEFT: Final = 6
_RUN: Final = 2**16
_RANGES: Final = 2**8


def in_order(fingerprints: "array[int]") -> "array[int]":
    """Return an array sorted, with less memory than `sorted` takes."""
    return _merged(list(_sorted_runs([fingerprints])))


def _sorted_runs(parts: Iterable["array[int]"]) -> Iterator["array[int]"]:
    """Yield the parts as sorted runs of bounded length, as sorting takes memory."""
    for part in parts:
        for start in range(0, len(part), _RUN):
            yield array("Q", sorted(part[start : start + _RUN]))


def _merged(runs: Sequence["array[int]"]) -> "array[int]":
    """Return the fingerprints of sorted runs as one.

    Sorting makes Python integers, five times the size: so the runs are merged by ranges of
    values, a few thousand at once.
    """
    merged = array("Q")
    starts = [0] * len(runs)
    for bound in range(SPACE // _RANGES, SPACE + 1, SPACE // _RANGES):
        lump: list[int] = []
        for number, run in enumerate(runs):
            end = bisect_left(run, bound, starts[number])
            lump += run[starts[number] : end]
            starts[number] = end
        lump.sort()
        merged.fromlist(lump)
    return merged


def id_hash(indicator_id: str) -> int:
    """Return 64 bits of a hash over an indicator's id: the same in all of its versions."""
    hasher = _EMPTY.copy()
    hasher.update(indicator_id.encode("utf-8", "replace"))
    return int.from_bytes(hasher.digest(), "big")


_EMPTY: Final = hashlib.blake2b(digest_size=8)
"""Copied for each hash: quicker than making one."""


class Doubts:
    """Which versions are to be sent although they are known: nobody can tell what Sentinel holds.

    An id is doubted when a version of it was uploaded late, perhaps over a newer one; then only
    the very version that was uploaded late is at Sentinel for sure, if it was the only one. A
    fingerprint is doubted when its upload was called off.
    """

    def __init__(
        self,
        *,
        ids: "array[int]" = _NONE,
        versions: "array[int]" = _NONE,
        fingerprints: "array[int]" = _NONE,
    ) -> None:
        """`ids` are hashes; `versions` those of them whose version is known, as `version_mark`."""
        self._ids = in_order(ids)
        self._versions = in_order(versions)
        self._fingerprints = KnownSet(fingerprints) if fingerprints else None

    def concern(self, indicator_id: str, fingerprint: int) -> bool:
        """Whether this version of an indicator is to be sent although it is known."""
        if self._fingerprints is not None and fingerprint in self._fingerprints:
            return True
        if not self._ids:
            return False
        wanted = id_hash(indicator_id)
        times = _count(self._ids, wanted)
        return times > 0 and times != _count(self._versions, version_mark(wanted, fingerprint))


def version_mark(id_hash: int, fingerprint: int) -> int:
    """Return 64 bits for one version of one indicator: both are hashes, so their bits mix."""
    return id_hash ^ fingerprint


def _count(fingerprints: "array[int]", wanted: int) -> int:
    """Return how often a value is in a sorted array."""
    start = bisect_left(fingerprints, wanted)
    if start == len(fingerprints) or fingerprints[start] != wanted:
        return 0
    return bisect_right(fingerprints, wanted, start) - start


class KnownVersions:
    """Which versions of indicators need not be sent: the known ones that nothing makes doubtful."""

    def __init__(self, known: Container[int], doubts: Doubts) -> None:
        self._known = known
        self._doubts = doubts

    def has(self, indicator_id: str, fingerprint: int) -> bool:
        """Whether this version is at Sentinel, or on its way."""
        return fingerprint in self._known and not self._doubts.concern(indicator_id, fingerprint)
