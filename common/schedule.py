"""The time between the ticks of the schedule: for one tick, and for three in a row.

After three ticks without a complete run the feed is stale. The schedule is `LUMEN_SCHEDULE`, an
NCRONTAB expression of second, minute, hour, day, month and weekday. Only the time between ticks is
needed here, so this is not a timer: it reads one week, and takes a schedule by days of the month,
or by months, as one tick a month.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from common.settings import DEFAULT_SCHEDULE

TICKS: Final = 3
"""After this many ticks in a row without a complete run, the feed is stale."""

LEAST: Final = timedelta(minutes=45)
"""The least time, even if the timer fires often: one run may take 25 minutes
(`RUN_TIME_BUDGET`)."""

_MONTH: Final = timedelta(days=31)
_DAY: Final = 24 * 60
_WEEK: Final = 7 * _DAY
"""Minutes."""

_FIELDS: Final = 6
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def read_stale_after(environ: Mapping[str, str] | None = None) -> timedelta:
    """Return the time without a complete run after which the feed is stale, by its schedule.

    An unset or unreadable schedule counts as the default; with an unreadable one no timer would
    fire.
    """
    environ = os.environ if environ is None else environ
    return max(LEAST, span_of(environ.get("LUMEN_SCHEDULE", "").strip()))


def span_of(expression: str, *, ticks: int = TICKS) -> timedelta:
    """Return `longest_span`; that of the default for an expression that cannot be read. Pure."""
    try:
        return longest_span(expression, ticks=ticks)
    except ValueError:
        return longest_span(DEFAULT_SCHEDULE, ticks=ticks)


def longest_span(expression: str, *, ticks: int = TICKS) -> timedelta:
    """Return the longest time from a tick to the one `ticks` after it, to the minute. Pure.

    Raises `ValueError` for anything that is not a schedule.
    """
    fields = expression.split()
    if len(fields) != _FIELDS:
        raise ValueError(f"{expression!r} has not {_FIELDS} fields")
    _, minute, hour, day, month, weekday = fields
    if day != "*" or month != "*":
        return ticks * _MONTH
    for number, name in enumerate(_WEEKDAYS):
        weekday = re.sub(rf"\b{name}[a-z]*", str(number), weekday, flags=re.IGNORECASE)
    days, hours, minutes = _values(weekday, below=7), _values(hour, below=24), _values(minute)
    week = [_DAY * d + 60 * h + m for d in days for h in hours for m in minutes]
    later = [
        week[(number + ticks) % len(week)] + _WEEK * ((number + ticks) // len(week))
        for number in range(len(week))
    ]
    return timedelta(minutes=max(b - a for a, b in zip(week, later, strict=True)))


def _values(text: str, *, below: int = 60) -> list[int]:
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
