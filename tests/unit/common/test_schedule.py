"""The schedule's pauses: how long a feed may be without a complete run."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.schedule import LEAST, longest_span, read_stale_after
from local.functions_host.ncrontab import parse

MINUTES = st.sampled_from(["*", "0", "*/15", "7/20", "10-40/10", "5,50", "0,1,2"])
HOURS = st.sampled_from(["*", "*/6", "3", "8-18", "8-18/5", "1,2,23", "20/2"])


DAY = 24 * 60


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("0 */15 * * * *", 45),
        ("*/10 * * * * *", 3),
        ("0 0 * * * *", 3 * 60),
        ("0 0 */6 * * *", 18 * 60),
        ("0 30 8-18 * * *", 16 * 60),
        ("0 0 3 * * *", 3 * DAY),
        ("0 0 3 * * Mon-Fri", 5 * DAY),
        ("0 */15 * * * 1-5", 2 * DAY + 45),
        ("0 0 3 * * Sunday", 21 * DAY),
        ("0 0 3 * * mon,THU", 11 * DAY),
        ("0 0 3 1 * *", 93 * DAY),
    ],
)
def test_the_longest_three_pauses_of_a_schedule(expression: str, minutes: int) -> None:
    """Every so many minutes or hours, at hours of the day, on some days of the week, monthly."""
    assert longest_span(expression) == timedelta(minutes=minutes)


@given(minute=MINUTES, hour=HOURS)
def test_the_span_is_that_of_the_hosts_timer(minute: str, hour: str) -> None:
    """No three pauses in a row of the timer, as the local host keeps it, are longer."""
    expression = f"0 {minute} {hour} * * *"
    _, minutes, hours, *_ = parse(expression)
    day = sorted(60 * h + m for h in hours for m in minutes)
    ticks = [d * DAY + tick for d in range(5) for tick in day]
    spans = [after - before for before, after in zip(ticks, ticks[3:], strict=False)]
    assert longest_span(expression) == timedelta(minutes=max(spans))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, timedelta(minutes=45)),
        ("", timedelta(minutes=45)),
        ("0 0 */2 * * *", timedelta(hours=6)),
        ("* * * * * *", LEAST),
        ("every now and then", timedelta(minutes=45)),
        ("0 */0 * * * *", timedelta(minutes=45)),
        ("0 61 * * * *", timedelta(minutes=45)),
        ("0 9-5 * * * *", timedelta(minutes=45)),
        ("0 5- * * * *", timedelta(minutes=45)),
        ("1 2 3", timedelta(minutes=45)),
        ("0 0 3 * * Someday", timedelta(minutes=45)),
    ],
)
def test_three_ticks_without_a_complete_run_are_too_many(
    schedule: str | None, expected: timedelta
) -> None:
    """By the schedule that is set; unset or unreadable, by the default, and never in haste."""
    environ = {} if schedule is None else {"LUMEN_SCHEDULE": schedule}
    assert read_stale_after(environ) == expected
    assert longest_span("0 */15 * * * *") == LEAST
