"""A producer that is killed behind each of its writes, and the one after it: on Azurite itself.

The same is played at random, in memory, by `tests/model`. Here every point of one tick is taken in
turn, with the service that the ledger is made for: the fold of an earlier run, the start of a
query, rows, strikes, messages and checkpoints of two pages. To die before a write, or behind a
read, leaves what the write before left.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import orjson
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient

from common.backoff import Backoff
from common.clock import SystemClock
from common.envelope import decode_envelope
from common.ledger import Ledger, open_ledger
from common.ledger.problems import Problems
from common.ledger.slots import Slots
from common.ledger.states import RunState
from common.ledger.tables import AzureTables, Table
from common.queues import AzureQueue, SendQueue
from common.reconciliation import reconcile
from common.settings import StorageSettings
from producer.drain import DrainConfig, Sender
from producer.index import VersionIndex
from producer.indicators import Filters
from producer.lumen import LumenClient, Page, QueryState, QueryStatus
from producer.sync import SyncConfig, SyncTools, run_sync
from tests.fakes.crash import Crash
from tests.model.world import InlineExecutor, Version

EARLIER = [Version(number=number, modified=0) for number in (1, 2, 4)]
PAGES = [
    [Version(number=number, modified=1) for number in (1, 2, 3)],
    [Version(number=number, modified=1) for number in (4, 5)],
]
QUERIES = {1: [EARLIER], 2: PAGES}
READS = frozenset({"get", "query", "depth"})
NO_LEASE = 0.0
"""Seconds: the next tick need not wait until the lease of the dead one has run out."""

AROUND_THE_START = 2
"""Points at which Lumen may have been asked, and its answer is not kept: those end as gaps."""


class Guillotine:
    """Ends the process behind one of its writes. A read leaves nothing behind that could differ."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self.writes = 0

    def after_write(self) -> None:
        """Count a write, and end the process if it is the one."""
        write = self.writes
        self.writes += 1
        if write == self._at:
            raise Crash


class Doomed:
    """A table or queue of Azurite whose writes are counted."""

    def __init__(self, real: Any, guillotine: Guillotine) -> None:
        self._real = real
        self._guillotine = guillotine

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._real, name)

        def call(*arguments: Any, **others: Any) -> Any:
            done = method(*arguments, **others)
            if name not in READS:
                self._guillotine.after_write()
            return done

        return call

    def send(self, text: str, *, delay: float = 0.0) -> None:
        """Put a message on the queue where it is seen at once: the judge will not wait."""
        self._real.send(text)
        self._guillotine.after_write()


class DoomedTables:
    """Azurite's tables under names of their own, so that each history has a ledger of its own."""

    def __init__(self, tables: AzureTables, guillotine: Guillotine, *, suffix: str) -> None:
        self._tables = tables
        self._guillotine = guillotine
        self._suffix = suffix

    def table(self, name: str) -> Table:
        return cast("Table", Doomed(self._tables.table(name + self._suffix), self._guillotine))


class FewPages:
    """Lumen with a query of one page, then one of two, then none. Asking it counts as a write."""

    def __init__(self) -> None:
        self._started = 0
        self.guillotine = Guillotine(None)

    def start_query(self, *, before: Callable[[], object], **_: object) -> str:
        before()
        self._started += 1
        self.guillotine.after_write()
        return f"{self._started}"

    def query_status(self, cache_id: str, **_: object) -> QueryStatus:
        return QueryStatus(state=QueryState.COMPLETED, token=f"{cache_id}-0")

    def fetch_page(self, token: str, **_: object) -> Page:
        query, at = map(int, token.split("-"))
        pages = QUERIES.get(query, [[]])
        return Page(
            objects=[version.record() for version in pages[at]],
            next_token=f"{query}-{at + 1}" if at + 1 < len(pages) else None,
        )


