"""Sentinel answers 429: in storms, by header or in the body only, with sense or without."""

import json
import re

from local.services.faults import Answer, Fault
from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, log_lines, until

HEEDLESS = {"SENTINEL_REQUESTS_PER_MINUTE": "60000"}
"""Told of no limit, the app runs into Sentinel's."""

LONGEST = 3600 * 1.2
"""Seconds: an hour, and a share at random."""


def test_a_storm_of_429_only_delays(new_world: NewWorld) -> None:
    """Over the limit for minutes on end, every chunk arrives and none is given up."""
    world = new_world(
        SyntheticFeed(1500),
        requests_per_minute=120,
        window_seconds=1.0,
        settings=HEEDLESS,
    )
    hosts = [world.cloud.start_host() for _ in range(2)]
    world.sync(hosts[0])
    world.deliver_all()
    assert world.cloud.sentinel.throttled > 0
    assert_conserved(world)


def test_a_429_that_asks_for_no_wait_is_no_tight_loop(new_world: NewWorld) -> None:
    """*Try again in 0 seconds* waits a moment, then delivers."""
    world = new_world(SyntheticFeed(300))
    effect = Answer(429, {}, _body("Rate limit is exceeded. Try again in 0 seconds."))
    world.cloud.sentinel.inject(Fault(effect=effect, times=4))
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    delays = _delays(log_lines(host, "chunk-deferred"))
    assert delays
    assert min(delays) >= 1
    assert_conserved(world)


def test_a_429_without_sense_defers_within_reason(new_world: NewWorld) -> None:
    """Whatever number a 429 names, the chunk waits on the queue for a bounded time."""
    world = new_world(SyntheticFeed(120))
    effect = Answer(429, {"Retry-After": "1000000000000"}, _body("Slow down."))
    world.cloud.sentinel.inject(Fault(effect=effect, times=None))
    host = world.cloud.start_host()
    run = world.sync(host)
    until(
        lambda: len(log_lines(host, "chunk-deferred")) >= len(world.chunks()) > 0,
        "every chunk is deferred",
    )
    delays = _delays(log_lines(host, "chunk-deferred"))
    assert all(1 <= delay <= LONGEST for delay in delays)
    assert not world.poison()
    assert_conserved(world, pending=run.counts.enqueued)


def _body(message: str) -> str:
    return json.dumps({"statusCode": 429, "message": message})


def _delays(lines: list[str]) -> list[float]:
    return [float(found[1]) for line in lines if (found := re.search(r'"delay":([\d.]+)', line))]
