"""An operator's request for a run: when a tick runs for it, and when its message comes back."""

from datetime import timedelta

import pytest

from common.errors import SettingsError, UnavailableError
from common.ledger.control import Control, Pause, SyncRequest
from producer.requests import LOOK_AT_PAUSE_AFTER, TRY_AGAIN_AFTER, RequestTools, serve_request
from tests.fakes.clock import START, FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import LEASE, World, feed


class Desk:
    """The control rows and the queue of the requests; `ticks` counts the ticks that were run."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.control = Control(FakeTables(self.clock.monotonic))
        self.queue = FakeQueue(self.clock.monotonic)
        self.ticks = 0
        self.fails: Exception | None = None

    def tick(self) -> None:
        """Stand for a tick: serve what is open, or fail before."""
        self.ticks += 1
        if self.fails is not None:
            raise self.fails
        request = self.control.sync_request()
        if request is not None:
            self.control.sync_served(request)

    def serve(self) -> list[float]:
        """Serve a message; return the delays of those that were put back."""
        tools = RequestTools(control=self.control, queue=self.queue, clock=self.clock)
        serve_request(tools, tick=self.tick)
        return [sent.delay for sent in self.queue.sent]

    def ask(self) -> None:
        """Ask for a run."""
        self.control.request_sync(SyncRequest(at=self.clock.now(), by="ann"))


def test_a_request_is_served_once() -> None:
    """A second message, or one of a request that was taken back, finds nothing to do."""
    desk = Desk()
    assert (desk.serve(), desk.ticks) == ([], 0)
    desk.ask()
    assert (desk.serve(), desk.serve(), desk.ticks) == ([], [], 1)
    desk.clock.advance(1)
    desk.ask()
    desk.control.take_back_sync()
    assert (desk.serve(), desk.ticks) == ([], 1)


def test_while_a_run_is_under_way_the_message_comes_back() -> None:
    """No tick is run for nothing: the lease is looked at first."""
    desk = Desk()
    desk.ask()
    lease = desk.control.acquire_lease(owner="timer", seconds=600)
    assert (desk.serve(), desk.ticks) == ([TRY_AGAIN_AFTER.total_seconds()], 0)
    desk.control.release_lease(lease)
    desk.queue.sent.clear()
    assert (desk.serve(), desk.ticks) == ([], 1)


@pytest.mark.parametrize(("hours", "wait"), [(0.1, timedelta(minutes=6)), (9, LOOK_AT_PAUSE_AFTER)])
def test_a_pause_comes_before_a_request(hours: float, wait: timedelta) -> None:
    """It is served when the pause is over, or ended by hand."""
    desk = Desk()
    desk.ask()
    desk.control.pause(Pause(since=START, until=START + timedelta(hours=hours), by="ann"))
    assert (desk.serve(), desk.ticks) == ([wait.total_seconds()], 0)


def test_a_tick_that_another_one_overtook_is_tried_again() -> None:
    """The request is still open, so its message comes back."""
    desk = Desk()
    desk.ask()
    desk.tick = lambda: None  # type: ignore[method-assign] # the lease was taken in between
    assert desk.serve() == [TRY_AGAIN_AFTER.total_seconds()]


def test_wrong_settings_leave_the_request_to_the_timer() -> None:
    """A message would try in vain for as long as they are wrong; the row stays."""
    desk = Desk()
    desk.ask()
    desk.fails = SettingsError(["LUMEN_API_KEY: is required"])
    assert (desk.serve(), desk.ticks) == ([], 1)
    assert desk.control.sync_request() is not None


def test_trouble_with_storage_leaves_the_message_to_the_host() -> None:
    """It is raised, so the host delivers the message again."""
    desk = Desk()
    desk.ask()
    desk.fails = UnavailableError("table control")
    with pytest.raises(UnavailableError):
        desk.serve()


def test_any_tick_serves_a_request_that_was_made_before() -> None:
    """One that is made while it is at work stays; a tick that was skipped serves none."""
    world = World(ScriptedLumen(feed(["i"])))
    control = world.ledger.control
    control.request_sync(SyncRequest(at=START, by="ann"))
    lease = control.acquire_lease(owner="other", seconds=LEASE)
    assert world.tick() is None
    assert control.sync_request() is not None
    control.release_lease(lease)
    later = SyncRequest(at=START + timedelta(seconds=1), by="bob")
    world.lumen.before = lambda call, _: control.request_sync(later) if call == "start" else None
    assert world.tick() is not None
    assert control.sync_request() == later
    assert world.tick() is not None
    world.lumen.before = lambda _call, _argument: None
    assert world.tick() is not None
    assert control.sync_request() is None
