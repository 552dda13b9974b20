"""A sync run while calls fail, a process dies, or a row cannot be read: nothing is lost."""

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from common.errors import (
    ConflictError,
    ContractDriftError,
    CredentialError,
    OutOfTimeError,
    PipelineError,
    UnavailableError,
)
from common.events import Event
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import Row
from tests.fakes.crash import Crash
from tests.log_guard import LogGuard
from tests.unit.producer.sync_ticks import (
    PAGES,
    WANTED,
    assert_complete,
    ended,
    fail_on,
    logged,
    world,
)
from tests.unit.producer.sync_world import (
    TICK,
    FailAt,
    World,
    wanted_ids,
)


def test_two_faults_at_once_do_not_carry_one_another(log_guard: LogGuard) -> None:
    """An error met while a run is closed does not show the trace of the one before it."""
    hidden = "page-token-that-no-log-line-may-show"
    log_guard.forbid([hidden])
    found = world(before=fail_on("status", "query-1", UnavailableError(hidden)))

    def before(_table: str, operation: str) -> None:
        if operation == "replace" and found.lumen.calls[-1:] == [("status", "query-1")]:
            raise UnavailableError("no ledger")

    found.tables.before = before
    with pytest.raises(UnavailableError, match="no ledger") as caught:
        found.tick()
    logging.getLogger("host").error("lumen_sync failed", exc_info=caught.value)


def test_a_bug_is_raised_even_when_the_run_cannot_be_closed() -> None:
    """What has to be mended is the bug: it is not hidden by an outage of the ledger."""
    found = world(before=fail_on("page", "query-1/2", ZeroDivisionError()))

    def before(_table: str, operation: str) -> None:
        if operation == "replace":
            for run in found.runs:
                if run.cursor is not None and run.cursor.page == 2:
                    raise UnavailableError("no ledger")

    found.tables.before = before
    with pytest.raises(ZeroDivisionError) as caught:
        found.tick(chunk_size=1)
    assert "no ledger" not in "".join(traceback.format_exception(caught.value))
    found.repair()
    found.clock.advance(TICK)
    assert_complete(found, found.tick())


@pytest.mark.parametrize(
    "error",
    [UnavailableError("down"), CredentialError("no"), ContractDriftError("418"), OutOfTimeError()],
    ids=lambda error: type(error).__name__,
)
def test_what_was_read_is_on_the_queue_whatever_stops_the_run(error: PipelineError) -> None:
    """The next tick may find a gap: what waited for its chunk to fill is sent as a short one."""
    found = world(before=fail_on("page", "query-1/3", error))
    ended(found.tick(chunk_size=100), RunState.INTERRUPTED)
    assert found.enqueued_ids == wanted_ids(PAGES[:3])
    found.lumen.forget()
    found.repair()
    found.clock.advance(TICK)
    found.tick(chunk_size=100)
    assert found.runs[1].state is RunState.GAP
    found.settle()
    assert all(fate.balanced for fate in found.fates())


