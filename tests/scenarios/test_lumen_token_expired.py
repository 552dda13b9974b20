"""Lumen forgets a page token, or the whole query, while its pages are being read."""

import pytest

from common.ledger.states import RunState
from local.services.faults import Call, Fault
from local.services.feed import SyntheticFeed
from local.services.lumen_api import PAGE_PATH
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, until


@pytest.mark.parametrize(("what", "status"), [("tokens", 400), ("queries", 404)])
def test_a_token_that_expires_in_the_run_is_a_gap_and_a_new_query(
    new_world: NewWorld, what: str, status: int
) -> None:
    """What was read is sent, the run is closed as a gap, and the next one reads everything.

    Which answers mean that is for the contract tests of the client.
    """
    world = new_world(SyntheticFeed(1000), page_size=150)
    lumen = world.cloud.lumen
    lumen.behaviour.expired_token_status = status
    expire = lumen.expire_tokens if what == "tokens" else lumen.expire_queries
    effect = Call(lambda _request: expire())
    lumen.inject(Fault(effect=effect, method="GET", path=PAGE_PATH, after=2))
    host = world.cloud.start_host()
    world.fire_timer(host)
    until(lambda: "Executed 'Functions.lumen_sync'" in host.log_text(), "the first tick ends")
    world.sync(host)
    world.deliver_all()
    assert [run.state for run in world.runs()] == [RunState.GAP, RunState.COMPLETE]
    gap = world.runs()[0]
    assert gap.counts.fetched == 300
    assert "does not know" in gap.reason
    assert_conserved(world)
