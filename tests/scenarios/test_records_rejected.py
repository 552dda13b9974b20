"""Sentinel answers 200 and names records that it did not take."""

import json

from local.services.faults import Answer, Fault
from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, log_lines


def test_records_that_sentinel_rejects_are_kept(new_world: NewWorld) -> None:
    """200 with errors: the rejected records are kept with content, the others are accepted."""
    world = new_world(SyntheticFeed(400))
    bad = sorted(world.expected)[::50]
    world.cloud.sentinel.behaviour.reject_record = lambda record: record["id"] in bad
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    assert_conserved(world, rejected=len(bad))
    kept = {r.indicator_id: r for r in world.ledger.rejections.of_run(run.run_id)}
    assert sorted(kept) == bad
    assert all(json.loads(kept[name].content)["id"] == name and kept[name].reason for name in bad)


def test_an_error_that_names_no_record_is_kept_and_told(new_world: NewWorld) -> None:
    """A record index beyond the request counts as one rejected, and is reported as drift."""
    world = new_world(SyntheticFeed(120))
    assert len(world.expected) <= 100
    body = json.dumps({"errors": [{"recordIndex": 100, "errorMessages": ["odd"]}]})
    world.cloud.sentinel.inject(Fault(effect=Answer(200, body=body), method="POST"))
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    (fate,) = world.fates()
    assert (fate.balanced, fate.accepted, fate.rejected) == (True, run.counts.enqueued - 1, 1)
    assert len(log_lines(host, "contract-drift")) == 1
    (kept,) = world.ledger.rejections.of_run(run.run_id)
    assert kept.reason == "odd"
