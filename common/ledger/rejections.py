"""Rejections: single indicators that will not be in Sentinel, each with its reason and content.

The producer writes records that are invalid as Lumen sent them, the consumer records that Sentinel
refused. A refused record is kept by run, chunk and index. An invalid record returns with every
query, so it is kept once, by its content without times (`position_of`), with the time it was last
seen. Either way, repeating the step that found a record writes the same row again. An operator may
ask for a refused record to be sent again (`wishes`); the row says who asked, and when.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from common.ledger.states import member_of
from common.ledger.tables import MAX_BINARY_PROPERTY, Row, Table, Tables, Value, remove_all
from common.text import cut

TABLE: Final = "rejections"
INVALID: Final = "invalid"
"""The run id of invalid records, whichever run met them last."""

WISHES: Final = "wish"
"""The partition of the wishes, which share this table."""

_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,200}")
"""What the parts of a rejection's name are made of."""

MAX_REJECTION_REASON: Final = 1000

MAX_PIECES: Final = 8
"""Properties that hold a record's compressed content: half a row, which is 1 MiB at most (same
source as `MAX_BINARY_PROPERTY`). Of a larger content only the beginning is kept; `content_bytes`
says how large it was."""

_TIME: Final = re.compile(rb'"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d[0-9:.,]{0,20}(?:[Zz]|[+-]\d\d:?\d\d)?"')
"""A text that is a time (RFC 3339, section 5.6, and what is close to it) and nothing else."""


class RejectedBy(StrEnum):
    """Who refused the record."""

    VALIDATION = "validation"
    SENTINEL = "sentinel"
    OTHER = "other"
    """A value that a later release wrote, or the row cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One refused record. `position` is unique in its run; `content` its JSON, if known.

    `run_id` is `INVALID` for a record that is invalid as Lumen sent it. When read back, the content
    of an enormous record is cut. `wished_at` is when an operator last asked for it to be sent
    again, and `wished_by` who, with a note.
    """

    run_id: str
    position: str
    rejected_by: RejectedBy
    indicator_id: str
    pattern: str
    reason: str
    content: bytes
    at: datetime
    wished_at: datetime | None = None
    wished_by: str = ""

    @property
    def name(self) -> str:
        """Its name for operators."""
        return f"{self.run_id}/{self.position}"


class Rejections:
    """The rejection rows, by run."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def record(self, rejections: Iterable[Rejection]) -> None:
        """Keep `rejections`; called twice: the same rows."""
        self._table.merge_all([_to_row(rejection) for rejection in rejections])

    def of_run(self, run_id: str) -> Iterator[Rejection]:
        """Yield the rejections of a run."""
        return map(_from_row, self._table.query(run_id))

    def get(self, run_id: str, position: str) -> Rejection | None:
        """Return one rejection, or None."""
        if not (_NAME.fullmatch(run_id) and _NAME.fullmatch(position)) or run_id == WISHES:
            return None
        row = self._table.get(run_id, position)
        return None if row is None else _from_row(row)

    def entries(self, run_id: str | None = None) -> Iterator[Rejection]:
        """Yield every rejection, or those of a run, without its content, which is most of it."""
        rows = self._table.query(run_id, select=_ENTRY)
        return (_from_row(row) for row in rows if row.partition != WISHES)

    def note_wish(self, rejection: Rejection, *, at: datetime, by: str) -> None:
        """Record that an operator asked for the record to be sent again."""
        self._table.update(
            Row(
                partition=rejection.run_id,
                key=rejection.position,
                data={"wished_at": at, "wished_by": cut(by)},
            )
        )

    def seen_before(self, moment: datetime, *, to_count: bool = False) -> Iterator[Row]:
        """Yield the rows of records that were seen last before `moment`, to be purged.

        Only rejections: a row of another kind in this table is not this module's to remove. With
        `to_count` they are parts of rows, which cannot be removed.
        """
        select = ("rejected_by",) if to_count else None
        rows = self._table.query(earlier=("at", moment), select=select)
        return (row for row in rows if "rejected_by" in row.data)

    def purge(self, rows: Iterable[Row]) -> int:
        """Remove such rows, if unchanged since they were read; return how many."""
        return remove_all(self._table, rows)


def position_of(content: bytes) -> str:
    """Return where an invalid record is kept: a hash of its content, times left out. Pure.

    A feed may list an object with other times in each query; that must not make a new row each
    time.
    """
    return hashlib.sha256(_TIME.sub(b'""', content)).hexdigest()


_ENTRY: Final = (
    "rejected_by",
    "indicator_id",
    "pattern",
    "reason",
    "at",
    "wished_at",
    "wished_by",
)
"""The properties that a list needs."""


def pack_content(content: bytes) -> dict[str, Value]:
    """Return the properties that hold a record's content, compressed."""
    packed = zlib.compress(content)[: MAX_PIECES * MAX_BINARY_PROPERTY]
    pieces: dict[str, Value] = {
        _piece(index): packed[start : start + MAX_BINARY_PROPERTY]
        for index, start in enumerate(range(0, len(packed), MAX_BINARY_PROPERTY))
    }
    return {**pieces, "content_bytes": len(content)}


def content_of(data: Mapping[str, Any]) -> bytes:
    """Return the content that `pack_content` packed; empty if it is damaged.

    Of an enormous one only the beginning was kept.
    """
    try:
        packed = b"".join(data.get(_piece(index), b"") for index in range(MAX_PIECES))
        return zlib.decompressobj().decompress(packed)
    except (TypeError, zlib.error):
        return b""


def _to_row(rejection: Rejection) -> Row:
    return Row(
        partition=rejection.run_id,
        key=rejection.position,
        data={
            "rejected_by": rejection.rejected_by.value,
            "indicator_id": cut(rejection.indicator_id),
            "pattern": rejection.pattern[:MAX_REJECTION_REASON],
            "reason": rejection.reason[:MAX_REJECTION_REASON],
            "at": rejection.at,
            **pack_content(rejection.content),
        },
    )


def _piece(index: int) -> str:
    """Return the property that holds a piece of the content: the first is `content` itself."""
    return f"content_{index}" if index else "content"


def _from_row(row: Row) -> Rejection:
    """Return the rejection of a row; unreadable fields of a damaged row are empty."""
    data: dict[str, Any] = dict(row.data)
    at = data.get("at")
    return Rejection(
        run_id=row.partition,
        position=row.key,
        rejected_by=member_of(RejectedBy, data.get("rejected_by"), RejectedBy.OTHER),
        indicator_id=str(data.get("indicator_id", "")),
        pattern=str(data.get("pattern", "")),
        reason=str(data.get("reason", "")),
        content=content_of(data),
        at=at if isinstance(at, datetime) else datetime.min.replace(tzinfo=UTC),
        wished_at=data.get("wished_at"),
        wished_by=str(data.get("wished_by", "")),
    )
