"""Pacing: no request leaves without a send slot, and nobody waits long for one in a function.

A message that arrives at its slot goes out. One that arrives late lost its slot to time, so it
takes another: near enough to wait for here, or else it goes back on the queue until then. After a
429 this instance sends nothing for as long as it was told, and slots that are reserved from then
on lie behind that.
"""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from common.clock import CLOCK_SKEW, Clock
from common.ledger.slots import Slots

LATE_AFTER: Final = 3.0
"""Seconds past its slot after which a message must take another. At 95 requests a minute, three
seconds of lateness bring 100 into one sliding minute: the limit, and no more."""

EARLY_BEFORE: Final = CLOCK_SKEW
"""Seconds before its slot from which a message is on time. The queue delivers none early but one
whose slot is more than its longest delay away, seven days; what is early by less is a difference
between clocks, for which nothing should wait."""

MAX_WAIT: Final = 2.0
"""Seconds that an invocation may wait for a slot: it is billed meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The request may leave now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComeBack:
    """The request's slot is at `slot` (seconds since 1970), `delay` seconds from now."""

    slot: float
    delay: float


Permit = Go | ComeBack

GO: Final = Go()


class Pacer:
    """Hands out permits. Safe to use from several threads."""

    def __init__(self, slots: Slots, *, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_until = datetime.fromtimestamp(0, UTC)

    def is_on_time(self, slot: float | None) -> bool:
        """Whether a request may leave at once, or wait on: its message is not late for its slot."""
        now = self._clock.now()
        is_late = slot is None or now.timestamp() - slot > LATE_AFTER
        return not is_late and now >= self._closed_until

    def permit(self, slot: float | None, *, soon: bool = False) -> Permit:
        """Return whether a request may leave whose message was sent for `slot`.

        May wait up to `MAX_WAIT`. `soon`: see `come_back`. Raises what the ledger raises.
        """
        if slot is not None:
            early = slot - self._clock.now().timestamp()
            if early > EARLY_BEFORE:
                return ComeBack(slot=slot, delay=early)
            if self.is_on_time(slot):
                return GO
        return self.next_permit(soon=soon)

    def next_permit(self, *, soon: bool = False) -> Permit:
        """Reserve the next slot, wait for it if it is near, and return what it allows."""
        later = self.come_back(soon=soon)
        if later.delay > MAX_WAIT:
            return later
        self._clock.sleep(later.delay)
        return GO

    def near_permit(self) -> Go | None:
        """Reserve the next slot and wait for it if it is near, else leave it to others: None.

        For a request that nobody comes back for. Taken by another between the look and the
        reservation, a slot may be lost all the same: seldom, and one.
        """
        free = self._slots.next_free()
        opens = self._closed_until if free is None else max(free, self._closed_until)
        if (opens - self._clock.now()).total_seconds() > MAX_WAIT:
            return None
        permit = self.next_permit()
        return permit if isinstance(permit, Go) else None

    def come_back(self, *, soon: bool = False) -> ComeBack:
        """Reserve the next slot, to come back for it however near it is.

        With `soon` it may be a spare slot, which does not lie behind the backlog.
        """
        first = self._reserve(soon=soon)
        if first < self._closed_until:  # the slots could not be moved when it was closed
            self._slots.push(self._closed_until)
            first = self._reserve(soon=soon)
        wait = (first - self._clock.now()).total_seconds()
        return ComeBack(slot=first.timestamp(), delay=max(wait, 0.0))

    def _reserve(self, *, soon: bool) -> datetime:
        return (self._slots.reserve_soon() if soon else self._slots.reserve(1)).first

    def throttled(self, wait: float) -> None:
        """Hold everything back for `wait` seconds, here at once and elsewhere by the slots."""
        until = self._clock.now() + timedelta(seconds=wait)
        with self._lock:
            self._closed_until = max(self._closed_until, until)
        self._slots.push(until)
