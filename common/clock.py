"""Time, passed in, so that every wait of the pipeline can be tested without waiting.

Code that waits or stamps takes a `Clock` and never calls `time` or `datetime.now` itself. Wall
time is for records that people read; elapsed time is always monotonic, because the wall clock
of an instance may be minutes off or step while a function runs.
"""

import sys
import time
from datetime import UTC, datetime
from typing import Final, Protocol

CLOCK_SKEW: Final = 10 * 60.0
"""Seconds by which the clocks of two instances may differ. Azure keeps them far closer, but code
that could lose an indicator does not rely on that."""


class Clock(Protocol):
    """The clock that the pipeline uses."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin, never going back."""
        ...

    def boottime(self) -> float:
        """Return seconds like `monotonic`, but also count while the machine is suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`; zero or less returns at once."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        if sys.platform == "linux":  # other systems have only `monotonic`
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)
