"""Problems: what stands in the way of the whole feed, one row a kind, closed by itself.

A problem is raised by whoever meets it and closed by the first success of anybody. Both are
limited in how often they write, so that neither an outage nor the flow after it costs a
storage operation a chunk. The rows of closed problems stay, so that one can see what was.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from common.clock import Clock
from common.events import cut
from common.ledger.tables import Row, Table, Tables

TABLE: Final = "control"
_PARTITION: Final = "problem"
_SUCCESS_KEY: Final = "last-success"
_SUCCESS_PARTITION: Final = "success"

WRITE_EVERY: Final = 10.0
"""Seconds between two writes of one instance about the same thing."""


class Kind(StrEnum):
    """What can stand in the way."""

    ACCESS = "access"
    UNAVAILABLE = "unavailable"
    REFUSING = "refusing"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem: what (and its remedy), since when, last seen, and whether it is open."""

    kind: Kind
    what: str
    since: datetime
    last_seen: datetime
    closed_at: datetime | None = None


class Problems:
    """The problem rows of one side of the pipeline. Safe to use from several threads."""

    def __init__(self, tables: Tables, *, clock: Clock) -> None:
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self._lock = threading.Lock()
        self._raised: dict[Kind, float] = {}
        self._succeeded: float | None = None

    def raise_problem(self, kind: Kind, what: str) -> None:
        """Record that a problem was met, at most once in `WRITE_EVERY` seconds."""
        if not self._is_due(kind):
            return
        now = self._clock.now()
        known = self._get(kind)
        since = known.since if known is not None and known.closed_at is None else now
        self._table.merge(
            Row(
                partition=_PARTITION,
                key=kind.value,
                data={"what": cut(what), "since": since, "last_seen": now, "is_open": True},
            )
        )

    def note_success(self, *, after_trouble: bool = False) -> None:
        """Record that Sentinel accepted something, and close every open problem.

        At most once in `WRITE_EVERY` seconds, unless this instance has raised a problem or the
        success comes `after_trouble`: of a chunk that was deferred before. Whoever raised a
        problem deferred its chunk, so no problem outlives the chunk that met it.
        """
        with self._lock:
            now = self._clock.monotonic()
            recent = self._succeeded is not None and now - self._succeeded < WRITE_EVERY
            if recent and not self._raised and not after_trouble:
                return
            self._succeeded = now
            self._raised.clear()
        moment = self._clock.now()
        self._table.merge(Row(partition=_SUCCESS_PARTITION, key=_SUCCESS_KEY, data={"at": moment}))
        for problem in self.open():
            self._table.merge(
                Row(
                    partition=_PARTITION,
                    key=problem.kind.value,
                    data={"is_open": False, "closed_at": moment},
                )
            )

    def last_success(self) -> datetime | None:
        """Return when Sentinel last accepted something, give or take `WRITE_EVERY` seconds."""
        row = self._table.get(_SUCCESS_PARTITION, _SUCCESS_KEY)
        if row is None:
            return None
        data: dict[str, Any] = dict(row.data)
        moment: datetime = data["at"]
        return moment

    def open(self) -> list[Problem]:
        """Return the problems that stand."""
        return [problem for problem in self.all() if problem.closed_at is None]

    def all(self) -> Iterator[Problem]:
        """Yield every problem there ever was, by its last occurrence."""
        return map(_from_row, self._table.query(_PARTITION))

    def _is_due(self, kind: Kind) -> bool:
        with self._lock:
            now = self._clock.monotonic()
            if now - self._raised.get(kind, -WRITE_EVERY) < WRITE_EVERY:
                return False
            self._raised[kind] = now
            return True

    def _get(self, kind: Kind) -> Problem | None:
        row = self._table.get(_PARTITION, kind.value)
        return None if row is None else _from_row(row)


def _from_row(row: Row) -> Problem:
    data: dict[str, Any] = dict(row.data)
    return Problem(
        kind=Kind(row.key),
        what=data["what"],
        since=data["since"],
        last_seen=data["last_seen"],
        closed_at=None if data["is_open"] else data["closed_at"],
    )
