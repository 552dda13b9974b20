"""Is the feed paused? Asked before each delivery, read from the ledger every few seconds."""

import threading
from typing import Final

from common.clock import Clock
from common.errors import PipelineError
from common.ledger.control import Control, Pause

LOOK_EVERY: Final = 30.0
"""Seconds between two reads of one instance. Uploads may go on for that long after a pause
began."""


class PauseWatch:
    """The pause as this instance last read it. Safe to use from several threads."""

    def __init__(self, control: Control, *, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._last: Pause | None = None

    def current(self) -> Pause | None:
        """Return the current pause, or None. Raises what the ledger raises.

        One thread reads; the others do not wait, and use the last known value if there is one.
        """
        now = self._clock.boottime()
        with self._lock:
            before, last = self._read_at, self._last
            is_due = before is None or now - before >= LOOK_EVERY
            if is_due and before is not None:
                self._read_at = now
        if is_due:
            try:
                last = self._control.last_pause()
            except PipelineError:
                with self._lock:
                    self._read_at = before
                raise
            with self._lock:
                self._read_at, self._last = now, last
        return last if last is not None and last.is_on(self._clock.now()) else None
