"""The poison handler itself has failed: one command brings its messages back."""

from common.clock import SystemClock
from common.queues import POISON_QUEUE, AzureQueue, Taken
from common.settings import Secret, StorageSettings
from local.services.feed import SyntheticFeed
from ops.rescue import Rescued, rescue
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, World, assert_conserved, put_back_often

DELIVERIES = 6
"""One more than the host runs a message, by `maxDequeueCount` of host.json."""


def fail_on(world: World, count: int) -> AzureQueue:
    """Leave the messages of the poison queue as deliveries that all failed do; return the queue."""
    storage = StorageSettings(connection_string=Secret(world.cloud.connection_string))
    queue = AzureQueue(POISON_QUEUE, storage)
    for _ in range(DELIVERIES):
        taken: list[Taken] = []
        while len(taken) < count:
            taken += queue.take(hidden_for=1.0)
    return queue


def test_messages_that_the_handler_failed_on_arrive_after_all(new_world: NewWorld) -> None:
    """Four chunks, put back as often as they may be; nothing runs that handler any more."""
    world = new_world(SyntheticFeed(700))
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    texts = world.messages()
    assert len(texts) >= 4
    world.take_all()
    for text in texts:
        world.put(put_back_often(text), queue=POISON_QUEUE)
    poison_queue = fail_on(world, len(texts))
    finding = next(
        one for one in producer.get("/api/read/status").json()["findings"] if "not kept yet" in one
    )
    assert "`poison rescue`" in finding
    producer.terminate()
    done = rescue(poison_queue, upload_queue=world.queue, clock=SystemClock(), patience=60.0)
    assert done == Rescued(count=len(texts), left=0)
    world.cloud.start_host(disabled=("keep_poison",))
    world.deliver_all()
    assert world.poison() == []
    assert_conserved(world)
