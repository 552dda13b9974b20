"""Folding: what finished chunks leave behind, before a new run decides what is still to send.

Chunk rows are read once. Finished ones become fingerprints in the known set and counts in their
run's row, and are removed, in this order: a crash between two steps repeats the ones before it,
which changes nothing. Chunks that are not finished are *in flight*: their indicators count as
known. A chunk behind its run's last checkpoint enters the run's own counts with it, so that the
books stay balanced without its row. Only the holder of the run lease folds.
"""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from common.fingerprints import to_array
from common.ledger.chunks import Chunk, Chunks, uncounted
from common.ledger.known import Known
from common.ledger.runs import Counts, Run, Runs
from common.ledger.states import FINISHED_CHUNKS, ChunkState


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What folding found: fingerprints in flight, rows folded away, and messages that are gone."""

    in_flight: "array[int]"
    folded: int
    missing: int = 0


def fold_chunks(
    *,
    runs: Runs,
    chunks: Chunks,
    known: Known,
    at: datetime,
    queues_are_empty: bool,
    keep_going: Callable[[], None],
) -> Fold:
    """Fold the finished chunks of every run; return what is in flight. For a new run only.

    `queues_are_empty` must have been seen *before* this call: a chunk that is queued all the same
    has lost its message (somebody cleared the queue, or damaged it). It is discarded, so that
    its indicators are sent anew. `keep_going` is called between runs.
    """
    in_flight = array("Q")
    folded = missing = 0
    for run_id, rows in groupby(chunks.all(), key=lambda chunk: chunk.run_id):
        mine = list(rows)
        if queues_are_empty:
            gone = _discard_queued(mine, chunks=chunks, at=at)
            missing += len(gone)
            mine = [replace(c, state=ChunkState.DISCARDED) if c.key in gone else c for c in mine]
        run = runs.get(run_id) if any(chunk.state in FINISHED_CHUNKS for chunk in mine) else None
        finished = [] if run is None else _foldable(run, mine)
        folding = {chunk.key for chunk in finished}
        for chunk in mine:
            if chunk.key not in folding and chunk.state is not ChunkState.DISCARDED:
                in_flight.extend(to_array(chunk.fingerprints))
        if run is not None and finished:
            _fold_run(run, finished, runs=runs, chunks=chunks, known=known, at=at)
        folded += len(finished)
        keep_going()
    return Fold(in_flight=in_flight, folded=folded, missing=missing)


def _discard_queued(mine: list[Chunk], *, chunks: Chunks, at: datetime) -> set[str]:
    """Discard the chunks that are queued; return their keys."""
    queued = (chunk for chunk in mine if chunk.state is ChunkState.QUEUED)
    return {c.key for c in queued if chunks.move(c, ChunkState.DISCARDED, at=at)}


def chunks_in_flight(chunks: Chunks, *, except_run: str) -> "array[int]":
    """Return the fingerprints of every chunk of other runs, as a resumed run must see them.

    What was in flight when it began may be uploaded by now, but is not folded yet: the same set.
    """
    in_flight = array("Q")
    for chunk in chunks.all():
        if chunk.run_id != except_run and chunk.state is not ChunkState.DISCARDED:
            in_flight.extend(to_array(chunk.fingerprints))
    return in_flight


def _foldable(run: Run, mine: list[Chunk]) -> list[Chunk]:
    """Return the finished chunks; those of one sequence only once all of them are finished."""
    waiting = {c.sequence for c in mine if c.state not in FINISHED_CHUNKS}
    return [
        chunk
        for chunk in mine
        if chunk.state in FINISHED_CHUNKS
        and (chunk.sequence not in waiting or run.folded.has(chunk.sequence))
    ]


def _fold_run(
    run: Run, finished: list[Chunk], *, runs: Runs, chunks: Chunks, known: Known, at: datetime
) -> None:
    uploaded = b"".join(c.fingerprints for c in finished if c.state is ChunkState.UPLOADED)
    known.add(to_array(uploaded), at=at)
    counted = count_chunks(run, finished)
    if counted != run:
        runs.save(counted)
    chunks.remove(finished)


def count_chunks(run: Run, finished: Iterable[Chunk]) -> Run:
    """Return `run` with every chunk of `finished` counted that is not yet. Pure.

    A chunk behind the checkpoint, or a second one of its sequence, was fetched and enqueued as a
    matter of fact, though the run's counts do not have it.
    """
    new = [chunk for chunk in finished if not run.folded.has(chunk.sequence)]
    extra = uncounted(new, checkpoint=0 if run.cursor is None else run.cursor.sequence)
    beyond = sum(chunk.count for chunk in new if chunk.key in extra)
    folded = run.folded
    for chunk in new:
        folded = replace(
            folded,
            accepted=folded.accepted + chunk.accepted,
            rejected=folded.rejected + chunk.rejected,
            discarded=folded.discarded
            + (chunk.count if chunk.state is ChunkState.DISCARDED else 0),
            chunks=folded.chunks | 1 << chunk.sequence,
        )
    counts = run.counts + Counts(fetched=beyond, enqueued=beyond)
    return replace(run, folded=folded, counts=counts)
