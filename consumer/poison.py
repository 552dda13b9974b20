"""Poison: keep every message that the consumer or the host gives up, whatever its content.

The host gives a message up after `maxDequeueCount` deliveries without an outcome, and copies it to
the poison queue with a new id, without a reason, for seven days. It also counts deliveries that
ended through no fault of the message: the host stops when storage is unavailable, and the messages
in flight come back. So the handler puts a message back on the upload queue up to `MAX_PUT_BACK`
times before it keeps the message as poison. If the handler raises, the host runs it again after ten
minutes or never, depending on the version of the queue extension. So no message content may raise
here; while the ledger is unreachable, a fresh copy goes to the poison queue instead.
"""

from dataclasses import replace
from typing import Final

from common.clock import Clock
from common.envelope import Envelope, decode_envelope, encode_to_fit
from common.errors import HaltError, LaterVersionError, TryLaterError, UndecodableError
from common.events import Event, emit, traced
from common.ledger import Ledger
from common.ledger.poison import (
    PoisonedBy,
    PoisonRecord,
    PoisonState,
    poison_of_envelope,
    poison_of_raw,
)
from common.ledger.states import ChunkState
from common.queues import SendQueue

KEEP_AGAIN_AFTER: Final = 10 * 60.0
"""Seconds until a message that could not be kept is tried again."""

MAX_PUT_BACK: Final = 3
"""How often a message that the host gave up goes back to the upload queue. Together with the first
time, that makes 20 deliveries without an outcome; an outage that stops the host uses up one."""

HOST_GAVE_UP: Final = (
    "the Functions host gave up: every delivery ended without an outcome (crash, time-out or "
    "storage out of reach)"
)


class PoisonKeeper:
    """Writes messages that are given up into the ledger. Safe to use from several threads.

    Every method raises what the ledger raises; no content of a message raises anything.
    """

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def keep_from_host(self, message: str) -> None:
        """Keep one message of the poison queue.

        Called twice: one row. If it dies halfway: the host delivers the message again.
        """
        try:
            envelope = decode_envelope(message)
        except UndecodableError as error:
            self.keep_undecodable(message, str(error), by=PoisonedBy.HOST)
            return
        again = f", {envelope.put_back + 1} times over" if envelope.put_back else ""
        with traced(envelope.trace_parent):
            self.keep_envelope(envelope, message, HOST_GAVE_UP + again, by=PoisonedBy.HOST)

    def keep_undecodable(self, message: str, reason: str, *, by: PoisonedBy) -> None:
        """Keep a message that cannot be decoded, as it is."""
        record = poison_of_raw(message, reason=reason, poisoned_by=by, at=self._clock.now())
        self._ledger.poison.keep(record)
        _announce(record)

    def keep_envelope(
        self, envelope: Envelope, message: str, reason: str, *, by: PoisonedBy
    ) -> None:
        """Keep the whole message, then mark its chunk; a chunk that is settled needs nothing."""
        chunks = self._ledger.chunks
        chunk = chunks.get(envelope.run_id, envelope.key)
        is_over = (
            chunks.known_ledger_id() == envelope.ledger_id
            if chunk is None
            else chunk.is_over(envelope.part)
        )
        if is_over:
            emit(Event.CHUNK_REPEATED, run=envelope.run_id, chunk=envelope.key)
            return
        record = poison_of_envelope(
            envelope, message, reason=reason, poisoned_by=by, at=self._clock.now()
        )
        self._ledger.poison.keep(record)
        chunks.record_poisoned(
            envelope.run_id, envelope.key, at=record.last_at, reason=reason, part=envelope.part
        )
        self._follow(record, envelope)
        _announce(record)

    def _follow(self, record: PoisonRecord, envelope: Envelope) -> None:
        """Make record and chunk agree if the chunk's row has changed since it was read.

        If an operator discarded the record, the chunk is discarded. If a copy was uploaded, or the
        chunk is void or superseded, the record needs no operator.
        """
        kept = self._ledger.poison.get(record.run_id, record.poison_id)
        chunk = self._ledger.chunks.get(envelope.run_id, envelope.key)
        if kept is None or chunk is None:
            return
        now = self._clock.now()
        if kept.state is PoisonState.DISCARDED:
            self._ledger.chunks.move(chunk, ChunkState.DISCARDED, at=now, part=envelope.part)
        elif kept.state is PoisonState.KEPT and chunk.is_over(envelope.part):
            self._ledger.poison.settle(kept, PoisonState.REPLAYED, at=now)


def handle_poison(
    message: str, *, keeper: PoisonKeeper, queue: SendQueue, upload_queue: SendQueue
) -> None:
    """Put one message of the poison `queue` back on the `upload_queue`, or keep it.

    While neither is possible, a copy goes to the poison queue. Called twice: two copies of one
    chunk, or one row. If it dies halfway: the host delivers the message again. Raises only if the
    copy failed, too.
    """
    try:
        if not put_back(message, queue=upload_queue):
            keeper.keep_from_host(message)
    except (TryLaterError, HaltError):
        queue.send(message, delay=KEEP_AGAIN_AFTER)


def put_back(message: str, *, queue: SendQueue) -> bool:
    """Send a message that the host gave up to the upload `queue` once more, and count it.

    False if the message is to be kept: it was put back `MAX_PUT_BACK` times, or it cannot be read.
    A message of a later release goes back unchanged, and is not counted. Raises what the queue
    raises.
    """
    try:
        envelope = decode_envelope(message)
    except UndecodableError:
        return False
    except LaterVersionError as error:
        queue.send(message, delay=KEEP_AGAIN_AFTER)
        emit(Event.MESSAGE_PUT_BACK, reason=str(error), delay=round(KEEP_AGAIN_AFTER))
        return True
    if envelope.put_back >= MAX_PUT_BACK:
        return False
    again = replace(envelope, put_back=envelope.put_back + 1, slot=None, due=envelope.due_at)
    queue.send(encode_to_fit(again))
    with traced(again.trace_parent):
        emit(Event.CHUNK_PUT_BACK, run=again.run_id, chunk=again.key, put_back=again.put_back)
    return True


def _announce(record: PoisonRecord) -> None:
    """Log the one canonical line of a message that was given up."""
    emit(
        Event.CHUNK_POISONED,
        run=record.run_id,
        chunk=record.poison_id,
        reason=record.reason,
        count=record.count,
        by=record.poisoned_by.value,
    )
