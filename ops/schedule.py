"""How long may the feed be without a complete run? Three ticks of its schedule.

The schedule is `LUMEN_SCHEDULE`, an NCRONTAB expression of second, minute, hour, day, month and
weekday. Only how far its ticks lie apart is wanted here, so this is no timer: it knows the longest
pause of a day, and of a schedule that leaves out days only that it has a tick every week or month.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Final

from common.settings import DEFAULT_SCHEDULE

TICKS: Final = 3
"""Ticks in a row without a complete run that are no accident."""

LEAST: Final = timedelta(minutes=45)
"""However often the timer fires: one run may take 25 minutes (`RUN_TIME_BUDGET`)."""

_WEEK: Final = timedelta(days=7)
_MONTH: Final = timedelta(days=31)
_DAY_MINUTES: Final = 24 * 60
_FIELDS: Final = 6


def read_stale_after(environ: Mapping[str, str] | None = None) -> timedelta:
    """Return after how long without a complete run the feed is stale, by its schedule.

    An unset schedule is the default; so is an unreadable one, with which no timer would fire.
    """
    environ = os.environ if environ is None else environ
    expression = environ.get("LUMEN_SCHEDULE", "").strip() or DEFAULT_SCHEDULE
    try:
        pause = longest_pause(expression)
    except ValueError:
        pause = longest_pause(DEFAULT_SCHEDULE)
    return max(LEAST, TICKS * pause)


def longest_pause(expression: str) -> timedelta:
    """Return the longest time between two ticks, to the minute. Pure.

    Raises `ValueError` for what is no schedule.
    """
    fields = expression.split()
    if len(fields) != _FIELDS:
        raise ValueError(f"{expression!r} has not {_FIELDS} fields")
    _, minute, hour, day, month, weekday = fields
    if day != "*" or month != "*":
        return _MONTH
    if weekday != "*":
        return _WEEK
    minutes = _values(minute, below=60)
    ticks = [60 * hour + minute for hour in _values(hour, below=24) for minute in minutes]
    apart = [after - before for before, after in pairwise([*ticks, ticks[0] + _DAY_MINUTES])]
    return timedelta(minutes=max(apart))


def _values(text: str, *, below: int) -> list[int]:
    """Return what a field allows: a list of `*`, `5` and `1-5`, each perhaps with `/step`."""
    found: set[int] = set()
    for item in text.split(","):
        span, has_step, step = item.partition("/")
        first, has_last, last = ("0", "-", str(below - 1)) if span == "*" else span.partition("-")
        end = int(last) if has_last else below - 1 if has_step else int(first)
        found.update(range(int(first), end + 1, int(step) if has_step else 1))
    if not found or min(found) < 0 or max(found) >= below:
        raise ValueError(f"{text!r} is no field of a schedule")
    return sorted(found)
