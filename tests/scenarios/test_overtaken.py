"""A chunk that was held up arrives after a later run has sent newer versions of its indicators."""

import json

from common.envelope import decode_envelope, encode_envelope
from local.feed import SyntheticFeed, expected_ids
from local.sentinel_api import digest
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, THRESHOLD, assert_conserved, until

AN_HOUR = 3600.0


def _deferred(text: str) -> str:
    """Return the copy of a message that a delivery which failed puts on the queue."""
    return encode_envelope(
        decode_envelope(text).deferred(
            at="2026-01-01T00:00:00+00:00", reason="held up", counts=False
        )
    )


def test_the_newest_version_is_at_sentinel_in_the_end(new_world: NewWorld) -> None:
    """An old version that arrives late is put right by the next run."""
    old = SyntheticFeed(150)
    new = old.changed(1.0, 1)
    world = new_world(old)
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    held_up = [_deferred(text) for text in world.messages()]
    world.take_all()
    for text in held_up:
        world.put(text, delay=AN_HOUR)
    world.cloud.lumen.replace_feed(new)
    newer = world.sync(producer)
    host = world.cloud.start_host()
    sentinel = world.cloud.sentinel
    until(lambda: sentinel.accepted_total == newer.counts.enqueued, "the newer ones have arrived")
    world.take_all()
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
