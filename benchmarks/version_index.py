"""Row 9: what the version index costs at one and at ten million entries.

Memory is that of a process that imports what the producer does and loads the index from Azurite,
against one whose index is empty: what it ever held at once is VmHWM as Linux counts it. Loading is
compared with a bare query through azure-data-tables that reads the same rows. Folding reads the
rows of settled chunks, enters their records and removes them; the reference does the same three
through the bare client, which knows beforehand what to write. Merging rewrites a whole index with a
twentieth of it entered anew, without storage: it is for information, and rare: a segment is merged
only once the later ones together are more than half as large.

Not obvious: of the fold's wall time Azurite takes most. So the processor time of this process
alone has a goal, too.

    python -m benchmarks.version_index    (with PipelineStorage in the environment)
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Final

import numpy as np
from azure.data.tables import TableClient, TableEntity, TableServiceClient

from benchmarks.in_memory import MemoryTables
from benchmarks.memory import high_water_mark
from benchmarks.producer_cpu import DESTINATION, NOW, RUN, TODAY, random_segment
from benchmarks.table import Figure, Scale, shown
from common.ledger import Ledger, open_ledger
from common.ledger.chunks import Chunk, insertion
from common.ledger.partitions import TABLE as CHUNKS_TABLE
from common.ledger.runs import Counts, Cursor, Run
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import MAX_BATCH_ENTITIES, AzureTables, Row, Value
from common.ledger.versions import TABLE as VERSIONS_TABLE
from common.records import Record, pack_records
from common.settings import Secret, StorageSettings, read_storage_settings
from local.functions_host.process import child_environment
from local.services.azurite import ACCOUNTS, Azurite
from producer.entries import Keeping, newest
from producer.fold import FoldConfig, survey
from producer.index import VersionIndex

GOAL: Final = 2.0
SIZES: Final = {Scale.QUICK: (1_000_000,), Scale.FULL: (1_000_000, 10_000_000)}
MOST_A_MILLION: Final = 35.0
"""MB above an empty index: 28 bytes an entry, and the row that is being read."""

CHUNKS: Final = {Scale.QUICK: 1_000, Scale.FULL: 10_000}
CHUNK: Final = 100
ROUNDS: Final = 3
ROOT: Final = Path(__file__).parents[1]
WITHIN: Final = 600.0


def measure(scale: Scale, feed: Path | None) -> list[Figure]:  # noqa: ARG001 - random will do
    """Load, merge and fold on an Azurite of its own."""
    with Azurite() as azurite:
        accounts = [azurite.connection_string(account) for account in ACCOUNTS[1:7]]
        figures: list[Figure] = []
        empty = _peak(accounts[0])
        for number, count in enumerate(SIZES[scale]):
            storage = accounts[1 + number]
            _store(storage, count)
            figures += [judge_memory("9a", count, _peak(storage) - empty, empty=empty)]
            figures += [_load(storage, count), _merge(count)]
        return [*figures, *_fold(accounts[3], accounts[4], CHUNKS[scale])]


def judge_memory(row: str, count: int, more: float, *, empty: float) -> Figure:
    """Return the figure of a process that takes `more` MB than one with an empty index. Pure."""
    most = MOST_A_MILLION * count / 1e6
    return Figure(
        row=row,
        what=f"peak memory of loading an index of {count:,} entries",
        value=f"{more:+.0f} MB",
        reference=f"{empty:.0f} MB with an empty one",
        ratio=(more + empty) / empty,
        goal=f"at most +{most:.0f} MB",
        met=more <= most,
    )


def _store(storage: str, count: int) -> None:
    index = VersionIndex(_tables(storage))
    manifest = index.fence(DESTINATION, tick="the-first")
    entries = random_segment(count).entries
    index.add(manifest, [], entries, today=TODAY, limit=2 * count)


def _peak(storage: str) -> float:
    """Return the VmHWM of a process that loads the index, in MB."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.version_index"],
        cwd=ROOT,
        env=child_environment({"PipelineStorage": storage}),
        check=True,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    return float(done.stdout.split()[-1])


def _load(storage: str, count: int) -> Figure:
    index = VersionIndex(_tables(storage))
    manifest = index.fence(DESTINATION, tick="the-next")

    def ours() -> None:
        (segment,) = index.load(manifest, today=TODAY)
        assert len(segment.entries) > 0.99 * count, "not all entries were loaded"

    bare = _client(storage, VERSIONS_TABLE)
    mine, reference = _best_wall([ours, lambda: list(bare.list_entities())])
    return _figure("9b", f"load {count:,} entries", mine, reference, "read the same rows")


