"""Reconciliation: does every indicator of a run have a known fate? The conservation law, computed.

Two sides wrote the numbers: the producer what it read and enqueued, the consumer what became of
each chunk. That both agree is the proof; that they do not is shown, never smoothed over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from common.ledger.chunks import Chunk, uncounted
from common.ledger.runs import Run
from common.ledger.states import ChunkState


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The fate of a run's indicators."""

    fetched: int
    filtered: int
    invalid: int
    unchanged: int
    enqueued: int
    accepted: int
    rejected: int
    poisoned: int
    pending: int

    @property
    def balanced(self) -> bool:
        """Whether both laws of conservation hold."""
        read = self.filtered + self.invalid + self.unchanged + self.enqueued
        sent = self.accepted + self.rejected + self.poisoned + self.pending
        return self.fetched == read and self.enqueued == sent


def reconcile(run: Run, chunks: Iterable[Chunk]) -> Reconciliation:
    """Return the fate of the indicators of `run`, whose `chunks` are given. Pure.

    Chunks behind the checkpoint of a run are on the queue but not yet in its counts (it is
    running, or died there): they were fetched and enqueued as a matter of fact. So was a second
    chunk of one sequence: the producer died, and read on in another way. Chunks that an
    operator discarded count as poisoned. A row that is folded already is a late copy's.
    """
    folded = run.folded
    open_rows = [chunk for chunk in chunks if not folded.has(chunk.sequence)]
    extra = uncounted(open_rows, checkpoint=0 if run.cursor is None else run.cursor.sequence)
    beyond = sum(chunk.count for chunk in open_rows if chunk.key in extra)
    poisoned = pending = 0
    accepted, rejected, discarded = folded.accepted, folded.rejected, folded.discarded
    for chunk in open_rows:
        match chunk.state:
            case ChunkState.UPLOADED:
                accepted += chunk.accepted
                rejected += chunk.rejected
            case ChunkState.POISONED:
                poisoned += chunk.count
            case ChunkState.DISCARDED:
                discarded += chunk.count
            case ChunkState.QUEUED:
                pending += chunk.count
            case _:
                assert_never(chunk.state)
    return Reconciliation(
        fetched=run.counts.fetched + beyond,
        filtered=run.counts.filtered,
        invalid=run.counts.invalid,
        unchanged=run.counts.unchanged,
        enqueued=run.counts.enqueued + beyond,
        accepted=accepted,
        rejected=rejected,
        poisoned=poisoned + discarded,
        pending=pending,
    )
