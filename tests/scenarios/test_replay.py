"""An operator replays what was given up: once, twice, and while the consumer is still broken."""

from collections.abc import Callable

import pytest

from common.clock import SystemClock
from common.envelope import decode_envelope
from common.ledger.poison import PoisonedBy
from common.queues import POISON_QUEUE
from local.services.faults import Answer, Fault
from local.services.feed import SyntheticFeed
from ops.poison import Result, Selection
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, World, assert_conserved, put_back_often, until

ALL = Selection(all_kept=True)


@pytest.fixture
def poisoned(new_world: NewWorld) -> Callable[..., World]:
    """Makes a world whose every chunk was given up by the host."""

    def make(*, disabled: tuple[str, ...] = ()) -> World:
        world = new_world(SyntheticFeed(700), proxied=True)
        producer = world.cloud.start_host(disabled=CONSUMER)
        world.sync(producer)
        texts = world.messages()
        producer.terminate()
        world.take_all()
        for text in texts:
            world.put(put_back_often(text), queue=POISON_QUEUE)
        world.cloud.start_host(disabled=disabled)
        until(lambda: len(world.poison()) == len(texts), "every message is kept")
        until(lambda: world.fates()[0].poisoned == len(world.expected), "every row says so")
        assert_conserved(world, poisoned=len(world.expected))
        return world

    return make


def test_a_replay_delivers_what_was_given_up(poisoned: Callable[..., World]) -> None:
    """Replayed chunks are delivered as if nothing had been; the books follow."""
    world = poisoned()
    handled = world.replay(ALL)
    assert {one.result for one in handled} == {Result.REPLAYED}
    assert sum(one.count for one in handled) == len(world.expected)
    world.deliver_all()
    assert_conserved(world)


def test_a_second_replay_says_so_and_sends_nothing(poisoned: Callable[..., World]) -> None:
    """Twice is a no-op that says so, before the delivery and after it."""
    world = poisoned()
    names = tuple(record.name for record in world.poison())
    world.replay(ALL)
    again = world.replay(Selection(names=names))
    assert {one.result for one in again} == {Result.ALREADY_REPLAYED}
    assert world.replay(ALL) == []
    world.deliver_all()
    assert {one.result for one in world.replay(Selection(names=names))} == {Result.ALREADY_REPLAYED}
    assert world.cloud.sentinel.accepted_total == len(world.expected)
    assert_conserved(world)


def test_a_replay_while_the_consumer_is_broken_waits_on_the_queue(
    poisoned: Callable[..., World],
) -> None:
    """Operators need not wait for the repair: replayed messages wait for it on the queue."""
    world = poisoned(disabled=("sentinel_upload",))
    handled = world.replay(ALL)
    assert {one.result for one in handled} == {Result.REPLAYED}
    assert world.fates()[0].pending == len(world.expected)
    assert world.queue.depth() == len(handled)
    world.cloud.start_host()
    world.deliver_all()
    assert_conserved(world)


def test_what_is_given_up_again_can_be_replayed_again(poisoned: Callable[..., World]) -> None:
    """A replay in vain leaves the message kept, with its first time, for another replay."""
    world = poisoned()
    first = {record.name: record.first_at for record in world.poison()}
    refusal = world.cloud.sentinel.inject(Fault(effect=Answer(503), method="POST", times=None))
    world.replay(ALL)
    until(lambda: all(c.deferrals for c in world.chunks()), "the replayed chunks are deferred")
    for record in world.poison():
        assert decode_envelope(record.message).deferrals == 0
        world.put(record.message, queue=POISON_QUEUE)
    until(lambda: len(world.kept()) == len(first), "they are given up again")
    assert {r.name: r.first_at for r in world.kept()} == first
    assert all(record.poisoned_by is PoisonedBy.HOST for record in world.kept())
    refusal.remove()
    world.replay(ALL)
    world.deliver_all()
    assert_conserved(world)


def test_what_is_discarded_is_sent_again_by_a_full_sync_only(
    poisoned: Callable[..., World],
) -> None:
    """Discarding is for good: a version that is known is not offered again, unless it is asked."""
    world = poisoned()
    discarded = sum(one.count for one in world.discard(ALL))
    assert discarded == len(world.expected)
    assert_conserved(world, poisoned=discarded)
    host = world.cloud.hosts[-1]
    assert world.sync(host).counts.enqueued == 0
    world.ledger.control.request_full(at=SystemClock().now())
    assert world.sync(host).counts.enqueued == len(world.expected)
    world.deliver_all()
    assert_conserved(world, poisoned=discarded)
    assert not world.cloud.sentinel.missing(world.expected)
