"""Messages that are on the queue more than once: a storage queue promises at least once."""

from local.feed import SyntheticFeed
from local.functions_host.process import HostProcess
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, World, assert_conserved, until


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
    uploads = 2 * len(texts)
    until(lambda: world.cloud.sentinel.count(status=200) >= uploads, "the copies are uploaded")
    world.deliver_all()
    assert world.fates() == before
    assert_conserved(world)


def test_a_copy_that_comes_after_the_fold_is_not_counted_again(new_world: NewWorld) -> None:
    """A copy whose chunk's row was folded away writes a row that no later run counts."""
    world = new_world(SyntheticFeed(700))
    texts = _enqueued(world)
    host = world.cloud.start_host()
    world.deliver_all()
    _fold_all(world, host)
    for text in texts:
        world.put(text)
    until(lambda: len(world.chunks()) == len(texts), "the copies have rows")
    world.deliver_all()
    assert_conserved(world)
    _fold_all(world, host)
    assert_conserved(world)
    first, *later = (fate.enqueued for fate in world.fates())
    assert first == len(world.expected)
    assert not any(later)


def _fold_all(world: World, host: HostProcess) -> None:
    """Let runs fold every row away: two at most, as what was uploaded late stays for one."""
    world.sync(host)
    if world.chunks():
        world.sync(host)
    assert world.chunks() == []
