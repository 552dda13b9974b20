"""When a timer is due: NCRONTAB expressions at their borders."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from local.functions_host.ncrontab import next_occurrence, parse


def at(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("0 */15 * * * *", "2026-01-01T00:00:00", "2026-01-01T00:15:00"),
        ("0 */15 * * * *", "2026-01-01T00:14:59.999999", "2026-01-01T00:15:00"),
        ("0 */15 * * * *", "2026-12-31T23:45:00", "2027-01-01T00:00:00"),
        ("*/5 * * * * *", "2026-01-01T00:00:57", "2026-01-01T00:01:00"),
        ("30 5/20 9-17 * * 1-5", "2026-01-02T17:45:30", "2026-01-05T09:05:30"),
        ("0 0 0 31 * *", "2026-01-31T00:00:00", "2026-03-31T00:00:00"),
        ("0 0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 0 29 Feb *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
        ("0 0 0 * * SUN,wed", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 0 13 * Fri", "2026-01-01T00:00:00", "2026-02-13T00:00:00"),
        ("59 59 23 31 12 *", "2026-12-31T23:59:58", "2026-12-31T23:59:59"),
        ("*/15 * * * *", "2026-01-01T00:00:00", "2026-01-01T00:15:00"),
        ("0  0 0 1 1 *", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 0 * * Monday", "2026-01-01T00:00:00", "2026-01-05T00:00:00"),
        ("0 0 0 * * Mo-tu", "2026-01-05T00:00:00", "2026-01-06T00:00:00"),
        ("0 0 0 1 janu *", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 0 1 ju *", "2026-01-01T00:00:00", "2026-06-01T00:00:00"),
        ("0 0 0 29 2 0", "2076-02-29T00:00:00", "2088-02-29T00:00:00"),
        ("0 0 0 29 2 6", "2076-03-01T00:00:00", "2116-02-29T00:00:00"),
    ],
)
def test_next_occurrence(expression: str, after: str, due: str) -> None:
    """The next due time is the first matching second strictly after the given moment."""
    assert next_occurrence(expression, at(after)) == at(due)


def test_occurrences_are_regular() -> None:
    """From one due time the next follows, never the same again."""
    due = at("2026-06-30T23:29:59")
    steps = [due := next_occurrence("0 */15 * * * *", due) for _ in range(100)]
    gaps = {(later - earlier).total_seconds() for earlier, later in pairwise(steps)}
    assert gaps == {900}


@pytest.mark.parametrize(
    "expression",
    [
        "*/15 * * *",
        "0 */15 * * * * *",
        "0\t*/15 * * * *",
        "60 * * * * *",
        "0 0 0 * * Mondays",
        "0 0 0 1 -5 *",
        "0 0 0 0 * *",
        "0 0 0 * * 7",
        "0 */0 * * * *",
        "0 1- * * * *",
        "0 9-5 * * * *",
        "0 , * * * *",
        "0 x * * * *",
        "00:15:00",
    ],
)
def test_malformed(expression: str) -> None:
    """What is no expression is refused, and a few that nobody means: see the module."""
    with pytest.raises(ValueError, match=r"schedule|is not a|step|backwards"):
        parse(expression)


def test_never_due() -> None:
    """A date that does not exist is refused instead of searched for without end."""
    with pytest.raises(ValueError, match="never due"):
        next_occurrence("0 0 0 31 2 *", at("2026-01-01T00:00:00"))
