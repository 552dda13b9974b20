"""Send slots: one row that says when the next request to Sentinel may leave.

The request budget belongs to the calling identity, so no instance's memory can hold it. Each sender
reserves slots here, by compare-and-swap; a message then waits for its slot invisible on the queue,
which costs nothing. A 429 moves the row forward for all senders. Some slots are *spare*: parts of
split chunks take them, so that they do not wait behind a backlog.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from common.clock import Clock
from common.errors import ConflictError, UnavailableError
from common.ledger.tables import Row, Table, Tables, put_over, read_value
from common.queues import MAX_DELAY

TABLE: Final = "control"
_PARTITION: Final = "control"
_KEY: Final = "send-slots"
_TRIES: Final = 50

TURN_WITHIN: Final = 20.0
"""Seconds that a thread waits for its turn at the row. Without this limit, if storage does not
answer (20 s a call), the threads of an instance would wait for minutes."""


SPARE_EVERY: Final = 30.0
"""Seconds from one spare slot to the next. Ordinary reservations leave it free, so that a part of a
split chunk finds a slot within seconds behind a backlog of hours. At 95 a minute one slot in 48."""

SPARE_AT_MOST: Final = 8
"""At a low rate at most every eighth slot is spare."""

_MOST_AHEAD: Final = timedelta(seconds=MAX_DELAY)
"""A stored slot that is further away comes from a clock that was wrong: the queue delays for no
longer."""

_NEAR: Final = 1e-3
"""Seconds that rounding may move a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Slots in order, at least an interval apart."""

    times: tuple[datetime, ...]

    @property
    def first(self) -> datetime:
        """The first of them."""
        return self.times[0]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.times)

    def slot(self, number: int) -> datetime:
        """Return the time of slot `number`, from 0."""
        return self.times[number]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Free:
    """The next free slots: of all, and of the spare ones."""

    ordinary: datetime
    spare: datetime


class Slots:
    """The slot row. Safe to use from several threads, which take turns.

    Raises: what the table raises; `UnavailableError` if a thread gets no turn in `TURN_WITHIN`;
    `ConflictError` if the row keeps changing.
    """

    def __init__(self, tables: Tables, *, clock: Clock, requests_per_minute: float) -> None:
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self.interval = timedelta(seconds=60.0 / requests_per_minute)
        """Between two slots."""
        seconds = self.interval.total_seconds()
        self._period = seconds * max(SPARE_AT_MOST, round(SPARE_EVERY / seconds))
        self._lock = threading.Lock()

    def reserve(self, count: int) -> Reservation:
        """Reserve `count` slots, none in the past and none spare.

        If it dies halfway: the slots stay unused.
        """

        def plan(free: _Free) -> tuple[_Free, Sequence[datetime]]:
            times: list[datetime] = []
            start = free.ordinary
            for _ in range(count):
                times.append(self._beside_spare(start))
                start = times[-1] + self.interval
            return replace(free, ordinary=start), times

        return self._move(plan)

    def reserve_soon(self) -> Reservation:
        """Reserve one slot: the next ordinary one, or the next spare one if that is sooner."""

        def plan(free: _Free) -> tuple[_Free, Sequence[datetime]]:
            ordinary, spare = self._beside_spare(free.ordinary), self._spare(free.spare)
            if ordinary <= spare:
                return replace(free, ordinary=ordinary + self.interval), [ordinary]
            return replace(free, spare=spare + self.interval), [spare]

        return self._move(plan)

    def push(self, until: datetime) -> None:
        """Make all later reservations lie after `until`."""
        self._move(
            lambda free: (
                _Free(ordinary=max(free.ordinary, until), spare=max(free.spare, until)),
                (),
            )
        )

    def next_free(self) -> datetime | None:
        """Return the next slot that is free; None before the first reservation."""
        return read_value(self._table.get(_PARTITION, _KEY), "next_free", datetime)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=TURN_WITHIN):
            raise UnavailableError("no send slot: the table of the slots does not answer")
        try:
            yield
        finally:
            self._lock.release()

    def _move(self, plan: Callable[[_Free], tuple[_Free, Sequence[datetime]]]) -> Reservation:
        """Apply `plan` to the free slots (none before now), write the rest, return what it took."""
        with self._turn():
            for _ in range(_TRIES):
                now = self._clock.now()
                row = self._table.get(_PARTITION, _KEY)
                free, times = plan(
                    _Free(
                        ordinary=_stored(row, "next_free", now=now),
                        spare=_stored(row, "next_spare", now=now),
                    )
                )
                data = {"next_free": free.ordinary, "next_spare": free.spare}
                try:
                    put_over(self._table, Row(partition=_PARTITION, key=_KEY, data=data), known=row)
                except ConflictError:
                    continue
                return Reservation(times=tuple(times))
        raise ConflictError("the send slots are too busy; try again")

    def _beside_spare(self, start: datetime) -> datetime:
        """Return `start`; if a spare slot is nearer than an interval, the slot after it."""
        apart, behind = self.interval.total_seconds() - _NEAR, self._since_spare(start)
        if behind < apart:
            return start - timedelta(seconds=behind) + self.interval
        if self._period - behind < apart:
            return start + timedelta(seconds=self._period - behind) + self.interval
        return start

    def _spare(self, start: datetime) -> datetime:
        """Return the first spare slot that is not before `start`."""
        behind = self._since_spare(start)
        return start if behind < _NEAR else start + timedelta(seconds=self._period - behind)

    def _since_spare(self, moment: datetime) -> float:
        """Return the seconds since the spare slot before `moment`: one a period, in its middle."""
        return (moment.timestamp() + self._period / 2) % self._period


def _stored(row: Row | None, name: str, *, now: datetime) -> datetime:
    """Return a stored slot, if it is later than `now`, and not unbelievably so."""
    known = read_value(row, name, datetime)
    return now if known is None else min(max(known, now), now + _MOST_AHEAD)
