"""What the Sentinel simulator remembers of the objects it has accepted.

Promise: for every id the digest and confidence of its last version and how often it was accepted,
in about 200 bytes an object, so that a feed of a million fits in a test's memory.
Not obvious: a canonical ``indicator--<uuid>`` is kept as the UUID's 16 bytes and a version as one
packed integer; the mapping gives both back in readable form.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

_PREFIX = "indicator--"
_DIGEST_BITS = 64
_CONFIDENCE_BITS = 8
_NO_CONFIDENCE = 255


@dataclass(frozen=True, slots=True)
class Accepted:
    """The last accepted version of an object."""

    digest: int
    """See :func:`digest`."""
    confidence: int | None
    times: int
    """How often the id was accepted, in any version."""


def digest(found: Mapping[str, Any]) -> int:
    """64 bits of a hash over an object's canonical JSON (sorted keys, no spaces)."""
    canonical = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(hashlib.blake2b(canonical, digest_size=8).digest())


class AcceptedObjects(Mapping[str, Accepted]):
    """Ids and their last accepted versions. It has no lock of its own."""

    def __init__(self) -> None:
        self.total = 0
        """How many objects were accepted, repeats included."""
        self.duplicates = 0
        """How many of them were the id's last version over again."""
        self._packed: dict[bytes | str, int] = {}

    def add(self, found: Mapping[str, Any]) -> None:
        """Accept a valid object once more."""
        key, fingerprint = _key(found["id"]), digest(found)
        before = self._packed.get(key)
        times = 1
        if before is not None:
            last = _unpack(before)
            times += last.times
            self.duplicates += last.digest == fingerprint
        confidence = found.get("confidence", _NO_CONFIDENCE)
        self._packed[key] = (times << _CONFIDENCE_BITS | confidence) << _DIGEST_BITS | fingerprint
        self.total += 1

    def __getitem__(self, identifier: str) -> Accepted:
        return _unpack(self._packed[_key(identifier)])

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and _key(identifier) in self._packed

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[str]:
        for key in self._packed:
            yield key if isinstance(key, str) else f"{_PREFIX}{uuid.UUID(bytes=key)}"


def _key(identifier: str) -> bytes | str:
    try:
        number = uuid.UUID(identifier.removeprefix(_PREFIX))
    except ValueError:
        return identifier
    return number.bytes if identifier == f"{_PREFIX}{number}" else identifier


def _unpack(packed: int) -> Accepted:
    confidence = packed >> _DIGEST_BITS & (1 << _CONFIDENCE_BITS) - 1
    return Accepted(
        digest=packed & (1 << _DIGEST_BITS) - 1,
        confidence=None if confidence == _NO_CONFIDENCE else confidence,
        times=packed >> (_DIGEST_BITS + _CONFIDENCE_BITS),
    )
