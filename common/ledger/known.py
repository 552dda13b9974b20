"""Known indicators: 64-bit fingerprints of what Sentinel has answered for, packed in few rows.

A row is a *segment*: up to 75,000 fingerprints that were folded in on one day, sorted, eight bytes
each. How long one stays known is spread over the second half of `REUPLOAD_AFTER_DAYS` by the value
of the fingerprint itself: so the expired ones are always a prefix of a sorted segment, found by one
bisection, and a first load does not come back as one wave. Only the holder of the run lease writes.
"""

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from common.fingerprints import FINGERPRINT_BYTES, SPACE, from_array, in_order, to_array
from common.ledger.tables import Row, Table, Tables, Value

TABLE: Final = "known"

_PER_PROPERTY: Final = 7_500
_PROPERTIES: Final = 10
SEGMENT_SIZE: Final = _PER_PROPERTY * _PROPERTIES
"""Fingerprints a row: 600 KB. An entity holds 1 MiB, of which Azurite counts base64."""

_MAX_SEGMENTS_A_DAY: Final = 9_999
_A_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """A row: its fingerprints in order, and the day they were folded in (midnight, UTC)."""

    day: datetime
    index: int
    fingerprints: "array[int]"
    etag: str = ""


class Known:
    """The segments."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def load(self, *, as_of: datetime, lifetime: timedelta) -> list["array[int]"]:
        """Return what was known at `as_of`, in sorted runs; wholly expired segments are removed.

        A resumed run asks as of its start, and so decides as it did before.
        """
        known: list[array[int]] = []
        for row in self._table.query():
            segment = _from_row(row)
            first_alive = expired_below(as_of - segment.day, lifetime)
            if first_alive >= SPACE:
                self._table.delete(row.partition, row.key)
            else:
                start = bisect_left(segment.fingerprints, first_alive)
                known.append(segment.fingerprints[start:])
        return known

    def add(self, fingerprints: "array[int]", *, at: datetime) -> None:
        """Add fingerprints; called twice: they are known twice, which means the same.

        Raises `ConflictError` when another instance adds at the same moment.
        """
        incoming = in_order(fingerprints)
        day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        last = next(map(_from_row, self._table.query(_partition(day), limit=1)), None)
        index = 0 if last is None else last.index + 1
        if incoming and last is not None and len(last.fingerprints) < SEGMENT_SIZE:
            room = SEGMENT_SIZE - len(last.fingerprints)
            filled = in_order(last.fingerprints + incoming[:room])
            self._table.replace(
                _to_row(_Segment(day=day, index=last.index, fingerprints=filled, etag=last.etag))
            )
            incoming = incoming[room:]
        for start in range(0, len(incoming), SEGMENT_SIZE):
            piece = incoming[start : start + SEGMENT_SIZE]
            self._table.insert(_to_row(_Segment(day=day, index=index, fingerprints=piece)))
            index += 1


def expired_below(age: timedelta, lifetime: timedelta) -> int:
    """Return the bound below which fingerprints of this age are expired; 0 to 2**64.

    A fingerprint lives for half of `lifetime` and, in proportion to its value, up to all of it;
    never less than the day it was folded in, of which only the midnight is known.
    """
    if age < _A_DAY:
        return 0
    share = 2.0 * (age / lifetime) - 1.0
    return min(SPACE, max(0, int(share * SPACE)))


def _partition(day: datetime) -> str:
    return f"{day:%Y%m%d}"


def _to_row(segment: _Segment) -> Row:
    packed = from_array(segment.fingerprints)
    size = _PER_PROPERTY * FINGERPRINT_BYTES
    pieces: dict[str, Value] = {
        f"fingerprints_{number}": packed[start : start + size]
        for number, start in enumerate(range(0, len(packed), size))
    }
    return Row(
        partition=_partition(segment.day),
        key=f"{_MAX_SEGMENTS_A_DAY - segment.index:04d}",  # the newest comes first
        data={"count": len(segment.fingerprints), "pieces": len(pieces), **pieces},
        etag=segment.etag,
    )


def _from_row(row: Row) -> _Segment:
    data: dict[str, Any] = dict(row.data)
    packed = b"".join(data[f"fingerprints_{number}"] for number in range(data["pieces"]))
    return _Segment(
        day=datetime.strptime(row.partition, "%Y%m%d").replace(tzinfo=UTC),
        index=_MAX_SEGMENTS_A_DAY - int(row.key),
        fingerprints=to_array(packed),
        etag=row.etag,
    )
