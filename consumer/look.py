"""The look at a chunk's row, right before each request: what of it may be sent now.

The producer decides which version of an indicator is to be sent, and writes that into the row. So a
request leaves only after a fresh look at the row: within `LOOK_IS_GOOD_FOR` seconds, by a clock
that counts suspended time. `judge_look` decides, and is pure.
"""

from dataclasses import dataclass

from common.envelope import Envelope
from common.ledger.chunks import Chunk
from common.ledger.states import ChunkState


@dataclass(frozen=True, slots=True, kw_only=True)
class Sendable:
    """The records at `indexes` may be sent; `chunk` is the row, None where the ledger has none."""

    indexes: tuple[int, ...]
    chunk: Chunk | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Nothing of the chunk may be sent any more: acknowledge the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotNow:
    """The message has to wait, and is not at fault."""

    reason: str


Look = Sendable | Settled | NotNow


def judge_look(
    envelope: Envelope, chunk: Chunk | None, *, ledger_id: str | None, destination: str
) -> Look:
    """Return what of a message may be sent. `ledger_id` counts only where there is no row. Pure.

    Every message is put on the queue after its row was written. So a chunk without a row is
    settled, unless the ledger was lost: then its id differs from the envelope's. A ledger without
    an id may be temporarily out of reach; the producer's next tick gives it one.
    """
    if chunk is None:
        if ledger_id is None:
            return NotNow(
                reason="the ledger has no id: its table is not there, or was made just now and is "
                "not ready yet"
            )
        if ledger_id == envelope.ledger_id:
            return Settled()
        return Sendable(indexes=envelope.indexes, chunk=None)
    if chunk.state is ChunkState.OTHER:
        return NotNow(
            reason="the chunk's row was written by a later release, or is damaged: it is left alone"
        )
    open_ones = set(chunk.to_send)
    indexes = tuple(index for index in envelope.indexes if index in open_ones)
    if not indexes:
        return Settled()
    if chunk.destination != destination:
        return NotNow(
            reason=f"the chunk is meant for {chunk.destination}, this app sends to {destination}: "
            "set WORKSPACE_ID and SENTINEL_BASE_URL as they were, or let `lumen-sentinel "
            "destination adopt` turn the chunks over"
        )
    return Sendable(indexes=indexes, chunk=chunk)
