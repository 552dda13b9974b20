"""Lumen answers 429 and 5xx, in bursts and for long."""

import pytest

from common.ledger.states import RunState
from local.faults import Answer, Fault, Reset
from local.feed import SyntheticFeed
from local.lumen_api import PAGE_PATH, QUERY_PATH, STATUS_PATH
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, until

STEPS = {"query": ("POST", QUERY_PATH), "status": ("GET", STATUS_PATH), "page": ("GET", PAGE_PATH)}


@pytest.mark.parametrize(
    "effect",
    [Answer(429, {"Retry-After": "1"}), Answer(503), Answer(500, body="<html>"), Reset()],
    ids=["429", "503", "500", "reset"],
)
def test_a_burst_is_waited_out_in_the_run(new_world: NewWorld, effect: Answer | Reset) -> None:
    """A few bad answers at every call do not even interrupt the run."""
    world = new_world(SyntheticFeed(600), page_size=200)
    for method, path in STEPS.values():
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
    ended = {RunState.FAILED, RunState.INTERRUPTED}
    until(lambda: any(run.state in ended for run in world.runs()), "the run has ended")
    assert "503" in world.runs()[0].reason
    outage.remove()
    world.sync(host)
    world.deliver_all()
    assert_conserved(world)
