"""A sync run that was interrupted or taken over: who goes on with it, and where."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest

from common.errors import (
    ContractDriftError,
    CredentialError,
    GapError,
    OutOfTimeError,
    PipelineError,
    ThrottledError,
    UnavailableError,
)
from common.events import Event
from common.ledger.control import Pause
from common.ledger.runs import Counts, Run
from common.ledger.states import RunState
from producer.lumen import QueryState
from producer.sync import (
    ASK_WITHIN,
    MAX_STALL,
    MIN_RESUMPTIONS,
    is_stalled,
)
from tests.fakes.crash import Crash
from tests.unit.producer.sync_ticks import (
    PAGES,
    TOTAL,
    WANTED,
    assert_complete,
    ended,
    fail_on,
    logged,
    world,
)
from tests.unit.producer.sync_world import (
    LEASE,
    TICK,
    FailAt,
    World,
    feed,
    wanted_ids,
)


@pytest.mark.parametrize(
    "error",
    [
        CredentialError("check LUMEN_API_KEY"),
        UnavailableError("down"),
        ThrottledError("slow", retry_after=7.0),
        OutOfTimeError("no time"),
        ContractDriftError("418"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("page", [0, 1, 4])
def test_trouble_at_a_page_interrupts_and_the_next_tick_goes_on(
    error: PipelineError, page: int
) -> None:
    """The query is kept: whatever it was, the same pages are read when it is over."""
    found = world(before=fail_on("page", f"query-1/{page}", error))
    run = ended(found.tick(), RunState.INTERRUPTED)
    assert run.reason == str(error)
    found.repair()
    found.clock.advance(TICK)
    run_now = found.tick()
    assert found.lumen.count("start") == 1
    assert_complete(found, run_now)


def test_trouble_while_polling_interrupts_and_the_next_tick_goes_on() -> None:
    """The cache id was written before the first look at the query."""
    found = world(before=fail_on("status", "query-1", UnavailableError("down")))
    assert ended(found.tick(), RunState.INTERRUPTED).cache_id == "query-1"
    found.repair()
    found.clock.advance(TICK)
    assert_complete(found, found.tick())


@pytest.mark.parametrize(
    "error", [Crash(), UnavailableError("no ledger")], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("how", ["pages", "inline", "no results"])
def test_a_run_that_only_lacks_its_last_write_is_complete_without_lumen(
    error: BaseException, how: str
) -> None:
    """Everything is on the queue, and the cursor says so: Lumen may have forgotten the query."""
    found = world(inline=how == "inline", no_results=how == "no results")

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace"):
            (run,) = found.runs
            if run.cursor is not None and run.cursor.done:
                raise error

    found.tables.before = before
    with pytest.raises(type(error)):
        found.tick()
    assert found.runs[0].state is RunState.RUNNING
    found.lumen.forget()
    found.lumen.calls.clear()
    found.repair()
    found.clock.advance(2 * MAX_STALL.total_seconds())
    run = found.tick()
    assert found.lumen.calls == []
    if how == "no results":
        assert ended(run, RunState.COMPLETE).counts == Counts()
    else:
        assert_complete(found, run)


def test_a_run_that_makes_no_progress_is_given_up_as_a_gap_after_a_day() -> None:
    """A query that never ends does not hold up the feed for ever."""
    found = world(states=[QueryState.RUNNING] * 1000)
    while len(found.runs) < 2:
        found.tick(poll_timeout=1)
        found.clock.advance(TICK)
        assert found.clock.elapsed < 1.1 * MAX_STALL.total_seconds()
    assert found.runs[0].state is RunState.INTERRUPTED
    assert found.runs[1].state is RunState.GAP
    assert "still RUNNING" in found.runs[1].reason
    assert timedelta(days=1) == MAX_STALL


def test_a_run_that_kills_its_process_at_every_tick_is_given_up_as_a_gap() -> None:
    """No tick lives to close it, and still it does not hold up the feed for ever."""
    found = world()
    found.tick(max_pages=1)
    while len(found.runs) < 2:
        found.lumen.before = fail_on("page", "query-1/1", Crash())
        found.clock.advance(TICK)
        assert found.clock.elapsed < 1.1 * MAX_STALL.total_seconds()
        with suppress(Crash):
            found.tick()
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]
    assert set(found.enqueued_ids) == set(WANTED)


def test_a_first_load_of_many_days_is_no_gap() -> None:
    """However long a run takes: while its cursor moves, it goes on."""
    found = world(pages=feed(["iii"] * 12))
    runs: list[Run | None] = []
    while not runs or runs[-1] is None or runs[-1].is_open:
        runs.append(found.tick(max_pages=1))
        found.clock.advance(MAX_STALL.total_seconds() - 1)
    assert (len(runs), len(found.runs)) == (12, 1)
    assert found.clock.elapsed > 10 * MAX_STALL.total_seconds()
    assert len(set(found.enqueued_ids)) == 36


def test_a_tick_a_week_is_often_enough() -> None:
    """Time alone does not stall a run: the schedule may be any."""
    found = world()
    found.tick(max_pages=2)
    found.clock.advance(7 * MAX_STALL.total_seconds())
    assert_complete(found, found.tick())


def test_a_long_wait_without_a_try_is_no_stall() -> None:
    """After failing ticks the feed is paused until Lumen is back: the run goes on, and is whole."""
    found = world(before=fail_on("page", "query-1/2", UnavailableError("Lumen is down")))
    for _ in range(MIN_RESUMPTIONS):
        found.tick()
        found.clock.advance(TICK)
    now = found.clock.now()
    found.ledger.control.pause(Pause(since=now, until=now + timedelta(hours=30), by="on call"))
    found.clock.advance(30 * 3600)
    found.lumen.before = lambda _call, _argument: None
    assert_complete(found, found.tick())


@pytest.mark.parametrize(
    ("stalled", "beyond", "expected"),
    [
        (MIN_RESUMPTIONS, 1, True),
        (MIN_RESUMPTIONS - 1, 1, False),
        (MIN_RESUMPTIONS, 0, False),
        (1000, -1, False),
    ],
)
def test_when_a_run_is_stalled(stalled: int, beyond: float, expected: bool) -> None:
    """It takes both: a day without progress by the storage's clock, and some resumptions in it."""
    now = world().clock.now()
    run = Run(
        run_id="x",
        state=RunState.INTERRUPTED,
        started_at=now - 9 * MAX_STALL,
        updated_at=now,
        stalled_for=MAX_STALL.total_seconds() + beyond,
        stalled=stalled,
    )
    assert is_stalled(run) is expected


