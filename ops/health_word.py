"""Health in one word, from the last pulse: for probes that have no key.

Storage is read at most every `KEPT_FOR` seconds, so a flood of probes costs nothing.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from common.clock import Clock
from common.errors import HaltError, TryLaterError
from common.health import Verdict
from common.transport import within
from ops.toolbox import Toolbox

KEPT_FOR: Final = 10.0
"""Seconds for which a word is reused."""

_ASK_WITHIN: Final = 10.0

_GOOD: Final = frozenset({Verdict.HEALTHY, Verdict.DEGRADED, Verdict.PAUSED})


class HealthWord:
    """The word, and until when it is reused. Safe to use from several threads.

    One thread at a time asks the storage; the others answer at once with the last word. So a flood
    of probes holds one thread, even if the storage hangs.
    """

    def __init__(self, toolbox: Callable[[], Toolbox], *, clock: Clock) -> None:
        self._toolbox = toolbox
        self._clock = clock
        self._lock = threading.Lock()
        self._word = Verdict.UNKNOWN
        self._until = float("-inf")

    def get(self) -> Verdict:
        """Return the verdict of the last pulse; *unknown* if it is old or cannot be read.

        Also *unknown* while the first word is asked for.
        """
        if self._clock.monotonic() >= self._until and self._lock.acquire(blocking=False):
            try:
                self._word = self._ask()
                self._until = self._clock.monotonic() + KEPT_FOR
            finally:
                self._lock.release()
        return self._word

    def _ask(self) -> Verdict:
        try:
            with within(_ASK_WITHIN):
                toolbox = self._toolbox()
                pulse = next(toolbox.ledger.pulses.latest(1), None)
                now = toolbox.clock.now()
        except (HaltError, TryLaterError):
            return Verdict.UNKNOWN
        if pulse is None or now - pulse.at > toolbox.stale_after + timedelta(minutes=1):
            return Verdict.UNKNOWN
        return Verdict(pulse.verdict) if pulse.verdict in set(Verdict) else Verdict.UNKNOWN


def status_of(word: Verdict) -> HTTPStatus:
    """Return 200 while indicators arrive or an operator stopped them, else 503. Pure."""
    return HTTPStatus.OK if word in _GOOD else HTTPStatus.SERVICE_UNAVAILABLE
