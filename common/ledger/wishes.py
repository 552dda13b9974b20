"""Wishes: records that an operator asks to be sent once more, after Sentinel refused them.

A wish is a row with the record's content, under a hash of it: asking twice makes one row. The
producer takes wishes before the first page of its next run, whose head names them, and removes them
by their ETags when the run is complete. So a wish that is repeated meanwhile stays.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from common.ledger.rejections import TABLE, WISHES, content_of, pack_content
from common.ledger.runs import WishRef
from common.ledger.tables import Row, Table, Tables, remove_all
from common.text import cut

_KEY_DIGITS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A record to send: its JSON, its rejection, when it was asked for, and by whom."""

    content: bytes
    rejection: str
    at: datetime
    by: str

    @property
    def key(self) -> str:
        """The key of its row: equal content, equal key."""
        return hashlib.sha256(self.content).hexdigest()[:_KEY_DIGITS]


class Wishes:
    """The wish rows."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def ask(self, wish: Wish) -> None:
        """Keep a wish; called twice: one row, with the latest time."""
        self._table.merge(
            Row(
                partition=WISHES,
                key=wish.key,
                data={
                    "rejection": wish.rejection,
                    "at": wish.at,
                    "by": cut(wish.by),
                    **pack_content(wish.content),
                },
            )
        )

    def first(self, limit: int) -> tuple[WishRef, ...]:
        """Return at most `limit` wishes, as a head names them."""
        rows = self._table.query(WISHES, limit=limit)
        return tuple(WishRef(key=row.key, etag=row.etag) for row in rows)

    def content(self, key: str) -> bytes | None:
        """Return the record that a wish is about; None when there is no such wish."""
        row = self._table.get(WISHES, key)
        data: dict[str, Any] = {} if row is None else dict(row.data)
        return None if row is None else content_of(data)

    def has(self, wish: Wish) -> bool:
        """Whether there is a wish for the same record."""
        return self._table.get(WISHES, wish.key) is not None

    def remove(self, wishes: Iterable[WishRef]) -> None:
        """Remove wishes by their ETags; one that was repeated since stays."""
        remove_all(self._table, (Row(partition=WISHES, key=w.key, etag=w.etag) for w in wishes))
