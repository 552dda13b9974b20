"""Folding: what finished chunks leave behind, before a new run decides what is still to send.

Chunk rows are read once. Finished ones become fingerprints in the known set and counts in their
run's row, and are removed, in this order: a crash between two steps repeats the ones before it,
which changes nothing. Chunks that are not finished are *in flight*: their indicators count as
known. Only the holder of the run lease folds.
"""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from common.fingerprints import to_array
from common.ledger.chunks import Chunk, Chunks
from common.ledger.known import Known
from common.ledger.runs import Folded, Run, Runs
from common.ledger.states import FINISHED_CHUNKS, ChunkState


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What folding found: fingerprints in flight, and how many rows it folded away."""

    in_flight: "array[int]"
    folded: int


def fold_chunks(
    *,
    runs: Runs,
    chunks: Chunks,
    known: Known,
    at: datetime,
    keep_going: Callable[[], None],
) -> Fold:
    """Fold the finished chunks of every run; return what is in flight. For a new run only.

    `keep_going` is called between runs.
    """
    in_flight = array("Q")
    folded = 0
    for run_id, rows in groupby(chunks.all(), key=lambda chunk: chunk.run_id):
        mine = list(rows)
        finished = [chunk for chunk in mine if chunk.state in FINISHED_CHUNKS]
        run = runs.get(run_id) if finished else None
        if run is None:
            finished = []
        for chunk in mine:
            if chunk.state not in FINISHED_CHUNKS or run is None:
                in_flight.extend(to_array(chunk.fingerprints))
        if run is not None:
            _fold_run(run, finished, runs=runs, chunks=chunks, known=known, at=at)
        folded += len(finished)
        keep_going()
    return Fold(in_flight=in_flight, folded=folded)


def chunks_in_flight(chunks: Chunks, *, except_run: str) -> "array[int]":
    """Return the fingerprints of every chunk of other runs, as a resumed run must see them.

    What was in flight when it began may be uploaded by now, but is not folded yet: the same set.
    """
    in_flight = array("Q")
    for chunk in chunks.all():
        if chunk.run_id != except_run and chunk.state is not ChunkState.DISCARDED:
            in_flight.extend(to_array(chunk.fingerprints))
    return in_flight


def _fold_run(
    run: Run, finished: list[Chunk], *, runs: Runs, chunks: Chunks, known: Known, at: datetime
) -> None:
    uploaded = b"".join(c.fingerprints for c in finished if c.state is ChunkState.UPLOADED)
    known.add(to_array(uploaded), at=at)
    counted = count_chunks(run.folded, finished)
    if counted != run.folded:
        runs.save(run, folded=counted)
    chunks.remove(finished)


def count_chunks(folded: Folded, finished: Iterable[Chunk]) -> Folded:
    """Return `folded` with every chunk of `finished` that it does not have yet. Pure."""
    for chunk in finished:
        if folded.has(chunk.sequence):
            continue
        folded = replace(
            folded,
            accepted=folded.accepted + chunk.accepted,
            rejected=folded.rejected + chunk.rejected,
            discarded=folded.discarded
            + (chunk.count if chunk.state is ChunkState.DISCARDED else 0),
            chunks=folded.chunks | 1 << chunk.sequence,
        )
    return folded
