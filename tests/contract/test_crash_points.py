"""A producer that is killed at each call to storage, and the one after it: on Azurite itself.

The same is played at random, in memory, by `tests/model`. Here every point of one run is taken in
turn, before the call and behind it, with the service that the ledger is made for.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import cast

import orjson
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient

from common.backoff import Backoff
from common.clock import SystemClock
from common.envelope import decode_envelope
from common.ledger import open_ledger
from common.ledger.slots import Slots
from common.ledger.states import RunState
from common.ledger.tables import AzureTables, Operation, Row, Table
from common.queues import AzureQueue
from common.settings import StorageSettings
from ops.reconciliation import reconcile
from producer.drain import DrainConfig, Sender
from producer.index import VersionIndex
from producer.indicators import Filters
from producer.lumen import LumenClient, Page, QueryState, QueryStatus
from producer.sync import SyncConfig, SyncTools, run_sync
from tests.model.world import InlineExecutor, Version

PAGES = [
    [Version(number=number, modified=1) for number in (1, 2, 3)],
    [Version(number=number, modified=1) for number in (4, 5)],
]
NO_LEASE = 0.0
"""Seconds: the next tick need not wait until the lease of the dead one has run out."""


AROUND_THE_START = 4
"""Points at which Lumen may have been asked, and its answer is not kept: those end as gaps."""


class KilledError(BaseException):
    """The process ends here: nothing catches it."""


class Guillotine:
    """Counts calls to storage, twice each, and ends the process at one of them."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self.calls = 0

    def call[T](self, work: Callable[[], T]) -> T:
        """Do `work`, unless the process ends before it, or behind it."""
        self._step()
        done = work()
        self._step()
        return done

    def _step(self) -> None:
        call = self.calls
        self.calls += 1
        if call == self._at:
            raise KilledError


class DoomedTable:
    """A table of Azurite behind the guillotine."""

    def __init__(self, table: Table, guillotine: Guillotine) -> None:
        self._table = table
        self._call = guillotine.call

    def get(self, partition: str, key: str) -> Row | None:
        return self._call(lambda: self._table.get(partition, key))

    def insert(self, row: Row) -> str:
        return self._call(lambda: self._table.insert(row))

    def merge(self, row: Row) -> None:
        self._call(lambda: self._table.merge(row))

    def update(self, row: Row) -> bool:
        return self._call(lambda: self._table.update(row))

    def replace(self, row: Row) -> str:
        return self._call(lambda: self._table.replace(row))

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        return self._call(lambda: self._table.transact(operations))

    def delete(self, partition: str, key: str) -> None:
        self._call(lambda: self._table.delete(partition, key))

    def query(
        self,
        partition: str | None = None,
        *,
        key: str | None = None,
        from_key: str | None = None,
        partitions_below: str | None = None,
        limit: int | None = None,
        select: Sequence[str] | None = None,
    ) -> Iterator[Row]:
        def read() -> list[Row]:
            found = self._table.query(
                partition,
                key=key,
                from_key=from_key,
                partitions_below=partitions_below,
                limit=limit,
                select=select,
            )
            return list(found)

        return iter(self._call(read))

    def merge_all(self, rows: Sequence[Row]) -> None:
        self._call(lambda: self._table.merge_all(rows))


class DoomedTables:
    """Azurite's tables under names of their own, so that each history has a ledger of its own."""

    def __init__(self, tables: AzureTables, guillotine: Guillotine, *, suffix: str) -> None:
        self._tables = tables
        self._guillotine = guillotine
        self._suffix = suffix

    def table(self, name: str) -> DoomedTable:
        return DoomedTable(self._tables.table(name + self._suffix), self._guillotine)


class DoomedQueue:
    """A queue of Azurite behind the guillotine."""

    def __init__(self, queue: AzureQueue, guillotine: Guillotine) -> None:
        self._queue = queue
        self._call = guillotine.call

    def send(self, text: str, *, delay: float = 0.0) -> None:
        self._call(lambda: self._queue.send(text))

    def depth(self) -> int:
        return self._call(self._queue.depth)


