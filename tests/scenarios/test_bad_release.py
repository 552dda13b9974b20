"""Sentinel refuses every request as a whole, say after a bad release of ours or of theirs."""

from collections.abc import Callable

import pytest

from common.ledger.problems import ProblemKind
from local.services.faults import Answer, Fault
from local.services.feed import SyntheticFeed
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World, assert_conserved, until

MANY = 1000
"""Objects of which the chunks meet 20 refusals in a moment."""


def _refuse_everything(world: World, status: int) -> Callable[[], None]:
    """Let Sentinel take nothing, and say so by this status; return what ends it."""
    if status == 200:
        behaviour = world.cloud.sentinel.behaviour
        behaviour.reject_record = lambda _record: True
        return lambda: setattr(behaviour, "reject_record", None)
    answer = Answer(status, body='{"message": "Bad request"}')
    return world.cloud.sentinel.inject(Fault(effect=answer, method="POST", times=None)).remove


@pytest.mark.parametrize(
    ("objects", "status"),
    [(90, 200), (1500, 400)],
    ids=["one chunk, 200 with errors", "many chunks, 400"],
)
def test_what_is_refused_without_exception_is_kept_on_the_queue(
    new_world: NewWorld, objects: int, status: int
) -> None:
    """While everything is refused nothing is rejected or poisoned; later everything arrives."""
    world = new_world(SyntheticFeed(objects))
    end = _refuse_everything(world, status)
    host = world.cloud.start_host()
    run = world.sync(host)
    until(
        lambda: all(chunk.deferrals >= 2 for chunk in world.chunks()),
        "every chunk was deferred",
    )
    if objects > MANY:
        until(lambda: world.problem(ProblemKind.REFUSING), "20 refusals in a row")
    assert not world.poison()
    assert not list(world.ledger.rejections.of_run(run.run_id))
    assert world.problems.last_success() is None

    end()
    world.deliver_all()
    assert_conserved(world)
    world.wait_until_calm()
