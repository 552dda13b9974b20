"""Lumen's last word: of all that Sentinel holds it holds the newest version that was listed."""

import json
from collections import Counter
from collections.abc import Sequence

import pytest

from common.delivery import LONGEST_DELIVERY
from common.envelope import decode_envelope, encode_envelope
from common.queues import POISON_QUEUE
from local.services.faults import DoThenReset, Fault
from local.services.lumen_api import LumenBehaviour
from local.services.sentinel_api import SentinelBehaviour
from ops.poison import Result, Selection
from tests.scenarios.conftest import NewWorld
from tests.scenarios.versions import feed_of, id_of, version
from tests.scenarios.world import (
    CONSUMER,
    PRODUCER,
    World,
    assert_conserved,
    assert_last_word,
    put_back_often,
    until,
)

AN_HOUR = 3600.0
MANY = range(150)


def _struck(world: World) -> int:
    return sum(fate.struck for fate in world.fates())


def _times(world: World) -> set[int]:
    """How often the indicators were accepted."""
    return {world.cloud.sentinel.accepted[id_of(number)].times for number in MANY}


@pytest.mark.parametrize(
    ("window", "known"), [("snapshot", "in rows"), ("since-last-query", "in the index")]
)
def test_a_downgrade_and_a_revocation_of_what_is_known_arrive(
    new_world: NewWorld, window: str, known: str
) -> None:
    """No filter applies to what Sentinel holds; of what it does not hold, neither is sent."""
    first = feed_of(version(number) for number in MANY)
    second = feed_of(
        (version(number, 1, confidence=10) for number in range(20)),
        (version(number, 1, revoked=True) for number in range(20, 40)),
        (version(number) for number in MANY[40:]),
        [version(900, 1, confidence=10), version(901, 1, revoked=True)],
    )
    behaviour = LumenBehaviour(window=window)  # type: ignore[arg-type]
    world = new_world(first, lumen=behaviour, proxied=True)
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    if known == "in the index":
        world.fold_all(host)
        world.let_time_pass()
    world.now_lists(second)
    run = world.sync(host)
    world.deliver_all()
    assert (run.counts.enqueued, run.counts.corrections, run.counts.filtered) == (40, 40, 2)
    assert bool(world.held.seen) is (known == "in rows")
    assert_conserved(world)
    assert_last_word(world, first, second)
    assert world.sync(host).counts.enqueued == 0


@pytest.mark.parametrize("order", ["old first", "new first"])
def test_of_two_versions_in_one_query_the_newer_wins(new_world: NewWorld, order: str) -> None:
    """In both orders; listed again and again, neither is sent again."""
    old, new = [version(n) for n in MANY], [version(n, 5, confidence=90) for n in MANY]
    feed = feed_of(old, new) if order == "old first" else feed_of(new, old)
    world = new_world(feed, proxied=True)
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    counts = (run.counts.enqueued, run.counts.older)
    assert counts == ((300, 0) if order == "old first" else (150, 150))
    assert_conserved(world)
    assert_last_word(world, feed)
    for _ in range(2):
        counts_again = world.sync(host).counts
        assert (counts_again.enqueued, counts_again.unchanged, counts_again.older) == (0, 150, 150)
    assert_conserved(world)


def _sync_alone(world: World) -> list[str]:
    """Sync with a producer alone, which is left running; return the messages on the queue."""
    if not world.cloud.hosts:
        world.cloud.start_host(disabled=CONSUMER)
    world.sync(world.cloud.hosts[0])
    return world.messages()


@pytest.mark.parametrize("late", ["deferred", "doubled", "replayed"])
def test_an_older_version_that_comes_late_does_not_win(new_world: NewWorld, late: str) -> None:
    """Deferred for an hour, delivered twice, or given up and replayed: the newer one stays."""
    first = feed_of(version(number) for number in MANY)
    second = feed_of(version(number, 1, confidence=90) for number in MANY)
    world = new_world(first, proxied=True)
    texts = _sync_alone(world)
    assert len(texts) == 2
    if late == "doubled":
        world.cloud.start_host(disabled=PRODUCER)
        world.deliver_all()
    else:
        world.take_all()
    match late:
        case "deferred":
            texts = [_deferred(text) for text in texts]
        case "replayed":
            world.cloud.start_host(disabled=("lumen_sync", "sentinel_upload"))
            for text in texts:
                world.put(put_back_often(text), queue=POISON_QUEUE)
            until(lambda: len(world.kept()) == len(texts), "the messages are kept")
    world.now_lists(second)
    world.sync(world.cloud.hosts[0])
    if late != "doubled":
        world.cloud.start_host(disabled=PRODUCER)
    world.deliver_all()
    is_once = late != "doubled"
    assert _struck(world) == (150 if is_once else 0)

    if late == "replayed":
        handled = world.replay(Selection(all_kept=True))
        assert {one.result for one in handled} == {Result.SUPERSEDED}
    else:
        requests = world.cloud.sentinel.requests
        for text in texts:
            world.put(text)
        world.deliver_all()
        assert world.cloud.sentinel.requests == requests
    assert _times(world) == {1 if is_once else 2}
    assert_conserved(world)
    assert_last_word(world, first, second)


