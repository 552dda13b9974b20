"""Reconciliation: does every indicator of a run have a known fate? The conservation law, computed.

The numbers come from two sides: the producer counts what it read and enqueued, the consumer records
the outcome of each chunk. If both agree, that is the proof; if not, it is shown, never hidden.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from common.ledger.chunks import Chunk, Fate
from common.ledger.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The fate of a run's indicators; `corrections` are a part of those enqueued.

    `waited` is in seconds: from listed to accepted, added up over those that were accepted.
    """

    fetched: int
    filtered: int
    invalid: int
    unchanged: int
    older: int
    enqueued: int
    corrections: int
    accepted: int
    rejected: int
    struck: int
    poisoned: int
    pending: int
    waited: float = 0.0

    @property
    def accepted_after(self) -> float | None:
        """Seconds from listed to accepted, the mean; None where nothing was accepted."""
        return self.waited / self.accepted if self.accepted else None

    @property
    def balanced(self) -> bool:
        """Whether both laws of conservation hold."""
        read = self.filtered + self.invalid + self.unchanged + self.older + self.enqueued
        sent = self.accepted + self.rejected + self.struck + self.poisoned + self.pending
        return self.fetched == read and self.enqueued == sent


def reconcile(run: Run, chunks: Iterable[Chunk]) -> Reconciliation:
    """Return the fate of the indicators of `run`, whose `chunks` are given. Pure.

    Void chunks are not in the books: their page was read again, or is in a gap. Nor are chunks
    beyond the checkpoint: they enter the books once their messages are on the queue, or become
    void. Chunks that an operator discarded count as poisoned.
    """
    counted = [chunk for chunk in chunks if not chunk.void and chunk.sequence < run.sequence]
    fate = sum((chunk.fate for chunk in counted), Fate())
    folded, counts = run.folded, run.counts
    return Reconciliation(
        fetched=counts.fetched,
        filtered=counts.filtered,
        invalid=counts.invalid,
        unchanged=counts.unchanged,
        older=counts.older,
        enqueued=counts.enqueued,
        corrections=counts.corrections,
        accepted=folded.accepted + fate.accepted,
        rejected=folded.rejected + fate.rejected,
        struck=folded.struck + fate.struck,
        poisoned=folded.discarded + fate.discarded + fate.poisoned,
        pending=fate.pending,
        waited=folded.waited + fate.waited,
    )
