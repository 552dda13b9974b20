"""The demo's output in a pipe: rows under heads, signs of life, an end when nobody reads."""

import io
import threading
from collections.abc import Callable

import pytest

from local.demo.rows import HEAD
from local.demo.screen import _HEAD_EVERY, Screen

NUMBERS = {"pages": 1, "enqueued": 2, "accepted": 3, "queue": 4, "throttled": 5, "expected": 6}


class Pipe(io.StringIO):
    """Output that can be closed at the other end."""

    closed_at_the_other_end = False

    def write(self, text: str) -> int:
        if self.closed_at_the_other_end:
            raise BrokenPipeError
        return super().write(text)


def test_a_head_comes_again_below_many_rows() -> None:
    """The columns stay named."""
    out = io.StringIO()
    screen = Screen(out)
    for _ in range(_HEAD_EVERY + 1):
        screen.show(screen.row(**NUMBERS))
    assert out.getvalue().count(HEAD) == 2
    assert len(screen.rows) == _HEAD_EVERY + 1


def test_a_long_wait_shows_signs_of_life(
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    """What it is at is said again and again; at rest nothing is."""
    out = io.StringIO()
    with Screen(out) as screen:
        screen.begin("starting")
        eventually(lambda: out.getvalue().count("... starting") >= 2)
        screen.begin("")
        before = out.getvalue()
        screen.say("at rest")
    assert out.getvalue() == f"{before}at rest\n"


def test_a_closed_pipe_ends_the_demo_from_either_thread(
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    """Also where the sign of life met it first; no thread prints a traceback."""
    out = Pipe()
    met: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", met.append)
        with Screen(out) as screen:
            screen.begin("starting")
            out.closed_at_the_other_end = True
            eventually(lambda: not screen._thread.is_alive())
            with pytest.raises(BrokenPipeError):
                screen.say("more")
    assert met == []
