"""The clocks of two instances differ by minutes."""

from datetime import UTC, datetime, timedelta

import pytest

from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, assert_conserved

MINUTES = 180.0


@pytest.mark.parametrize(
    ("producer", "consumer"),
    [(MINUTES, -MINUTES), (-MINUTES, MINUTES)],
)
def test_clocks_that_differ_by_minutes_lose_nothing(
    new_world: NewWorld, producer: float, consumer: float
) -> None:
    """Whoever's clock is wrong, and in which direction, everything is delivered once, at once.

    That holds for a queue that was filled before. An instance that is behind and sends while
    others reserve slots sees those in its future, and its messages wait as long as it is behind.
    """
    world = new_world(SyntheticFeed(900), page_size=300)
    before = datetime.now(UTC)
    first = world.cloud.start_host(disabled=CONSUMER, clock_skew=producer)
    run = world.sync(first)
    after = datetime.now(UTC)
    world.cloud.start_host(disabled=PRODUCER, clock_skew=consumer)
    world.deliver_all()
    assert before <= run.started_at - timedelta(seconds=producer) <= after
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == len(world.expected)


def test_a_second_producer_with_another_clock_goes_on(new_world: NewWorld) -> None:
    """The lease and the known indicators of a wrong clock do not confuse the next instance."""
    world = new_world(SyntheticFeed(600), page_size=300)
    hosts = [
        world.cloud.start_host(clock_skew=skew, disabled=("sentinel_upload",) if skew else ())
        for skew in (0.0, MINUTES, -MINUTES)
    ]
    world.sync(hosts[1])
    world.deliver_all()
    for host in (hosts[2], hosts[0]):
        run = world.sync(host)
        assert (run.counts.enqueued, run.counts.unchanged) == (0, len(world.expected))
    assert_conserved(world)
