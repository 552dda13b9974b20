"""Did it arrive? What the workspace shows of what Sentinel accepted, and what is said of it.

An instance whose clock is ahead stands for the time that passes: it does nothing but ask.
"""

import uuid

import pytest

from common.health import Cause, Verdict, judge_health
from common.ledger.arrivals import RunArrival
from common.ledger.samples import OF_A_RUN
from local.functions_host.process import HostProcess
from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.versions import feed_of, version
from tests.scenarios.world import CONSUMER, PRODUCER, World

HOUR = 3600.0
SMALL = SyntheticFeed(500)


def delivered(world: World) -> HostProcess:
    """Have one run delivered by a host of the present."""
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    return host


def later(world: World, hours: float) -> HostProcess:
    """Return an instance that only asks, so many hours later."""
    return world.cloud.start_host(disabled=(*PRODUCER, *CONSUMER), clock_skew=hours * HOUR)


def checked(world: World, host: HostProcess) -> RunArrival:
    """Check; return what is known of the one run."""
    (run,) = world.check_arrival(host).runs
    return run


def findings(world: World) -> dict[str, str]:
    """Return what is said of the feed, by its code."""
    return {reason.code.value: reason.text for reason in judge_health(world.view()).reasons}


def test_all_arrive_before_and_after_the_fold(new_world: NewWorld) -> None:
    """One query about twenty indicators of twenty chunks; then no other."""
    world = new_world(SyntheticFeed(5000), shows=True)
    host = delivered(world)
    run = checked(world, host)
    assert (run.sampled, run.arrived, run.different) == (OF_A_RUN, OF_A_RUN, 0)
    assert run.median_seconds is not None
    assert findings(world) == {}
    assert f"{OF_A_RUN} of {OF_A_RUN}, median" in world.operate("status").stdout
    world.fold_all(host)
    assert checked(world, host) == run
    assert world.cloud.workspace.requests == 1


def test_an_ingestion_rule_drops_some(new_world: NewWorld) -> None:
    """They are missing after two hours, with what to look at; what arrived is known."""
    world = new_world(SMALL, shows=True)
    world.cloud.workspace.behaviour.drop = lambda found: int(found["id"][-1], 16) % 2 == 0
    host = delivered(world)
    run = checked(world, host)
    assert 0 < run.arrived < run.sampled
    assert Cause.NOT_ARRIVED not in findings(world)
    dropped = run.sampled - run.arrived
    assert checked(world, later(world, 2.1)).missing == dropped
    assert f"{dropped} of a sample of {run.sampled}" in findings(world)[Cause.NOT_ARRIVED]
    assert judge_health(world.view()).verdict is Verdict.DEGRADED


def test_a_rule_that_changes_values_is_seen(new_world: NewWorld) -> None:
    """They have arrived, with another confidence."""
    world = new_world(SMALL, shows=True)
    world.cloud.workspace.behaviour.change = lambda found: {**found, "confidence": 1}
    run = checked(world, delivered(world))
    assert run.arrived == run.different == run.sampled


def test_another_workspace(new_world: NewWorld) -> None:
    """The query API does not know the one that is set: said, and no fault of the feed."""
    world = new_world(SMALL, shows=True)
    host = delivered(world)
    world.cloud.workspace.move_to(str(uuid.uuid4()))
    assert world.check_arrival(host).runs == ()
    assert "correct WORKSPACE_ID" in findings(world)[Cause.ARRIVAL_UNKNOWN]
    assert judge_health(world.view()).verdict is Verdict.HEALTHY


def test_nothing_shows_at_all(new_world: NewWorld) -> None:
    """Sentinel accepts it, and it goes elsewhere."""
    world = new_world(SMALL)
    delivered(world)
    run = checked(world, later(world, 2.1))
    assert (run.arrived, run.missing) == (0, run.sampled)
    assert "is WORKSPACE_ID the workspace" in findings(world)[Cause.NOT_ARRIVED]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("role_granted", "role Microsoft Sentinel Contributor"),
        ("private_only", "private link"),
        ("partial", "a part of the query"),
        ("has_table", "no table"),
    ],
)
def test_a_workspace_that_cannot_be_asked(new_world: NewWorld, trouble: str, said: str) -> None:
    """Said once, as no fault of the feed; once it answers, everything has arrived."""
    world = new_world(SMALL, shows=True)
    host = delivered(world)
    behaviour = world.cloud.workspace.behaviour
    well = getattr(behaviour, trouble)
    setattr(behaviour, trouble, not well)
    for _ in range(2):
        world.check_arrival(host)
    assert said in findings(world)[Cause.ARRIVAL_UNKNOWN]
    assert judge_health(world.view()).verdict is Verdict.HEALTHY
    setattr(behaviour, trouble, well)
    run = checked(world, host)
    assert (run.arrived, findings(world)) == (run.sampled, {})


def test_late_by_hours(new_world: NewWorld) -> None:
    """Missing, then there: the finding ends, and the time is known."""
    world = new_world(SMALL, shows=True)
    world.cloud.workspace.behaviour.delay = 3 * HOUR
    delivered(world)
    early, late = later(world, 2.5), later(world, 3.2)
    run = checked(world, early)
    assert (run.arrived, run.missing) == (0, run.sampled)
    assert Cause.NOT_ARRIVED in findings(world)
    world.cloud.workspace.ahead = 3.1 * HOUR
    run = checked(world, late)
    assert (run.arrived, run.missing) == (run.sampled, 0)
    assert run.median_seconds == pytest.approx(3 * HOUR, abs=60)
    assert findings(world) == {}


def test_what_sentinel_wrote_again_by_itself_is_no_arrival(new_world: NewWorld) -> None:
    """Rows of the republisher alone prove nothing."""
    world = new_world(SMALL, shows=True)
    delivered(world)
    world.cloud.workspace.republish(originals_stay=False)
    run = checked(world, later(world, 2.1))
    assert (run.arrived, run.missing) == (0, run.sampled)


def test_a_downgrade_is_seen_from_the_other_end(new_world: NewWorld) -> None:
    """Another sender uploads an older version after ours: its row is the newest."""
    world = new_world(feed_of([version(1, minute=5)]), shows=True)
    host = delivered(world)
    world.cloud.workspace.ingest([version(1, minute=1)])
    run = checked(world, host)
    assert (run.sampled, run.arrived, run.older) == (1, 0, 1)
    assert "older version last" in findings(world)[Cause.ARRIVED_OLDER]


def test_a_later_version_has_arrived_without_comparing(new_world: NewWorld) -> None:
    """It is not what was sent, and it is not older."""
    world = new_world(feed_of([version(1, minute=5)]), shows=True)
    host = delivered(world)
    world.cloud.workspace.ingest([version(1, minute=9, confidence=1)])
    run = checked(world, host)
    assert (run.arrived, run.different, run.median_seconds) == (1, 0, None)
