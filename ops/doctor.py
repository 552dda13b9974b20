"""The doctor: checks everything that the feed needs, each on its own, and says what to do.

Checks run side by side, each with its own time limit: a check that hangs costs only its own lines.
A check that raises is a problem. A check whose settings are wrong is skipped, because the settings
have lines of their own. The checks are in `checks`; this module does not know them.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from common.errors import PipelineError, SettingsError
from common.transport import time_left, within

ASK_WITHIN: Final = 5.0
"""Seconds for a question to a service."""

CHECK_WITHIN: Final = 12.0
"""Seconds for a check: two questions that follow each other, and the look-up of a name."""


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    PROBLEM = "problem"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was checked: what was found, and what to do about it."""

    name: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check by name; `ask` returns its lines, and may raise."""

    name: str
    ask: Callable[[], Sequence[Line]]


def ok(name: str, text: str) -> Line:
    """Return a line that needs no operator."""
    return Line(name=name, state=State.OK, text=text)


def problem(name: str, text: str, remedy: str = "") -> Line:
    """Return a line that needs an operator."""
    return Line(name=name, state=State.PROBLEM, text=text, remedy=remedy)


def not_asked(name: str, why: str) -> Line:
    """Return a line about something that was not checked."""
    return Line(name=name, state=State.NOT_ASKED, text=why)


def examine(checks: Sequence[Check], *, limit: float = CHECK_WITHIN) -> list[Line]:
    """Run `checks` side by side; return their lines, in the order of the checks.

    Ends in `limit` seconds, whatever hangs: a thread that hangs is abandoned.
    """
    answers: list[Sequence[Line] | None] = [None] * len(checks)

    def ask(number: int, check: Check) -> None:
        answers[number] = _ask(check, limit)

    threads = [
        threading.Thread(target=ask, args=(number, check), daemon=True)
        for number, check in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    with within(limit):
        for thread in threads:
            thread.join(max(0.0, time_left()))
    found: list[Line] = []
    for check, lines in zip(checks, answers, strict=True):
        late = problem(check.name, f"no answer within {limit:g} s", "check network and DNS")
        found += [late] if lines is None else lines
    return found


def _ask(check: Check, limit: float) -> Sequence[Line]:
    try:
        with within(limit):
            return check.ask()
    except SettingsError as error:
        names = ", ".join(fault.partition(":")[0] for fault in error.faults)
        return [not_asked(check.name, f"settings it needs are wrong: {names}")]
    except PipelineError as error:
        return [problem(check.name, str(error))]
    except Exception as bug:  # noqa: BLE001 - one check must not cost the others
        return [problem(check.name, f"stopped by a bug: {type(bug).__name__}", "report it")]


def describe_line(line: Line) -> dict[str, Any]:
    """Return a line as plain JSON values."""
    return asdict(line) | {"state": line.state.value}


def is_well(lines: Sequence[Line]) -> bool:
    """Whether no line is a problem."""
    return all(line.state is not State.PROBLEM for line in lines)
