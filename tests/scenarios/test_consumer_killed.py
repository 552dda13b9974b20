"""A consumer instance dies by SIGKILL in the middle of an upload."""

import pytest

from common.ledger.states import ChunkState
from local.services.faults import Call, Fault
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, Victim, assert_conserved, until


@pytest.mark.parametrize("when", ["before", "after"])
def test_messages_of_a_killed_consumer_come_back(new_world: NewWorld, when: str) -> None:
    """Killed before or after Sentinel accepted: the messages return and are delivered."""
    world = new_world()
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    victim = Victim()
    effect = Call(victim.kill, when=when)  # type: ignore[arg-type]
    world.cloud.sentinel.inject(Fault(effect=effect, method="POST", after=2))
    host = victim.is_(world.cloud.start_host(queue_lease=2, disabled=PRODUCER))
    until(lambda: not host.alive, "the consumer is killed in an upload")
    assert any(chunk.state is ChunkState.QUEUED for chunk in world.chunks())

    world.cloud.start_host(queue_lease=2, disabled=PRODUCER)
    world.deliver_all()
    assert_conserved(world)
