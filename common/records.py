"""Records: what a chunk's row keeps of each indicator in it, in 24 bytes.

A record is one version of one indicator: a hash of its id, the fingerprint of its content, when it
was `modified` and the day on which it ends. Bodies travel in messages; the ledger needs only this
to tell which versions are on their way and which are settled.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_FORMAT: Final = struct.Struct("<QQQ")
_MODIFIED_BITS: Final = 48
"""Milliseconds since 1970 fit in 48 bits until the year 10,889."""

RECORD_BYTES: Final = _FORMAT.size
NO_END: Final = 0
"""The day of an indicator without `valid_until`."""

MAX_DAY: Final = 2**16 - 1
"""A record has 16 bits for the day: until the year 2149."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

MAX_TIME: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
"""The last moment that a datetime holds, in milliseconds since 1970: of the year 9999."""


class Recordable(Protocol):
    """Whatever has the four values of a record."""

    @property
    def id_hash(self) -> int: ...
    @property
    def fingerprint(self) -> int: ...
    @property
    def modified(self) -> int: ...
    @property
    def ends_on(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One version of one indicator.

    `id_hash` and `fingerprint` have 64 bits, `modified` is in milliseconds since 1970 (0 where it
    is not a time), `ends_on` counts days since 1970 (`NO_END`: it does not end).
    """

    id_hash: int
    fingerprint: int
    modified: int = 0
    ends_on: int = NO_END


def pack_records(records: Iterable[Recordable]) -> bytes:
    """Return records as the ledger stores them."""
    values: list[int] = []
    for r in records:
        values += (r.id_hash, r.fingerprint, r.modified | r.ends_on << _MODIFIED_BITS)
    return struct.pack(f"<{len(values)}Q", *values)


def unpack_records(packed: bytes) -> Iterator[Record]:
    """Yield the records that `pack_records` packed; raises `struct.error` when one is cut."""
    for id_hash, fingerprint, rest in _FORMAT.iter_unpack(packed):
        yield Record(
            id_hash=id_hash,
            fingerprint=fingerprint,
            modified=rest & ((1 << _MODIFIED_BITS) - 1),
            ends_on=rest >> _MODIFIED_BITS,
        )


def ids_of(packed: bytes) -> tuple[int, ...]:
    """Return the `id_hash` of each record that `pack_records` packed."""
    return struct.unpack(f"<{len(packed) // 8}Q", packed)[::3]


def milliseconds_of(text: str) -> int:
    """Return a STIX timestamp in milliseconds since 1970; 0 where it is not one."""
    moment = _moment(text)
    if moment is None:
        return 0
    return max(0, (moment - _EPOCH) // _MILLISECOND)


def moment_of(milliseconds: int) -> datetime:
    """Return the moment of milliseconds since 1970; raises `OverflowError` beyond `MAX_TIME`."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def day_of(text: str | None) -> int:
    """Return the day of a STIX timestamp, counted since 1970; `NO_END` where it is not one."""
    moment = None if text is None else _moment(text)
    if moment is None:
        return NO_END
    return min(max(1, (moment - _EPOCH).days), MAX_DAY)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:  # as nearly always
            return moment
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
