"""A chunk that was held up arrives after a later run has sent newer versions of its indicators."""

import json

import pytest

from local.feed import SyntheticFeed, expected_ids
from local.sentinel_api import digest
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, THRESHOLD, assert_conserved, until


@pytest.mark.xfail(
    strict=True,
    reason="an upload replaces whatever version is there, and the newer one counts as known: it is "
    "sent again when it changes or expires, not before",
)
def test_the_newest_version_is_at_sentinel_in_the_end(new_world: NewWorld) -> None:
    """An old version that arrives late is put right by the next run."""
    old = SyntheticFeed(150)
    new = old.changed(1.0, 1)
    world = new_world(old)
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    held_up = world.messages()
    world.take_all()
    world.cloud.lumen.replace_feed(new)
    newer = world.sync(producer)
    host = world.cloud.start_host()
    sentinel = world.cloud.sentinel
    until(lambda: sentinel.accepted_total == newer.counts.enqueued, "the newer ones have arrived")
    for text in held_up:
        world.put(text)
    world.deliver_all()
    world.sync(host)
    world.deliver_all()
    assert_conserved(world, also=new)
    wanted = expected_ids(new, threshold=THRESHOLD)
    found = [json.loads(one) for one in new.encoded(0, len(new))]
    stale = [
        one["id"]
        for one in found
        if one["id"] in wanted
        and sentinel.accepted[one["id"]].digest
        != digest({**one, "confidence": int(one["confidence"])})
    ]
    assert not stale
