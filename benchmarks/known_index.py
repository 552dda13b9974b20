"""Row 9: what loading a million known indicators costs beyond reading their bytes.

Loading: a bare query through azure-data-tables reads the same rows; what the pipeline does besides
is to unpack, drop what has expired, and merge into one set. Folding reads the rows of finished
chunks, writes their fingerprints into known rows, and removes them: the reference is the same
three through bare azure-data-tables, which knows beforehand what to write. Wall time against
Azurite, whose own time is in both sides.

Not obvious: of the fold's wall time Azurite takes most, to delete rows, and that is the same on
both sides: the ratio could hardly be bad. So the processor time of this process alone, without
Azurite's, has the same goal. The wall time against reading alone is for information.
"""

import random
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from pathlib import Path
from typing import Final

from azure.data.tables import TableClient, TableEntity, TableServiceClient
from common.ledger.fold import fold_chunks
from common.ledger.known import TABLE as KNOWN_TABLE

from benchmarks.in_memory import MemoryTables
from benchmarks.table import Figure, Scale, shown
from common.envelope import Envelope, chunk_id_of
from common.fingerprints import KnownSet
from common.ledger import Ledger, open_ledger
from common.ledger.chunks import TABLE as CHUNKS_TABLE
from common.ledger.runs import Counts, Cursor, Run, new_run_id
from common.ledger.states import RunState
from common.ledger.tables import MAX_BATCH_ENTITIES, AzureTables
from common.settings import Secret, StorageSettings
from local.azurite import ACCOUNTS, Azurite

GOAL: Final = 2.0
KNOWN: Final = 1_000_000
CHUNKS: Final = {Scale.QUICK: 1_000, Scale.FULL: 10_000}
CHUNK: Final = 100
ROUNDS: Final = {Scale.QUICK: 3, Scale.FULL: 7}
NOW: Final = datetime(2026, 1, 8, tzinfo=UTC)
LIFETIME: Final = timedelta(days=7)


def measure(scale: Scale, feed: Path | None) -> list[Figure]:  # noqa: ARG001 - random will do
    """Load and fold on an Azurite of its own."""
    with Azurite() as azurite:
        mine, theirs = (azurite.connection_string(account) for account in ACCOUNTS[1:3])
        return [
            _load(azurite.connection_string(), ROUNDS[scale]),
            *_fold(mine, theirs, CHUNKS[scale]),
        ]


def _load(storage: str, rounds: int) -> Figure:
    ledger = open_ledger(_tables(storage))
    ledger.known.add(_random_fingerprints(KNOWN), at=NOW)

    def ours() -> None:
        known = KnownSet(runs=ledger.known.load(as_of=NOW, lifetime=LIFETIME))
        assert len(known) == KNOWN, "not all that is known was loaded"

    bare = _client(storage, KNOWN_TABLE)
    mine, reference = _best_wall([ours, lambda: list(bare.list_entities())], rounds)
    return _figure("9a", f"load {KNOWN:,} known indicators", mine, reference, "read the same rows")


def _fold(storage: str, their_storage: str, chunks: int) -> list[Figure]:
    """Fold once on each side, as it consumes what it reads."""
    template = MemoryTables()
    _finish_run(open_ledger(template), chunks)
    for copy in (_tables(storage), _tables(their_storage)):
        for table in ("runs", CHUNKS_TABLE):
            copy.table(table).merge_all(list(template.table(table).query()))
    ledger = open_ledger(_tables(storage))

    def ours() -> None:
        fold = fold_chunks(
            run_id="the-next",
            is_full=False,
            runs=ledger.runs,
            chunks=ledger.chunks,
            known=ledger.known,
            at=NOW,
            queues_are_empty=False,
            keep_going=lambda: None,
        )
        assert fold.folded == chunks, "not all chunks were folded"

    mine = _taken(ours)
    outcome = list(_client(storage, KNOWN_TABLE).list_entities())
    rows, known = (_client(their_storage, table) for table in (CHUNKS_TABLE, KNOWN_TABLE))
    known.create_table()
    found: list[TableEntity] = []

    def bare_read() -> None:
        found.extend(rows.list_entities())

    def bare_writes() -> None:
        for entity in outcome:
            known.upsert_entity(entity)
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
            "9b", f"fold {chunks:,} chunks of {CHUNK}", ours.wall, read.wall + writes.wall, alike
        ),
        _figure(
            "9c",
            "the same, processor time without Azurite's",
            ours.cpu,
            read.cpu + writes.cpu,
            alike,
        ),
        shown(
            _figure("9d", "the same against reading alone", ours.wall, read.wall, "read the rows")
        ),
    ]


def _taken(work: Callable[[], object]) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Taken(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)


def _finish_run(ledger: Ledger, chunks: int) -> None:
    """Leave the rows of a run of which every chunk was uploaded."""
    run_id = new_run_id(NOW)
    count = chunks * CHUNK
    run = Run(
        run_id=run_id,
        state=RunState.COMPLETE,
        started_at=NOW,
        updated_at=NOW,
        cursor=Cursor(sequence=chunks),
        counts=Counts(fetched=count, enqueued=count),
    )
    ledger.runs.create(run)
    envelopes = [_envelope(run_id, sequence) for sequence in range(chunks)]
    ledger.chunks.record_enqueued(envelopes, at=NOW)
    for envelope in envelopes:
        ledger.chunks.record_uploaded(envelope, accepted=CHUNK, rejected=0, at=NOW)


def _envelope(run_id: str, sequence: int) -> Envelope:
    body = b"[%d]" % sequence
    return Envelope(
        run_id=run_id,
        chunk_id=chunk_id_of(body),
        sequence=sequence,
        count=CHUNK,
        body=body,
        fingerprints=tuple(_random_fingerprints(CHUNK, seed=sequence)),
    )


def _tables(storage: str) -> AzureTables:
    return AzureTables(StorageSettings(connection_string=Secret(storage)))


def _client(storage: str, table: str) -> TableClient:
    return TableServiceClient.from_connection_string(storage).get_table_client(table)


def _best_wall(works: list[Callable[[], object]], rounds: int) -> list[float]:
    best = [float("inf")] * len(works)
    for _ in range(rounds):
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


def _random_fingerprints(count: int, *, seed: int = 0) -> "array[int]":
    return array("Q", random.Random(seed).randbytes(8 * count))  # noqa: S311 - a fixed seed
