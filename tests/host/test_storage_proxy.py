"""The storage proxy with the real storage clients: transparent unless a rule applies."""

from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError
from azure.data.tables import TableClient, TransactionOperation
from azure.storage.queue import LinearRetry, QueueClient

from local.services.azurite import Azurite
from local.services.storage_proxy import Refusal, Rule, StorageProxy
from local.services.storage_requests import Service, StorageRequest


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[StorageProxy]:
    """A proxy in front of the tests' Azurite, without rules."""
    upstream: dict[Service, int] = {"queue": azurite.port("queue"), "table": azurite.port("table")}
    with StorageProxy(upstream) as started:
        yield started


@pytest.fixture
def queue(azurite: Azurite, proxy: StorageProxy, account: str) -> Iterator[QueueClient]:
    """A queue behind the proxy, by a client that never retries."""
    connection = azurite.connection_string(account, via=proxy.urls)
    with QueueClient.from_connection_string(connection, "work", retry_total=0) as client:
        client.create_queue()
        yield client


@pytest.fixture
def table(azurite: Azurite, proxy: StorageProxy, account: str) -> Iterator[TableClient]:
    """A table behind the proxy, by a client that never retries."""
    connection = azurite.connection_string(account, via=proxy.urls)
    with TableClient.from_connection_string(connection, "ledger", retry_total=0) as client:
        client.create_table()
        yield client


def test_queue_passes(proxy: StorageProxy, queue: QueueClient) -> None:
    """Messages pass unchanged and every operation is counted by its name."""
    # Beyond ASCII, but too short to be cut between two reads (see tests/contract/test_queue.py).
    queue.send_message("grün & <gut>")
    message = queue.receive_message()
    assert message is not None
    assert message.content == "grün & <gut>"
    queue.delete_message(message)
    assert proxy.counts["queue", "put_message"] == 1
    assert proxy.counts["queue", "get_messages"] == 1
    assert proxy.counts["queue", "delete_message"] == 1
    assert proxy.counts["queue", "other"] == 0


def test_table_passes(proxy: StorageProxy, table: TableClient) -> None:
    """Entities, batches, ETags and paged queries pass unchanged."""
    upsert = TransactionOperation.UPSERT
    for start in range(0, 1100, 100):
        rows = range(start, start + 100)
        table.submit_transaction(
            [(upsert, {"PartitionKey": "p", "RowKey": f"{row:04}"}) for row in rows]
        )
    assert len(list(table.query_entities("PartitionKey eq 'p'"))) == 1100
    entity = table.get_entity("p", "0007")
    table.update_entity({**entity, "blob": bytes(60_000)})
    assert table.get_entity("p", "0007")["blob"] == bytes(60_000)
    assert proxy.counts["table", "batch"] == 11
    assert proxy.counts["table", "query_entities"] == 2
    assert proxy.counts["table", "other"] == 0


def test_answer(proxy: StorageProxy, queue: QueueClient, table: TableClient) -> None:
    """An injected answer reaches the client as an error of Azure's, and nothing is stored."""
    handle = proxy.inject(Rule(answer=Refusal(status=503, code="ServerBusy")))
    with pytest.raises(HttpResponseError) as from_queue:
        queue.send_message("refused")
    with pytest.raises(HttpResponseError) as from_table:
        table.create_entity({"PartitionKey": "p", "RowKey": "r"})
    for caught in (from_queue, from_table):
        assert caught.value.status_code == 503
        assert "ServerBusy" in str(caught.value.message) + str(caught.value)
    assert handle.hits == 2
    handle.remove()
    assert queue.receive_message() is None
    assert list(table.list_entities()) == []


def test_drop_before_and_after(proxy: StorageProxy, queue: QueueClient) -> None:
    """A connection cut before forwarding stores nothing; cut after it, the message is there."""
    cuts: tuple[tuple[Literal["before", "after"], int], ...] = (("before", 0), ("after", 1))
    for drop, stored in cuts:
        handle = proxy.inject(Rule(operation="put_message", drop=drop))
        with pytest.raises((ServiceRequestError, ServiceResponseError)):
            queue.send_message("cut")
        handle.remove()
        assert len(queue.peek_messages(max_messages=5)) == stored


def test_hooks_see_both_sides(proxy: StorageProxy, queue: QueueClient) -> None:
    """A hook before forwarding sees storage without the effect, a hook after it with it."""
    seen: dict[str, int] = {}

    def note(moment: str) -> Callable[[StorageRequest], None]:
        def hook(request: StorageRequest) -> None:
            assert b"watched" in request.body
            count = queue.get_queue_properties().approximate_message_count
            seen[moment] = count or 0

        return hook

    proxy.inject(Rule(body=b"watched", before=note("before"), after=note("after")))
    queue.send_message("not this one")
    queue.send_message("watched")
    assert seen == {"before": 1, "after": 2}


def test_skip_and_times(proxy: StorageProxy, queue: QueueClient) -> None:
    """A rule lets `skip` matching requests pass, hits `times` and is spent."""
    rule = Rule(method="POST", path="work/messages", skip=1, times=2, answer=Refusal())
    handle = proxy.inject(rule)
    outcomes = []
    for number in range(5):
        try:
            queue.send_message(str(number))
        except HttpResponseError:
            outcomes.append("refused")
        else:
            outcomes.append("stored")
    assert outcomes == ["stored", "refused", "refused", "stored", "stored"]
    assert handle.hits == 2


def test_clients_retry_through_a_fault(azurite: Azurite, proxy: StorageProxy, account: str) -> None:
    """One cut connection and one 503 are healed by a client that retries."""
    connection = azurite.connection_string(account, via=proxy.urls)
    retry = LinearRetry(backoff=0, random_jitter_range=0)
    with QueueClient.from_connection_string(connection, "work", retry_policy=retry) as queue:
        queue.create_queue()
        proxy.inject(Rule(times=1, drop="before"))
        proxy.inject(Rule(times=1, answer=Refusal()))
        queue.send_message("through")
        assert len(queue.peek_messages()) == 1


def test_storage_that_is_down(azurite: Azurite, account: str) -> None:
    """When storage itself does not answer, the client's connection is cut."""
    with StorageProxy({"queue": 9, "table": 9}) as proxy:
        connection = azurite.connection_string(account, via=proxy.urls)
        queue = QueueClient.from_connection_string(connection, "work", retry_total=0)
        with queue, pytest.raises((ServiceRequestError, ServiceResponseError)):
            queue.send_message("nowhere")


@pytest.mark.parametrize(
    ("service", "method", "target", "operation"),
    [
        ("queue", "GET", "/acct/work/messages?numofmessages=16", "get_messages"),
        ("queue", "GET", "/acct/work/messages?peekonly=true", "peek_messages"),
        ("queue", "PUT", "/acct/work/messages/id?popreceipt=x", "update_message"),
        ("queue", "GET", "/acct/work?comp=metadata", "get_queue_properties"),
        ("queue", "GET", "/acct?comp=list", "other"),
        ("table", "POST", "/acct/$batch", "batch"),
        ("table", "POST", "/acct/Tables", "create_table"),
        ("table", "GET", "/acct/ledger()?$filter=x", "query_entities"),
        ("table", "GET", "/acct/ledger(PartitionKey='a',RowKey='b')", "get_entity"),
        ("table", "PATCH", "/acct/ledger(PartitionKey='a',RowKey='b')", "merge_entity"),
    ],
)
def test_operation_names(service: Service, method: str, target: str, operation: str) -> None:
    """A request is named after its REST operation."""
    request = StorageRequest(service=service, method=method, target=target, headers={}, body=b"")
    assert request.operation == operation
