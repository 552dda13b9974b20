"""Folding: settled rows of closed runs become entries of the version index, and are removed.

Each tick reads all chunk rows once. In order: the index is fenced, the rows are read, settled rows
are entered under the fence. Only then are they removed, each only if it is unchanged since it was
read, in one transaction with the counts and the sample in the head of their run. If it dies
halfway, the next tick repeats the steps, which changes nothing; a tick that was overtaken fails at
the fence. A row is folded with or after every earlier row that shares an indicator with it, so that
later rows win.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import batched, compress, groupby
from typing import Final

from common.errors import ConflictError
from common.ledger.chunks import Chunk, Chunks, Fate, removal
from common.ledger.runs import ROWS_A_WRITE, Folded, Run, Runs
from common.ledger.samples import of_run, unpack_samples
from common.ledger.states import CLOSED_RUNS
from common.ledger.versions import Manifest
from producer.entries import (
    Keeping,
    RowRecords,
    RowTable,
    concerning,
    entries_of,
    foldable,
    row_table,
    to_enter,
    waiting_elsewhere,
)
from producer.index import Segment, VersionIndex
from producer.known import Known, records_of_chunks

KNOWN_MAX: Final = 10_000_000
"""Most entries of an index; 26 bytes each, so 260 MB of an instance of 2 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldConfig:
    """How long versions are known, in days, and how many at most."""

    destination: str
    keeping: Keeping
    known_max: int = KNOWN_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a tick found before it asks Lumen: the known versions, and what was folded."""

    known: Known
    folded: int = 0
    dropped: int = 0
    """Entries that were dropped because the index was full, or whose rows are damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowRef:
    """What folding needs of a row once its records are in arrays."""

    chunk: Chunk
    destination: str

    @property
    def place(self) -> tuple[str, str]:
        return self.chunk.run_id, self.chunk.key


def survey(
    *,
    runs: Runs,
    chunks: Chunks,
    index: VersionIndex,
    config: FoldConfig,
    tick: str,
    today: int,
    keep_going: Callable[[], None],
) -> Survey:
    """Fold what is settled; return what is known. `keep_going` is called between the steps.

    Raises `LeaseLostError` when another tick has the index now.
    """
    manifests = _fence(index, config.destination, tick=tick)
    keep_going()
    rows, records = _read(chunks.all())
    keep_going()
    heads = {run_id: runs.get(run_id) for run_id in dict.fromkeys(r.chunk.run_id for r in rows)}
    candidates = [_may_be_folded(row.chunk, heads[row.chunk.run_id]) for row in rows]
    may = foldable(records, candidates)
    segments: list[Segment] = []
    dropped = 0
    for name in sorted({*manifests, *(row.destination for row in rows)}):
        manifest = manifests.get(name) or index.fence(name, tick=tick)
        loaded, went = _enter(
            name, manifest, rows, records, may, index=index, config=config, today=today
        )
        dropped += went
        if name == config.destination:
            segments = loaded
        keep_going()
    folded = [row.chunk for row in compress(rows, may)]
    removed = _remove(folded, heads, runs=runs, tick=tick, keep_going=keep_going)
    known = Known(segments, _table_for(config.destination, rows, records))
    return Survey(known=known, folded=removed, dropped=dropped)


def _fence(index: VersionIndex, destination: str, *, tick: str) -> dict[str, Manifest]:
    """Replace the manifest of each destination, then remove segments that none of them names."""
    names = index.segment_names()
    others, damaged = index.destinations()
    manifests = {name: index.fence(name, tick=tick) for name in sorted({destination, *others})}
    listed = {info.name for manifest in manifests.values() for info in manifest.segments}
    if not damaged:  # a damaged manifest may list some of them
        index.sweep(names - listed)
    return manifests


def _table_for(destination: str, rows: Sequence[_RowRef], records: RowRecords) -> RowTable:
    """Return the versions in the rows that count for one destination.

    A record that only another destination answered is not among them, as in its index. One that
    waits for another destination does not keep its version from being sent to this one.
    """
    here = [row.destination == destination for row in rows]
    mine = records.take(concerning(records, answered_here=here))
    return row_table([row.place for row in rows], waiting_elsewhere(mine, is_here=here))


def _read(chunks: Iterable[Chunk]) -> tuple[list[_RowRef], RowRecords]:
    """Return all rows in the order in which they were written, and their records as arrays.

    Each row's bytes are freed at once: a backlog has tens of thousands of rows.
    """
    found = [
        (_RowRef(chunk=_light(chunk), destination=chunk.destination), chunk.records)
        for chunk in chunks
        if chunk.records  # a damaged row has none; a later release's row stays
    ]
    found.sort(key=lambda pair: (pair[0].chunk.run_id, pair[0].chunk.epoch, pair[0].chunk.sequence))
    rows = [row for row, _ in found]
    packed = (records for _, records in found)
    return rows, records_of_chunks([row.chunk for row in rows], packed)


def _light(chunk: Chunk) -> Chunk:
    """Return a chunk without its records, with what its removal needs."""
    row = None if chunk.row is None else replace(chunk.row, data={})
    return replace(chunk, records=b"", reason="", row=row)


def _may_be_folded(chunk: Chunk, run: Run | None) -> bool:
    """Return whether a row is settled and its run closed, so that it can change no more."""
    return run is not None and run.state in CLOSED_RUNS and chunk.is_settled


def _enter(
    destination: str,
    manifest: Manifest,
    rows: Sequence[_RowRef],
    records: RowRecords,
    may: list[bool],
    *,
    index: VersionIndex,
    config: FoldConfig,
    today: int,
) -> tuple[list[Segment], int]:
    """Enter folded records into a destination's index; return its segments, and the dropped count.

    An answered record is entered for the destination that answered; others for every destination.
    """
    is_here = [row.destination == destination for row in rows]
    chosen = to_enter(records, folded=may, answered_here=is_here)
    entries = entries_of(records, today=today, keeping=config.keeping, chosen=chosen)
    if destination != config.destination and not len(entries):
        return [], 0
    known = index.load(manifest, today=today)
    missing = sum(segment.missing for segment in known)
    _, segments, dropped = index.add(manifest, known, entries, today=today, limit=config.known_max)
    return segments, dropped + missing


def _remove(
    folded: Sequence[Chunk],
    heads: dict[str, Run | None],
    *,
    runs: Runs,
    tick: str,
    keep_going: Callable[[], None],
) -> int:
    """Remove the rows of folded chunks and count them in their runs; return how many."""
    removed = 0
    for run_id, group in groupby(folded, key=lambda chunk: chunk.run_id):
        run = heads[run_id]
        for some in batched(group, ROWS_A_WRITE, strict=False):
            if run is None:
                break
            try:
                run = runs.save(
                    run,
                    tick=tick,
                    folded=run.folded + counted(some),
                    sample=of_run(run.sample, *(unpack_samples(one.sample) for one in some)),
                    rows=[removal(chunk) for chunk in some],
                )
            except ConflictError:
                break  # a late answer changed a row: the next tick reads again
            removed += len(some)
        keep_going()
    return removed


def counted(chunks: Iterable[Chunk]) -> Folded:
    """Return what settled chunks leave in the books; void ones leave nothing. Pure."""
    fate = sum((chunk.fate for chunk in chunks if not chunk.void), Fate())
    return Folded(
        accepted=fate.accepted,
        rejected=fate.rejected,
        struck=fate.struck,
        discarded=fate.discarded,
        waited=fate.waited,
    )
