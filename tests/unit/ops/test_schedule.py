"""The schedule's pauses: how long a feed may be without a complete run."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.functions_host.ncrontab import parse
from ops.schedule import LEAST, TICKS, longest_pause, read_stale_after

MINUTES = st.sampled_from(["*", "0", "*/15", "7/20", "10-40/10", "5,50", "0,1,2"])
HOURS = st.sampled_from(["*", "*/6", "3", "8-18", "8-18/5", "1,2,23", "20/2"])


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("0 */15 * * * *", 15),
        ("*/10 * * * * *", 1),
        ("0 0 * * * *", 60),
        ("0 0 */6 * * *", 6 * 60),
        ("0 30 8-18 * * *", 14 * 60),
        ("0 0 3 * * *", 24 * 60),
        ("0 0 3 * * Mon-Fri", 7 * 24 * 60),
        ("0 0 3 1 * *", 31 * 24 * 60),
    ],
)
def test_the_longest_pause_of_a_schedule(expression: str, minutes: int) -> None:
    """Every so many minutes or hours, at hours of the day, and less often than daily."""
    assert longest_pause(expression) == timedelta(minutes=minutes)


@given(minute=MINUTES, hour=HOURS)
def test_the_pause_is_that_of_the_hosts_timer(minute: str, hour: str) -> None:
    """No pause between two ticks of the timer, as the local host keeps it, is longer."""
    expression = f"0 {minute} {hour} * * *"
    _, minutes, hours, *_ = parse(expression)
    ticks = sorted(60 * h + m for h in hours for m in minutes)
    pauses = [b - a for a, b in zip(ticks, [*ticks[1:], ticks[0] + 24 * 60], strict=True)]
    assert longest_pause(expression) == timedelta(minutes=max(pauses))


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
    ],
)
def test_three_ticks_without_a_complete_run_are_too_many(
    schedule: str | None, expected: timedelta
) -> None:
    """By the schedule that is set; unset or unreadable, by the default, and never in haste."""
    environ = {} if schedule is None else {"LUMEN_SCHEDULE": schedule}
    assert read_stale_after(environ) == expected
    assert TICKS * longest_pause("0 */15 * * * *") == LEAST
