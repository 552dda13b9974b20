"""Problems: what stands in the way of the whole feed, one row a kind, closed by itself.

A problem is raised by whoever meets it and closed by the first success of anybody. Both are
limited in how often they write, so that neither an outage nor the flow after it costs a
storage operation a chunk. The rows of closed problems stay, so that one can see what was.

No problem outlives the chunk that met it: a row names the chunk that met it last, and is closed
when that one comes to its end without a success. Names are compared, not times: clocks differ.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from common.clock import Clock
from common.errors import ConflictError
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
    THROTTLED = "throttled"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time by the clock of one instance, and of which; empty when that is not known."""

    at: datetime
    by: str = ""


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

    def __init__(self, tables: Tables, *, clock: Clock, instance: str = "") -> None:
        """`instance` names whose clock it is; by default a name of its own."""
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self._instance = instance or uuid4().hex[:8]
        self._lock = threading.Lock()
        self._raised: dict[Kind, float] = {}
        self._succeeded: float | None = None

    def moment(self) -> Moment:
        """Return this moment."""
        return Moment(at=self._clock.now(), by=self._instance)

    def raise_problem(self, kind: Kind, what: str, *, met_by: str = "") -> None:
        """Record that a chunk met a problem, at most once in `WRITE_EVERY` seconds.

        `met_by` is its name; it must say so with `chunk_ended` should no success of its follow.
        """
        if not self._is_due(kind):
            return
        now = self._clock.now()
        known = self._get(kind)
        since = known.since if known is not None and known.closed_at is None else now
        self._table.merge(
            Row(
                partition=_PARTITION,
                key=kind.value,
                data={
                    "what": cut(what),
                    "since": since,
                    "last_seen": now,
                    "is_open": True,
                    "met_by": met_by,
                },
            )
        )

    def chunk_ended(self, name: str) -> None:
        """Close the problems that a chunk was the last to meet, as it waits for them no more.

        For every end that is no success: given up, refused record by record, or found uploaded by
        a copy of its message, whose success may have been noted before the problem was. Who else
        waits raises the problem again at the next try, and who meets it now keeps it open.
        """
        for row in self._table.query(_PARTITION):
            if not row.data.get("is_open") or row.data.get("met_by") != name:
                continue
            with self._lock:
                self._raised = {k: at for k, at in self._raised.items() if k != row.key}
            data = {**row.data, "is_open": False, "closed_at": self._clock.now()}
            with suppress(ConflictError):  # it was met again, or is closed
                self._table.replace(replace(row, data=data))

    def note_success(self, sent: Moment, *, after_trouble: bool = False) -> None:
        """Record that Sentinel accepted what was sent at a moment; close every open problem.

        That it was sent then, not that the answer came later, is what proves that Sentinel
        accepted anything at a time. At most once in `WRITE_EVERY` seconds, unless this instance
        has raised a problem or the success comes `after_trouble`: of a chunk that was deferred or
        refused before, which may have raised one elsewhere.
        """
        with self._lock:
            now = self._clock.monotonic()
            recent = self._succeeded is not None and now - self._succeeded < WRITE_EVERY
            if recent and not self._raised and not after_trouble:
                return
            self._succeeded = now
            self._raised.clear()
        self._table.merge(
            Row(
                partition=_SUCCESS_PARTITION,
                key=_SUCCESS_KEY,
                data={"at": sent.at, "by": sent.by},
            )
        )
        moment = self._clock.now()
        for problem in self.open():
            self._table.merge(
                Row(
                    partition=_PARTITION,
                    key=problem.kind.value,
                    data={"is_open": False, "closed_at": moment},
                )
            )

    def last_success(self) -> datetime | None:
        """Return when what Sentinel accepted last was sent, or up to `WRITE_EVERY` s earlier."""
        last = self._last_success()
        return None if last is None else last.at

    def success_age(self) -> timedelta | None:
        """Return how long ago the last success was noted, by the storage's clock; None if never."""
        row = self._table.get(_SUCCESS_PARTITION, _SUCCESS_KEY)
        return None if row is None else row.age

    def open(self) -> list[Problem]:
        """Return the problems that stand."""
        return [problem for problem in self.all() if problem.closed_at is None]

    def all(self) -> Iterator[Problem]:
        """Yield every problem there ever was, by its last occurrence.

        Of a kind that another release knows nothing is said: it must not stop this one.
        """
        rows = self._table.query(_PARTITION)
        return (_from_row(row) for row in rows if row.key in frozenset(Kind))

    def _last_success(self) -> Moment | None:
        row = self._table.get(_SUCCESS_PARTITION, _SUCCESS_KEY)
        if row is None:
            return None
        data: dict[str, Any] = dict(row.data)
        return Moment(at=data["at"], by=data.get("by", ""))

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
