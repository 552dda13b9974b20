"""A page of Lumen's breaks off in the middle of its body."""

import pytest

from common.ledger.states import RunState
from local.services.faults import Cut, Fault
from local.services.feed import SyntheticFeed
from local.services.lumen_api import PAGE_PATH
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, until


@pytest.mark.parametrize("after_bytes", [0, 20_000])
def test_a_page_that_is_cut_is_fetched_again(new_world: NewWorld, after_bytes: int) -> None:
    """A page that is cut a few times is read whole in the end, and counted once."""
    world = new_world(SyntheticFeed(900), page_size=300)
    fault = Fault(effect=Cut(after_bytes=after_bytes), path=PAGE_PATH, after=1, times=3)
    rule = world.cloud.lumen.inject(fault)
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    assert rule.hits == 3
    assert (run.counts.fetched, run.resumed) == (900, 0)
    assert_conserved(world)


def test_a_page_that_stays_cut_interrupts_the_run(new_world: NewWorld) -> None:
    """The run stops at its checkpoint and a later tick goes on there, with the same query."""
    world = new_world(SyntheticFeed(900), page_size=300)
    fault = Fault(effect=Cut(after_bytes=5000), path=PAGE_PATH, after=2, times=None)
    rule = world.cloud.lumen.inject(fault)
    host = world.cloud.start_host()
    world.fire_timer(host)
    until(
        lambda: any(run.state is RunState.INTERRUPTED for run in world.runs()),
        "the run is interrupted",
    )
    rule.remove()
    run = world.sync(host)
    world.deliver_all()
    assert (run.counts.fetched, run.resumed) == (900, 1)
    assert world.cloud.lumen.queries_started == 1
    assert_conserved(world)
