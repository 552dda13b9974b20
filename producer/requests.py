"""An operator's request for a run now: a row that says so, and a message that wakes a function.

A timer cannot be fired from another function. So a row of `control` is the request, and the message
only wakes a function that reads it. If the message is lost, the next tick of the timer serves the
request; an extra message finds it served.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from common.clock import Clock
from common.errors import SettingsError
from common.ledger.control import Control
from common.queues import SYNC_MESSAGE, SendQueue

TRY_AGAIN_AFTER: Final = timedelta(seconds=30)
"""How long a request waits before it is tried again while a run is under way."""

LOOK_AT_PAUSE_AFTER: Final = timedelta(minutes=15)
"""Its longest wait during a pause, which an operator may end at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTools:
    """The parts that serving a request needs; `queue` is the queue of requests."""

    control: Control
    queue: SendQueue
    clock: Clock


def serve_request(tools: RequestTools, *, tick: Callable[[], object]) -> None:
    """Run a tick if a request is open; put the message back while no tick can run.

    A tick that ran has served the request, whatever its result. With wrong settings no tick can
    run, and the request waits for the timer's first tick after the repair. Called twice: the second
    call finds the request served. If it dies halfway: the host delivers the message again.
    """
    if tools.control.sync_request() is None:
        return
    wait = _wait(tools)
    if wait is None:
        with suppress(SettingsError):  # the tick and its pulse report it
            tick()
            wait = None if tools.control.sync_request() is None else TRY_AGAIN_AFTER
    if wait is not None:
        tools.queue.send(SYNC_MESSAGE, delay=wait.total_seconds())


def _wait(tools: RequestTools) -> timedelta | None:
    """Return how long no tick can run: during a pause, and while another tick is at work."""
    pause, now = tools.control.last_pause(), tools.clock.now()
    if pause is not None and pause.is_on(now):
        return min(pause.until - now, LOOK_AT_PAUSE_AFTER)
    lease = tools.control.read_lease()
    return TRY_AGAIN_AFTER if lease is not None and lease.is_held else None
