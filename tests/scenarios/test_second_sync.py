"""The second run and those after it: only what has changed is sent."""

import math

import pytest

from local.services.feed import SyntheticFeed, expected_ids
from local.services.sentinel_api import SentinelBehaviour
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import THRESHOLD, assert_conserved, assert_last_word, versions_of


@pytest.mark.parametrize("age", ["just now", "long ago"])
def test_one_percent_of_change_costs_its_share_of_requests(new_world: NewWorld, age: str) -> None:
    """Of two feeds that differ in 1 %, the second sends the difference, in as few requests.

    What was settled long ago leaves at once; what a request may still be under way with, waits.
    """
    feed = SyntheticFeed(3000)
    world = new_world(feed, proxied=True)
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    assert_conserved(world)
    if age == "long ago":
        world.fold_all(host)
        world.let_time_pass()
    later = feed.changed(0.01, 1)
    before, after = versions_of(feed), versions_of(later)
    known, wanted = world.expected, expected_ids(later, threshold=THRESHOLD)
    changed = {name for name in known | wanted if before[name] != after[name]}
    requests = world.cloud.sentinel.requests

    world.now_lists(later)
    run = world.sync(host)
    assert bool(world.held.seen) is (age == "just now")
    world.deliver_all()
    assert 0 < len(changed) < 60
    assert run.counts.enqueued == len(changed)
    assert run.counts.corrections == len(changed - wanted)
    assert run.counts.unchanged == len(known - changed)
    assert world.cloud.sentinel.requests - requests == math.ceil(len(changed) / 100)
    assert_last_word(world, feed, later)
    assert_conserved(world, also=later)


def test_a_feed_that_has_not_changed_costs_no_request(new_world: NewWorld) -> None:
    """Run after run of the same feed sends nothing more, whoever runs."""
    world = new_world(SyntheticFeed(500))
    hosts = [world.cloud.start_host() for _ in range(2)]
    world.sync(hosts[0])
    world.deliver_all()
    requests = world.cloud.sentinel.requests
    for host in (*hosts, *hosts):
        run = world.sync(host)
        assert (run.counts.enqueued, run.counts.unchanged) == (0, len(world.expected))
    assert world.cloud.sentinel.requests == requests
    assert_conserved(world)


def test_what_is_still_on_the_queue_is_not_sent_again(new_world: NewWorld) -> None:
    """A run that starts before the last one is delivered adds nothing to the queue."""
    world = new_world(SyntheticFeed(500))
    producer = world.cloud.start_host(disabled=("sentinel_upload",))
    world.sync(producer)
    run = world.sync(producer)
    assert (run.counts.enqueued, run.counts.unchanged) == (0, len(world.expected))
    world.cloud.start_host()
    world.deliver_all()
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == len(world.expected)


def test_a_rejected_indicator_is_not_sent_again(new_world: NewWorld) -> None:
    """What Sentinel has refused is refused for good, until it changes."""
    world = new_world(SyntheticFeed(600), sentinel=SentinelBehaviour())
    bad = sorted(world.expected)[::40]
    world.cloud.sentinel.behaviour.reject_record = lambda record: record["id"] in bad
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    requests = world.cloud.sentinel.requests
    run = world.sync(host)
    assert (run.counts.enqueued, run.counts.unchanged) == (0, len(world.expected))
    assert world.cloud.sentinel.requests == requests
    assert_conserved(world, rejected=len(bad))
