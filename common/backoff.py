"""How long to wait before trying again: exponential, jittered, and as the service asks.

Up to half of a delay is random, so that instances that failed together do not come back together. A
`Retry-After` longer than the delay is obeyed to the second. One beyond the cap is cut: the tries
then end sooner than the service wants, and the caller gets the last error, with the time that was
asked for, and gives the work back. `call_with_retries` is the only loop that retries.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from common.clock import Clock
from common.errors import OutOfTimeError, ThrottledError, UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A retry schedule: `tries` calls in total, with waits in seconds between them."""

    tries: int = 5
    base: float = 1.0
    cap: float = 60.0

    def delay(
        self, failures: int, rng: random.Random, *, retry_after: float | None = None
    ) -> float:
        """Return the seconds to wait after the `failures`-th failure in a row (from 1).

        Between half of and the whole of `base * 2**(failures - 1)`, at most `cap`; with
        `retry_after`, at least that long, still at most `cap`.
        """
        ceiling = min(self.cap, self.base * 2.0 ** min(failures - 1, 63))
        jittered = ceiling * rng.uniform(0.5, 1.0)
        return min(self.cap, max(jittered, retry_after or 0.0))


def retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; None if it is not usable.

    Both forms of RFC 9110 section 10.2.3: seconds, or an HTTP date.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def call_with_retries[T](
    operation: Callable[[], T],
    *,
    backoff: Backoff,
    clock: Clock,
    rng: random.Random,
    give_up_at: float | None = None,
) -> T:
    """Return what `operation` returns, calling it again when it is throttled or unavailable.

    `give_up_at` is a moment of `clock.monotonic()`: a wait that would pass it is not begun.
    Raises: the last error after `backoff.tries` calls; `OutOfTimeError`; any other error of
    `operation` at once.
    """
    failures = 0
    while True:
        try:
            return operation()
        except (ThrottledError, UnavailableError) as error:
            failures += 1
            if failures >= backoff.tries:
                raise
            asked = error.retry_after if isinstance(error, ThrottledError) else None
            wait = backoff.delay(failures, rng, retry_after=asked)
            if give_up_at is not None and clock.monotonic() + wait > give_up_at:
                raise OutOfTimeError(f"no time left for another try after: {error}") from error
        clock.sleep(wait)
