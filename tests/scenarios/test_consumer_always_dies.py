"""A chunk on which every consumer dies: the host gives it up, the ledger keeps it whole."""

from common.ledger.poison import PoisonedBy, PoisonState
from common.ledger.states import ChunkState
from local.services.faults import Call, Fault
from local.services.feed import SyntheticFeed
from ops.poison import Selection, find
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import (
    CONSUMER,
    PRODUCER,
    Victim,
    assert_conserved,
    put_back_often,
    until,
)

MAX_DEQUEUE_COUNT = 5

LEASE = 4.0
"""Seconds until the message of a dead instance comes back. A live one that a busy machine keeps
from renewing its lease for half of that gets the message twice, and dies once for two deliveries:
then the message is given up after fewer deaths."""


def test_five_deaths_are_kept_as_poison_and_can_be_replayed(new_world: NewWorld) -> None:
    """Five deaths after it was put back for the last time it is kept, and a replay delivers it."""
    world = new_world(SyntheticFeed(100))
    world.sync(world.cloud.start_host(disabled=CONSUMER))
    (first,) = world.messages()
    text = put_back_often(first)
    world.take_all()
    world.put(text)
    deaths = 0
    while not world.poison():
        assert deaths <= MAX_DEQUEUE_COUNT
        victim = Victim()
        deadly = world.cloud.sentinel.inject(Fault(effect=Call(victim.kill), method="POST"))
        host = victim.is_(world.cloud.start_host(queue_lease=LEASE, disabled=PRODUCER))
        until(
            lambda host=host: not host.alive or world.poison(),  # type: ignore[misc]
            "the consumer has died, or the message is kept",
        )
        deaths += deadly.hits
        deadly.remove()
    assert deaths > 1
    (record,) = world.poison()
    assert (record.poisoned_by, record.message) == (PoisonedBy.HOST, text)
    until(lambda: world.chunks()[0].state is ChunkState.POISONED, "the chunk's row says so")
    assert_conserved(world, poisoned=len(world.expected))

    assert [handled.result for handled in world.replay(Selection(all_kept=True))] == ["replayed"]
    world.deliver_all()
    assert_conserved(world)
    assert [one.state for one in world.poison()] == [PoisonState.REPLAYED]
    assert find(world.ledger, Selection(all_kept=True)) == []
