"""When requests were last sent to each destination: a row each, written before requests leave.

Before an operator turns chunks over to another workspace, no request to the earlier one may be
under way, from any instance. Ages are by the storage's clock.
"""

import hashlib
from datetime import timedelta
from typing import Final

from common.clock import Clock
from common.delivery import LONGEST_DELIVERY
from common.ledger.tables import Row, Table, Tables

TABLE: Final = "control"
_PARTITION: Final = "sends"

NOTE_EVERY: Final = 30.0
"""Seconds for which one row write of an instance covers all of its requests."""

QUIET_AFTER: Final = NOTE_EVERY + LONGEST_DELIVERY
"""Seconds after the last write for which a covered request may still be under way."""


class Sends:
    """The notes, as one instance writes them. Safe to use from several threads."""

    def __init__(self, tables: Tables, *, clock: Clock) -> None:
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self._noted: dict[str, float] = {}

    def note(self, destination: str) -> None:
        """Record that a request to `destination` is about to leave, if no recent write covers it.

        Call it before the look at the chunk's row: a request leaves within seconds of its look, or
        not at all. Called by two threads at once: two writes.
        """
        now = self._clock.boottime()
        noted = self._noted.get(destination)
        if noted is not None and now - noted < NOTE_EVERY:
            return
        key = _key(destination)
        self._table.merge(Row(partition=_PARTITION, key=key, data={"destination": destination}))
        self._noted[destination] = now

    def age(self, destination: str) -> timedelta | None:
        """Return how long ago `destination` was last recorded; None if never."""
        row = self._table.get(_PARTITION, _key(destination))
        return None if row is None else row.age


def _key(destination: str) -> str:
    """Return a destination as a table key, whatever characters it has."""
    return hashlib.sha256(destination.encode()).hexdigest()[:32]
