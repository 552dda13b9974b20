"""Upload receipts: what Sentinel took and what it refused, written into the ledger.

Rejections are written before the chunk's row: a row that says uploaded has them all.
"""

import json
from datetime import datetime
from typing import Any, Final

from common.clock import Clock
from common.envelope import Envelope
from common.events import Event, emit
from common.fingerprints import FINGERPRINT_BYTES, id_hash, pack
from common.ledger import Ledger
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.tables import MAX_BINARY_PROPERTY
from consumer.outcomes import Done

MAX_IDS: Final = MAX_BINARY_PROPERTY // FINGERPRINT_BYTES
"""Hashes of ids that the row of a chunk takes; Sentinel takes a hundred records at once."""


class ReceiptWriter:
    """Writes upload receipts. Safe to use from several threads."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def write(self, done: Done, envelope: Envelope, *, in_time: bool) -> None:
        """Keep the rejections, then mark the chunk uploaded; called twice: the same rows.

        `in_time`: it was uploaded at its first delivery and in its slot. Before any other upload a
        later run may have sent a newer version of an indicator, which is replaced then.
        """
        now = self._clock.now()
        rejected = envelope.count - done.accepted
        if rejected:
            self._ledger.rejections.record(rejections_of(done, envelope, at=now))
        self._ledger.chunks.record_uploaded(
            envelope,
            accepted=done.accepted,
            rejected=rejected,
            at=now,
            late_ids=b"" if in_time else ids_of(envelope),
        )
        if done.stray:
            emit(
                Event.CONTRACT_DRIFT,
                run=envelope.run_id,
                chunk=envelope.key,
                reason="Sentinel named records that the chunk does not have",
                stray=len(done.stray),
            )
        emit(
            Event.CHUNK_UPLOADED,
            run=envelope.run_id,
            chunk=envelope.key,
            accepted=done.accepted,
            rejected=rejected,
            deferrals=envelope.deferrals,
            trace=envelope.trace_parent,
        )


def rejections_of(done: Done, envelope: Envelope, *, at: datetime) -> list[Rejection]:
    """Return the rejections of a receipt, each with the record it speaks of, if it has it."""
    objects = _records_of(envelope)
    rejections = []
    for error in (*done.rejected, *done.stray):
        known = objects[error.index] if 0 <= error.index < len(objects) else None
        rejections.append(
            Rejection(
                run_id=envelope.run_id,
                position=f"chunk-{envelope.key}-{error.index}",
                rejected_by=RejectedBy.SENTINEL,
                indicator_id=_text(known, "id"),
                pattern=_text(known, "pattern"),
                reason="; ".join(error.messages) or "no reason given",
                content=b"" if known is None else json.dumps(known).encode(),
                at=at,
            )
        )
    return rejections


def ids_of(envelope: Envelope) -> bytes:
    """Return the packed hashes of the ids in a chunk, in order.

    Nothing where its body does not hold the records that it counts, or more than a property of the
    ledger takes: the producer did not write that, and the row of a chunk must take all there is.
    """
    objects = _records_of(envelope)
    if len(objects) != envelope.count or len(objects) > MAX_IDS:
        return b""
    return pack(id_hash(_text(known, "id")) for known in objects)


def _records_of(envelope: Envelope) -> list[Any]:
    """Return the records in the body; none where it is no array of them."""
    try:
        objects = json.loads(envelope.body)
    except (ValueError, RecursionError):
        return []
    return objects if isinstance(objects, list) else []


def _text(known: object, name: str) -> str:
    """Return a text of a record as every store takes it; nothing where it is none."""
    value = known.get(name) if isinstance(known, dict) else None
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
