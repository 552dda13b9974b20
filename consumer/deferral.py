"""Deferral: put a copy of an envelope back on the queue, with a delay and its history.

A queue message cannot be moved to a later time for hours without its lease being counted, so a
delayed copy is sent and the delivery at hand acknowledged. Works with nothing but storage:
messages are kept safe even while every other setting is wrong.
"""

import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.clock import Clock
from common.envelope import Envelope, encode_envelope
from common.errors import CredentialError, TryLaterError
from common.events import Event, emit
from common.ledger import Ledger
from common.queues import SendQueue

FIRST_DELAY: Final = 60.0
"""Seconds before the first later try."""

MAX_DELAY_FOR_OPERATOR: Final = 15 * 60.0
"""Longest wait while an operator is needed: soon after the repair everything flows again."""

MAX_DELAY: Final = 3600.0
"""Longest wait between two attempts that count."""

_SPREAD: Final = 0.2
"""Share of a delay that is added at random, so that copies do not come back together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """Try again after `delay` seconds; `counts` when the attempt may be the message's fault."""

    reason: str
    delay: float
    counts: bool


def growing_delay(failures: int, *, cap: float) -> float:
    """Return the seconds to wait after `failures` earlier ones: doubling from a minute."""
    return min(cap, FIRST_DELAY * 2.0 ** min(failures, 20))


def defer_for_operator(envelope: Envelope, reason: str) -> Defer:
    """Return the deferral of a chunk that waits for an operator or for our own storage."""
    delay = growing_delay(envelope.deferrals, cap=MAX_DELAY_FOR_OPERATOR)
    return Defer(reason=reason, delay=delay, counts=False)


class Deferrer:
    """Sends delayed copies. Safe to use from several threads."""

    def __init__(
        self, *, queue: SendQueue, ledger: Ledger, clock: Clock, rng: random.Random
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._clock = clock
        self._rng = rng

    def defer(self, envelope: Envelope, defer: Defer) -> None:
        """Enqueue the copy, then note the reason in the ledger; only the copy is needed.

        Called twice: two copies, of which the second to be delivered finds the chunk uploaded.
        Raises what the queue raises; then the host still has the message.
        """
        now = self._clock.now()
        copy = envelope.deferred(at=stamp(now), reason=defer.reason, counts=defer.counts)
        delay = defer.delay * self._rng.uniform(1.0, 1.0 + _SPREAD)
        self._queue.send(encode_envelope(copy), delay=delay)
        with suppress(TryLaterError, CredentialError):  # the copy carries the reason too
            self._ledger.chunks.record_deferred(copy, at=now, reason=defer.reason)
        emit(
            Event.CHUNK_DEFERRED,
            run=envelope.run_id,
            chunk=envelope.key,
            reason=defer.reason,
            delay=round(delay),
            attempt=copy.attempt,
            deferrals=copy.deferrals,
        )


def stamp(moment: datetime) -> str:
    """Return `moment` as it stands in an envelope's history."""
    return moment.isoformat(timespec="seconds")
