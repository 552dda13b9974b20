"""Waiting: bounded, jittered, obedient to the service, and never past the deadline."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.backoff import Backoff, call_with_retries, retry_after_seconds
from common.errors import (
    CredentialError,
    OutOfTimeError,
    PipelineError,
    ThrottledError,
    UnavailableError,
)
from tests.fakes.clock import START, FakeClock

backoffs = st.builds(
    lambda base, cap: Backoff(base=min(base, cap), cap=cap),
    base=st.floats(0, 600),
    cap=st.floats(0, 600),
)
failures = st.integers(1, 10_000)


def seeded(seed: int) -> random.Random:
    """Randomness that repeats itself."""
    return random.Random(seed)  # noqa: S311 - jitter, not secrets


rngs = st.integers().map(seeded)


@given(backoff=backoffs, failures=failures, rng=rngs)
def test_a_delay_is_half_to_whole_of_its_step(
    backoff: Backoff, failures: int, rng: random.Random
) -> None:
    """A delay lies between half of and the whole of the doubled base, itself under the cap."""
    step = min(backoff.cap, backoff.base * 2.0 ** min(failures - 1, 63))
    assert step / 2 <= backoff.delay(failures, rng) <= step


@given(backoff=backoffs, failures=failures, rng=rngs, asked=st.floats(0, 1e9))
def test_the_service_is_obeyed_up_to_the_cap(
    backoff: Backoff, failures: int, rng: random.Random, asked: float
) -> None:
    """With Retry-After, a delay is at least what was asked or the cap, and never above the cap."""
    delay = backoff.delay(failures, rng, retry_after=asked)
    assert min(asked, backoff.cap) <= delay <= backoff.cap


def test_instances_that_failed_together_part() -> None:
    """Two instances with different randomness wait differently after the same failure."""
    backoff = Backoff()
    assert backoff.delay(5, seeded(1)) != backoff.delay(5, seeded(2))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        ("  7 ", 7.0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120.0),
        ("Thu, 01 Jan 2026 01:02:00 +0100", 120.0),
        ("Thu, 01 Jan 2026 00:02:00 -0000", 120.0),
        ("Wed, 31 Dec 2025 23:59:59 GMT", 0.0),
        ("Thu, 32 Jan 2026 00:00:00 GMT", None),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 00:00:00 +9999999999999999999999", None),
    ],
)
def test_retry_after_in_both_forms(header: str | None, expected: float | None) -> None:
    """Seconds and dates are read, the past is now, and anything else says nothing."""
    assert retry_after_seconds(header, now=START) == expected


@given(header=st.text())
def test_no_header_is_too_strange(header: str) -> None:
    """Whatever a header holds, the answer is None or a number of seconds from 0."""
    seconds = retry_after_seconds(header, now=START)
    assert seconds is None or seconds >= 0


@given(
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
)
def test_a_date_counts_from_now(moment: datetime) -> None:
    """An HTTP date is answered with the seconds from now to then."""
    header = format_datetime(moment, usegmt=True)
    expected = (moment.replace(microsecond=0) - START) / timedelta(seconds=1)
    assert retry_after_seconds(header, now=START) == expected


class Failing:
    """An operation that raises the given errors in turn, then returns "done"."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def call(operation: Callable[[], str], clock: FakeClock, *, give_up_at: float | None = None) -> str:
    """Call with three tries, one second at first, ten at most."""
    return call_with_retries(
        operation,
        backoff=Backoff(tries=3, base=1.0, cap=10.0),
        clock=clock,
        rng=seeded(0),
        give_up_at=give_up_at,
    )


def test_success_at_once_waits_for_nothing() -> None:
    """An operation that succeeds is called once, without a wait."""
    clock, operation = FakeClock(), Failing()
    assert (call(operation, clock), operation.calls, clock.sleeps) == ("done", 1, [])


@pytest.mark.parametrize("error", [ThrottledError("slow"), UnavailableError("gone")])
def test_what_may_pass_is_tried_again(error: PipelineError) -> None:
    """Throttling and outages are waited out, each wait within its step."""
    clock, operation = FakeClock(), Failing(error, error)
    assert call(operation, clock) == "done"
    assert operation.calls == 3
    first, second = clock.sleeps
    assert 0.5 <= first <= 1.0 <= second <= 2.0


@given(tries=st.integers(1, 20))
def test_tries_are_counted_exactly(tries: int) -> None:
    """An operation that never succeeds is called `tries` times; its last error comes out."""
    errors = [UnavailableError(str(number)) for number in range(tries + 1)]
    clock, operation = FakeClock(), Failing(*errors)
    with pytest.raises(UnavailableError, match=f"^{tries - 1}$"):
        call_with_retries(operation, backoff=Backoff(tries=tries), clock=clock, rng=seeded(0))
    assert (operation.calls, len(clock.sleeps)) == (tries, tries - 1)


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (3600.0, 10.0)])
def test_retry_after_is_waited_for_up_to_the_cap(asked: float, waited: float) -> None:
    """A wait the service asks for is kept exactly, or cut to the cap."""
    clock = FakeClock()
    assert call(Failing(ThrottledError("slow", retry_after=asked)), clock) == "done"
    assert clock.sleeps == [waited]


def test_no_wait_is_begun_that_would_pass_the_deadline() -> None:
    """When the next try would come too late, the call ends without waiting, naming its reason."""
    clock = FakeClock()
    operation = Failing(ThrottledError("slow down", retry_after=5))
    with pytest.raises(OutOfTimeError, match="slow down") as caught:
        call(operation, clock, give_up_at=4.9)
    assert isinstance(caught.value.__cause__, ThrottledError)
    assert (operation.calls, clock.sleeps) == (1, [])


def test_a_wait_that_ends_at_the_deadline_is_taken() -> None:
    """The deadline itself is still in time."""
    clock = FakeClock()
    operation = Failing(ThrottledError("slow down", retry_after=5))
    assert call(operation, clock, give_up_at=5.0) == "done"


@pytest.mark.parametrize("error", [CredentialError("no"), PipelineError("no"), KeyError("bug")])
def test_other_errors_come_out_at_once(error: Exception) -> None:
    """What waiting cannot mend is not tried again."""
    clock, operation = FakeClock(), Failing(error)
    with pytest.raises(type(error)):
        call(operation, clock)
    assert (operation.calls, clock.sleeps) == (1, [])
