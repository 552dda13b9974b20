"""Upload receipts: what Sentinel took and what it refused, written into the ledger.

Rejections are written before the chunk's row: a row that says uploaded has them all.
"""

import json
from datetime import datetime

from common.clock import Clock
from common.envelope import Envelope, records_of, text_of
from common.events import Event, emit
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.rejections import RejectedBy, Rejection
from consumer.outcomes import Done


class ReceiptWriter:
    """Writes upload receipts. Safe to use from several threads."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def write(self, done: Done, envelope: Envelope, chunk: Chunk | None) -> None:
        """Keep the rejections, then record the answer on `chunk`; called twice: the same rows.

        `chunk` is the row as it was seen right before the request. Without one the answer stands
        in the log only: the ledger that the chunk was in is lost.
        """
        now = self._clock.now()
        rejected = len(done.sent) - done.accepted
        if rejected:
            self._ledger.rejections.record(rejections_of(done, envelope, at=now))
        if chunk is not None:
            self._ledger.chunks.record_uploaded(
                chunk,
                sent=done.sent,
                rejected={error.index for error in done.rejected},
                stray=len(done.stray),
                at=now,
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
        )


def rejections_of(done: Done, envelope: Envelope, *, at: datetime) -> list[Rejection]:
    """Return the rejections of a receipt, each with the record it speaks of, if it has it."""
    records = records_of(envelope)
    rejections = []
    answers = [(error, False) for error in done.rejected] + [(error, True) for error in done.stray]
    for error, is_stray in answers:
        known = None if is_stray else records.get(error.index)
        which = f"stray-{error.index}" if is_stray else f"{error.index}"
        rejections.append(
            Rejection(
                run_id=envelope.run_id,
                position=f"chunk-{envelope.key}-{which}",
                rejected_by=RejectedBy.SENTINEL,
                indicator_id=text_of(known, "id"),
                pattern=text_of(known, "pattern"),
                reason="; ".join(error.messages) or "no reason given",
                content=b"" if known is None else json.dumps(known).encode(),
                at=at,
            )
        )
    return rejections
