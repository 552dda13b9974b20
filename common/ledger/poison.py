"""Poison: whole messages that were given up, kept until an operator replays or discards them.

The row has everything to understand and repeat the message: its text as it was on the queue, why
and when it was given up, and the earlier attempts. Nothing here expires. A message that cannot be
decoded is kept raw, under a hash of its text.

Kept records have a partition for each run. Settled records move to one partition behind all of
those, so the cost to list or count kept records does not grow with the settled ones. If a record is
in both places, the run's row counts: the move was interrupted, or the message was given up again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from heapq import merge
from itertools import chain
from typing import Any, Final

from common.envelope import Attempt, Envelope
from common.errors import ConflictError
from common.ledger.states import member_of
from common.ledger.tables import (
    MAX_BINARY_PROPERTY,
    Action,
    Operation,
    Row,
    Table,
    Tables,
    Value,
    read_json,
    remove_all,
)
from common.text import cut

TABLE: Final = "poison"
UNKNOWN_RUN: Final = "unknown"
_PIECE: Final = MAX_BINARY_PROPERTY - 4 * 1024
_ENTRY: Final = (
    "poisoned_by",
    "reason",
    "count",
    "attempts",
    "first_at",
    "last_at",
    "state",
    "settled_at",
    "settled_by",
    "note",
)
"""The properties that a list needs: without the message, which is most of the row."""
_STATE: Final = ("state", "settled_at")

_SETTLED: Final = "~settled"
"""The partition of settled records: `~` is behind every letter and digit that a run id has."""

_BEHIND_THE_KEPT: Final = "~"

_RECORD_ID: Final = re.compile(r"[A-Za-z0-9-]{1,200}")


class PoisonedBy(StrEnum):
    """Who gave the message up."""

    CONSUMER = "consumer"
    HOST = "host"
    OTHER = "other"
    """A value that a later release wrote."""


class PoisonState(StrEnum):
    """What an operator has done with it."""

    KEPT = "kept"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    OTHER = "other"
    """Of a later release, or unreadable: listed, and never changed."""


SETTLED_POISON: Final = frozenset({PoisonState.REPLAYED, PoisonState.DISCARDED})
"""States in which a record needs no operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonEntry:
    """What a list shows of a message that was given up: everything but its text and history.

    `run_id` is `UNKNOWN_RUN` if it cannot be decoded; `count` is the number of its indicators (0 if
    unknown). `settled_at` is when it was last replayed or discarded, `settled_by` by whom, and
    `note` why.
    """

    run_id: str
    poison_id: str
    poisoned_by: PoisonedBy
    reason: str
    count: int
    attempts: int
    first_at: datetime
    last_at: datetime
    state: PoisonState = PoisonState.KEPT
    settled_at: datetime | None = field(default=None, compare=False)
    settled_by: str = field(default="", compare=False)
    note: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """Its name for operators."""
        return f"{self.run_id}/{self.poison_id}"

    @property
    def chunk_key(self) -> str:
        """The key of its chunk, sequence and epoch: a part's own key begins with it."""
        return "-".join(self.poison_id.split("-")[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonRecord(PoisonEntry):
    """The whole record; `message` is the text as it was on the queue."""

    message: str
    history: tuple[Attempt, ...]
    etag: str = field(default="", compare=False)


class Poison:
    """The poison rows, by run."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def keep(self, record: PoisonRecord) -> None:
        """Keep a message; called twice: one row, with the first time it was given up.

        A message that is given up again after a replay is kept again.
        """
        known = self.get(record.run_id, record.poison_id)
        if known is not None and known.state is not PoisonState.OTHER:
            record = replace(record, first_at=min(known.first_at, record.first_at))
        self._table.merge(_to_row(record))

    def get(self, run_id: str, poison_id: str) -> PoisonRecord | None:
        """Return one record, kept or settled, or None."""
        if not (_RECORD_ID.fullmatch(run_id) and _RECORD_ID.fullmatch(poison_id)):
            return None
        row = self._table.get(run_id, poison_id)
        if row is None:
            row = self._table.get(_SETTLED, _settled_key(run_id, poison_id))
        return None if row is None else _from_row(row)

    def settle(
        self,
        record: PoisonRecord,
        state: PoisonState,
        *,
        at: datetime,
        by: str = "",
        note: str = "",
    ) -> bool:
        """Record what was done with `record`, by whom and why.

        Returns False when the row changed since it was read: compare-and-swap, so a message that
        was given up again meanwhile stays kept, and of two operators one settles it. Then the row
        is moved, the settled one first. If it dies halfway, it is settled where it was kept.
        """
        row = self._table.get(record.run_id, record.poison_id)
        if row is None or row.etag != record.etag:
            return False
        done: dict[str, Value] = {
            "state": state.value,
            "settled_at": at,
            "settled_by": cut(by),
            "note": cut(note),
        }
        claimed = replace(row, data={**row.data, **done})
        names: dict[str, Value] = {"run_id": record.run_id, "poison_id": record.poison_id}
        data = {**claimed.data, **names}
        key = _settled_key(record.run_id, record.poison_id)
        try:
            claimed = replace(claimed, etag=self._table.replace(claimed))
            self._table.merge(Row(partition=_SETTLED, key=key, data=data))
            self._table.transact([Operation(action=Action.DELETE, row=claimed)])
        except ConflictError:
            return False
        return True

    def claim(self, record: PoisonRecord) -> PoisonRecord | None:
        """Rewrite a record's row unchanged, so that an earlier reader can no longer settle it.

        None when the row changed since it was read.
        """
        row = self._table.get(record.run_id, record.poison_id)
        if row is None or row.etag != record.etag:
            return None
        try:
            return replace(record, etag=self._table.replace(row))
        except ConflictError:
            return None

    def entries(self, *, settled: bool = False, after: str = "") -> Iterator[PoisonEntry]:
        """Yield an entry of every kept record, or of every record; no message text is read.

        In the order of their names, so by run; those up to the name `after` are not even read. A
        record with a state of a later release is among the kept ones. A message that was kept again
        after it was settled has one entry.
        """
        last, found = "", self._kept(after)
        if settled:
            found = merge(found, self._settled(after), key=_name)
        for entry in found:
            if entry.name <= after or entry.name == last:
                continue
            if settled or entry.state not in SETTLED_POISON:
                last = entry.name
                yield entry

    def _kept(self, after: str) -> Iterator[PoisonEntry]:
        """Yield the entries that lie among the kept ones, from a name on."""
        run_id, poison_id = _split(after)
        rows = self._table.query(
            partitions_above=run_id, partitions_below=_BEHIND_THE_KEPT, select=_ENTRY
        )
        if run_id is not None:
            rows = chain(self._table.query(run_id, from_key=poison_id, select=_ENTRY), rows)
        return (PoisonEntry(**_entry_fields(row)) for row in rows)

    def _settled(self, after: str) -> Iterator[PoisonEntry]:
        """Yield the entries that were moved when they were settled, from a name on."""
        run_id, poison_id = _split(after)
        start = None if run_id is None else _settled_key(run_id, poison_id)
        select = (*_ENTRY, "run_id", "poison_id")
        rows = self._table.query(_SETTLED, from_key=start, select=select)
        return (PoisonEntry(**_entry_fields(row)) for row in rows)

    def of_chunk(self, run_id: str, key: str) -> Iterator[PoisonRecord]:
        """Yield what is kept of a chunk: of the whole, or of each part that was given up."""
        # Parts have the chunk's key, a dash and more; the dot is the character behind the dash.
        for row in self._table.query(run_id, from_key=key, before_key=f"{key}."):
            record = _from_row(row)
            if record.state not in SETTLED_POISON:
                yield record

    def count_kept(self) -> int:
        """Return how many messages wait for an operator; reads no settled row."""
        rows = self._table.query(partitions_below=_BEHIND_THE_KEPT, select=_STATE)
        return sum(_state(row) not in SETTLED_POISON for row in rows)

    def all(self) -> Iterator[PoisonRecord]:
        """Yield every record once, whole: the kept ones, then the settled ones."""
        kept = set()
        for row in self._table.query(partitions_below=_BEHIND_THE_KEPT):
            record = _from_row(row)
            kept.add(record.name)
            yield record
        settled = map(_from_row, self._table.query(_SETTLED))
        yield from (record for record in settled if record.name not in kept)

    def settled_before(self, moment: datetime, *, to_count: bool = False) -> Iterator[Row]:
        """Yield the rows of records that were settled before `moment`, to be purged.

        Also those whose move was interrupted: they are still among the kept ones. With `to_count`
        they are parts of rows, which cannot be removed.
        """
        rows = self._table.query(
            earlier=("settled_at", moment), select=_STATE if to_count else None
        )
        return (row for row in rows if _state(row) in SETTLED_POISON)

    def purge(self, rows: Iterable[Row]) -> int:
        """Remove such rows, if unchanged since they were read; return how many."""
        return remove_all(self._table, rows)


def poison_of_envelope(
    envelope: Envelope, message: str, *, reason: str, poisoned_by: PoisonedBy, at: datetime
) -> PoisonRecord:
    """Return the record of a message that could be decoded."""
    return PoisonRecord(
        run_id=envelope.run_id,
        poison_id=envelope.message_key,
        poisoned_by=poisoned_by,
        reason=reason,
        message=message,
        count=envelope.count,
        attempts=envelope.attempt,
        history=envelope.history,
        first_at=at,
        last_at=at,
    )


def poison_of_raw(
    message: str, *, reason: str, poisoned_by: PoisonedBy, at: datetime
) -> PoisonRecord:
    """Return the record of a message that cannot be decoded."""
    digest = hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return PoisonRecord(
        run_id=UNKNOWN_RUN,
        poison_id=digest,
        poisoned_by=poisoned_by,
        reason=reason,
        message=message,
        count=0,
        attempts=0,
        history=(),
        first_at=at,
        last_at=at,
    )


def _state(row: Row) -> PoisonState:
    return member_of(PoisonState, row.data.get("state"), PoisonState.OTHER)


def _name(entry: PoisonEntry) -> str:
    return entry.name


def _split(name: str) -> tuple[str | None, str]:
    """Return run and id of a name; no run where it is none, so that all is read. Pure."""
    run_id, _, poison_id = name.partition("/")
    is_name = _RECORD_ID.fullmatch(run_id) and _RECORD_ID.fullmatch(poison_id)
    return (run_id, poison_id) if is_name else (None, "")


def _settled_key(run_id: str, poison_id: str) -> str:
    return f"{run_id}~{poison_id}"


def _to_row(record: PoisonRecord) -> Row:
    raw = record.message.encode("utf-8", "surrogatepass")
    pieces: dict[str, Value] = {
        f"message_{index}": raw[start : start + _PIECE]
        for index, start in enumerate(range(0, len(raw), _PIECE))
    }
    return Row(
        partition=record.run_id,
        key=record.poison_id,
        data={
            "poisoned_by": record.poisoned_by.value,
            "reason": cut(record.reason),
            "count": record.count,
            "attempts": record.attempts,
            "history": json.dumps([[item.at, item.reason] for item in record.history]),
            "state": record.state.value,
            "first_at": record.first_at,
            "last_at": record.last_at,
            "pieces": len(pieces),
            **pieces,
        },
    )


def _from_row(row: Row) -> PoisonRecord:
    data: dict[str, Any] = dict(row.data)
    entry = _entry_fields(row)
    try:
        raw = b"".join(data[f"message_{index}"] for index in range(data["pieces"]))
        message = raw.decode("utf-8", "surrogatepass")
        history = tuple(Attempt(at=at, reason=why) for at, why in read_json(data["history"]))
    except (KeyError, TypeError, ValueError) as error:
        message, history = "", ()
        entry |= {"state": PoisonState.OTHER, "reason": f"the row cannot be read: {error}"}
    return PoisonRecord(**entry, message=message, history=history, etag=row.etag)


_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def _entry_fields(row: Row) -> dict[str, Any]:
    """Return the entry of a row; a damaged row gives the state `OTHER`."""
    data: dict[str, Any] = dict(row.data)
    is_settled = row.partition == _SETTLED
    names = {
        "run_id": str(data.get("run_id", "")) if is_settled else row.partition,
        "poison_id": str(data.get("poison_id", row.key)) if is_settled else row.key,
    }
    found = {name: data.get(name) for name in _TYPES}
    if not all(isinstance(found[name], wanted) for name, wanted in _TYPES.items()):
        return names | {
            "poisoned_by": PoisonedBy.OTHER,
            "reason": "the row cannot be read",
            "count": 0,
            "attempts": 0,
            "first_at": _NEVER,
            "last_at": _NEVER,
            "state": PoisonState.OTHER,
        }
    return names | {
        **found,
        "poisoned_by": member_of(PoisonedBy, found["poisoned_by"], PoisonedBy.OTHER),
        "state": member_of(PoisonState, found["state"], PoisonState.OTHER),
        "settled_at": at if isinstance(at := data.get("settled_at"), datetime) else None,
        "settled_by": str(data.get("settled_by", "")),
        "note": str(data.get("note", "")),
    }


_TYPES: Final[dict[str, type]] = {
    **dict.fromkeys(("poisoned_by", "reason", "state"), str),
    **dict.fromkeys(("count", "attempts"), int),
    **dict.fromkeys(("first_at", "last_at"), datetime),
}
