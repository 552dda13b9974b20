"""Refusals in a row: whether Sentinel seems to refuse everything, and who may still search.

What one instance remembers. While everything is refused, a search costs requests and finds nothing,
so few are begun; but some must be, or the end would not be noticed where each chunk has a bad
record. Chunks without one notice it by themselves: they are sent whole whatever is known here.
"""

import threading
from typing import Final

from common.clock import Clock

MANY_REFUSALS: Final = 20
"""Refused requests in a row, with none accepted, after which chunks are no longer searched."""

SEARCH_EVERY: Final = 60.0
"""Seconds between two searches while everything is refused: how recovery is noticed even when
every chunk has a bad record."""


class Refusals:
    """Counts refused requests in a row: many of them mean that no record is at fault."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._searched = float("-inf")

    @property
    def are_many(self) -> bool:
        """Whether Sentinel seems to refuse everything."""
        return self._in_a_row >= MANY_REFUSALS

    def accepted(self) -> None:
        """Note a request that was taken."""
        with self._lock:
            self._in_a_row = 0

    def refused(self) -> None:
        """Note a request that was refused as a whole."""
        with self._lock:
            self._in_a_row += 1

    def may_search(self) -> bool:
        """Whether a refused chunk may be searched for bad records now."""
        with self._lock:
            now = self._clock.monotonic()
            if self._in_a_row >= MANY_REFUSALS and now - self._searched < SEARCH_EVERY:
                return False
            self._searched = now
            return True
