"""Lumen answers 429 and 5xx, in bursts and for long."""

import pytest

from common.ledger.states import RunState
from local.functions_host.process import HostProcess
from local.services.faults import Answer, DoThenReset, Fault, Reset
from local.services.feed import SyntheticFeed
from local.services.lumen_api import PAGE_PATH, QUERY_PATH, STATUS_PATH
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, until

READS = {"status": ("GET", STATUS_PATH), "page": ("GET", PAGE_PATH)}
ENDED = {RunState.FAILED, RunState.INTERRUPTED}
TICK_OVER = "Executed 'Functions.lumen_sync'"
STEPS = {"query": ("POST", QUERY_PATH), **READS}


@pytest.mark.parametrize(
    "effect",
    [Answer(429, {"Retry-After": "1"}), Reset()],
    ids=["429", "reset"],
)
def test_a_burst_is_waited_out_in_the_run(new_world: NewWorld, effect: Answer | Reset) -> None:
    """A few bad answers do not even interrupt the run, where the call can be repeated."""
    world = new_world(SyntheticFeed(600), page_size=200)
    repeatable = STEPS if isinstance(effect, Answer) else READS
    for method, path in repeatable.values():
        fault = Fault(effect=effect, method=method, path=path, times=2)
        world.cloud.lumen.inject(fault)
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    assert run.resumed == 0
    assert len(world.runs()) == 1
    assert_conserved(world)


@pytest.mark.parametrize("step", STEPS)
def test_an_outage_is_left_to_the_next_tick(new_world: NewWorld, step: str) -> None:
    """The run ends with its reason, and a tick after the outage brings everything."""
    world = new_world(SyntheticFeed(600), page_size=200)
    method, path = STEPS[step]
    outage = world.cloud.lumen.inject(
        Fault(effect=Answer(503), method=method, path=path, times=None)
    )
    host = world.cloud.start_host()
    world.fire_timer(host)
    until(lambda: any(run.state in ENDED for run in world.runs()), "the run has ended")
    assert "503" in world.runs()[0].reason
    outage.remove()
    world.sync(host)
    world.deliver_all()
    assert_conserved(world)


def wait_for_tick(host: HostProcess, number: int) -> None:
    """Wait until so many ticks are over, lease and all."""
    until(lambda: host.log_text().count(TICK_OVER) == number, "the tick is over")


@pytest.mark.parametrize(
    "effect", [DoThenReset(), Answer(504)], ids=["started, answer lost", "gateway"]
)
def test_a_start_whose_answer_is_lost_is_one_gap(
    new_world: NewWorld, effect: DoThenReset | Answer
) -> None:
    """Tick after tick without an answer is on record once; then the feed comes all the same."""
    world = new_world(SyntheticFeed(600), page_size=200)
    outage = world.cloud.lumen.inject(
        Fault(effect=effect, method="POST", path=QUERY_PATH, times=None)
    )
    host = world.cloud.start_host()
    for tick in range(1, 4):
        world.fire_timer(host)
        wait_for_tick(host, tick)
    assert world.cloud.lumen.count(method="POST") == 3
    outage.remove()
    world.sync(host)
    world.deliver_all()
    states = [run.state for run in world.runs()]
    assert states == [RunState.GAP, RunState.FAILED, RunState.FAILED, RunState.COMPLETE]
    assert_conserved(world)
