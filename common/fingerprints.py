"""Fingerprints and hashes of ids: 64 bits each, packed as eight bytes little-endian."""

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

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
    """Return 64 bits of a hash over `content`."""
    hasher = _NEW_HASHER()
    hasher.update(content)
    return int.from_bytes(hasher.digest())


def hash_all(contents: Iterable[bytes]) -> tuple[int, ...]:
    """Return `hash_of` each, in one pass: this is the producer's hot path."""
    digests: list[bytes] = []
    for content in contents:
        hasher = _NEW_HASHER()
        hasher.update(content)
        digests.append(hasher.digest())
    return struct.unpack(f">{len(digests)}Q", b"".join(digests))


_NEW_HASHER: Final = hashlib.blake2b(digest_size=8).copy
"""Copying an empty hash takes half the time of making a new one."""
