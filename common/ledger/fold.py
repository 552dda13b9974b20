"""Folding: what finished chunks leave behind, before a new run decides what is still to send.

Chunk rows are read once. Finished ones become fingerprints in the known set and counts in their
run's row, and are removed, in this order: a crash between two steps repeats the ones before it,
which changes nothing. Chunks that are not finished are *in flight*: their indicators count as
known. Of some rows nobody can tell what they left at Sentinel: they are *doubted*, and stay until a
run that has looked at them is complete (docs/adr/0013). What a row means for a run is decided in
one place, `_Found.add`. A chunk behind its run's last checkpoint enters the run's own counts with
it, so that the books stay balanced without its row. Only the holder of the run lease folds.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from itertools import batched, groupby
from typing import Final

from common.fingerprints import Doubts, to_array, version_mark
from common.ledger.chunks import Chunk, Chunks, uncounted
from common.ledger.known import Known
from common.ledger.runs import Counts, Run, Runs
from common.ledger.states import FINISHED_CHUNKS, ChunkState, RunState

_SEEN_AT_ONCE: Final = 1000
"""Rows marked before the lease is looked at: ten transactions, seconds even on slow storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """What a run must know besides the known set: fingerprints on their way, and doubts."""

    fingerprints: "array[int]"
    doubts: Doubts


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What folding found: what is in flight, rows folded away, and messages that are gone."""

    in_flight: InFlight
    folded: int
    missing: int = 0


def fold_chunks(
    *,
    run_id: str,
    is_full: bool,
    runs: Runs,
    chunks: Chunks,
    known: Known,
    at: datetime,
    queues_are_empty: bool,
    keep_going: Callable[[], None],
) -> Fold:
    """Fold the finished chunks of every run; return what is in flight. For the new run `run_id`.

    `is_full`: the run sends what was uploaded, too.

    `queues_are_empty` must have been seen *before* this call: a chunk that is queued all the same
    has lost its message (somebody cleared the queue, or damaged it). It is discarded, so that
    its indicators are sent anew. `keep_going` is called between runs, and within large ones.
    """
    found = _Found(is_full=is_full)
    has_looked = cache(lambda seen_by: _has_looked(runs.get(seen_by)))
    folded = missing = 0
    for chunks_of, rows in groupby(chunks.all(), key=lambda chunk: chunk.run_id):
        mine = list(rows)
        if queues_are_empty:
            gone = _discard_queued(mine, chunks=chunks, at=at)
            missing += len(gone)
            mine = [replace(c, state=ChunkState.DISCARDED) if c.key in gone else c for c in mine]
        doubted = {c.key for c in mine if _is_doubtful(c) and not has_looked(_seen_by(c))}
        unseen = [c for c in mine if c.key in doubted and _seen_by(c) != run_id]
        for some in batched(unseen, _SEEN_AT_ONCE, strict=False):
            chunks.record_seen(some, run_id=run_id)
            keep_going()
        waiting = {c.key for c in mine if c.state not in FINISHED_CHUNKS} | doubted
        run = runs.get(chunks_of) if len(waiting) < len(mine) else None
        finished = [] if run is None else _foldable(run, mine, waiting)
        folding = {chunk.key for chunk in finished}
        for chunk in mine:
            if chunk.key not in folding:
                found.add(chunk, is_doubted=chunk.key in doubted)
        if run is not None and finished:
            _fold_run(run, finished, runs=runs, chunks=chunks, known=known, at=at)
        folded += len(finished)
        keep_going()
    return Fold(in_flight=found.in_flight(), folded=folded, missing=missing)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is found in flight, row by row."""

    is_full: bool
    fingerprints: "array[int]" = field(default_factory=lambda: array("Q"))
    ids: "array[int]" = field(default_factory=lambda: array("Q"))
    versions: "array[int]" = field(default_factory=lambda: array("Q"))
    called_off: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, chunk: Chunk, *, is_doubted: bool) -> None:
        """Take in a row that is not folded away.

        Its own version of an indicator, the one in the chunk, is

        - queued, poisoned: on its way, not sent;
        - uploaded: the same, but sent by a full run;
        - discarded: called off, sent even if it is known, as the upload that made it known may have
          been replaced since. Once a run has looked, it is like any other.

        Other versions of an indicator are sent if the row is doubted and has ids.
        """
        mine = to_array(chunk.fingerprints)
        ids = to_array(chunk.late_ids) if is_doubted else array("Q")
        self.ids.extend(ids)
        if chunk.state is ChunkState.DISCARDED:
            self.called_off.extend(mine if is_doubted else ())
            return
        if len(ids) == len(mine):
            self.versions.extend(map(version_mark, ids, mine))
        if not (self.is_full and chunk.state is ChunkState.UPLOADED):
            self.fingerprints.extend(mine)

    def in_flight(self) -> InFlight:
        doubts = Doubts(ids=self.ids, versions=self.versions, fingerprints=self.called_off)
        return InFlight(fingerprints=self.fingerprints, doubts=doubts)


def _is_doubtful(chunk: Chunk) -> bool:
    """Whether nobody can tell what the chunk left at Sentinel, until a run has looked."""
    return bool(chunk.late_ids) or chunk.state is ChunkState.DISCARDED


def _seen_by(chunk: Chunk) -> str:
    """Return the run that looked at the chunk as it is; none if it was moved under its eyes."""
    return chunk.seen_by if chunk.seen_as == chunk.state.value else ""


def _has_looked(run: Run | None) -> bool:
    """Whether a run has seen a feed to its end; an empty one shows nothing."""
    return run is not None and run.state is RunState.COMPLETE and run.counts.fetched > 0


def _discard_queued(mine: list[Chunk], *, chunks: Chunks, at: datetime) -> set[str]:
    """Discard the chunks that are queued; return their keys."""
    queued = (chunk for chunk in mine if chunk.state is ChunkState.QUEUED)
    return {c.key for c in queued if chunks.move(c, ChunkState.DISCARDED, at=at)}


def chunks_in_flight(chunks: Chunks, *, run_id: str, is_full: bool) -> InFlight:
    """Return what is in flight for a resumed run: the chunks of other runs.

    What was in flight when it began may be uploaded by now, but is not folded yet: the same set,
    and less of it for a full run. Doubted is what was so when it began; it said so in the rows.
    """
    found = _Found(is_full=is_full)
    for chunk in chunks.all():
        if chunk.run_id != run_id:
            found.add(chunk, is_doubted=_is_doubtful(chunk) and _seen_by(chunk) == run_id)
    return found.in_flight()


def _foldable(run: Run, mine: Sequence[Chunk], waiting: set[str]) -> list[Chunk]:
    """Return the chunks that wait for nothing; those of one sequence only once all of them do."""
    held = {chunk.sequence for chunk in mine if chunk.key in waiting}
    return [
        chunk
        for chunk in mine
        if chunk.key not in waiting
        and (chunk.sequence not in held or run.folded.has(chunk.sequence))
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
