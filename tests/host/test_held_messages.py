"""Messages that wait out of sight, with the real queue client: seen, and brought forward."""

from collections.abc import Iterator

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue import QueueClient

from local.services.azurite import Azurite
from local.services.held_messages import HeldMessages
from local.services.storage_proxy import Rule, StorageProxy
from local.services.storage_requests import Service


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[StorageProxy]:
    """A proxy in front of the tests' Azurite, without rules."""
    upstream: dict[Service, int] = {"queue": azurite.port("queue"), "table": azurite.port("table")}
    with StorageProxy(upstream) as started:
        yield started


@pytest.fixture
def held(azurite: Azurite, proxy: StorageProxy, account: str) -> HeldMessages:
    """What is put out of sight for a minute or longer."""
    return HeldMessages(proxy, azurite.connection_string(account), at_least=60)


@pytest.fixture
def queue(azurite: Azurite, proxy: StorageProxy, account: str) -> Iterator[QueueClient]:
    """A queue behind the proxy, by a client that never retries."""
    connection = azurite.connection_string(account, via=proxy.urls)
    with QueueClient.from_connection_string(connection, "work", retry_total=0) as client:
        client.create_queue()
        yield client


def _texts(queue: QueueClient) -> list[str]:
    return sorted(str(message.content) for message in queue.receive_messages(max_messages=32))


def test_a_message_that_waits_is_brought_forward_as_it_is(
    queue: QueueClient, held: HeldMessages
) -> None:
    """Its sender's delay is known; what is visible, or waits for less, is left alone."""
    queue.send_message("now")
    queue.send_message("soon", visibility_timeout=59)
    queue.send_message("<later> & more", visibility_timeout=120)
    (message,) = held.waiting
    assert (message.queue, message.text, message.delay) == ("work", "<later> & more", 120.0)
    assert _texts(queue) == ["now"]
    assert held.bring_forward() == 1
    assert _texts(queue) == ["<later> & more"]
    assert (held.waiting, held.bring_forward(), held.seen) == ([], 0, [message])


def test_a_message_whose_sender_was_not_answered_is_seen(
    proxy: StorageProxy, queue: QueueClient, held: HeldMessages
) -> None:
    """The connection is dropped after storage has acted: the message waits all the same."""
    proxy.inject(Rule(operation="put_message", times=1, drop="after"))
    with pytest.raises(Exception, match="Connection aborted"):
        queue.send_message("unheard", visibility_timeout=120)
    assert [message.text for message in held.waiting] == ["unheard"]


def test_a_message_that_went_is_passed_over(queue: QueueClient, held: HeldMessages) -> None:
    """Somebody cleared the queue: there is nothing to bring forward, and no error."""
    queue.send_message("later", visibility_timeout=120)
    queue.clear_messages()
    assert held.bring_forward() == 1
    assert _texts(queue) == []


def test_a_refused_message_does_not_wait(queue: QueueClient, held: HeldMessages) -> None:
    """Storage did not take it."""
    with pytest.raises(HttpResponseError):
        queue.send_message("x" * 70_000, visibility_timeout=120)
    assert held.seen == []
