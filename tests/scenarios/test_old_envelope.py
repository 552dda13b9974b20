"""A message of an earlier release is still on the queue when a new one is deployed."""

import base64
import hashlib
import json
import zlib

from common.ledger.states import ChunkState
from local.feed import SyntheticFeed, expected_ids
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import THRESHOLD, assert_conserved, until

RUN = "20260101T000000-0a0b0c0d"


def _version_1(objects: list[bytes]) -> str:
    """An envelope as version 1 wrote it, by code that shares nothing with the app's."""
    body = b"[" + b",".join(objects) + b"]"
    return json.dumps(
        {
            "version": 1,
            "run": RUN,
            "chunk": hashlib.sha256(body).hexdigest()[:32],
            "sequence": 3,
            "count": len(objects),
            "attempt": 0,
            "deferrals": 0,
            "history": [],
            "trace": "",
            "body": base64.b64encode(zlib.compress(body)).decode(),
        }
    )


def test_a_message_of_version_1_is_delivered(new_world: NewWorld) -> None:
    """Version 1 has neither fingerprints nor a send slot; its indicators arrive all the same."""
    world = new_world(SyntheticFeed(300))
    other = SyntheticFeed(40, seed=9)
    wanted = expected_ids(other, threshold=THRESHOLD)
    found = (json.loads(one) for one in other.encoded(0, len(other)))
    old = [
        json.dumps({**one, "confidence": int(one["confidence"])}).encode()
        for one in found
        if one["id"] in wanted
    ]
    world.put(_version_1(old))
    host = world.cloud.start_host()
    (chunk,) = until(lambda: list(world.ledger.chunks.of_run(RUN)), "the old chunk has a row")
    assert (chunk.state, chunk.accepted) == (ChunkState.UPLOADED, len(wanted))
    world.sync(host)
    world.deliver_all()
    assert_conserved(world, also=other)