class Pipeline:
    """A producer on Azurite, with a ledger and a queue of its own."""

    def __init__(self, storage: StorageSettings, *, suffix: str) -> None:
        self._tables = AzureTables(storage)
        self._queue = AzureQueue(f"queue{suffix}", storage)
        self._suffix = suffix
        self._lumen = FewPages()
        assert storage.connection_string is not None
        self._reader = QueueClient.from_connection_string(
            storage.connection_string.reveal(), f"queue{suffix}"
        )

    def begin(self) -> None:
        """Let a first run be sent: its first chunk is accepted, the second is on its way."""
        self.tick(chunk_size=2)
        ledger, at = self._ledger(), SystemClock().now()
        first, _ = ledger.chunks.all()
        ledger.chunks.record_uploaded(first, sent=first.to_send, rejected=(), at=at)

    def _ledger(self) -> Ledger:
        return open_ledger(DoomedTables(self._tables, Guillotine(None), suffix=self._suffix))

    def tick(self, *, chunk_size: int, at: int | None = None) -> int:
        """Run what is due and end it behind a write; return how many there were."""
        guillotine, clock = Guillotine(at), SystemClock()
        self._lumen.guillotine = guillotine
        tables = DoomedTables(self._tables, guillotine, suffix=self._suffix)
        queue = cast("SendQueue", Doomed(self._queue, guillotine))
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
            problems=Problems(tables, clock=clock),
            clock=clock,
        )
        run_sync(config, tools, owner="test")
        return guillotine.writes

    def faults(self) -> tuple[list[str], bool]:
        """Return what is wrong once the run is over, and whether there is a gap."""
        ledger = self._ledger()
        faults = []
        for run in ledger.runs.latest(99):
            fate = reconcile(run, ledger.chunks.outcomes(run.run_id))
            if not fate.balanced:
                faults.append(f"the books of {run.run_id} do not balance: {fate}")
            if run.state not in {RunState.COMPLETE, RunState.GAP, RunState.FAILED}:
                faults.append(f"{run.run_id} is {run.state}")
        gaps = [run for run in ledger.runs.latest(99) if run.state is RunState.GAP]
        sent = []
        for envelope in map(decode_envelope, self._messages()):
            chunk = ledger.chunks.get(envelope.run_id, envelope.key)
            records = orjson.loads(envelope.body)
            sent += [records[index]["id"] for index in (chunk.to_send if chunk else ())]
        wanted = {version.indicator_id for page in PAGES for version in page}
        if not gaps and set(sent) != wanted:
            faults.append(f"not on the queue to be sent: {sorted(wanted - set(sent))}")
        if not gaps and len(set(sent)) < len(sent):
            faults.append(f"two versions of one indicator would be sent: {sorted(sent)}")
        return faults, bool(gaps)

    def _messages(self) -> list[str]:
        found: list[str] = []
        with suppress(ResourceNotFoundError):  # nothing was ever sent
            while batch := list(self._reader.receive_messages(messages_per_page=32)):
                found += [message.content for message in batch]
        return found


@pytest.mark.parametrize("next_chunk_size", [2, 3], ids=["same size", "another size"])
def test_a_producer_killed_behind_any_write_loses_nothing(
    storage: StorageSettings, next_chunk_size: int
) -> None:
    """Resumed with the same chunk size or another: books balance, and all is there to be sent."""
    whole = Pipeline(storage, suffix="0")
    whole.begin()
    writes = whole.tick(chunk_size=2)
    wrong = {}
    gaps = 0
    for at in range(writes):
        pipeline = Pipeline(storage, suffix=f"{at + 1}")
        pipeline.begin()
        with pytest.raises(Crash):
            pipeline.tick(chunk_size=2, at=at)
        for _ in range(2):
            pipeline.tick(chunk_size=next_chunk_size)
        faults, has_gap = pipeline.faults()
        gaps += has_gap
        if faults:
            wrong[at] = faults
    assert not wrong
    assert gaps <= AROUND_THE_START
