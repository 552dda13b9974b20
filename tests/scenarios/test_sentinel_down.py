"""Sentinel is down: every request is answered 503, for longer than any quick retry lasts."""

from common.ledger.problems import ProblemKind
from local.services.faults import Answer, Fault
from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, until


def test_an_outage_poisons_nothing_and_ends_by_itself(new_world: NewWorld) -> None:
    """Through an outage every chunk is deferred again and again, under one problem record."""
    world = new_world(SyntheticFeed(1000))
    outage = world.cloud.sentinel.inject(Fault(effect=Answer(503), method="POST", times=None))
    hosts = [world.cloud.start_host() for _ in range(2)]
    world.sync(hosts[0])
    until(
        lambda: all(chunk.deferrals >= 3 for chunk in world.chunks()),
        "every chunk was deferred several times",
    )
    problem = world.problem(ProblemKind.UNAVAILABLE)
    assert problem is not None
    assert "503" in problem.what
    assert not world.poison()

    outage.remove()
    world.deliver_all()
    assert_conserved(world)
    world.wait_until_calm()
    assert world.problem_is_over(ProblemKind.UNAVAILABLE)
