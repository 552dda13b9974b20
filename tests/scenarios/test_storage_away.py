"""Storage is away for longer than the Functions host stands it, five times: nothing is poisoned."""

import pytest
from azure.storage.queue import QueueClient

from common.queues import POISON_QUEUE
from local.functions_host.process import HostProcess
from local.services.faults import Call, Fault
from local.services.feed import SyntheticFeed
from local.services.storage_proxy import Injection, Rule
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, World, assert_conserved, log_lines, until

OUTAGES = 5
"""As many as deliveries after which the host gives a message up."""

PATIENCE = 1.25
DRAIN = 0.5
"""A twentieth of Azure's 24.8 s and 10 s. An outage lasts as long as both, as one of 40 s does."""

QUEUE_LEASE = 2.0

ONE_CHUNK = 100
"""Indicators of which each outage meets every message, so that the host must give it up."""


def start(world: World) -> HostProcess:
    """An instance that consumes, and ends itself when storage is away."""
    return world.cloud.start_host(
        disabled=PRODUCER, queue_lease=QUEUE_LEASE, storage_patience=PATIENCE, drain=DRAIN
    )


def take_storage_away(world: World, hosts: list[HostProcess]) -> None:
    """Let storage go when the next upload comes to Sentinel, and come back without its host."""
    proxy = world.cloud.proxy
    assert proxy is not None
    away: list[Injection] = []
    gone = Call(lambda _request: away.append(proxy.inject(Rule(drop="before"))))
    world.cloud.sentinel.inject(Fault(effect=gone, method="POST"))
    until(lambda: away, "an upload is under way")
    until(lambda: not hosts[-1].alive, "the host has ended itself")
    assert hosts[-1].process.wait() == 1
    assert "Host is shutting down." in hosts[-1].log_text()
    for injection in away:
        injection.remove()


@pytest.mark.timeout(300)
def test_five_outages_poison_nothing(new_world: NewWorld) -> None:
    """What was in flight each time is given up by the host, put back, and arrives."""
    world = new_world(SyntheticFeed(ONE_CHUNK), proxied=True)
    # As the template does. Hosts that make it side by side end: one of them is told that it exists.
    poison_queue = QueueClient.from_connection_string(world.cloud.connection_string, POISON_QUEUE)
    poison_queue.create_queue()
    world.sync(world.cloud.start_host(disabled=CONSUMER))
    hosts: list[HostProcess] = []
    for _ in range(OUTAGES):
        hosts.append(start(world))
        take_storage_away(world, hosts)
    hosts.append(start(world))
    world.deliver_all()
    assert world.poison() == []
    assert poison_queue.get_queue_properties().approximate_message_count == 0
    put_back = [line for host in hosts for line in log_lines(host, "chunk-put-back")]
    assert put_back, "the host never gave it up: nothing was shown"
    assert_conserved(world)