def _deferred(text: str) -> str:
    """Return the copy of a message that a delivery which failed puts on the queue."""
    return encode_envelope(
        decode_envelope(text).deferred(
            at="2026-01-01T00:00:00+00:00", reason="held up", counts=False
        )
    )


def test_a_newer_version_waits_until_no_older_request_can_be_under_way(
    new_world: NewWorld,
) -> None:
    """It is put on the queue out of sight, for longer than a delivery can take; others are not."""
    first = feed_of(version(number) for number in MANY)
    second = feed_of(
        (version(number, 1) for number in MANY), (version(number) for number in range(500, 520))
    )
    world = new_world(first, proxied=True)
    _sync_alone(world)
    assert world.held.seen == []
    world.now_lists(second)
    world.sync(world.cloud.hosts[0])
    delayed = [decode_envelope(message.text) for message in world.held.seen]
    assert {message.delay for message in world.held.seen} <= {LONGEST_DELIVERY, 121.0}
    assert all(message.delay >= LONGEST_DELIVERY for message in world.held.seen)
    ids = Counter(name for sent in delayed for name in _ids(sent.body))
    assert all(ids[id_of(number)] == 1 for number in MANY)
    assert sum(chunk.fate.struck for chunk in world.chunks()) == len(MANY)
    world.cloud.start_host(disabled=PRODUCER)
    world.deliver_all()
    assert_conserved(world, also=second)
    assert_last_word(world, first, second)


def _ids(body: bytes) -> Sequence[str]:
    return [one["id"] for one in json.loads(body)]


def test_what_was_accepted_unheard_and_then_struck_is_superseded(new_world: NewWorld) -> None:
    """Sentinel took the older version and the answer was lost: it is not sent again, but struck."""
    first = feed_of(version(number) for number in MANY)
    second = feed_of(version(number, 1, revoked=True) for number in MANY)
    world = new_world(first, proxied=True, settings={"DEFERRAL_DELAY": "3"})
    texts = _sync_alone(world)
    rule = world.cloud.sentinel.inject(Fault(effect=DoThenReset(), method="POST", times=None))
    consumer = world.cloud.start_host(disabled=PRODUCER)
    until(lambda: all(c.deferrals for c in world.chunks()), "the chunks are deferred")
    consumer.terminate()
    rule.remove()
    assert not world.cloud.sentinel.missing(map(id_of, MANY))
    requests = world.cloud.sentinel.requests

    world.now_lists(second)
    world.sync(world.cloud.hosts[0])
    world.cloud.start_host(disabled=PRODUCER)
    world.deliver_all()
    assert world.cloud.sentinel.requests == requests + len(texts)
    assert _struck(world) == len(MANY)
    assert_conserved(world)
    assert_last_word(world, first, second)


def test_what_was_refused_and_then_revoked_is_sent(new_world: NewWorld) -> None:
    """A version that Sentinel refused is known, too: the next one goes out, passing or not."""
    first = feed_of(version(number) for number in MANY)
    second = feed_of(
        (version(number, 1, revoked=True) for number in range(10)),
        (version(number) for number in MANY[10:]),
    )
    world = new_world(first, proxied=True, sentinel=SentinelBehaviour())
    bad = {id_of(number) for number in range(10)}
    behaviour = world.cloud.sentinel.behaviour
    behaviour.reject_record = lambda record: record["id"] in bad and not record.get("revoked")
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    assert world.cloud.sentinel.missing(map(id_of, MANY)) == bad
    world.now_lists(second)
    run = world.sync(host)
    world.deliver_all()
    assert (run.counts.enqueued, run.counts.corrections) == (10, 10)
    assert_conserved(world, rejected=10)
    assert_last_word(world, first, second)
