"""A feed in which hardly anything changes, and what changes is a bad record."""

from common.ledger.problems import ProblemKind
from tests.scenarios.conftest import NewWorld
from tests.scenarios.versions import feed_of, id_of, version
from tests.scenarios.world import until

GOOD, BAD = range(300), 300


def test_a_bad_record_of_a_quiet_feed_waits_and_is_no_outage(new_world: NewWorld) -> None:
    """Refused again and again it is no problem of the feed; it is rejected once others pass."""
    world = new_world(feed_of(version(number) for number in GOOD))
    world.cloud.sentinel.behaviour.reject_record = lambda record: record["id"] == id_of(BAD)
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    world.now_lists(feed_of([version(BAD)]))
    run = world.sync(host)
    until(
        lambda: [chunk.deferrals for chunk in world.chunks(run.run_id) if chunk.deferrals >= 4],
        "the record was refused several times",
    )
    assert world.problem(ProblemKind.REFUSING) is None
    assert not list(world.ledger.rejections.of_run(run.run_id))
    world.deliver_among_others(host)
    (kept,) = world.ledger.rejections.of_run(run.run_id)
    assert kept.indicator_id == id_of(BAD)
    assert not world.poison()
    world.wait_until_calm()
    assert set(world.cloud.sentinel.accepted) >= {id_of(number) for number in GOOD}
    assert [fate.balanced for fate in world.fates()] == [True] * len(world.fates())