def test_send_slots_that_are_too_busy_interrupt_the_run_with_that_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A conflict, but no lost lease: nobody else goes on with the run, the next tick has to."""
    found = world()
    control = found.tables.table("control")
    slots = Row(partition="control", key="send-slots", data={"next_free": found.clock.now()})

    def before(table: str, operation: str) -> None:
        if table == "control" and operation in ("insert", "replace"):
            control.merge(slots)  # another sender, every time

    found.tables.before = before
    run = ended(found.tick(), RunState.INTERRUPTED)
    assert "send slots are too busy" in run.reason
    assert logged(caplog, Event.SYNC_INTERRUPTED)
    found.repair()
    found.clock.advance(TICK)
    assert_complete(found, found.tick())


def test_a_conflict_while_folding_fails_the_run_with_that_reason() -> None:
    """It may be with our own write, whose answer was lost; the next tick folds again."""
    found = world()
    found.tick()
    found.settle()
    found.clock.advance(TICK)

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("versions", "merge"):
            raise ConflictError("a row of table versions was changed")

    found.tables.before = before
    assert "table versions" in ended(found.tick(), RunState.FAILED).reason
    found.repair()
    found.clock.advance(TICK)
    run = ended(found.tick(), RunState.COMPLETE)
    assert (run.counts.unchanged, run.counts.enqueued) == (len(WANTED), 0)


def test_a_bug_is_raised_and_the_run_can_be_resumed() -> None:
    """An unforeseen error reaches the host, and leaves the run where the next tick finds it."""
    found = world(before=fail_on("page", "query-1/2", ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        found.tick()
    assert found.runs[0].state is RunState.INTERRUPTED
    assert "ZeroDivisionError" in found.runs[0].reason
    found.repair()
    found.clock.advance(TICK)
    assert_complete(found, found.tick())


FAULTS: dict[str, Callable[[int], FailAt]] = {
    "one call fails": lambda at: FailAt(lambda: UnavailableError("storage"), at),
    "one call is refused": lambda at: FailAt(lambda: CredentialError("no role"), at),
    "an outage begins": lambda at: FailAt(lambda: UnavailableError("storage"), at, lasting=True),
    "the process is killed": lambda at: FailAt(Crash, at, lasting=True),
}


def break_before(found: World, fault: FailAt) -> None:
    """Let `fault` meet every ledger and queue operation before it is done."""
    found.tables.before = fault
    found.queue.before = fault


def break_after(found: World, fault: FailAt) -> None:
    """Let `fault` meet every write to the ledger after it is done: the answer is lost."""
    found.tables.after = fault


def broken_tick(found: World) -> None:
    """Run a tick that may fail in any way a fault can make it fail."""
    with suppress(PipelineError, Crash):
        found.tick()
    found.repair()
    found.clock.advance(TICK)


def assert_healed(found: World, *, chunk_size: int = 4) -> None:
    """Check that one clean tick makes everything good: nothing missing, the books balanced.

    Every wanted indicator is on the queue in a chunk that is not void, and in one only.
    """
    run = ended(found.tick(chunk_size=chunk_size), RunState.COMPLETE)
    assert sorted(found.sendable_ids) == sorted(WANTED)
    found.settle()
    assert run == found.runs[0]
    for ended_run, fate in zip(found.runs, found.fates(), strict=True):
        assert not ended_run.is_open
        assert fate.balanced, (ended_run, fate)
        assert fate.pending == 0
        if ended_run.state is RunState.COMPLETE:
            counts = ended_run.counts
            assert (counts.fetched, counts.filtered, counts.invalid) == (29, 7, 3)
            assert counts.unchanged + counts.enqueued == len(WANTED)
    accepted = sum(fate.accepted for fate in found.fates())
    assert accepted == len(WANTED)


def prepared(*, resumed: bool) -> World:
    """Return a world before the tick that breaks: the first one, or one that resumes a run."""
    found = world()
    if resumed:
        found.tick(max_pages=3)
        found.clock.advance(TICK)
    return found


def calls_of_a_tick(arrange: Callable[[World, FailAt], None], *, resumed: bool) -> int:
    """Return how many operations a whole tick has."""
    counting = FailAt(Crash)
    rehearsal = prepared(resumed=resumed)
    arrange(rehearsal, counting)
    rehearsal.tick()
    assert counting.calls > 10
    return counting.calls


RESUMED = pytest.mark.parametrize("resumed", [False, True], ids=["first tick", "resuming tick"])


@pytest.mark.parametrize("arrange", [break_before, break_after])
@pytest.mark.parametrize("fault", FAULTS)
@RESUMED
def test_whatever_breaks_wherever_nothing_is_lost(
    fault: str, arrange: Callable[[World, FailAt], None], resumed: bool
) -> None:
    """A failure at each single operation in turn: one clean tick later everything is there."""
    for at in range(calls_of_a_tick(arrange, resumed=resumed)):
        found = prepared(resumed=resumed)
        arrange(found, FAULTS[fault](at))
        broken_tick(found)
        assert_healed(found)


@pytest.mark.parametrize(("chunk_size", "arrange"), [(3, break_before), (100, break_after)])
@RESUMED
def test_a_killed_tick_is_resumed_with_another_chunk_size(
    chunk_size: int, arrange: Callable[[World, FailAt], None], resumed: bool
) -> None:
    """What lies beyond the checkpoint is void, however it was cut; nothing is there twice."""
    for at in range(calls_of_a_tick(arrange, resumed=resumed)):
        found = prepared(resumed=resumed)
        arrange(found, FailAt(Crash, at, lasting=True))
        broken_tick(found)
        assert_healed(found, chunk_size=chunk_size)


@pytest.mark.parametrize("call", ["start", "status", "page"])
def test_a_process_killed_at_any_call_to_lumen_loses_nothing(call: str) -> None:
    """Between any two calls the ledger holds what the next tick needs."""
    for at in range(len(PAGES) if call == "page" else 1):
        found = world()
        crash = FailAt(Crash, at)

        def before(name: str, _argument: str, crash: FailAt = crash) -> None:
            if name == call:
                crash()

        found.lumen.before = before
        broken_tick(found)
        assert_healed(found)


@pytest.mark.parametrize("state", ["invented", ""])
def test_a_run_of_a_later_release_is_left_alone(state: str) -> None:
    """It is listed, and neither resumed nor closed; the tick works on a run of its own."""
    found = world()
    table = found.tables.table("chunks")
    found.tick()
    head = next(row for row in table.query() if row.key == "head")
    later = replace(head, partition="79739898X000000-later", data={**head.data, "state": state})
    table.merge(later)
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert sorted(run.state for run in found.runs) == ["complete", "complete", "other"]
    kept = table.get(later.partition, later.key)
    assert kept is not None
    assert kept.data == later.data


def test_a_damaged_row_ends_neither_a_run_nor_a_fold() -> None:
    """One bad row of the ledger costs itself: it is left alone, and everything else goes on."""
    found = world()
    found.tick()
    table = found.tables.table("chunks")
    first = next(row for row in table.query() if row.key != "head")
    table.merge(Row(partition=first.partition, key=first.key, data={"records": b"cut"}))
    found.settle()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert [row.state for row in found.chunks][-1:] == [ChunkState.OTHER]
    assert found.sendable_ids == WANTED[:4]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "x"),
        ("enqueued", "x"),
        ("stalled", "x"),
        ("folded_accepted", "x"),
        ("cursor", b"[]"),
        ("cursor", b'{"offset":"x"}'),
        ("trail", b"abc"),
        ("started_at", "yesterday"),
    ],
)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_damaged_head_ends_neither_a_run_nor_a_fold(
    name: str, value: str | bytes, is_open: bool
) -> None:
    """It is left alone, with its chunks; the next run begins and is complete."""
    found = world()
    found.tick(max_pages=1 if is_open else 1000)
    table = found.tables.table("chunks")
    (head,) = table.query(key="head")
    table.merge(Row(partition=head.partition, key="head", data={name: value}))
    found.clock.advance(TICK)
    done = ended(found.tick(), RunState.COMPLETE)
    is_readable = name == "trail"  # of which the beginning is still good
    assert (done.run_id == found.runs[-1].run_id) == (is_open and is_readable)
    assert is_readable or found.runs[-1].state is RunState.OTHER


def test_a_damaged_lease_is_free() -> None:
    """It saves work and gaps only: correctness is the head's."""
    found = world()
    found.tick()
    table = found.tables.table("control")
    lease = table.get("control", "run-lease")
    assert lease is not None
    table.merge(Row(partition="control", key="run-lease", data={"seconds": "long", "owner": "x"}))
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)


@pytest.mark.parametrize("damage", ["yesterday", 5, b"2026"])
def test_a_damaged_request_for_a_full_run_asks_for_nothing(damage: str | int | bytes) -> None:
    """It would go into the head of the run, which could then not be read."""
    found = world()
    row = Row(partition="control", key="full-sync", data={"requested_at": damage})
    found.tables.table("control").merge(row)
    run = ended(found.tick(), RunState.COMPLETE)
    assert not run.full
    assert found.runs[0].state is RunState.COMPLETE