def test_a_held_lease_skips_the_tick(caplog: pytest.LogCaptureFixture) -> None:
    """A tick that finds another run at work does nothing and says so."""
    caplog.set_level(logging.INFO)
    found = world()
    found.ledger.control.acquire_lease(owner="other", seconds=LEASE)
    assert found.tick() is None
    (line,) = logged(caplog, Event.SYNC_SKIPPED)
    assert "held by other" in line
    assert found.lumen.calls == []
    found.clock.advance(LEASE)
    ended(found.tick(), RunState.COMPLETE)


@pytest.mark.parametrize(
    "error", [None, UnavailableError("down"), GapError("404")], ids=lambda e: type(e).__name__
)
def test_a_run_taken_over_by_another_instance_stops_without_a_word_in_the_ledger(
    error: PipelineError | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An instance that lost its lease cannot write over the one that took over, nor end its run."""
    caplog.set_level(logging.INFO)
    found = world()
    finished: list[Run | None] = []

    def stall(call: str, argument: str) -> None:
        if (call, argument) == ("page", "query-1/2") and not finished:
            finished.append(None)
            found.clock.advance(LEASE + 1)
            finished.append(found.tick())
            if error is not None:
                raise error

    found.lumen.before = stall
    assert found.tick(time_budget=10 * LEASE) is None
    (line,) = logged(caplog, Event.SYNC_SKIPPED)
    assert "this one stops" in line or "this instance stops" in line
    (run,) = found.runs
    assert run == finished[-1]
    assert run.state is RunState.COMPLETE
    assert run.counts == TOTAL
    found.settle()
    assert found.fates()[0].balanced
    assert set(found.enqueued_ids) == set(WANTED)


def test_a_lease_that_is_taken_over_is_noticed_between_two_pages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The other one has not touched the run yet, and this one leaves it as it is."""
    caplog.set_level(logging.INFO)
    found = world()

    def stall(call: str, argument: str) -> None:
        if (call, argument) == ("page", "query-1/2"):
            found.clock.advance(LEASE + 1)
            found.ledger.control.acquire_lease(owner="other", seconds=LEASE)

    found.lumen.before = stall
    assert found.tick(chunk_size=100) is None
    (line,) = logged(caplog, Event.SYNC_SKIPPED)
    assert "the run lease was taken over" in line
    assert found.queue.sent == []
    assert found.runs[0].state is RunState.RUNNING
    lease = found.ledger.control.read_lease()
    assert lease is not None
    assert (lease.owner, lease.open_run) == ("other", found.runs[0].run_id)


# Runs that cannot be overtaken


def test_a_tick_raises_the_epoch_of_the_run_that_it_resumes() -> None:
    """Its rows and messages carry it, so that none of an earlier epoch fits a row of this one."""
    found = world()
    for number in range(3):
        run = found.tick(max_pages=1, chunk_size=1)
        assert run is not None
        assert run.epoch == number + 1
        found.clock.advance(TICK)
    epochs = {envelope.epoch for envelope in found.envelopes}
    assert epochs == {row.epoch for row in found.chunks} == {1, 3}  # page 2 is empty
    assert {e.ledger_id for e in found.envelopes} == {found.ledger.chunks.known_ledger_id()}


def test_what_lies_beyond_the_checkpoint_is_made_void() -> None:
    """The rows of a tick that was killed before its checkpoint stay, out of the books."""
    found = world()
    found.queue.before = FailAt(Crash, at=3, lasting=True)
    with pytest.raises(Crash):
        found.tick(chunk_size=1)
    assert [row.void for row in found.chunks] == [False] * 5
    found.repair()
    found.clock.advance(TICK)
    ended(found.tick(chunk_size=2), RunState.COMPLETE)
    assert {row.epoch: row.void for row in found.chunks} == {1: True, 2: False}
    assert sorted(found.sendable_ids) == sorted(WANTED)
    assert len(found.enqueued_ids) == len(WANTED) + 3


def test_an_answer_that_comes_for_a_void_chunk_is_knowledge() -> None:
    """What Sentinel took before the chunk was made void is not sent a second time."""
    found = world(pages=PAGES[:1])
    found.queue.before = FailAt(Crash, at=2, lasting=True)
    with pytest.raises(Crash):
        found.tick(chunk_size=1)
    taken = found.consume()
    assert len(taken) == 2
    found.repair()
    found.clock.advance(TICK)
    run = ended(found.tick(chunk_size=1), RunState.COMPLETE)
    assert (run.counts.unchanged, run.counts.enqueued) == (2, 3)
    assert sorted(found.consume() + taken) == sorted(wanted_ids(PAGES[:1]))
    assert found.fates()[0].balanced


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_that_no_lease_names_is_closed_by_the_next_tick(
    *, asked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As a gap if Lumen was asked, else as failed; then the tick goes about its own run."""
    found = world()
    now = found.clock.now()
    orphan = Run(
        run_id="20251231T235959-0badcafe",
        state=RunState.RUNNING,
        started_at=now,
        updated_at=now,
        asked=asked,
    )
    found.ledger.runs.create(orphan)
    ended(found.tick(), RunState.COMPLETE)
    closed = found.ledger.runs.get(orphan.run_id)
    assert closed is not None
    assert closed.state is (RunState.GAP if asked else RunState.FAILED)
    assert "no lease names the run" in closed.reason
    assert len(logged(caplog, Event.SYNC_GAP if asked else Event.SYNC_FAILED)) == 1


def test_a_run_whose_tick_died_before_the_lease_named_it_is_closed() -> None:
    """Nobody was asked, so nothing is missing: it is failed, and the tick begins a new one."""
    found = world()

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("control", "replace"):
            raise Crash

    found.tables.before = before
    with pytest.raises(Crash):
        found.tick()
    (orphan,) = found.runs
    assert orphan.is_open
    found.repair()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.FAILED]
    assert found.sendable_ids == WANTED


def test_lumen_is_asked_within_seconds_of_writing_so() -> None:
    """A tick that stalls after that write writes it again, however often it takes."""
    found = world()
    stalls = iter([ASK_WITHIN + 1, 500.0, ASK_WITHIN])
    written: list[float] = []

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace") and not found.lumen.calls:
            written.append(found.clock.monotonic())

    def after(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace") and not found.lumen.calls:
            found.clock.advance(next(stalls))

    asked: list[float] = []

    def ask(call: str, _argument: str) -> None:
        if call == "start":
            asked.append(found.clock.monotonic())

    found.tables.before, found.tables.after, found.lumen.before = before, after, ask
    assert_complete(found, found.tick())
    assert len(written) == 3
    assert asked[0] - written[-1] <= ASK_WITHIN


def test_an_instance_that_stalled_before_it_asked_does_not_ask() -> None:
    """Meanwhile another one has closed its run, as a gap: the query might have begun."""
    found = world()
    others: list[Run | None] = []

    def after(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace") and not found.lumen.calls and not others:
            others.append(None)
            found.clock.advance(LEASE + 1)
            others.append(found.tick(owner="other"))

    found.tables.after = after
    assert found.tick() is None
    assert found.lumen.count("start") == 1
    ended(others[-1], RunState.COMPLETE)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]
    assert sorted(found.sendable_ids) == sorted(WANTED)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_tick_that_stalls_at_any_call_does_no_harm(when: str) -> None:
    """Another one does all of its work meanwhile: it stops, nothing is lost and nothing doubled.

    At each call to the ledger in turn, until a tick has no such call any more.
    """
    for at in count():
        found = world()
        found.tick(max_pages=2)
        found.clock.advance(TICK)
        stall = _Stall(found, at)
        setattr(found.tables, when, stall)
        with suppress(PipelineError):
            found.tick()
        found.repair()
        if not stall.is_over:
            break
        assert sorted(found.sendable_ids) == sorted(WANTED), at
        found.settle()
        assert all(fate.balanced and fate.pending == 0 for fate in found.fates()), at
        found.clock.advance(TICK)
        run = ended(found.tick(), RunState.COMPLETE)
        assert run.counts.enqueued == 0, at
    assert at > 30


@dataclass
class _Stall:
    """Lets another tick do all the work at one of the calls to the ledger."""

    world: World
    at: int
    calls: int = 0
    is_over: bool = False

    def __call__(self, *_: object) -> None:
        call = self.calls
        self.calls += 1
        if call == self.at:
            self.is_over = True
            self.world.clock.advance(LEASE + 1)
            ended(self.world.tick(owner="other", chunk_size=3), RunState.COMPLETE)
