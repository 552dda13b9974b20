"""Processes that stand still (SIGSTOP) for a while and then go on as if nothing had been."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from common.delivery import LOOK_IS_GOOD_FOR
from common.ledger.states import RunState
from local.functions_host.process import HostProcess
from local.services.faults import Call, Fault
from local.services.feed import SyntheticFeed
from local.services.lumen_api import PAGE_PATH
from local.services.storage_proxy import Rule
from tests.scenarios.conftest import NewWorld
from tests.scenarios.versions import feed_of, version
from tests.scenarios.world import (
    CONSUMER,
    PRODUCER,
    World,
    assert_conserved,
    assert_last_word,
    log_lines,
    until,
)

NUMBERS = range(60)


class Suspension:
    """Stops a process where it is told to; a hook for simulators and the storage proxy."""

    def __init__(self, host: HostProcess) -> None:
        self.host = host
        self.began = threading.Event()
        self._at = 0.0

    def __call__(self, _request: object) -> None:
        pid = self.host.process.pid
        os.kill(pid, signal.SIGSTOP)
        # On a busy machine a thread goes on for a while, and might send what it was to hold.
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        self._at = time.monotonic()
        self.began.set()

    def is_over(self, seconds: float) -> bool:
        """Whether it lasts for so many seconds already."""
        return time.monotonic() - self._at > seconds

    def end(self) -> float:
        """Let the process go on; return how many seconds it stood still, a moment more or less."""
        lasted = time.monotonic() - self._at
        os.kill(self.host.process.pid, signal.SIGCONT)
        return lasted


def outcomes(lasted: float) -> set[tuple[int, int]]:
    """Return what may have been accepted and struck after a look that is `lasted` seconds old.

    A younger one may grow too old behind the suspension, too: a busy machine decides.
    """
    size = len(NUMBERS)
    both_sent, one_struck = (2 * size, 0), (size, size)
    return {one_struck} if lasted > LOOK_IS_GOOD_FOR else {both_sent, one_struck}


@pytest.mark.parametrize("seconds", [0.0, LOOK_IS_GOOD_FOR], ids=["shortly", "for long"])
def test_a_consumer_that_stands_still_between_its_look_and_its_request(
    new_world: NewWorld, seconds: float
) -> None:
    """Its look is too old afterwards, or the request is over before the newer version is seen."""
    first = feed_of(version(number) for number in NUMBERS)
    second = feed_of(version(number, 1, revoked=True) for number in NUMBERS)
    world = new_world(first, proxied=True)
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    proxy = world.cloud.proxy
    assert proxy is not None
    consumer = world.cloud.start_host(disabled=PRODUCER, queue_lease=300)
    stop = Suspension(consumer)
    proxy.inject(Rule(operation="get_entity", path="/chunks", times=1, after=stop))
    until(stop.began.is_set, "the consumer has looked at the row and stands still")
    world.now_lists(second)
    world.sync(producer)
    (old, new) = world.chunks()
    assert (old.fate.struck, new.fate.pending) == (len(NUMBERS), len(NUMBERS))
    until(lambda: stop.is_over(seconds), "the look is too old")
    lasted = stop.end()
    world.deliver_all()
    fates = world.fates()
    found = sum(fate.accepted for fate in fates), sum(fate.struck for fate in fates)
    assert found in outcomes(lasted), "which of the two was sent"
    assert_conserved(world)
    assert_last_word(world, first, second)


Arm = Callable[[World, Suspension], None]


def _at_a_page(world: World, stop: Suspension) -> None:
    effect = Call(stop, when="after")
    world.cloud.lumen.inject(Fault(effect=effect, method="GET", path=PAGE_PATH, after=1))


def _at_storage(operation: str, path: str, *, skip: int = 0) -> Arm:
    def arm(world: World, stop: Suspension) -> None:
        assert world.cloud.proxy is not None
        rule = Rule(operation=operation, path=path, skip=skip, times=1, after=stop)
        world.cloud.proxy.inject(rule)

    return arm


STALLS: dict[str, Arm] = {
    "with a page in its hands": _at_a_page,
    "some messages sent": _at_storage("put_message", "", skip=5),
}


@pytest.mark.parametrize("stall", STALLS)
def test_a_producer_that_stalls_in_mid_run_is_overtaken(new_world: NewWorld, stall: str) -> None:
    """Another tick takes the run over; what the first one still does afterwards counts nowhere."""
    world = new_world(SyntheticFeed(1500), page_size=400, proxied=True, settings={"RUN_LEASE": "1"})
    stalled = world.cloud.start_host(disabled=CONSUMER)
    stop = Suspension(stalled)
    STALLS[stall](world, stop)
    world.fire_timer(stalled)
    until(stop.began.is_set, "the producer stands still")
    other = world.cloud.start_host(disabled=CONSUMER)
    world.sync(other)
    (run,) = world.runs()
    assert (run.state, run.epoch) == (RunState.COMPLETE, 1 + run.resumed)
    books = world.fates()
    stop.end()
    until(lambda: log_lines(stalled, "sync-skipped"), "the stalled one has noticed")
    assert world.fates() == books
    world.cloud.start_host(disabled=PRODUCER)
    world.deliver_all()
    assert_conserved(world)
    assert world.cloud.sentinel.accepted_total == len(world.expected)


def test_a_producer_that_stalls_in_its_fold_is_overtaken(new_world: NewWorld) -> None:
    """Its segment is written and the manifest is not: the next tick's fold counts, once."""
    feed = SyntheticFeed(600)
    later = feed.changed(0.2, 1)
    world = new_world(feed, proxied=True, settings={"RUN_LEASE": "1"})
    stalled, other = world.cloud.start_host(disabled=CONSUMER), world.cloud.start_host()
    world.sync(stalled)
    world.deliver_all()
    stop = Suspension(stalled)
    _at_storage("merge_entity", "/versions")(world, stop)
    world.now_lists(later)
    world.fire_timer(stalled)
    until(stop.began.is_set, "the producer stands still in its fold")
    world.sync(other)
    world.deliver_all()
    world.fold_all(other)
    books = world.fates()
    stop.end()
    until(lambda: log_lines(stalled, "sync-skipped"), "the stalled one has noticed")
    assert world.fates() == books
    assert world.sync(other).counts.enqueued == 0
    assert_conserved(world, also=later)
    assert_last_word(world, feed, later)
