"""Fingerprints and hashes of ids: 64 bits each, packed as eight bytes little-endian."""

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

FINGERPRINT_BYTES: Final = 8


def pack(fingerprints: Iterable[int]) -> bytes:
    """Return fingerprints as bytes."""
    values = tuple(fingerprints)
    return struct.pack(f"<{len(values)}Q", *values)


def unpack(packed: bytes) -> tuple[int, ...]:
    """Return the fingerprints that `pack` packed."""
    return struct.unpack(f"<{len(packed) // FINGERPRINT_BYTES}Q", packed)


def id_hash(indicator_id: str) -> int:
    """Return 64 bits of a hash over an indicator's id: the same in all of its versions."""
    hasher = _EMPTY.copy()
    hasher.update(indicator_id.encode("utf-8", "replace"))
    return int.from_bytes(hasher.digest(), "big")


_EMPTY: Final = hashlib.blake2b(digest_size=8)
"""Copied for each hash: quicker than making one."""
