"""How a demo is stopped: Ctrl-C says so and cleans up, a second one ends what that waits for.

Hosts are given seconds to finish what they hold. Whoever presses again does not want to wait: then
they are killed, and the rest of the clean-up is quick.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

STOPPED = 130
"""The exit status after Ctrl-C, as shells have it: 128 and the signal's number."""

SAID = "\nstopping ... (again to stop at once)\n"

_kill: list[Callable[[], object]] = []
_pressed: list[int] = []


def at_once(kill: Callable[[], object]) -> None:
    """Call this when Ctrl-C is pressed again while the demo is stopping."""
    _kill.append(kill)


def handle_signals() -> None:
    """Take Ctrl-C and the other ways to be ended into our own hands."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores the hang-up
            signal.signal(number, _leave)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _pressed.append(number)
    if len(_pressed) == 1:
        with suppress(OSError):  # not `print`, which may be at work in this thread
            os.write(sys.stdout.fileno(), SAID.encode())
        raise KeyboardInterrupt
    for kill in _kill:
        kill()


def _leave(number: int, _frame: FrameType | None) -> None:
    """End by way of every `with`, so that children and scratch folders go too; only once."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
