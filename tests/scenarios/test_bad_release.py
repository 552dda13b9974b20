"""Sentinel refuses every request as a whole, say after a bad release of ours or of theirs."""

import pytest

from common.ledger.problems import Kind
from local.faults import Answer, Fault
from local.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, until


@pytest.mark.parametrize("objects", [90, 1500], ids=["one chunk", "many chunks"])
def test_what_is_refused_without_exception_is_kept_on_the_queue(
    new_world: NewWorld, objects: int
) -> None:
    """While everything is refused nothing is rejected or poisoned; later everything arrives."""
    world = new_world(SyntheticFeed(objects))
    refusal = world.cloud.sentinel.inject(
        Fault(effect=Answer(400, body='{"message": "Bad request"}'), method="POST", times=None)
    )
    host = world.cloud.start_host()
    run = world.sync(host)
    until(
        lambda: all(chunk.deferrals >= 2 for chunk in world.chunks()),
        "every chunk was deferred",
    )
    problem = world.problem(Kind.REFUSING)
    assert problem is not None
    assert problem.closed_at is None
    assert not world.poison()
    assert not list(world.ledger.rejections.of_run(run.run_id))

    refusal.remove()
    world.deliver_all()
    assert_conserved(world)
    until(lambda: world.problems.open() == [], "the problem is closed")
