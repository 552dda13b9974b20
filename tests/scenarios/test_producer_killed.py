"""The producer dies by SIGKILL at every step of a run; the next tick makes good."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.ledger.states import RunState
from local.functions_host.process import HostProcess
from local.functions_host.timer import TimerStatus, TimerStatusFile
from local.services.faults import Call, Fault
from local.services.feed import SyntheticFeed
from local.services.lumen_api import PAGE_PATH, QUERY_PATH, STATUS_PATH
from local.services.storage_proxy import Rule
from tests.patience import PATIENCE
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, PRODUCER, World, assert_conserved, until

SHORT_LEASE = {"RUN_LEASE": "1"}
FEED = SyntheticFeed(1000)
"""Of five pages and six chunks."""


def _at_lumen(method: str, path: str, *, when: str, after: int = 0) -> Callable[..., None]:
    def arm(world: World, host: HostProcess) -> None:
        effect = Call(lambda _request: host.kill(), when=when)  # type: ignore[arg-type]
        world.cloud.lumen.inject(Fault(effect=effect, method=method, path=path, after=after))

    return arm


def _at_storage(
    operation: str, path: str, *, skip: int = 0, before: bool = False
) -> Callable[..., None]:
    def arm(world: World, host: HostProcess) -> None:
        def kill(_request: object) -> None:
            host.kill()

        assert world.cloud.proxy is not None
        rule = Rule(
            operation=operation,
            path=path,
            skip=skip,
            times=1,
            before=kill if before else None,
            after=None if before else kill,
        )
        world.cloud.proxy.inject(rule)

    return arm


STEPS = {
    "query accepted, its id not yet kept": _at_lumen("POST", QUERY_PATH, when="after"),
    "while polling": _at_lumen("GET", STATUS_PATH, when="before", after=1),
    "while fetching the second page": _at_lumen("GET", PAGE_PATH, when="before", after=1),
    "head written, lease does not name it": _at_storage("insert_entity", "/chunks", skip=0),
    "lease names the run, Lumen not asked": _at_storage("put_entity", "/control", skip=0),
    "rows written, no message sent": _at_storage("batch", r"\$batch", skip=1),
    "some messages sent": _at_storage("put_message", "", skip=3),
    "checkpoint about to move": _at_storage("put_entity", "/chunks", skip=4, before=True),
    "run complete, lease not released": _at_storage("put_entity", "/chunks", skip=6),
}
OTHER_SIZE = {"some messages sent": "70"}


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_producer_loses_nothing(new_world: NewWorld, step: str) -> None:
    """After a SIGKILL at any step, the next tick resumes or restarts and nothing is missing.

    Also if it makes chunks of another size; and nothing is sent twice. Every single write is for
    the crash points of the contract tests.
    """
    world = new_world(FEED, page_size=200, proxied=True, settings=SHORT_LEASE)
    world.cloud.lumen.behaviour.statuses = ("QUEUED", "RUNNING")
    first = world.cloud.start_host(disabled=CONSUMER)
    STEPS[step](world, first)
    world.fire_timer(first)
    until(lambda: not first.alive, f"the host is killed: {step}")

    world.cloud.override_settings({"CHUNK_SIZE": OTHER_SIZE.get(step, "100")})
    second = world.cloud.start_host(disabled=CONSUMER)
    world.sync(second)
    # Only now: a request under way while its row becomes void would be repeated, which is no fault.
    world.cloud.start_host(disabled=PRODUCER)
    world.deliver_all()
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == len(world.expected)


def test_a_resumed_run_goes_on_with_its_own_query(new_world: NewWorld) -> None:
    """Where the window belongs to the key, draining the old query is all that loses nothing."""
    world = new_world(FEED, page_size=200, settings=SHORT_LEASE)
    world.cloud.lumen.behaviour.window = "since-last-query"
    first = world.cloud.start_host(disabled=CONSUMER)
    STEPS["while fetching the second page"](world, first)
    world.fire_timer(first)
    until(lambda: not first.alive, "the host is killed")

    world.sync(world.cloud.start_host())
    world.deliver_all()
    assert world.cloud.lumen.queries_started == 1
    assert [run.state for run in world.runs()] == [RunState.COMPLETE]
    assert world.runs()[0].resumed >= 1
    assert_conserved(world)


def test_a_token_that_lumen_forgot_is_a_gap_and_a_new_query(new_world: NewWorld) -> None:
    """A run whose token is unknown is closed as a gap, and a new query fetches everything."""
    world = new_world(FEED, page_size=200, settings=SHORT_LEASE)
    first = world.cloud.start_host(disabled=CONSUMER)
    STEPS["while fetching the second page"](world, first)
    world.fire_timer(first)
    until(lambda: not first.alive, "the host is killed")
    world.cloud.lumen.expire_tokens()

    world.sync(world.cloud.start_host())
    world.deliver_all()
    assert [run.state for run in world.runs()] == [RunState.GAP, RunState.COMPLETE]
    assert_conserved(world)


def test_a_killed_run_starts_at_once_when_its_host_does(
    new_world: NewWorld, tmp_path: Path
) -> None:
    """The timer fires past due at the start, as on Azure: once for a missed tick, once for a death.

    Whether that run gets on or meets the dead one's lease, nothing is lost.
    """
    yearly = {"LUMEN_SCHEDULE": "0 0 0 1 1 *"}
    world = new_world(FEED, page_size=200, settings=SHORT_LEASE | yearly)
    last = datetime(2020, 6, 1, tzinfo=UTC)
    missed = TimerStatus(last=last, due=datetime(2021, 1, 1, tzinfo=UTC), updated=last)
    TimerStatusFile(tmp_path / "timers" / "lumen_sync.json").write(missed)
    started, victims = threading.Event(), list[HostProcess]()

    def kill(_request: object) -> None:
        started.wait(PATIENCE)
        victims[0].kill()

    fault = Fault(effect=Call(kill, when="before"), method="GET", path=PAGE_PATH, after=1)
    world.cloud.lumen.inject(fault)
    victims.append(world.cloud.start_host(timers=True, timer_status=tmp_path / "timers"))
    started.set()
    until(lambda: not victims[0].alive, "the host is killed in mid-run")
    host = world.cloud.start_host(timers=True, timer_status=tmp_path / "timers")
    until(lambda: "lumen_sync is due at" in host.log_text(), "the run at startup has ended")
    for one in (victims[0], host):
        assert "Timer fired at startup, past due" in one.log_text()
    world.sync(host)
    world.deliver_all()
    assert_conserved(world)
