"""Is the feed paused? Asked before each delivery, read from the ledger every few seconds."""

import threading
from typing import Final

from common.clock import Clock
from common.ledger.control import Control, Pause

LOOK_EVERY: Final = 10.0
"""Seconds between two reads of one instance: so long may uploads go on after a pause has begun."""


class PauseWatch:
    """The pause as one instance knows it. Safe to use from several threads."""

    def __init__(self, control: Control, *, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._last: Pause | None = None

    def current(self) -> Pause | None:
        """Return the pause that is on, None where none is. Raises what the ledger raises."""
        now = self._clock.boottime()
        with self._lock:
            is_fresh = self._read_at is not None and now - self._read_at < LOOK_EVERY
            if not is_fresh:
                self._last = self._control.last_pause()
                self._read_at = now
            last = self._last
        return last if last is not None and last.is_on(self._clock.now()) else None
