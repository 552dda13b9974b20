"""One trace from the timer through the envelope to the upload, as a fact of each event."""

from local.services.feed import SyntheticFeed
from tests.kql.logged import facts_by_event
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, events_of


def test_a_tick_and_its_uploads_share_a_trace(new_world: NewWorld) -> None:
    """Two ticks have two traces; each upload carries that of the tick that made its chunk.

    The facts that a real run logs are those that the queries are checked against.
    """
    feed, later = SyntheticFeed(300), SyntheticFeed(200, seed=1)  # no id of one is in the other
    world = new_world(feed)
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    world.now_lists(later)
    world.sync(host)
    world.deliver_all()
    assert_conserved(world, also=later)

    lines = [entry for host in world.cloud.hosts for entry in events_of(host.log_text())]
    runs = {facts["run"]: facts["trace"] for name, facts in lines if name == "sync-complete"}
    uploads = [facts for name, facts in lines if name == "chunk-uploaded"]
    assert len(runs) == len(set(runs.values())) == 2
    assert {facts["run"] for facts in uploads} == runs.keys()
    assert all(facts["trace"] == runs[facts["run"]] for facts in uploads)
    pulses = {facts["run"]: facts["trace"] for name, facts in lines if name == "health"}
    assert pulses == runs
    logged = facts_by_event()
    assert {
        name: set(facts) - logged[name] for name, facts in lines if set(facts) - logged[name]
    } == {}
    assert {"sync-complete", "health", "chunk-uploaded"} <= {name for name, _ in lines}
