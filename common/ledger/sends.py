"""When each destination was last sent to: a row each, written before requests leave.

An operator who turns chunks over to another workspace must know that no request to the earlier one
is under way, from any instance and with any outcome. Ages are by the storage's clock.
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
"""Seconds for which one note of an instance stands for all of its requests."""

QUIET_AFTER: Final = NOTE_EVERY + LONGEST_DELIVERY
"""Seconds after the last note for which a request that it stands for may still be under way."""


class Sends:
    """The notes, as one instance writes them. Safe to use from several threads."""

    def __init__(self, tables: Tables, *, clock: Clock) -> None:
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self._noted: dict[str, float] = {}

    def note(self, destination: str) -> None:
        """Write that a request to `destination` is about to leave, unless a note says so already.

        Called before the look at the chunk's row: a request leaves within seconds of its look, or
        not at all. Called by two threads at once: two notes.
        """
        now = self._clock.boottime()
        noted = self._noted.get(destination)
        if noted is not None and now - noted < NOTE_EVERY:
            return
        key = _key(destination)
        self._table.merge(Row(partition=_PARTITION, key=key, data={"destination": destination}))
        self._noted[destination] = now

    def age(self, destination: str) -> timedelta | None:
        """Return how long ago `destination` was last noted; None when it never was."""
        row = self._table.get(_PARTITION, _key(destination))
        return None if row is None else row.age


def _key(destination: str) -> str:
    """Return a destination as a table key, whatever characters it has."""
    return hashlib.sha256(destination.encode()).hexdigest()[:32]
