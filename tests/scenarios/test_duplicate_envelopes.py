"""Messages that are on the queue more than once: a storage queue promises at least once."""

from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, World, assert_conserved, until


def _enqueued(world: World) -> list[str]:
    """Sync with a producer alone; return the messages that it left on the queue."""
    world.sync(world.cloud.start_host(disabled=CONSUMER))
    return world.messages()


def test_copies_that_are_delivered_at_once_count_once(new_world: NewWorld) -> None:
    """Three copies of every envelope, delivered side by side, leave one outcome a chunk."""
    world = new_world(SyntheticFeed(1200))
    texts = _enqueued(world)
    for text in texts * 2:
        world.put(text)
    world.cloud.start_host()
    world.deliver_all()
    assert_conserved(world)
    assert len(world.chunks()) == len(texts) > 1


def test_a_copy_that_comes_after_the_upload_changes_nothing(new_world: NewWorld) -> None:
    """Copies that are delivered when all is done leave the books as they were."""
    world = new_world(SyntheticFeed(1200))
    texts = _enqueued(world)
    world.cloud.start_host()
    world.deliver_all()
    before = world.fates()
    for text in texts:
        world.put(text)
    requests = world.cloud.sentinel.requests
    world.deliver_all()
    assert world.cloud.sentinel.requests == requests
    assert world.fates() == before
    assert_conserved(world)


def test_a_copy_that_comes_after_the_fold_is_not_sent(new_world: NewWorld) -> None:
    """A copy whose chunk's row was folded away is acknowledged, and makes no row."""
    world = new_world(SyntheticFeed(700))
    texts = _enqueued(world)
    host = world.cloud.start_host()
    world.deliver_all()
    world.fold_all(host)
    requests = world.cloud.sentinel.requests
    for text in texts:
        world.put(text)
    world.deliver_all()
    assert world.cloud.sentinel.requests == requests
    assert world.chunks() == []
    assert_conserved(world)
    first, *later = (fate.enqueued for fate in world.fates())
    assert first == len(world.expected)
    assert not any(later)


def test_messages_of_a_ledger_that_was_lost_are_sent(new_world: NewWorld) -> None:
    """Every table is gone, the queue is not: what waits on it arrives, and makes no row.

    First somebody must name the new ledger, as the producer does at its next tick: until then its
    table may only be out of sight.
    """
    world = new_world(SyntheticFeed(700))
    _enqueued(world)
    world.lose_ledger()
    world.ledger.chunks.ledger_id()
    world.cloud.start_host(disabled=PRODUCER)
    until(lambda: not world.cloud.sentinel.missing(world.expected), "everything has arrived")
    world.deliver_all()
    assert world.chunks() == []
    assert not world.poison()