class TwoPages:
    """Lumen with one query of two pages, then none."""

    def __init__(self) -> None:
        self._started = 0

    def start_query(self, *, before: Callable[[], object], **_: object) -> str:
        before()
        self._started += 1
        return f"{self._started}"

    def query_status(self, cache_id: str, **_: object) -> QueryStatus:
        return QueryStatus(state=QueryState.COMPLETED, token=f"{cache_id}-0")

    def fetch_page(self, token: str, **_: object) -> Page:
        query, at = token.split("-")
        if query != "1":
            return Page(objects=[], next_token=None)
        return Page(
            objects=[version.record() for version in PAGES[int(at)]],
            next_token=f"{query}-1" if at == "0" else None,
        )


class Pipeline:
    """A producer on Azurite, with a ledger and a queue of its own."""

    def __init__(self, storage: StorageSettings, *, suffix: str) -> None:
        self._tables = AzureTables(storage)
        self._queue = AzureQueue(f"queue{suffix}", storage)
        self._suffix = suffix
        self._lumen = TwoPages()
        assert storage.connection_string is not None
        self._reader = QueueClient.from_connection_string(
            storage.connection_string.reveal(), f"queue{suffix}"
        )

    def tick(self, *, chunk_size: int, at: int | None = None) -> int:
        """Run what is due and end it at a call; return how many there were."""
        guillotine, clock = Guillotine(at), SystemClock()
        tables = DoomedTables(self._tables, guillotine, suffix=self._suffix)
        queue = DoomedQueue(self._queue, guillotine)
        ledger = open_ledger(tables)
        backoff, rng = Backoff(tries=1), random.Random(0)  # noqa: S311 - a fixed seed
        sender = Sender(
            queue=queue,
            ledger=ledger,
            slots=Slots(tables, clock=clock, requests_per_minute=60_000),
            backoff=backoff,
            clock=clock,
            rng=rng,
            threads=InlineExecutor,
        )
        config = SyncConfig(
            drain=DrainConfig(filters=Filters(threshold=65), chunk_size=chunk_size),
            lease=NO_LEASE,
        )
        tools = SyncTools(
            lumen=cast("LumenClient", self._lumen),
            ledger=ledger,
            index=VersionIndex(tables),
            sender=sender,
            queue=queue,
            clock=clock,
        )
        run_sync(config, tools, owner="test")
        return guillotine.calls

    def faults(self) -> tuple[list[str], bool]:
        """Return what is wrong once the run is over, and whether there is a gap."""
        ledger = open_ledger(DoomedTables(self._tables, Guillotine(None), suffix=self._suffix))
        faults = []
        for run in ledger.runs.latest(99):
            fate = reconcile(run, ledger.chunks.outcomes(run.run_id))
            if not fate.balanced:
                faults.append(f"the books of {run.run_id} do not balance: {fate}")
            if run.state not in {RunState.COMPLETE, RunState.GAP, RunState.FAILED}:
                faults.append(f"{run.run_id} is {run.state}")
        gaps = [run for run in ledger.runs.latest(99) if run.state is RunState.GAP]
        sent = set()
        for envelope in map(decode_envelope, self._messages()):
            chunk = ledger.chunks.get(envelope.run_id, envelope.key)
            if chunk is not None and chunk.to_send:
                sent |= {record["id"] for record in orjson.loads(envelope.body)}
        wanted = {version.indicator_id for page in PAGES for version in page}
        if not gaps and sent != wanted:
            faults.append(f"not on the queue to be sent: {sorted(wanted - sent)}")
        return faults, bool(gaps)

    def _messages(self) -> list[str]:
        found: list[str] = []
        with suppress(ResourceNotFoundError):  # nothing was ever sent
            while batch := list(self._reader.receive_messages(messages_per_page=32)):
                found += [message.content for message in batch]
        return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("next_chunk_size", [2, 3])
def test_a_producer_killed_at_any_call_loses_nothing(
    storage: StorageSettings, next_chunk_size: int
) -> None:
    """Resumed with the same chunk size or another: books balance, and all is there to be sent."""
    calls = Pipeline(storage, suffix="0").tick(chunk_size=2)
    wrong = {}
    gaps = 0
    for at in range(calls):
        pipeline = Pipeline(storage, suffix=f"{at + 1}")
        with pytest.raises(KilledError):
            pipeline.tick(chunk_size=2, at=at)
        for _ in range(2):
            pipeline.tick(chunk_size=next_chunk_size)
        faults, has_gap = pipeline.faults()
        gaps += has_gap
        if faults:
            wrong[at] = faults
    assert not wrong
    assert gaps <= AROUND_THE_START