def _merge(count: int) -> Figure:
    old, new = random_segment(count).entries, random_segment(count // 20, seed=2).entries
    changed = old.take(np.arange(0, len(old), 20))
    mine, reference = _best_wall(
        [lambda: newest([old, changed, new]), lambda: np.sort(np.concatenate([old.ids, new.ids]))]
    )
    what = f"merge {count:,} entries with a tenth of it"
    return shown(_figure("9c", what, mine, reference, "sort the ids alone"))


def _fold(storage: str, their_storage: str, chunks: int) -> list[Figure]:
    """Fold once on each side, as it consumes what it reads."""
    template = MemoryTables()
    _finish_run(open_ledger(template), template, chunks)
    for copy in (_tables(storage), _tables(their_storage)):
        copy.table(CHUNKS_TABLE).merge_all(list(template.table(CHUNKS_TABLE).query()))
    tables = _tables(storage)
    ledger = open_ledger(tables)

    def ours() -> None:
        found = survey(
            runs=ledger.runs,
            chunks=ledger.chunks,
            index=VersionIndex(tables),
            config=FoldConfig(destination=DESTINATION, keeping=Keeping()),
            tick="the-next",
            today=TODAY,
            keep_going=lambda: None,
        )
        assert found.folded == chunks, "not all chunks were folded"

    mine = _taken(ours)
    outcome = list(_client(storage, VERSIONS_TABLE).list_entities())
    rows, versions = (_client(their_storage, table) for table in (CHUNKS_TABLE, VERSIONS_TABLE))
    versions.create_table()
    found: list[TableEntity] = []

    def bare_read() -> None:
        found.extend(rows.list_entities())

    def bare_writes() -> None:
        for entity in outcome:
            versions.upsert_entity(entity)
        for batch in batched(found, MAX_BATCH_ENTITIES, strict=False):
            rows.submit_transaction([("delete", entity) for entity in batch])

    read = _taken(bare_read)
    return judge_fold(chunks, mine, read=read, writes=_taken(bare_writes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Seconds that a work took: by the clock, and of this process's processor time."""

    wall: float
    cpu: float


def judge_fold(chunks: int, ours: Taken, *, read: Taken, writes: Taken) -> list[Figure]:
    """Return the figures of a fold, whose reference reads and then writes and deletes. Pure."""
    alike = "read, write and delete alike"
    return [
        _figure(
            "9d", f"fold {chunks:,} chunks of {CHUNK}", ours.wall, read.wall + writes.wall, alike
        ),
        _figure(
            "9e",
            "the same, processor time without Azurite's",
            ours.cpu,
            read.cpu + writes.cpu,
            alike,
        ),
    ]


def _taken(work: Callable[[], object]) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Taken(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)


def _finish_run(ledger: Ledger, tables: MemoryTables, chunks: int) -> None:
    """Leave the rows of a run of which every chunk was uploaded."""
    count = chunks * CHUNK
    ledger.runs.create(
        Run(
            run_id=RUN,
            state=RunState.COMPLETE,
            started_at=NOW,
            updated_at=NOW,
            cursor=Cursor(sequence=chunks, done=True),
            counts=Counts(fetched=count, enqueued=count),
        )
    )
    table = tables.table(CHUNKS_TABLE)
    ids = np.random.default_rng(3).integers(0, 2**64, (chunks, CHUNK), dtype=np.uint64)
    for sequence, some in enumerate(ids.tolist()):
        records = [
            Record(id_hash=one, fingerprint=one ^ 1, modified=1, ends_on=TODAY) for one in some
        ]
        chunk = Chunk(
            run_id=RUN,
            key=f"{sequence:06d}-1",
            sequence=sequence,
            epoch=1,
            count=CHUNK,
            destination=DESTINATION,
            records=pack_records(records),
            enqueued_at=NOW,
        )
        row = insertion(chunk).row
        outcome: dict[str, Value] = {
            "state": ChunkState.UPLOADED.value,
            "accepted": CHUNK,
            "rejected": 0,
        }
        table.insert(row)
        table.merge(Row(partition=row.partition, key=row.key, data=outcome))


def _tables(storage: str) -> AzureTables:
    return AzureTables(StorageSettings(connection_string=Secret(storage)))


def _client(storage: str, table: str) -> TableClient:
    return TableServiceClient.from_connection_string(storage).get_table_client(table)


def _best_wall(works: list[Callable[[], object]]) -> list[float]:
    best = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for at, work in enumerate(works):
            start = time.perf_counter()
            work()
            best[at] = min(best[at], time.perf_counter() - start)
    return best


def _figure(row: str, what: str, ours: float, reference: float, doing: str) -> Figure:
    return Figure(
        row=row,
        what=what,
        value=f"{ours:.2f} s",
        reference=f"{reference:.2f} s to {doing}",
        ratio=ours / reference,
        goal=f"at most {GOAL:g} x",
        met=ours <= GOAL * reference,
    )


def main() -> None:
    """Load the index of the storage at hand in this process; print the memory it took."""
    index = VersionIndex(AzureTables(read_storage_settings()))
    segments = index.load(index.fence(DESTINATION, tick="a-load"), today=TODAY)
    assert all(len(segment.entries) for segment in segments)
    print(high_water_mark())


if __name__ == "__main__":
    main()
