"""An operator pauses the feed, ends the pause, and asks for a run: on the real hosts."""

from datetime import timedelta

from common.clock import SystemClock
from common.health import Verdict, judge_health
from common.ledger.states import RunState
from common.queues import SYNC_QUEUE, AzureQueue
from common.settings import Secret, StorageSettings
from local.services.feed import SyntheticFeed
from ops.decisions import Decision
from ops.pause import pause, resume
from ops.sync import request_sync
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World, assert_conserved, log_lines, until

ANN = Decision(by="ann", note="a repair")


def ask_for_a_run(world: World) -> None:
    """Ask for a sync run now."""
    storage = StorageSettings(connection_string=Secret(world.cloud.connection_string))
    queue = AzureQueue(SYNC_QUEUE, storage)
    request_sync(world.ledger, queue, full=False, now=SystemClock().now(), decision=ANN)


def test_a_paused_feed_sends_nothing_and_goes_on_where_it_was(new_world: NewWorld) -> None:
    """No run and no upload; each tick tells of it; then a run that was asked for runs at once."""
    world = new_world(SyntheticFeed(300), settings={"DEFERRAL_DELAY": "0.2"})
    producer = world.cloud.start_host(disabled=("sentinel_upload",))
    world.sync(producer)
    now = SystemClock().now()
    pause(world.ledger, until=now + timedelta(hours=1), now=now, decision=ANN)
    consumer = world.cloud.start_host(disabled=("sync_now",))
    until(lambda: len(log_lines(consumer, "chunk-postponed")) > 3, "messages wait, again and again")
    world.fire_timer(producer)
    until(lambda: log_lines(producer, "sync-skipped"), "the tick is skipped")
    until(lambda: '"verdict":"paused"' in producer.log_text(), "the pulse says so")
    assert judge_health(world.view()).verdict is Verdict.PAUSED
    assert not world.cloud.sentinel.accepted
    (first,) = world.runs()

    assert resume(world.ledger, now=SystemClock().now())
    ask_for_a_run(world)
    until(lambda: len(world.runs()) > 1, "the run that was asked for has begun")
    until(lambda: world.ledger.control.sync_request() is None, "it was served")
    assert [run.state for run in world.runs()] == [RunState.COMPLETE] * 2
    assert world.runs()[0].run_id == first.run_id
    world.deliver_all()
    assert all(chunk.deferrals == 0 for chunk in world.chunks())
    # The pulse comes behind the end of its tick, and so behind the request that the tick served.
    done = ("complete", world.runs()[1].run_id)
    until(lambda: [(p.tick, p.run) for p in world.ledger.pulses.latest(1)] == [done], "its pulse")
    world.wait_until_healthy()
    assert_conserved(world)
