"""Poison: whole messages that were given up, kept until an operator replays or discards them.

Everything needed to understand and repeat the message is in the row: the message text as it was
on the queue, why and when it was given up, and what was tried before. Nothing here expires. A
message that cannot even be decoded is kept raw, under a hash of its text.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from common.envelope import Attempt, Envelope
from common.errors import ConflictError
from common.events import cut
from common.ledger.tables import MAX_BINARY_PROPERTY, Row, Table, Tables, Value

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
"""The properties that a list needs: not the message, which is most of the row."""
_TOTALS: Final = ("state", "settled_at")


class PoisonedBy(StrEnum):
    """Who gave the message up."""

    CONSUMER = "consumer"
    HOST = "host"


class PoisonState(StrEnum):
    """What the operator has done about it."""

    KEPT = "kept"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonEntry:
    """What a list shows of a message that was given up: all but the message and its history.

    `run_id` is `UNKNOWN_RUN` when it cannot be decoded; `count` its indicators (0 when unknown).
    `settled_at` is when it was last replayed or discarded, `settled_by` who did, and `note` why.
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
        """What operators call it."""
        return f"{self.run_id}/{self.poison_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonRecord(PoisonEntry):
    """The whole record; `message` is the text as it was on the queue."""

    message: str
    history: tuple[Attempt, ...]
    etag: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonTotals:
    """How many messages wait for an operator, and when one was replayed last."""

    kept: int
    replayed_at: datetime | None


class Poison:
    """The poison rows, by run."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def keep(self, record: PoisonRecord) -> None:
        """Keep a message; called twice: one row, with the first time it was given up.

        A message that is given up again after a replay is kept again.
        """
        known = self.get(record.run_id, record.poison_id)
        if known is not None:
            record = replace(record, first_at=min(known.first_at, record.first_at))
        self._table.merge(_to_row(record))

    def get(self, run_id: str, poison_id: str) -> PoisonRecord | None:
        """Return one record, or None."""
        row = self._table.get(run_id, poison_id)
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
        """Note what was done about `record`, by whom and why.

        Returns False when the row changed since it was read.
        Compare-and-swap: a message that was given up again meanwhile stays kept.
        """
        row = self._table.get(record.run_id, record.poison_id)
        if row is None or row.etag != record.etag:
            return False
        done: dict[str, Value] = {"state": state.value, "settled_at": at}
        data = {**row.data, **done, "settled_by": cut(by), "note": cut(note)}
        try:
            self._table.replace(replace(row, data=data))
        except ConflictError:
            return False
        return True

    def entries(self) -> Iterator[PoisonEntry]:
        """Yield an entry of every record; no message is read for it."""
        rows = self._table.query(select=_ENTRY)
        return (PoisonEntry(**_entry_fields(row)) for row in rows)

    def totals(self) -> PoisonTotals:
        """Return the totals; of the rows, which are never removed, none is held for it."""
        kept = 0
        replayed_at: datetime | None = None
        for row in self._table.query(select=_TOTALS):
            data: dict[str, Any] = dict(row.data)
            state = PoisonState(data["state"])
            kept += state is PoisonState.KEPT
            if state is PoisonState.REPLAYED:
                replayed_at = max(filter(None, (replayed_at, data.get("settled_at"))), default=None)
        return PoisonTotals(kept=kept, replayed_at=replayed_at)

    def all(self) -> Iterator[PoisonRecord]:
        """Yield every record, whole."""
        return map(_from_row, self._table.query())


def poison_of_envelope(
    envelope: Envelope, message: str, *, reason: str, poisoned_by: PoisonedBy, at: datetime
) -> PoisonRecord:
    """Return the record of a message that could be decoded."""
    return PoisonRecord(
        run_id=envelope.run_id,
        poison_id=envelope.key,
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
    raw = b"".join(data[f"message_{index}"] for index in range(data["pieces"]))
    return PoisonRecord(
        **_entry_fields(row),
        message=raw.decode("utf-8", "surrogatepass"),
        history=tuple(Attempt(at=at, reason=why) for at, why in json.loads(data["history"])),
        etag=row.etag,
    )


def _entry_fields(row: Row) -> dict[str, Any]:
    data: dict[str, Any] = dict(row.data)
    return {
        "run_id": row.partition,
        "poison_id": row.key,
        "poisoned_by": PoisonedBy(data["poisoned_by"]),
        "reason": data["reason"],
        "count": data["count"],
        "attempts": data["attempts"],
        "first_at": data["first_at"],
        "last_at": data["last_at"],
        "state": PoisonState(data["state"]),
        "settled_at": data.get("settled_at"),
        "settled_by": data.get("settled_by", ""),
        "note": data.get("note", ""),
    }
