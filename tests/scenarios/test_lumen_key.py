"""Lumen refuses the API key: an operator is needed, and health says so at once."""

from common.ledger.problems import ProblemKind
from common.ledger.states import RunState
from local.services.faults import Answer, Fault
from local.services.feed import SyntheticFeed
from local.services.lumen_api import QUERY_PATH
from ops.status import describe
from tests.scenarios.conftest import NewWorld
from tests.scenarios.test_lumen_unavailable import wait_for_tick
from tests.scenarios.world import assert_conserved

MORE = SyntheticFeed(500, seed=1)


def test_a_refused_key_shows_at_once_and_ends_when_lumen_answers(new_world: NewWorld) -> None:
    """A healthy feed is down after one tick, with the remedy; the first answer ends it."""
    world = new_world(SyntheticFeed(600))
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    world.wait_until_healthy()

    ticks = host.log_text().count("Executed 'Functions.lumen_sync'")
    refusal = world.cloud.lumen.inject(
        Fault(effect=Answer(403), method="POST", path=QUERY_PATH, times=None)
    )
    world.now_lists(MORE)
    world.fire_timer(host)
    wait_for_tick(host, ticks + 1)
    newest, *_ = world.view().recent
    assert (newest.state, newest.run_id != run.run_id) == (RunState.FAILED, True)
    report = describe(world.view())
    assert report["health"] == "down"
    (problem,) = report["problems"]
    assert problem["kind"] == "lumen-access"
    assert "LUMEN_API_KEY" in problem["what"]
    assert report["findings"][0].startswith(problem["what"])

    refusal.remove()
    world.sync(host)
    world.deliver_all()
    world.wait_until_healthy()
    assert world.problem_is_over(ProblemKind.LUMEN_ACCESS)
    assert_conserved(world, also=MORE)
