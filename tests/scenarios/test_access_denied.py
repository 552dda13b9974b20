"""The secret has expired, the role is missing, the workspace is another: an operator is needed."""

import uuid
from collections.abc import Callable

import pytest

from common.ledger.problems import ProblemKind
from local.cloud import LocalCloud
from local.functions_host.process import HostProcess
from local.services.feed import SyntheticFeed
from ops.destination import adopt
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import PRODUCER, World, assert_conserved, log_lines, until

MORE = SyntheticFeed(500, seed=1)


def _expire_secret(cloud: LocalCloud) -> Callable[[], None]:
    cloud.entra.secret_expired = True
    cloud.entra.expire_tokens()

    def renew() -> None:
        cloud.entra.secret_expired = False

    return renew


def _take_role(cloud: LocalCloud) -> Callable[[], None]:
    cloud.sentinel.behaviour.role_granted = False

    def grant() -> None:
        cloud.sentinel.behaviour.role_granted = True

    return grant


def _wait_for_deferrals(world: World, host: HostProcess) -> None:
    until(
        lambda: len(log_lines(host, "chunk-deferred")) >= 2 * len(world.chunks()) > 0,
        "every chunk was deferred, some of them twice",
    )


@pytest.mark.parametrize(
    ("deny", "remedy", "warm"),
    [
        (_expire_secret, "CLIENT_SECRET has expired", True),
        (_take_role, "Sentinel Contributor", False),
    ],
    ids=["secret expires in the middle", "role missing from the start"],
)
def test_what_an_operator_mends_is_noticed_without_a_restart(
    new_world: NewWorld, deny: Callable[[LocalCloud], Callable[[], None]], remedy: str, warm: bool
) -> None:
    """Chunks wait under a problem that names the remedy, and arrive once it is applied."""
    world = new_world(SyntheticFeed(600))
    host = world.cloud.start_host()
    if warm:
        world.sync(host)
        world.deliver_all()
        world.cloud.lumen.replace_feed(MORE)
    mend = deny(world.cloud)
    world.sync(host)
    _wait_for_deferrals(world, host)
    problem = world.problem(ProblemKind.ACCESS)
    assert problem is not None
    assert remedy in problem.what
    assert not world.poison()

    mend()
    world.deliver_all()
    world.wait_until_calm()
    assert_conserved(world, also=MORE if warm else None)


def test_tokens_that_end_early_are_renewed(new_world: NewWorld) -> None:
    """A token that Sentinel no longer takes is replaced at once; nothing is deferred for it."""
    world = new_world(SyntheticFeed(300))
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    world.cloud.lumen.replace_feed(MORE)
    world.cloud.entra.expire_tokens()
    world.sync(host)
    world.deliver_all()
    assert not [line for line in log_lines(host, "chunk-deferred") if "401" in line]
    assert world.cloud.sentinel.count(status=401) > 0
    assert_conserved(world, also=MORE)


def test_chunks_for_an_unknown_workspace_wait_for_the_right_one(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """404 gives nothing up: with the corrected id, the chunks are turned over and delivered."""
    world = new_world(SyntheticFeed(600))
    right = world.cloud.app_settings()["WORKSPACE_ID"]
    world.cloud.override_settings({"WORKSPACE_ID": str(uuid.uuid4())})
    wrong = world.cloud.start_host()
    world.sync(wrong)
    _wait_for_deferrals(world, wrong)
    problem = world.problem(ProblemKind.ACCESS)
    assert problem is not None
    assert "WORKSPACE_ID" in problem.what
    wrong.terminate()

    world.cloud.override_settings({"WORKSPACE_ID": right})
    world.cloud.start_host(disabled=PRODUCER)
    early = adopt(world.ledger, world.sends, destination=world.destination)
    assert "try again in" in early.waits
    monkeypatch.setattr("ops.destination.QUIET_AFTER", 0.0)  # two and a half minutes later
    adopted = adopt(world.ledger, world.sends, destination=world.destination)
    assert (adopted.indicators, adopted.waits) == (len(world.expected), "")
    world.deliver_all()
    assert_conserved(world)
    world.wait_until_calm()
