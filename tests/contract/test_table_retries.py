"""What becomes of a table's writes when storage answers late, badly or not at all."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal

import pytest

from common.errors import ConflictError, LeaseLostError, UnavailableError
from common.ledger.chunks import Chunk, Chunks, insertion
from common.ledger.control import Control
from common.ledger.runs import Run, Runs
from common.ledger.states import RunState
from common.ledger.tables import Action, AzureTables, Operation, Row, Table
from common.ledger.versions import ENTRY_BYTES
from common.settings import Secret, StorageSettings
from local.services.azurite import Azurite
from local.services.storage_proxy import Refusal, Rule, StorageProxy
from local.services.storage_requests import Service
from producer.entries import unpack_entries
from producer.index import VersionIndex

AT = datetime(2026, 1, 1, tzinfo=UTC)
TRIES = 4
LOST: Literal["after"] = "after"


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[StorageProxy]:
    """A proxy in front of the tests' Azurite, without rules."""
    upstream: dict[Service, int] = {"table": azurite.port("table"), "queue": azurite.port("queue")}
    with StorageProxy(upstream) as started:
        yield started


@pytest.fixture
def tables(azurite: Azurite, account: str, proxy: StorageProxy) -> AzureTables:
    """The tables of an account behind the proxy."""
    connection = azurite.connection_string(account, via=proxy.urls)
    return AzureTables(StorageSettings(connection_string=Secret(connection)))


@pytest.fixture
def table(tables: AzureTables) -> Table:
    """A table with one row."""
    made = tables.table("things")
    made.insert(row(a=1))
    return made


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the storage client would have waited between its tries."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def row(key: str = "k", **data: int) -> Row:
    """A row of the usual partition."""
    return Row(partition="p", key=key, data=data)


WRITES: dict[str, tuple[str, Callable[[Table], object], dict[str, int] | None]] = {
    "merge": ("merge_entity", lambda table: table.merge(row(b=2)), {"a": 1, "b": 2}),
    "merge_all": ("batch", lambda table: table.merge_all([row(b=2)]), {"a": 1, "b": 2}),
    "delete": ("delete_entity", lambda table: table.delete("p", "k"), None),
    "update": ("merge_entity", lambda table: table.update(row(b=2)), {"a": 1, "b": 2}),
}


@pytest.mark.parametrize(
    "fault",
    [
        Rule(drop="before"),
        Rule(drop="after"),
        Rule(answer=Refusal()),
        Rule(answer=Refusal(status=500, code="InternalError")),
    ],
    ids=["connection cut", "answer lost", "503", "500"],
)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_can_be_repeated_is(
    table: Table, proxy: StorageProxy, write: str, fault: Rule
) -> None:
    """Merges and deletions, alone or in transactions, survive one bad answer unseen."""
    operation, act, expected = WRITES[write]
    hit = proxy.inject(
        Rule(operation=operation, drop=fault.drop, answer=fault.answer, times=1, service="table")
    )
    act(table)
    assert hit.hits == 1
    found = table.get("p", "k")
    assert (None if found is None else dict(found.data)) == expected


@pytest.mark.parametrize("write", WRITES)
def test_tries_come_to_an_end(
    table: Table, proxy: StorageProxy, waits: list[float], write: str
) -> None:
    """An outage is told after four tries and a few seconds: the invocation is billed."""
    operation, act, _ = WRITES[write]
    down = proxy.inject(Rule(operation=operation, drop="before"))
    with pytest.raises(UnavailableError):
        act(table)
    assert down.hits == TRIES
    assert sum(waits) < 10


def test_an_insert_is_not_repeated(table: Table, proxy: StorageProxy) -> None:
    """It would meet its own first success, and take it for somebody else's."""
    lost = proxy.inject(Rule(operation="insert_entity", drop=LOST))
    with pytest.raises(UnavailableError):
        table.insert(row("new", a=1))
    assert lost.hits == 1
    assert table.get("p", "new") is not None


