"""Counts what is running, and waits until little enough of it is.

The queue listener's fetch threshold and the graceful drain are the same question asked of such a
count. A count is entered once per piece of work, in any thread, and left in any thread.
"""

import threading
from types import TracebackType


class InFlight:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    def enter(self) -> None:
        with self._changed:
            self._count += 1

    def leave(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_until_at_most(self, limit: int, timeout: float | None = None) -> bool:
        """Whether the count came down to `limit` within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count <= limit, timeout)

    def __enter__(self) -> None:
        self.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
