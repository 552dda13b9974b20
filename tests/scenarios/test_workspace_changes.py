"""The app is set for another workspace while chunks wait for the one before."""

import json

import pytest

from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, World, assert_conserved, until


def _wait_elsewhere(world: World) -> None:
    """Set the app for another workspace; return once every chunk was deferred there."""
    world.cloud.change_workspace()
    world.cloud.start_host(disabled=PRODUCER)
    until(lambda: all(chunk.deferrals for chunk in world.chunks()), "every chunk is deferred")


@pytest.fixture
def queued(new_world: NewWorld) -> World:
    """A world whose chunks wait on the queue for the first workspace."""
    world = new_world(SyntheticFeed(700))
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    producer.terminate()
    return world


def test_chunks_for_another_workspace_wait_until_an_operator_turns_them_over(
    queued: World,
) -> None:
    """They are not sent to the wrong one, the status says what to do, and the command does it."""
    world = queued
    count = len(world.expected)
    _wait_elsewhere(world)
    assert world.cloud.sentinel.requests == 0
    report = json.loads(world.operate("status", "--json").stdout)
    assert report["health"] == "degraded"
    (finding,) = [text for text in report["findings"] if "destination adopt" in text]
    assert f"another workspace than the present one: {count};" in finding
    assert not world.poison()

    dry = json.loads(world.operate("destination", "adopt", "--dry-run", "--json").stdout)
    assert dry["indicators"] == count
    assert world.destination not in {chunk.destination for chunk in world.chunks()}
    done = world.operate("destination", "adopt")
    assert done.returncode == 0, done.stderr
    assert f"({count} indicators) go to {world.destination}" in " ".join(done.stdout.split())
    world.deliver_all()
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == count
    again = json.loads(world.operate("destination", "adopt", "--json").stdout)
    assert (again["chunks"], again["waits"]) == (0, "")


def test_chunks_go_to_their_workspace_when_the_settings_are_put_right(queued: World) -> None:
    """A typing error that is corrected costs a wait, and no command."""
    world = queued
    workspace = world.cloud.app_settings()["WORKSPACE_ID"]
    _wait_elsewhere(world)
    world.cloud.hosts[-1].terminate()
    world.cloud.change_workspace(workspace)
    world.cloud.start_host()
    world.deliver_all()
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == len(world.expected)


def test_another_workspace_gets_all_that_is_listed_from_then_on(new_world: NewWorld) -> None:
    """At the first query already, though the rows of what the other one took are still there."""
    world = new_world(SyntheticFeed(300))
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    taken = world.cloud.sentinel.accepted_total
    host.terminate()
    world.cloud.change_workspace()
    other = world.cloud.start_host()
    assert world.chunks()
    counts = world.sync(other).counts
    assert (counts.enqueued, counts.unchanged) == (len(world.expected), 0)
    world.deliver_all()
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == taken + len(world.expected)
    assert world.sync(other).counts.unchanged == len(world.expected)
