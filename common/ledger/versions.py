"""The version index as it is stored: manifests and segments, and the look-up of one id.

Entries stand in *segments*: sorted by id, immutable, each in a partition of its own. A manifest a
destination lists the segments that count. The producer writes them and reads whole segments
(`producer.index`); who asks about one indicator reads a row or two of each segment (`Versions`), as
ids are hashes: how far along a hash lies says in which row it must be.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from common.ledger.tables import Row, Table, Tables, read_json
from common.records import moment_of

TABLE: Final = "versions"
MANIFESTS: Final = "manifest"
"""The partition of the manifests."""

ENTRY_BYTES: Final = 26
"""Of an entry as stored: id 8, fingerprint 8, modified 6, entered 2, kept until 2."""

VOID: Final = 1 << 15
"""The bit beside the last day: the version is void without an answer."""

LAST_DAY: Final = VOID - 1
"""Days since 1970 have 15 bits: until the year 2059."""

PER_PROPERTY: Final = 2_300
_PROPERTIES: Final = 10
ENTRIES_A_ROW: Final = PER_PROPERTY * _PROPERTIES
"""Entries in a row: 598 KB. An entity holds 1 MiB, of which Azurite counts base64."""

MAX_ENTRIES: Final = 100_000_000
"""Entries of a segment: more than `KNOWN_MAX` allows. A manifest that lists more is damaged."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID_BITS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """A segment as a manifest lists it; `age` is in seconds since something was entered in it."""

    name: str
    count: int
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Which segments count for a destination, oldest first, as one tick knows it."""

    destination: str
    segments: tuple[SegmentInfo, ...] = ()
    tick: str = ""
    step: int = 0
    etag: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEntry:
    """The newest known version of one id for one destination.

    `modified` is None where the version has no time. `is_unanswered`: it is void without an answer,
    so it is sent again when it is listed again.
    """

    destination: str
    modified: datetime | None
    entered_on: date
    kept_until: date
    is_unanswered: bool


type _Entry = tuple[int, int, int]
"""`modified`, `entered` and `kept` as they are stored."""

_DAMAGED: Final[_Entry] = (-1, 0, 0)
"""Stands for an entry of a row that is missing or cannot be read."""


class Versions:
    """The indexes of all destinations, for who asks about one indicator."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def find(self, id_hash: int, *, today: date) -> tuple[list[KnownEntry], bool]:
        """Return what each destination's index knows of an id, and whether all could be read.

        An entry that has ended is as good as gone: the next merge drops it.
        """
        found: list[KnownEntry] = []
        is_whole = True
        for row in self._table.query(MANIFESTS):
            try:
                manifest = manifest_of(row)
            except (KeyError, TypeError, ValueError):
                is_whole = False
                continue
            entries = [self._entry(info, id_hash) for info in manifest.segments]
            is_whole &= _DAMAGED not in entries
            known = [entry for entry in entries if entry is not None and entry != _DAMAGED]
            if known:  # of equal `modified` the later segment counts
                found.append(_known(manifest.destination, max(reversed(known), key=_modified)))
        return [entry for entry in found if entry.kept_until >= today], is_whole

    def _entry(self, info: SegmentInfo, id_hash: int) -> _Entry | None:
        """Return the entry of an id in a segment, or None, or `_DAMAGED`."""
        last = (max(1, info.count) - 1) // ENTRIES_A_ROW
        number = min(last, (id_hash * info.count >> _ID_BITS) // ENTRIES_A_ROW)
        step = 0
        while 0 <= number <= last:
            count = min(ENTRIES_A_ROW, info.count - number * ENTRIES_A_ROW)
            packed = packed_of(self._table.get(info.name, row_key(number)), count=count)
            if not packed:
                return _DAMAGED if count else None
            ids = [int.from_bytes(packed[at : at + 8], "little") for at in range(0, count * 8, 8)]
            towards = (id_hash > ids[-1]) - (id_hash < ids[0])
            if not towards:
                return _unpacked(packed, ids, id_hash)
            if step == -towards:  # it would lie between this row and the one before
                return None
            step = towards
            number += step
        return None


def _unpacked(packed: bytes, ids: list[int], id_hash: int) -> _Entry | None:
    count, at = len(ids), bisect_left(ids, id_hash)
    if ids[at] != id_hash:
        return None

    def number(before: int, size: int) -> int:
        start = before * count + size * at
        return int.from_bytes(packed[start : start + size], "little")

    return number(16, 6), number(22, 2), number(24, 2)


def _modified(entry: _Entry) -> int:
    return entry[0]


def _known(destination: str, entry: _Entry) -> KnownEntry:
    modified, entered, kept = entry
    return KnownEntry(
        destination=destination,
        modified=time_of(modified),
        entered_on=_day(entered),
        kept_until=_day(kept & LAST_DAY),
        is_unanswered=bool(kept & VOID),
    )


def time_of(modified: int) -> datetime | None:
    """Return a version's `modified`, which is in milliseconds since 1970; None for 0. Pure."""
    try:
        return moment_of(modified) if modified else None
    except OverflowError:  # 48 bits reach further than a datetime
        return None


def _day(number: int) -> date:
    return (_EPOCH + timedelta(days=number)).date()


def packed_of(row: Row | None, *, count: int) -> bytes:
    """Return the `count` packed entries of a segment's row; none of one missing or damaged."""
    data: dict[str, Any] = {} if row is None else dict(row.data)
    try:
        packed = b"".join(data[f"entries_{piece}"] for piece in range(data["pieces"]))
    except (KeyError, TypeError):
        return b""
    return packed if len(packed) == count * ENTRY_BYTES else b""


def row_key(number: int) -> str:
    """Return the row key of a segment's row, by its place in the segment."""
    return f"{number:05d}"


def manifest_key(destination: str) -> str:
    """Return a destination as a table key."""
    return destination.replace("/", "|").replace("\\", "|").replace("#", "|").replace("?", "|")


def manifest_row(manifest: Manifest) -> Row:
    """Return a manifest as it is stored."""
    listed = [[info.name, info.count, info.age] for info in manifest.segments]
    return Row(
        partition=MANIFESTS,
        key=manifest_key(manifest.destination),
        data={
            "destination": manifest.destination,
            "segments": json.dumps(listed).encode(),
            "tick": manifest.tick,
            "step": manifest.step,
        },
        etag=manifest.etag,
    )


def manifest_of(row: Row) -> Manifest:
    """Return the manifest of a row; raises `KeyError`, `TypeError` or `ValueError` if damaged."""
    data: dict[str, Any] = dict(row.data)
    for name, wanted in (("destination", str), ("segments", bytes), ("tick", str), ("step", int)):
        if not isinstance(data[name], wanted):
            raise TypeError(f"{name} is of another type")
    return Manifest(
        destination=data["destination"],
        segments=tuple(_listed(*segment) for segment in read_json(data["segments"])),
        tick=data["tick"],
        step=data["step"],
        etag=row.etag,
    )


def _listed(name: Any, count: Any, age: Any) -> SegmentInfo:
    if not (isinstance(name, str) and isinstance(count, int) and isinstance(age, int | float)):
        raise TypeError("a segment is of another type")
    if not 0 <= count <= MAX_ENTRIES:
        raise ValueError("a segment counts fewer entries than none, or more than there can be")
    return SegmentInfo(name=name, count=count, age=age)
