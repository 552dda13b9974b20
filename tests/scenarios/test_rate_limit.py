"""A first load at Sentinel's limit: as fast as it allows, and hardly ever throttled."""

import pytest

from local.feed import SyntheticFeed
from local.sentinel_api import peak_rate
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved

LIMIT = 240
WINDOW = 10.0
"""Requests a minute, and the seconds over which the simulator counts them: the real service's
100 a minute, several times as fast."""


@pytest.mark.parametrize("hosts", [1, 3])
def test_a_first_load_runs_at_the_limit(new_world: NewWorld, hosts: int) -> None:
    """At most 1 % of the requests are throttled and the rate is at least 0.9 of the limit."""
    world = new_world(
        SyntheticFeed(1200),
        page_size=400,
        requests_per_minute=LIMIT,
        window_seconds=WINDOW,
        settings={"CHUNK_SIZE": "10"},
    )
    instances = [world.cloud.start_host() for _ in range(hosts)]
    world.sync(instances[0])
    world.deliver_all()
    sentinel = world.cloud.sentinel
    arrivals = [exchange.at for exchange in sentinel.exchanges]
    rate = (len(arrivals) - 1) / (max(arrivals) - min(arrivals)) * 60
    print(len(arrivals), sentinel.throttled, rate, peak_rate(arrivals, seconds=WINDOW))
    assert sentinel.throttled <= max(1, len(arrivals) // 100)
    assert rate >= 0.9 * LIMIT
    assert_conserved(world)
    assert sentinel.accepted_total == len(world.expected)
