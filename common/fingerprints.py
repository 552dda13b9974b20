"""Fingerprints in bulk: 64 bits each, packed as eight bytes little-endian wherever they are stored.

In memory a large number of them is an `array("Q")`: eight bytes each, where Python integers in a
set would take ten times as much.
"""

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

FINGERPRINT_BYTES: Final = 8
SPACE: Final = 2**64
"""Fingerprints are below this."""


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
    """A large, fixed set of fingerprints: one sorted array; `in` bisects."""

    def __init__(self, *parts: "array[int]") -> None:
        merged = array("Q")
        for part in parts:
            merged.extend(part)
        self._sorted = array("Q", sorted(merged))

    def __contains__(self, fingerprint: object) -> bool:
        if not isinstance(fingerprint, int):
            return False
        at = bisect_left(self._sorted, fingerprint)
        return at < len(self._sorted) and self._sorted[at] == fingerprint

    def __len__(self) -> int:
        """How many there are; one that is in two parts counts twice."""
        return len(self._sorted)
