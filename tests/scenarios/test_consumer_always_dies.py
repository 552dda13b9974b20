"""A chunk on which every consumer dies: the host gives it up, the ledger keeps it whole."""

from common.ledger.poison import PoisonedBy, PoisonState
from common.ledger.states import ChunkState
from local.faults import Call, Fault
from local.feed import SyntheticFeed
from local.functions_host.process import HostProcess
from ops.poison import Selection, find
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, assert_conserved, put_back_often, until

MAX_DEQUEUE_COUNT = 5


def test_five_deaths_are_kept_as_poison_and_can_be_replayed(new_world: NewWorld) -> None:
    """Five deaths after it was put back for the last time it is kept, and a replay delivers it."""
    world = new_world(SyntheticFeed(100))
    world.sync(world.cloud.start_host(disabled=CONSUMER))
    (first,) = world.messages()
    text = put_back_often(first)
    world.take_all()
    world.put(text)
    victims: list[HostProcess] = []
    deadly = world.cloud.sentinel.inject(
        Fault(effect=Call(lambda _request: victims[-1].kill()), method="POST", times=None)
    )
    for _ in range(MAX_DEQUEUE_COUNT):
        victims.append(world.cloud.start_host(queue_lease=1, disabled=PRODUCER))
        until(lambda: not victims[-1].alive, "the consumer has died")
    assert [chunk.state for chunk in world.chunks()] == [ChunkState.QUEUED]

    world.cloud.start_host(queue_lease=1, disabled=PRODUCER)
    (record,) = until(world.poison, "the message is kept")
    assert (record.poisoned_by, record.message) == (PoisonedBy.HOST, text)
    until(lambda: world.chunks()[0].state is ChunkState.POISONED, "the chunk's row says so")
    assert_conserved(world, poisoned=len(world.expected))

    deadly.remove()
    assert [handled.result for handled in world.replay(Selection(all_kept=True))] == ["replayed"]
    world.deliver_all()
    assert_conserved(world)
    assert [one.state for one in world.poison()] == [PoisonState.REPLAYED]
    assert find(world.ledger, Selection(all_kept=True)) == []
