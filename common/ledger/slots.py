"""Send slots: one row that says when the next request to Sentinel may leave.

The request budget belongs to the calling identity, so it cannot be kept in any instance's memory.
Whoever wants to send reserves slots here, by compare-and-swap; a message then waits for its slot
invisible on the queue, where waiting costs nothing. A 429 moves the row forward for everybody.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from common.clock import Clock
from common.errors import ConflictError, UnavailableError
from common.ledger.tables import Row, Table, Tables

TABLE: Final = "control"
_PARTITION: Final = "control"
_KEY: Final = "send-slots"
_TRIES: Final = 50

TURN_WITHIN: Final = 20.0
"""Seconds that a thread waits for its turn at the row. Longer only when storage does not answer:
one call to it may last minutes, and the threads of an instance together would last an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """`count` slots from `first` on, `interval` apart."""

    first: datetime
    interval: timedelta
    count: int

    def slot(self, number: int) -> datetime:
        """Return the time of slot `number`, from 0."""
        return self.first + self.interval * number


class Slots:
    """The slot row. Safe to use from several threads, which take turns.

    Raises: what the table raises; `UnavailableError` when it is not one's turn in `TURN_WITHIN`;
    `ConflictError` when the row does not stand still.
    """

    def __init__(self, tables: Tables, *, clock: Clock, requests_per_minute: float) -> None:
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self.interval = timedelta(seconds=60.0 / requests_per_minute)
        """Between two slots."""
        self._lock = threading.Lock()

    def reserve(self, count: int) -> Reservation:
        """Reserve `count` slots, none of them in the past.

        If it dies halfway: the slots stay unused.
        """
        with self._turn():
            first = self._move(lambda free, now: (max(free, now), self.interval * count))
        return Reservation(first=first, interval=self.interval, count=count)

    def push(self, until: datetime) -> None:
        """Let no slot that is reserved from now on lie before `until`."""
        with self._turn():
            self._move(lambda free, _now: (max(free, until), timedelta(0)))

    def next_free(self) -> datetime | None:
        """Return the next slot that is free; None before the first reservation."""
        row = self._table.get(_PARTITION, _KEY)
        return None if row is None else _next_free(row)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=TURN_WITHIN):
            raise UnavailableError("no send slot: the table of the slots does not answer")
        try:
            yield
        finally:
            self._lock.release()

    def _move(self, plan: Any) -> datetime:
        """Set the next free slot to `plan(free, now)`: a start and what is taken behind it."""
        for _ in range(_TRIES):
            now = self._clock.now()
            row = self._table.get(_PARTITION, _KEY)
            start, taken = plan(now if row is None else _next_free(row), now)
            data = {"next_free": start + taken}
            try:
                if row is None:
                    self._table.insert(Row(partition=_PARTITION, key=_KEY, data=data))
                else:
                    self._table.replace(
                        Row(partition=_PARTITION, key=_KEY, data=data, etag=row.etag)
                    )
            except ConflictError:
                continue
            moment: datetime = start
            return moment
        raise ConflictError("the send slots are too busy; try again")


def _next_free(row: Row) -> datetime:
    data: dict[str, Any] = dict(row.data)
    moment: datetime = data["next_free"]
    return moment
