"""Lumen's pages hold objects that are not JSON, or that no receiver reads."""

import orjson

from local.services.feed import ListFeed, SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved

GOOD = SyntheticFeed(90).encoded(0, 90)
BAD = {
    "unescaped control character": b'"A\tB"',
    "half of a surrogate pair": b'"\\ud800"',
    "beyond 64 bits": b"123456789012345678901234567890",
    "nested too deeply": b"[" * 20_000 + b"]" * 20_000,
    "not UTF-8": b'"\xff"',
    "is not JSON": b'"a 5" disk"',
}


def test_one_bad_object_costs_one_object(new_world: NewWorld) -> None:
    """Each is kept as invalid with its reason; its neighbours and the pages behind it arrive."""
    objects = list(GOOD)
    for at, value in enumerate(BAD.values()):
        place = 5 + 13 * at
        whole = orjson.dumps({**orjson.loads(objects[place]), "confidence": 90})
        objects[place] = whole[:-1] + b',"note":' + value + b"}"
    world = new_world(ListFeed(objects), page_size=30)
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    assert_conserved(world)
    assert (run.counts.fetched, run.counts.invalid) == (90, len(BAD))
    kept = list(world.ledger.rejections.of_run("invalid"))
    assert len(kept) == len(BAD)
    for reason, value in BAD.items():
        (record,) = [found for found in kept if reason in found.reason]
        assert value in record.content
        assert record.indicator_id.startswith("indicator--")


def test_the_ids_and_tokens_are_sent_as_they_came(new_world: NewWorld) -> None:
    """A Lumen that compares the segments of a path with what it gave out is read to the end."""
    world = new_world(SyntheticFeed(300), page_size=100)
    world.cloud.lumen.behaviour.compare_as_sent = True
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    assert run.counts.fetched == 300
    assert_conserved(world)
