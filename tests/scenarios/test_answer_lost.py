"""Sentinel accepts an upload, and the caller never hears of it."""

from local.services.faults import DoThenReset, Fault
from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved


def test_an_upload_whose_answer_is_lost_is_repeated(new_world: NewWorld) -> None:
    """Accepted and then reset: the chunk is uploaded again and counted once."""
    world = new_world(SyntheticFeed(800))
    rule = world.cloud.sentinel.inject(Fault(effect=DoThenReset(), method="POST", times=6))
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    assert rule.hits == 6
    assert world.cloud.sentinel.accepted_total > len(world.expected)
    assert_conserved(world)
