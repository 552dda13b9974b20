"""Acts: what operators did, one row each, the newest first.

The row is written before the act, so every act has a row; its result is added afterwards. A row
without a result belongs to an act that is under way or was interrupted.
"""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from common.events import Event, emit
from common.ledger.partitions import newest_first
from common.ledger.tables import Row, Table, Tables, remove_all
from common.text import cut

TABLE: Final = "acts"
_PARTITION: Final = "act"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What was done, by whom, when and why; on what, and with what result (both in words)."""

    act: str
    by: str
    at: datetime
    note: str = ""
    on: str = ""
    result: str = ""
    key: str = ""
    """The key of its row; empty before it has one."""


class Acts:
    """The rows of acts."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def begin(self, act: Act) -> str:
        """Record an act that is about to be done; return the key of its row.

        Logs `operator-act`. Called twice: two rows, as it is done twice.
        """
        key = newest_first(f"{act.at:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}")
        emit(Event.OPERATOR_ACT, act=act.act, by=act.by, note=act.note, on=act.on)
        self._table.merge(
            Row(
                partition=_PARTITION,
                key=key,
                data={
                    "act": act.act,
                    "by": cut(act.by),
                    "at": act.at,
                    "note": cut(act.note),
                    "on": cut(act.on),
                },
            )
        )
        return key

    def end(self, key: str, *, result: str) -> None:
        """Record the result of an act. Called twice: the later result stays."""
        self._table.update(Row(partition=_PARTITION, key=key, data={"result": cut(result)}))

    def latest(self, limit: int | None = None) -> Iterator[Act]:
        """Yield acts, the newest first, at most `limit`; damaged rows are left out."""
        rows = self._table.query(_PARTITION, limit=limit)
        return (act for act in map(_from_row, rows) if act is not None)

    def before(self, moment: datetime) -> Iterator[Row]:
        """Yield the rows of acts before a moment, the newest first."""
        key = newest_first(f"{moment:%Y%m%dT%H%M%S%f}") + "~"
        return self._table.query(_PARTITION, from_key=key)

    def remove(self, rows: Iterable[Row]) -> int:
        """Remove rows as they were read; return how many went."""
        return remove_all(self._table, rows)


def _from_row(row: Row) -> Act | None:
    data: dict[str, Any] = dict(row.data)
    if not isinstance(data.get("at"), datetime):
        return None
    texts = {name: str(data.get(name, "")) for name in ("act", "by", "note", "on", "result")}
    return Act(at=data["at"], key=row.key, **texts)
