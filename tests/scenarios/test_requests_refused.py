"""Sentinel refuses whole requests because of single bad records in them."""

import json
from typing import Any

import pytest

from common.ledger.problems import ProblemKind
from local.services.feed import SyntheticFeed
from local.services.sentinel_api import SentinelBehaviour
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World, assert_conserved


def _refuse(world: World, bad: set[str]) -> None:
    def is_bad(record: dict[str, Any]) -> bool:
        return record["id"] in bad

    world.cloud.sentinel.behaviour.reject_record = is_bad


def _rejected_ids(world: World) -> set[str]:
    return {
        rejection.indicator_id
        for run in world.runs()
        for rejection in world.ledger.rejections.of_run(run.run_id)
    }


@pytest.mark.parametrize("named", [True, False], ids=["with errors", "without errors"])
def test_one_bad_indicator_costs_one_indicator(new_world: NewWorld, named: bool) -> None:
    """One in a hundred is bad: exactly those are rejected, all their neighbours arrive."""
    behaviour = SentinelBehaviour(refuse_whole_on_bad_record=True, refusal_lists_errors=named)
    world = new_world(SyntheticFeed(1500), sentinel=behaviour)
    bad = set(sorted(world.expected)[::100])
    _refuse(world, bad)
    host = world.cloud.start_host()
    world.sync(host)
    others = world.deliver_among_others(host)
    assert_conserved(world, rejected=len(bad), also=others)
    assert _rejected_ids(world) == bad
    assert world.cloud.sentinel.missing(world.expected) == bad
    assert not world.poison()
    world.wait_until_calm()


@pytest.mark.parametrize(
    ("place", "named"), [(0, True), (-1, False)], ids=["first, with errors", "last, without errors"]
)
def test_a_bad_indicator_in_the_only_chunk_costs_one_indicator(
    new_world: NewWorld, place: int, named: bool
) -> None:
    """The neighbours arrive without anything else; the bad one is rejected once others do."""
    behaviour = SentinelBehaviour(refuse_whole_on_bad_record=True, refusal_lists_errors=named)
    world = new_world(SyntheticFeed(110), sentinel=behaviour)
    assert len(world.expected) < 100
    bad = {_in_order(world)[place]}
    _refuse(world, bad)
    host = world.cloud.start_host()
    world.sync(host)
    others = world.deliver_among_others(host)
    assert_conserved(world, rejected=1, also=others)
    assert _rejected_ids(world) == bad
    assert world.problem(ProblemKind.REFUSING) is None


def test_many_named_bad_indicators_cost_only_themselves(new_world: NewWorld) -> None:
    """However many records a refusal names, the rest of the chunk is sent without them."""
    world = new_world(
        SyntheticFeed(110), sentinel=SentinelBehaviour(refuse_whole_on_bad_record=True)
    )
    bad = set(_in_order(world)[::6])
    assert 5 < len(bad) < len(world.expected) < 100
    _refuse(world, bad)
    host = world.cloud.start_host()
    world.sync(host)
    others = world.deliver_among_others(host)
    assert_conserved(world, rejected=len(bad), also=others)
    assert _rejected_ids(world) == bad


def _in_order(world: World) -> list[str]:
    """The ids that must arrive, in the order of the feed."""
    feed = world.feed.encoded(0, len(world.feed))
    names = [json.loads(encoded)["id"] for encoded in feed]
    return [name for name in names if name in world.expected]
