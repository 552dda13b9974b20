"""Two instances fire the timer at the same moment: a manual run and the schedule, say."""

import pytest

from common.ledger.states import RunState
from local.services.faults import Call, Fault
from local.services.feed import SyntheticFeed
from local.services.lumen_api import STATUS_PATH
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, log_lines, until


@pytest.mark.parametrize("hosts", [2, 4])
def test_one_of_the_overlapping_timers_works(new_world: NewWorld, hosts: int) -> None:
    """Whoever gets the lease runs, the others say so and do nothing; nothing is read twice."""
    world = new_world(SyntheticFeed(1200), page_size=200)
    instances = [world.cloud.start_host() for _ in range(hosts)]

    def skipped() -> int:
        return sum(len(log_lines(host, "sync-skipped")) for host in instances)

    # The run is not over before the others have seen it.
    overlap = Call(lambda _request: until(lambda: skipped() >= hosts - 1, "the others skip"))
    world.cloud.lumen.inject(Fault(effect=overlap, path=STATUS_PATH))
    for host in instances:
        world.fire_timer(host)
    until(
        lambda: all("Executed 'Functions.lumen_sync'" in host.log_text() for host in instances),
        "all timers have run",
    )
    world.deliver_all()
    assert [run.state for run in world.runs()] == [RunState.COMPLETE]
    assert skipped() == hosts - 1
    assert world.cloud.lumen.queries_started == 1
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == len(world.expected)


def test_a_lease_that_is_too_short_costs_work_and_loses_nothing(new_world: NewWorld) -> None:
    """Two runs that overlap because the lease ran out still leave one balanced run."""
    world = new_world(
        SyntheticFeed(1200), page_size=100, settings={"RUN_LEASE": "1", "LUMEN_POLL_INTERVAL": "1"}
    )
    world.cloud.lumen.behaviour.statuses = ("RUNNING",) * 2
    instances = [world.cloud.start_host() for _ in range(2)]
    for host in instances * 3:
        world.fire_timer(host)
    world.sync(instances[0])
    world.deliver_all()
    assert_conserved(world)
