"""A table or queue that is being deleted, or was made just now: unavailable, in words, at once."""

import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from common.errors import ConflictError, UnavailableError
from common.ledger.tables import (
    MAX_PAGE_ENTITIES,
    Action,
    AzureTables,
    Operation,
    Row,
)
from common.queues import AzureQueue
from common.settings import Secret, StorageSettings
from local.services.azurite import Azurite
from local.services.storage_proxy import Refusal, Rule, StorageProxy
from local.services.storage_requests import Service, StorageRequest

ROW = Row(partition="p", key="k", data={"a": 1})


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[StorageProxy]:
    """A proxy in front of the tests' Azurite, without rules."""
    upstream: dict[Service, int] = {"table": azurite.port("table"), "queue": azurite.port("queue")}
    with StorageProxy(upstream) as started:
        yield started


@pytest.fixture
def behind(azurite: Azurite, account: str, proxy: StorageProxy) -> StorageSettings:
    """The settings of an account behind the proxy."""
    connection = azurite.connection_string(account, via=proxy.urls)
    return StorageSettings(connection_string=Secret(connection))


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of this is waited for within a call: the time limit of 20 s is kept by far."""

    def fail(seconds: float) -> None:
        raise AssertionError(f"the client waited {seconds} s")

    monkeypatch.setattr(time, "sleep", fail)


TABLE_CALLS: dict[str, Callable[[AzureTables, Row], object]] = {
    "get": lambda tables, _: tables.table("things").get("p", "k"),
    "insert": lambda tables, _: tables.table("things").insert(Row(partition="p", key="new")),
    "merge": lambda tables, _: tables.table("things").merge(ROW),
    "replace": lambda tables, known: tables.table("things").replace(known),
    "delete": lambda tables, _: tables.table("things").delete("p", "k"),
    "query": lambda tables, _: list(tables.table("things").query("p")),
    "merge_all": lambda tables, _: tables.table("things").merge_all([ROW]),
    "update": lambda tables, _: tables.table("things").update(ROW),
    "transact": lambda tables, known: tables.table("things").transact(
        [Operation(action=Action.REPLACE, row=known)]
    ),
}
QUEUE_CALLS: dict[str, Callable[[AzureQueue], object]] = {
    "send": lambda queue: queue.send("text"),
    "depth": lambda queue: queue.depth(),
}
READS_NOTHING: dict[str, object] = {
    "get": None,
    "delete": None,
    "query": [],
    "update": False,
    "depth": 0,
}
"""What a call may say of a table or queue that is not there: there is nothing in it."""


def known_row(tables: AzureTables) -> Row:
    """A row as it is read."""
    tables.table("things").insert(ROW)
    found = tables.table("things").get("p", "k")
    assert found is not None
    return found


@pytest.mark.parametrize("call", TABLE_CALLS)
def test_a_table_that_is_being_deleted_is_unavailable(
    behind: StorageSettings, proxy: StorageProxy, call: str
) -> None:
    """Every call says so, and no call takes it for a row that somebody else changed."""
    tables = AzureTables(behind)
    known = known_row(tables)
    proxy.inject(Rule(service="table", answer=Refusal(status=409, code="TableBeingDeleted")))
    with pytest.raises(UnavailableError, match="table things is being deleted"):
        TABLE_CALLS[call](tables, known)


@pytest.mark.parametrize("call", QUEUE_CALLS)
def test_a_queue_that_is_being_deleted_is_unavailable(
    behind: StorageSettings, proxy: StorageProxy, call: str
) -> None:
    """Neither sent, nor empty."""
    queue = AzureQueue("work", behind)
    queue.send("first")
    proxy.inject(Rule(service="queue", answer=Refusal(status=409, code="QueueBeingDeleted")))
    with pytest.raises(UnavailableError, match="queue work is being deleted"):
        QUEUE_CALLS[call](queue)


@pytest.mark.parametrize("call", TABLE_CALLS)
def test_a_table_that_exists_for_its_maker_alone_is_unavailable(
    behind: StorageSettings, proxy: StorageProxy, call: str
) -> None:
    """Making it: it exists; all else: it is not there. Writes wait, reads find nothing."""
    tables = AzureTables(behind)
    known = known_row(tables)
    exists = Refusal(status=409, code="TableAlreadyExists")
    proxy.inject(Rule(operation="create_table", answer=exists))
    proxy.inject(Rule(service="table", answer=Refusal(status=404, code="TableNotFound")))
    if call in READS_NOTHING:
        assert TABLE_CALLS[call](tables, known) == READS_NOTHING[call]
        return
    with pytest.raises(UnavailableError, match="table things is not there, or was made just now"):
        TABLE_CALLS[call](tables, known)


@pytest.mark.parametrize("call", QUEUE_CALLS)
def test_a_queue_that_exists_for_its_maker_alone_is_unavailable(
    behind: StorageSettings, proxy: StorageProxy, call: str
) -> None:
    """The same of a queue."""
    queue = AzureQueue("work", behind)
    exists = Refusal(status=409, code="QueueAlreadyExists")
    proxy.inject(Rule(operation="create_queue", answer=exists))
    proxy.inject(Rule(service="queue", answer=Refusal(status=404, code="QueueNotFound")))
    if call in READS_NOTHING:
        assert QUEUE_CALLS[call](queue) == READS_NOTHING[call]
        return
    with pytest.raises(UnavailableError, match="queue work is not there, or was made just now"):
        QUEUE_CALLS[call](queue)


def test_what_cannot_be_made_again_yet_is_unavailable(
    behind: StorageSettings, proxy: StorageProxy
) -> None:
    """The name of a table or queue stays taken while the service deletes the old one."""
    deleting = {"create_table": "TableBeingDeleted", "create_queue": "QueueBeingDeleted"}
    for operation, code in deleting.items():
        proxy.inject(Rule(operation=operation, answer=Refusal(status=409, code=code)))
    with pytest.raises(UnavailableError, match="table things is being deleted"):
        AzureTables(behind).table("things").merge(ROW)
    with pytest.raises(UnavailableError, match="queue work is being deleted"):
        AzureQueue("work", behind).send("text")


def test_a_table_that_goes_while_it_is_read_was_not_read_whole(
    behind: StorageSettings, proxy: StorageProxy
) -> None:
    """The second page is not there: no end of the rows, but trouble."""
    tables = AzureTables(behind)
    tables.table("things").merge_all(
        [Row(partition="p", key=f"{number:04}") for number in range(MAX_PAGE_ENTITIES + 1)]
    )
    proxy.inject(
        Rule(
            operation="query_entities",
            skip=1,
            answer=Refusal(status=404, code="TableNotFound"),
        )
    )
    rows = tables.table("things").query("p")
    assert next(rows).key == "0000"
    with pytest.raises(UnavailableError):
        list(rows)


def test_a_lost_swap_stays_a_lost_swap(behind: StorageSettings) -> None:
    """412 of the real service is a conflict, and so is an insert of what exists."""
    table = AzureTables(behind).table("things")
    known = known_row(AzureTables(behind))
    table.merge(Row(partition="p", key="k", data={"a": 2}))
    with pytest.raises(ConflictError):
        table.replace(known)
    with pytest.raises(ConflictError):
        table.insert(ROW)


@pytest.mark.parametrize(
    ("limit", "asked"), [(1, "1"), (1000, "1000"), (1001, "1000"), (10**30, "1000"), (None, None)]
)
def test_a_page_is_asked_for_as_large_as_the_service_gives(
    behind: StorageSettings, proxy: StorageProxy, limit: int | None, asked: str | None
) -> None:
    """Whatever limit was typed: the service refuses to be asked for more than 1,000."""
    tops: list[str | None] = []

    def note(request: StorageRequest) -> None:
        (top,) = parse_qs(urlsplit(request.target).query).get("$top", [None])
        tops.append(top)

    table = AzureTables(behind).table("things")
    table.insert(ROW)
    proxy.inject(Rule(operation="query_entities", before=note))
    for partition in ("p", None):
        assert [row.key for row in table.query(partition, limit=limit)] == ["k"]
    assert tops == [asked, asked]
