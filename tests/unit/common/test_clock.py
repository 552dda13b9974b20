"""The machine's clock keeps the promises that the tests' clock stands in for."""

from datetime import UTC

import pytest

from common.clock import Clock, SystemClock
from tests.fakes.clock import FakeClock


@pytest.fixture(params=[SystemClock, FakeClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    """Each clock in turn."""
    made: Clock = request.param()
    return made


def test_wall_time_is_aware(clock: Clock) -> None:
    """Wall time carries its zone, UTC, so that no two records can disagree about it."""
    assert clock.now().tzinfo is UTC


def test_elapsed_time_never_goes_back(clock: Clock) -> None:
    """Of two readings the later is no smaller."""
    first = clock.monotonic()
    assert clock.monotonic() >= first


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_to_wait(seconds: float) -> None:
    """Waiting for zero seconds or less returns; `time.sleep` alone would refuse the latter."""
    SystemClock().sleep(seconds)


def test_the_fake_clock_moves_by_what_is_slept() -> None:
    """A sleep moves both times of the fake clock by its length and is remembered."""
    clock = FakeClock()
    before = clock.now()
    clock.sleep(90)
    assert (clock.monotonic(), (clock.now() - before).total_seconds()) == (90, 90)
    assert clock.sleeps == [90]
