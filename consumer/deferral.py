"""Deferral: put a copy of an envelope back on the queue, with a delay and its history.

Hiding a queue message for hours would raise its dequeue count. So a delayed copy is sent, and the
delivery at hand is acknowledged. This module needs only storage: it keeps messages safe even while
every other setting is wrong.
"""

import random
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from common.clock import Clock
from common.envelope import Envelope, decode_envelope, encode_to_fit
from common.errors import PipelineError
from common.events import Event, emit, traced
from common.ledger import Ledger
from common.ledger.control import Pause
from common.queues import SendQueue
from consumer.pacing import ComeBack

OPERATOR_CAP: Final = 15
"""Longest wait while an operator is needed, in units of the first: 15 minutes by default, so that
uploads resume soon after the repair."""

ATTEMPT_CAP: Final = 60
"""Longest wait between two attempts that count, in units of the first: an hour by default."""

_SPREAD: Final = 0.2
"""Share of a delay that is added at random, so that copies do not come back together."""

_START_WITHIN: Final = timedelta(minutes=2)
"""The host polls a queue every minute, and an instance starts within another minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """Try again after `units` of the first delay, or after `seconds` where those are known.

    `counts` when the failure counts against the message.
    """

    reason: str
    units: float = 1.0
    seconds: float | None = None
    counts: bool = False


def longest_wait(first_delay: float) -> timedelta:
    """Return the longest wait for an operator between two tries, with the time to start one."""
    return timedelta(seconds=OPERATOR_CAP * first_delay * (1.0 + _SPREAD)) + _START_WITHIN


def growing(failures: int, *, cap: int) -> float:
    """Return the units to wait after `failures` earlier ones: doubling from 1."""
    return float(min(cap, 2 ** min(failures, 20)))


def defer_for_operator(envelope: Envelope, reason: str) -> Defer:
    """Return the deferral of a chunk that waits for an operator or for our own storage."""
    return Defer(reason=reason, units=growing(envelope.deferrals, cap=OPERATOR_CAP))


class Deferrer:
    """Sends delayed copies. Safe to use from several threads."""

    def __init__(
        self,
        *,
        queue: SendQueue,
        ledger: Ledger | None,
        clock: Clock,
        rng: random.Random,
        first_delay: float,
    ) -> None:
        """`first_delay` is in seconds: the wait before the first later try.

        Without a `ledger` no problem or reason is recorded: keeping messages safe does not need it.
        """
        self._queue = queue
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._first_delay = first_delay

    def longest(self, units: float) -> timedelta:
        """Return the longest wait of `units`."""
        return timedelta(seconds=units * self._first_delay * (1.0 + _SPREAD))

    def defer(self, envelope: Envelope, defer: Defer) -> None:
        """Enqueue the copy, then record the reason in the ledger; only the copy must succeed.

        Called twice: two copies; the second delivery finds the chunk uploaded. Raises what the
        queue raises; the host then still has the message.
        """
        now = self._clock.now()
        wanted = defer.units * self._first_delay if defer.seconds is None else defer.seconds
        delay = wanted * self._rng.uniform(1.0, 1.0 + _SPREAD)
        copy = envelope.deferred(
            at=stamp(now),
            reason=defer.reason,
            counts=defer.counts,
            due=now.timestamp() + delay,
        )
        self._queue.send(encode_to_fit(copy), delay=delay)
        if self._ledger is not None:
            with suppress(PipelineError):  # the copy carries the reason too
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

    def put_back(self, message: str, reason: str) -> None:
        """Enqueue a message as it is, for a release that can read it; nothing is counted."""
        self._queue.send(message, delay=self._first_delay)
        emit(Event.MESSAGE_PUT_BACK, reason=reason, delay=round(self._first_delay))

    def hold(self, envelope: Envelope, pause: Pause) -> None:
        """Enqueue the copy until the pause is over; nothing failed, so nothing is recorded.

        For `OPERATOR_CAP` at most: an operator may end the pause at any time.
        """
        now = self._clock.now()
        wanted = min((pause.until - now).total_seconds(), OPERATOR_CAP * self._first_delay)
        delay = wanted * self._rng.uniform(1.0, 1.0 + _SPREAD)
        copy = envelope.held_until(now.timestamp() + delay)
        self._queue.send(encode_to_fit(copy), delay=delay)
        emit(
            Event.CHUNK_POSTPONED,
            run=envelope.run_id,
            chunk=envelope.key,
            reason=pause.text,
            delay=round(delay),
            postponed=copy.postponed,
        )

    def enqueue(self, envelope: Envelope, come_back: ComeBack) -> None:
        """Enqueue a message for a send slot."""
        there = replace(envelope, slot=come_back.slot)
        self._queue.send(encode_to_fit(there), delay=come_back.delay)

    def postpone(self, envelope: Envelope, come_back: ComeBack) -> None:
        """Enqueue the copy for a later send slot; nothing failed, so nothing is recorded."""
        copy = envelope.moved_to(come_back.slot)
        self.enqueue(copy, come_back)
        emit(
            Event.CHUNK_POSTPONED,
            run=envelope.run_id,
            chunk=envelope.key,
            delay=round(come_back.delay),
            postponed=copy.postponed,
        )


def defer_message(message: str, reason: str, *, deferrer: Deferrer) -> None:
    """Defer a message for an operator; one that cannot be read goes back as it is."""
    try:
        envelope = decode_envelope(message)
    except PipelineError:
        deferrer.put_back(message, reason)
        return
    with traced(envelope.trace_parent):
        deferrer.defer(envelope, defer_for_operator(envelope, reason))


def stamp(moment: datetime) -> str:
    """Return `moment` in the format of an envelope's history."""
    return moment.isoformat(timespec="seconds")
