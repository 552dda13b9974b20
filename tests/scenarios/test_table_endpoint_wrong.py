"""The settings lead to the queue and not to the tables: the ledger cannot be asked for anything."""

import re
from collections.abc import Callable

import pytest

from common.ledger.states import ChunkState
from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, assert_conserved, log_lines, until

TABLES = re.compile(r";TableEndpoint=[^;]*")
QUEUES = re.compile(r";QueueEndpoint=([^;]*)")


def without_tables(connection: str) -> str:
    """Return the connection string without the tables' address, so that the client makes one up.

    Azure's own would be that of a stranger's account, where a machine reaches it.
    """
    return TABLES.sub("", connection).rstrip(";") + ";EndpointSuffix=cloud.invalid;"


def with_queues_for_tables(connection: str) -> str:
    """Return the connection string with the queue service where the tables should be."""
    (queues,) = QUEUES.findall(connection)
    return TABLES.sub(f";TableEndpoint={queues}", connection)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(without_tables, "cannot be reached"), (with_queues_for_tables, "table ")],
    ids=["missing", "wrong"],
)
def test_without_the_tables_every_chunk_stays_on_the_queue(
    new_world: NewWorld, broken: Callable[[str], str], reason: str
) -> None:
    """Every delivery ends as a delayed copy, by way of the queue alone; mended, all arrive."""
    world = new_world(SyntheticFeed(600))
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    chunks = len(world.chunks())
    right = world.cloud.app_settings()["PipelineStorage"]
    world.cloud.override_settings({"PipelineStorage": broken(right)})
    victim = world.cloud.start_host()
    until(lambda: len(log_lines(victim, "chunk-deferred")) >= chunks, "every chunk is deferred")
    assert all(reason in line for line in log_lines(victim, "chunk-deferred"))
    victim.terminate()
    assert not world.poison()
    assert world.queue.depth() >= chunks
    assert {chunk.state for chunk in world.chunks()} == {ChunkState.QUEUED}
    assert_conserved(world, pending=len(world.expected))

    world.cloud.override_settings({"PipelineStorage": right})
    world.cloud.start_host(disabled=PRODUCER)
    world.deliver_all()
    assert_conserved(world)
