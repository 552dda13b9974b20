"""The contract of a queue as its senders see it, and what only the real one can show.

Azurite decodes each read of a request by itself (readRequestIntoText in its serializer, 3.37.0): a
letter beyond ASCII that is cut between two reads arrives as several others, and counts as more. So
such letters go to Azurite only in a text of a few bytes, which leaves in one write and arrives in
one read. Tables are not concerned: their client escapes such letters, in JSON and in addresses.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import pytest
from azure.storage.queue import QueueClient

from common.envelope import MAX_ENVELOPE_BYTES
from common.queues import MAX_DELAY, MAX_PEEKED, MAX_TAKEN, AzureQueue, SendQueue, WatchedQueue
from common.settings import StorageSettings
from ops.rescue import Rescued, rescue
from tests.fakes.clock import FakeClock
from tests.fakes.queue import FakeQueue

NAME = "sentinel-upload"
HOUR = 3600.0


class Side(Protocol):
    """One queue: where it is sent to, and what can be received from it now."""

    @property
    def queue(self) -> SendQueue: ...

    def received(self) -> list[str]: ...


@dataclass(frozen=True)
class FakeSide:
    """The queue in memory; what was sent without delay can be received."""

    queue: FakeQueue = field(default_factory=FakeQueue)

    def received(self) -> list[str]:
        return [sent.text for sent in self.queue.sent if sent.delay <= 0]


@dataclass(frozen=True)
class AzureSide:
    """A queue of Azurite, received from as the Functions host does: without an encoding."""

    storage: StorageSettings

    @property
    def queue(self) -> AzureQueue:
        return AzureQueue(NAME, self.storage)

    @property
    def client(self) -> QueueClient:
        assert self.storage.connection_string is not None
        connection = self.storage.connection_string.reveal()
        return QueueClient.from_connection_string(connection, NAME)

    def received(self) -> list[str]:
        return [message.content for message in self.client.receive_messages(max_messages=32)]


@pytest.fixture
def azure(storage: StorageSettings) -> AzureSide:
    """A queue of Azurite that does not exist yet."""
    return AzureSide(storage)


@pytest.fixture(params=["fake", "azurite"])
def side(request: pytest.FixtureRequest) -> Side:
    """The queue in memory, then one of Azurite."""
    if request.param == "fake":
        return FakeSide()
    made: AzureSide = request.getfixturevalue("azure")
    return made


@pytest.mark.parametrize(
    "text", ["{}", '{"a":"<b> & \'c\' ]]>"}', "é漢😀\u2028", "  blanks\n\taround \r\n ", "&amp;"]
)
def test_a_message_is_received_as_it_was_sent(side: Side, text: str) -> None:
    """The text arrives letter by letter, unencoded, whatever XML would make of it."""
    side.queue.send(text)
    assert side.received() == [text]


def test_the_first_message_makes_the_queue(side: Side) -> None:
    """A queue that does not exist is empty, and is made by the first send."""
    assert side.queue.depth() == 0
    side.queue.send("first")
    side.queue.send("second")
    assert side.queue.depth() == 2
    assert side.received() == ["first", "second"]


def test_sending_twice_makes_two_messages(side: Side) -> None:
    """The queue does not know that two messages are the same."""
    side.queue.send("same")
    side.queue.send("same")
    assert side.received() == ["same", "same"]


@pytest.mark.parametrize("delay", [HOUR, float(MAX_DELAY), 10.0 * MAX_DELAY])
def test_a_delayed_message_is_hidden_and_counted(side: Side, delay: float) -> None:
    """A message with a delay, however long, cannot be received yet but is in the depth."""
    side.queue.send("later", delay=delay)
    side.queue.send("now")
    assert side.queue.depth() == 2
    assert side.received() == ["now"]


@pytest.mark.parametrize("delay", [0.0, -5.0])
def test_no_delay_is_now(side: Side, delay: float) -> None:
    """A delay of nothing, or in the past, hides nothing."""
    side.queue.send("now", delay=delay)
    assert side.received() == ["now"]


def test_what_is_visible_can_be_looked_at(side: Side) -> None:
    """The oldest first, up to 32; looking hides nothing, and what is hidden is not seen."""
    queue = cast("WatchedQueue", side.queue)
    assert queue.peek() == []
    queue.send("later", delay=HOUR)
    assert queue.peek() == []
    for number in range(MAX_PEEKED + 1):
        queue.send(f"{number}")
    assert queue.peek() == queue.peek() == [f"{number}" for number in range(MAX_PEEKED)]


def test_the_depth_counts_what_is_being_worked_on(azure: AzureSide) -> None:
    """A message that was received and not yet deleted is still in the depth."""
    azure.queue.send("one")
    assert azure.received() == ["one"]
    assert azure.queue.depth() == 1


@pytest.mark.parametrize("letter", ["x", "<"])
def test_the_largest_message_is_64_kib(side: Side, letter: str) -> None:
    """A text of 65 536 bytes arrives whole; one byte more is refused, nothing sent."""
    largest = letter * MAX_ENVELOPE_BYTES
    with pytest.raises(ValueError, match="does not fit"):
        side.queue.send(largest + "x")
    assert side.queue.depth() == 0
    side.queue.send(largest)
    assert side.received() == [largest]


def test_the_limit_counts_bytes(side: Side) -> None:
    """Half as many letters of two bytes are one byte too long with one more; nothing is sent."""
    with pytest.raises(ValueError, match="does not fit"):
        side.queue.send("é" * (MAX_ENVELOPE_BYTES // 2) + "x")
    assert side.queue.depth() == 0


def test_half_as_many_letters_of_two_bytes_fit() -> None:
    """A text of 65 536 bytes in UTF-8 arrives; in memory only, as Azurite could cut a letter."""
    side = FakeSide()
    side.queue.send("é" * (MAX_ENVELOPE_BYTES // 2))
    assert side.received() == ["é" * (MAX_ENVELOPE_BYTES // 2)]


def test_a_message_never_expires(azure: AzureSide) -> None:
    """A message is kept until the year 9999: none vanishes after a week."""
    azure.queue.send("kept")
    message = azure.client.receive_message()
    assert message is not None
    assert message.expires_on is not None
    assert message.expires_on.year == 9999


# Taking, for a rescue


def test_what_is_taken_is_hidden_and_what_is_removed_is_gone(storage: StorageSettings) -> None:
    """Up to 32 at a time, as text; removing twice, or what is another's by now, does nothing."""
    queue = AzureQueue("taken", storage)
    assert queue.take(hidden_for=60.0) == []
    texts = [f"text {number} <&> \u00e9" for number in range(40)]
    for text in texts:
        queue.send(text)
    first, second = queue.take(hidden_for=3600.0), queue.take(hidden_for=3600.0)
    assert (len(first), len(second)) == (MAX_TAKEN, 40 - MAX_TAKEN)
    assert sorted(one.text for one in (*first, *second)) == sorted(texts)
    assert queue.take(hidden_for=60.0) == []
    assert queue.depth() == 40
    for one in (*first, first[0], replace(second[0], pop_receipt=first[0].pop_receipt)):
        queue.remove(one)
    assert queue.depth() == 40 - MAX_TAKEN
    queue.remove(second[0])
    assert queue.depth() == 40 - MAX_TAKEN - 1


def test_messages_that_failed_five_times_are_rescued(storage: StorageSettings) -> None:
    """As the handler's own failures leave them: received again and again, then never run."""
    poison, upload = AzureQueue("work-poison", storage), AzureQueue("work", storage)
    for number in range(4):
        poison.send(f"message {number}")
    assert storage.connection_string is not None
    client = QueueClient.from_connection_string(storage.connection_string.reveal(), "work-poison")
    for _ in range(6):
        for message in client.receive_messages(max_messages=32, visibility_timeout=60):
            client.update_message(message, visibility_timeout=0)
    done = rescue(poison, upload_queue=upload, clock=FakeClock(), patience=0.0)
    assert done == Rescued(count=4, left=0)
    received = upload.take(hidden_for=60.0)
    assert sorted(one.text for one in received) == [f"message {number}" for number in range(4)]
    assert poison.depth() == 0
