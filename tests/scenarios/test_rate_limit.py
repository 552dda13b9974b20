"""A first load at Sentinel's limit: about as fast as it was told to be, and seldom throttled.

How fast and how seldom is measured where nothing else runs, by `make bench`. Here a machine that
is late with a message may miss slots; what no machine excuses is a load without slots, of which
Sentinel throttles most, or one that uses every other slot.
"""

from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved

LIMIT = 240
WINDOW = 10.0
"""Requests a minute, and the seconds over which the simulator counts them: the real service's
100 a minute, faster and shorter."""

TOLD = 192
"""What the app is told. A queue hides messages by whole seconds, however short the window is: 95 of
100 a minute leave three seconds of slack, 32 of 40 in ten seconds leave two."""


def test_a_first_load_runs_at_the_rate(new_world: NewWorld) -> None:
    """Of the requests of three instances a tenth at most is throttled, at half the rate or more."""
    world = new_world(
        SyntheticFeed(950),
        page_size=400,
        requests_per_minute=LIMIT,
        window_seconds=WINDOW,
        settings={"CHUNK_SIZE": "10", "SENTINEL_REQUESTS_PER_MINUTE": str(TOLD)},
    )
    instances = [world.cloud.start_host() for _ in range(3)]
    world.sync(instances[0])
    world.deliver_all()
    sentinel = world.cloud.sentinel
    arrivals = [exchange.at for exchange in sentinel.exchanges]
    rate = (len(arrivals) - 1) / (max(arrivals) - min(arrivals)) * 60
    assert len(arrivals) > LIMIT * WINDOW / 60
    assert sentinel.throttled <= len(arrivals) / 10
    assert rate >= 0.5 * TOLD
    assert_conserved(world)
    assert sentinel.accepted_total == len(world.expected)
