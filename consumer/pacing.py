"""Pacing: every request needs a send slot, and an invocation waits for one only briefly.

A message that arrives at its slot is sent. A late message has lost its slot and reserves another.
If that slot is within `MAX_WAIT` seconds, the invocation waits; else the message goes back on the
queue until then. After a 429 this instance sends nothing for the time that Sentinel asked for, and
new slots are reserved after that time.
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
"""A message is on time from this many seconds before its slot. The queue delivers a message early
only if the slot is more than seven days away, the queue's longest delay. Anything earlier by less
is a difference between clocks, and not worth a wait."""

MAX_WAIT: Final = 2.0
"""Seconds that an invocation may wait for a slot: waiting is billed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The request may leave now, or until `Clock.boottime` is `until`."""

    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComeBack:
    """The request's slot is at `slot` (seconds since 1970), `delay` seconds from now."""

    slot: float
    delay: float


Permit = Go | ComeBack


class Pacer:
    """Hands out permits. Safe to use from several threads."""

    def __init__(self, slots: Slots, *, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_until = datetime.fromtimestamp(0, UTC)

    def is_on_time(self, slot: float | None) -> bool:
        """Whether the message of a request is not yet late for its `slot`."""
        now = self._clock.now()
        is_late = slot is None or now.timestamp() - slot > LATE_AFTER
        return not is_late and now >= self._closed_until

    def is_good(self, permit: Go) -> bool:
        """Whether the request of a permit may still leave, after what was done since."""
        return self._clock.boottime() <= permit.until

    def permit(self, slot: float | None, *, soon: bool = False) -> Permit:
        """Return whether the request of a message with this `slot` may leave.

        May wait up to `MAX_WAIT`. `soon`: see `come_back`. Raises what the ledger raises.
        """
        if slot is not None:
            early = slot - self._clock.now().timestamp()
            if early > EARLY_BEFORE:
                return ComeBack(slot=slot, delay=early)
            if self.is_on_time(slot):
                return self._go(late=max(-early, 0.0))
        return self.next_permit(soon=soon)

    def next_permit(self, *, soon: bool = False) -> Permit:
        """Reserve the next slot, wait for it if it is near, and return what it allows."""
        later = self.come_back(soon=soon)
        if later.delay > MAX_WAIT:
            return later
        self._clock.sleep(later.delay)
        return self._go()

    def near_permit(self) -> Go | None:
        """Reserve the next slot and wait for it, if it is near; else reserve none and return None.

        For an optional second request. If another sender takes the slot between check and
        reservation, one slot is wasted; this is rare.
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

    def _go(self, *, late: float = 0.0) -> Go:
        return Go(until=self._clock.boottime() + LATE_AFTER - late)

    def _reserve(self, *, soon: bool) -> datetime:
        return (self._slots.reserve_soon() if soon else self._slots.reserve(1)).first

    def throttled(self, wait: float) -> None:
        """Stop sending for `wait` seconds: this instance at once, others by later slots."""
        until = self._clock.now() + timedelta(seconds=wait)
        with self._lock:
            self._closed_until = max(self._closed_until, until)
        self._slots.push(until)
