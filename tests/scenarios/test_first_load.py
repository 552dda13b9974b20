"""The path without a fault, with everything Lumen is known to vary."""

import pytest

from common.ledger.rejections import INVALID
from local.services.feed import ListFeed, SyntheticFeed
from local.services.lumen_api import LumenBehaviour
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import assert_conserved, log_lines


def test_every_wanted_indicator_arrives_once(new_world: NewWorld) -> None:
    """With several instances, each wanted indicator is accepted exactly once."""
    world = new_world()
    instances = [world.cloud.start_host() for _ in range(3)]
    world.sync(instances[0])
    world.deliver_all()
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == len(world.expected)


@pytest.mark.parametrize(
    "behaviour",
    [
        LumenBehaviour(statuses=("QUEUED", "PENDING", "RUNNING"), late_next_token=True),
        LumenBehaviour(opaque_tokens=True),
        LumenBehaviour(inline_results="objects"),
    ],
    ids=["late token", "opaque tokens", "inline results"],
)
def test_every_form_of_lumens_answers_is_drained(
    new_world: NewWorld, behaviour: LumenBehaviour
) -> None:
    """However Lumen shapes its answers, the whole feed arrives."""
    world = new_world(SyntheticFeed(700), lumen=behaviour, page_size=130)
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    assert_conserved(world)


@pytest.mark.parametrize("form", ["page", "400"])
def test_an_empty_feed_is_a_complete_run(new_world: NewWorld, form: str) -> None:
    """An empty page and the 400 that says so are both success with nothing to do."""
    world = new_world(ListFeed(), lumen=LumenBehaviour(empty_feed=form))  # type: ignore[arg-type]
    host = world.cloud.start_host()
    world.sync(host)
    assert_conserved(world)
    assert world.fates()[0].fetched == 0


def test_malformed_indicators_cost_only_themselves(new_world: NewWorld) -> None:
    """Broken objects are counted and kept with their reason; their neighbours arrive."""
    world = new_world(SyntheticFeed(1000, malformed=0.05))
    host = world.cloud.start_host()
    run = world.sync(host)
    world.deliver_all()
    assert_conserved(world)
    kept = list(world.ledger.rejections.of_run(INVALID))
    assert run.counts.invalid >= len(kept) > 0
    assert len({rejection.content for rejection in kept}) == len(kept)
    assert all(rejection.reason and rejection.content for rejection in kept)


def test_a_run_is_one_log_line(new_world: NewWorld) -> None:
    """A complete run is told in one canonical line with its counts."""
    world = new_world(SyntheticFeed(300))
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    (line,) = log_lines(host, "sync-complete")
    assert '"fetched":300' in line
    assert_conserved(world)