def test_a_replace_whose_answer_is_lost_is_a_conflict(table: Table, proxy: StorageProxy) -> None:
    """The client sends it again and finds the row changed, by itself."""
    found = table.get("p", "k")
    assert found is not None
    proxy.inject(Rule(operation="put_entity", drop=LOST, times=1))
    with pytest.raises(ConflictError):
        table.replace(Row(partition="p", key="k", data={"a": 2}, etag=found.etag))
    changed = table.get("p", "k")
    assert changed is not None
    assert changed.data == {"a": 2}


def test_a_transaction_whose_answer_is_lost_is_a_conflict(
    table: Table, proxy: StorageProxy
) -> None:
    """The client sends it again and finds the head changed, by itself; nothing is done twice."""
    found = table.get("p", "k")
    assert found is not None
    proxy.inject(Rule(operation="batch", drop=LOST, times=1))
    head = Operation(
        action=Action.REPLACE, row=Row(partition="p", key="k", data={"a": 2}, etag=found.etag)
    )
    with pytest.raises(ConflictError):
        table.transact([head, Operation(action=Action.INSERT, row=row("new", a=1))])
    changed = table.get("p", "k")
    assert changed is not None
    assert changed.data == {"a": 2}
    assert table.get("p", "new") is not None


def started(run_id: str = "r-1", *, tick: str = "mine") -> Run:
    """A run that has just begun."""
    return Run(run_id=run_id, state=RunState.RUNNING, started_at=AT, updated_at=AT, tick=tick)


@pytest.mark.parametrize("operation", ["put_entity", "batch"])
def test_a_run_knows_its_own_write_again(
    tables: AzureTables, proxy: StorageProxy, operation: str
) -> None:
    """A lost answer to a write of its head is no conflict; another tick's write still is one."""
    runs = Runs(tables)
    run = runs.create(started())
    lost = proxy.inject(Rule(operation=operation, drop=LOST, times=1))
    chunk = Chunk(run_id="r-1", key="000000-1", sequence=0, epoch=1, count=0, enqueued_at=AT)
    rows = [insertion(chunk)] if operation == "batch" else []
    saved = runs.save(run, rows=rows, asked=True)
    assert lost.hits == 1
    assert runs.get("r-1") == saved
    assert len(list(Chunks(tables).all())) == len(rows)
    runs.save(saved, cache_id="q", tick="theirs")
    with pytest.raises(ConflictError):
        runs.save(saved, asked=True)


def test_a_new_run_knows_its_own_row_again(tables: AzureTables, proxy: StorageProxy) -> None:
    """An insert that the client repeats after a 500 meets the row that it made."""
    runs = Runs(tables)
    first = runs.create(started())
    assert runs.create(started()) == first
    with pytest.raises(ConflictError):
        runs.create(started(tick="theirs"))
    assert proxy.counts["table", "insert_entity"] >= 3


def test_a_lease_knows_its_own_write_again(tables: AzureTables, proxy: StorageProxy) -> None:
    """A lost answer to its renewal is not taken for another instance's take-over."""
    control = Control(tables)
    lease = control.acquire_lease(owner="me", seconds=600)
    proxy.inject(Rule(operation="put_entity", drop=LOST, times=1))
    lease = control.renew_lease(lease)
    assert control.read_lease() == lease
    proxy.inject(Rule(operation="put_entity", drop=LOST, times=1))
    lease = stale = control.set_open_run(lease, "r-1")
    assert control.read_lease() == lease
    control.set_open_run(lease, None)
    with pytest.raises(ConflictError):
        control.renew_lease(stale)


def test_an_index_knows_its_own_manifest_again(tables: AzureTables, proxy: StorageProxy) -> None:
    """A lost answer to the fence, or to the commit, is not taken for another tick's."""
    index = VersionIndex(tables)
    index.fence("here", tick="1")
    lost = proxy.inject(Rule(operation="put_entity", drop=LOST, times=1))
    mine = index.fence("here", tick="2")
    assert lost.hits == 1
    lost = proxy.inject(Rule(operation="put_entity", drop=LOST, times=1))
    entries = unpack_entries(bytes(ENTRY_BYTES))
    written, _, _ = index.add(mine, [], entries, today=0, limit=9)
    assert lost.hits == 1
    assert [info.count for info in index.fence("here", tick="3").segments] == [1]
    with pytest.raises(LeaseLostError):
        index.add(written, [], entries, today=0, limit=9)
