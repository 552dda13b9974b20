"""Fingerprints and hashes of ids: 64 bits each, packed as eight bytes little-endian."""

import struct
from collections.abc import Iterable
from typing import Final

from xxhash import xxh3_64_intdigest

FINGERPRINT_BYTES: Final = 8


def pack_fingerprints(fingerprints: Iterable[int]) -> bytes:
    """Return fingerprints as bytes."""
    values = tuple(fingerprints)
    return struct.pack(f"<{len(values)}Q", *values)


def unpack_fingerprints(packed: bytes) -> tuple[int, ...]:
    """Return the fingerprints that `pack_fingerprints` packed."""
    return struct.unpack(f"<{len(packed) // FINGERPRINT_BYTES}Q", packed)


def id_hash(indicator_id: str) -> int:
    """Return 64 bits of a hash over an indicator's id: the same in all of its versions."""
    return hash_of(indicator_id.encode("utf-8", "replace"))


def hash_of(content: bytes) -> int:
    """Return 64 bits of a hash over `content`: XXH3, which is for speed and not against forgery.

    Whoever could forge contents for it could as well change what Lumen lists.
    """
    return xxh3_64_intdigest(content)


def hash_all(contents: Iterable[bytes]) -> tuple[int, ...]:
    """Return `hash_of` each: this is the producer's hot path."""
    return tuple(map(xxh3_64_intdigest, contents))
