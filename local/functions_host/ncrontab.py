"""NCRONTAB expressions: when is a timer due next?

Six fields: second, minute, hour, day, month, weekday (0 = Sunday), in UTC; of five fields the first
is the minute, and the second is 0. Unlike Unix cron, day *and* weekday must both match. Stricter
than the real one in two places, on purpose: a range that runs backwards (`50-10`) and a step of 0
are refused, because NCrontab reads them in an unexpected way. Pure: no clock, no settings.

Source: github.com/atifaziz/NCrontab, NCrontab.Signed 3.4.0 (measured 2026-11-28), and
learn.microsoft.com/azure/azure-functions/functions-bindings-timer (read 2026-11-22).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

# The longest gap a valid date can have: 29 February on one weekday, across a century that is no
# leap year (2076 to 2116).
_SEARCH_DAYS = 40 * 366
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: Sequence[str] = ()


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 6, _WEEKDAYS),
)


def next_occurrence(expression: str, after: datetime) -> datetime:
    """The first due time strictly later than `after` (in its time zone, whole seconds).

    Raises ValueError for an expression that is malformed or never due.
    """
    seconds, minutes, hours, days, months, weekdays = parse(expression)
    for offset in range(_SEARCH_DAYS):
        day = after.date() + timedelta(days=offset)
        if day.day not in days or day.month not in months or day.isoweekday() % 7 not in weekdays:
            continue
        for hour in hours:
            for minute in minutes:
                for second in seconds:
                    due = datetime.combine(day, time(hour, minute, second), after.tzinfo)
                    if due > after:
                        return due
    raise ValueError(f"schedule {expression!r} is never due")


def parse(expression: str) -> tuple[tuple[int, ...], ...]:
    """The allowed values of each field, ascending. Raises ValueError."""
    parts = [part for part in expression.split(" ") if part]
    if len(parts) == len(_FIELDS) - 1:
        parts.insert(0, "0")
    if len(parts) != len(_FIELDS):
        raise ValueError(f"schedule {expression!r} has {len(parts)} fields, not five or six")
    return tuple(
        tuple(sorted({value for item in part.split(",") for value in _values(item, field)}))
        for part, field in zip(parts, _FIELDS, strict=True)
    )


def _values(item: str, field: _Field) -> range:
    """One item of a list: `*`, `5`, `1-5`, each with an optional `/step`."""
    span, has_step, step_text = item.partition("/")
    step = int(step_text) if step_text.isdecimal() else 0 if has_step else 1
    if step < 1:
        raise ValueError(f"{item!r}: a step is a number from 1")
    first_text, has_last, last_text = span.partition("-")
    if span == "*":
        first, last = field.lowest, field.highest
    else:
        first = _number(first_text, field)
        last = _number(last_text, field) if has_last else field.highest if has_step else first
    if first > last:
        raise ValueError(f"{item!r}: the {field.name} range runs backwards")
    return range(first, last + 1, step)


def _number(text: str, field: _Field) -> int:
    """A number, or a name by its beginning: of several that begin so, the first."""
    lowered = text.lower()
    for position, name in enumerate(field.names):
        if lowered and name.startswith(lowered):
            return position + field.lowest
    if not text.isdecimal() or not field.lowest <= int(text) <= field.highest:
        raise ValueError(f"{text!r} is not a {field.name} ({field.lowest} to {field.highest})")
    return int(text)
