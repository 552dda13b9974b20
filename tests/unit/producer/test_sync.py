"""One sync run in every way it can go: what is asked of Lumen, and in which state it ends."""

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from common.errors import (
    ConflictError,
    ContractDriftError,
    CredentialError,
    GapError,
    HaltError,
    LeaseHeldError,
    OutOfTimeError,
    PipelineError,
    QueryFailedError,
    SettingsError,
    ThrottledError,
    TryLaterError,
    UnavailableError,
)
from common.events import Event
from common.ledger.control import Pause
from common.ledger.rejections import INVALID
from common.ledger.runs import Counts, Cursor, Run
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import Row
from producer.lumen import QueryState
from producer.sync import (
    ASK_WITHIN,
    MAX_STALL,
    MIN_RESUMPTIONS,
    classify_exit,
    is_stalled,
    is_told,
)
from tests.log_guard import LogGuard
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import (
    LEASE,
    TICK,
    Crash,
    FailAt,
    World,
    feed,
    wanted_ids,
)

SHAPES = ("iiifxii", "", "ofiix", "ffff", "iiiiiiixi", "iiif")
PAGES = feed(SHAPES)
WANTED = wanted_ids(PAGES)
TOTAL = Counts(fetched=29, filtered=7, invalid=3, enqueued=19, other_kind=1)


def world(**lumen: object) -> World:
    """Return a world with the feed above, whose Lumen is as described."""
    made = World(lumen=ScriptedLumen(pages=PAGES))
    for name, value in lumen.items():
        setattr(made.lumen, name, value)
    return made


def ended(run: Run | None, state: RunState) -> Run:
    """Return the run of a tick, which must have ended in this state."""
    assert run is not None
    assert (run.state, run.reason) == (state, run.reason)
    return run


def logged(caplog: pytest.LogCaptureFixture, event: Event) -> list[str]:
    """Return the lines of an event."""
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if line.startswith(event.value + " ")]


def fail_on(call: str, argument: str, error: BaseException) -> Callable[[str, str], None]:
    """Return a hook that raises when Lumen is asked just this."""

    def before(name: str, given: str) -> None:
        if (name, given) == (call, argument):
            raise error

    return before


def tick_until_complete(found: World, **options: Any) -> list[Run]:
    """Return the run as each tick left it, until it was complete."""
    runs: list[Run] = []
    while len(runs) < 30:
        run = found.tick(**options)
        found.clock.advance(TICK)
        assert run is not None
        runs.append(run)
        if run.state is RunState.COMPLETE:
            return runs
    raise AssertionError(f"not complete after {len(runs)} ticks")


def assert_complete(found: World, run: Run | None, *, counts: Counts = TOTAL) -> None:
    """Check that a run is complete, nothing is missing, and the books are balanced."""
    done = ended(run, RunState.COMPLETE)
    assert done.counts == counts
    assert found.sendable_ids == WANTED
    found.settle()
    (fate,) = found.fates()
    assert fate.balanced
    assert (fate.accepted, fate.pending) == (len(WANTED), 0)


@pytest.mark.parametrize("chunk_size", [1, 4, 19, 100])
@pytest.mark.parametrize("inline", [False, True])
def test_a_run_puts_the_whole_feed_on_the_queue(
    chunk_size: int, inline: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Every wanted indicator is enqueued once, in order, and one line says how it went."""
    caplog.set_level(logging.INFO)
    found = world(inline=inline)
    assert_complete(found, found.tick(chunk_size=chunk_size))
    (line,) = logged(caplog, Event.SYNC_COMPLETE)
    assert '"fetched":29' in line
    assert found.lumen.count("page") == len(PAGES) - inline


def test_each_page_is_fetched_once() -> None:
    """An uninterrupted run asks for one query and each page, and for nothing else."""
    found = world()
    found.tick()
    assert found.lumen.calls == [
        ("start", ""),
        ("status", "query-1"),
        *(("page", f"query-1/{index}") for index in range(len(PAGES))),
    ]


def test_the_query_is_polled_until_it_is_complete() -> None:
    """Queued, pending and running mean: look again after the interval."""
    found = world(states=[QueryState.QUEUED, QueryState.PENDING, QueryState.RUNNING])
    assert_complete(found, found.tick())
    assert found.lumen.count("status") == 4
    assert found.clock.sleeps == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("how", ["no results", "no first page", "no page", "empty page", "inline"])
def test_an_empty_feed_is_a_complete_run(how: str) -> None:
    """Nothing to do is success, in each way that Lumen may say it."""
    found = world(
        no_results=how == "no results",
        no_results_at="query-1/0" if how == "no first page" else "",
        inline=how == "inline",
        pages=[[]] if how == "empty page" else [],
    )
    run = ended(found.tick(), RunState.COMPLETE)
    assert run.counts == Counts()
    assert found.queue.sent == []
    assert found.fates()[0].balanced


def test_a_run_after_a_complete_one_is_a_new_query() -> None:
    """What is done is not resumed."""
    found = world()
    found.tick()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert found.lumen.count("start") == 2
    assert len(found.runs) == 2


def test_a_query_that_lumen_failed_ends_the_run(caplog: pytest.LogCaptureFixture) -> None:
    """The run is failed with that reason, and the next tick asks anew."""
    found = world(states=[QueryState.FAILED])
    run = ended(found.tick(), RunState.FAILED)
    assert "failed" in run.reason
    assert logged(caplog, Event.SYNC_FAILED)
    found.lumen.states = ()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert found.enqueued_ids == WANTED


def test_a_query_that_expired_is_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    """What it covered may be missing: the run says so and is never called complete."""
    found = world(states=[QueryState.EXPIRED])
    run = ended(found.tick(), RunState.GAP)
    assert "expired" in run.reason
    assert logged(caplog, Event.SYNC_GAP)


def test_a_query_that_expired_between_two_ticks_is_a_gap_and_a_new_query_at_once() -> None:
    """The gap is on record, and the same tick fetches what Lumen has now."""
    found = world(states=[QueryState.RUNNING, QueryState.EXPIRED])
    ended(found.tick(poll_timeout=1), RunState.INTERRUPTED)
    found.clock.advance(TICK)
    found.lumen.states = (QueryState.RUNNING, QueryState.EXPIRED)
    found.lumen._polls["query-2"] = 2
    ended(found.tick(), RunState.COMPLETE)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]
    assert found.enqueued_ids == WANTED


def test_a_slow_query_is_looked_at_again_by_the_next_tick() -> None:
    """Waiting ends after the timeout; the same query is polled on, not a second one started."""
    found = world(states=[QueryState.RUNNING] * 100)
    run = ended(found.tick(poll_timeout=60), RunState.INTERRUPTED)
    assert "still RUNNING after 60 s" in run.reason
    assert found.clock.elapsed <= 60
    assert run.cache_id == "query-1"
    found.clock.advance(TICK)
    run = ended(found.tick(poll_timeout=1000), RunState.COMPLETE)
    assert (run.resumed, len(found.runs)) == (1, 1)
    assert found.lumen.count("start") == 1
    assert {given for name, given in found.lumen.calls if name == "status"} == {"query-1"}


def test_polling_stops_when_the_time_budget_is_used_up() -> None:
    """The budget of a run binds its waiting too."""
    found = world(states=[QueryState.RUNNING] * 1000)
    ended(found.tick(poll_timeout=1200, time_budget=100), RunState.INTERRUPTED)
    assert found.clock.elapsed <= 105


@pytest.mark.parametrize("max_pages", [1, 2, 3])
@pytest.mark.parametrize("inline", [False, True])
def test_a_run_cut_by_max_pages_goes_on_from_its_cursor(max_pages: int, inline: bool) -> None:
    """Tick by tick the whole feed arrives, by one query, nothing twice."""
    found = world(inline=inline)
    runs = tick_until_complete(found, max_pages=max_pages)
    assert len(runs) > 1
    assert all("MAX_PAGES" in ended(run, RunState.INTERRUPTED).reason for run in runs[:-1])
    assert found.lumen.count("start") == 1
    assert_complete(found, runs[-1])


def test_a_chunk_larger_than_a_ticks_pages_does_not_stop_a_run() -> None:
    """Where no chunk fills in a whole tick, a short one is sent: every tick moves the cursor."""
    found = world(pages=feed(["i"] * 12))
    runs = tick_until_complete(found, max_pages=2, chunk_size=100)
    cursors = [(run.cursor.page, run.cursor.offset) for run in runs if run.cursor is not None]
    assert cursors == sorted(cursors)
    assert len(found.enqueued_ids) == len(set(found.enqueued_ids)) == 12
    assert found.fates()[0].balanced


def test_a_run_out_of_time_goes_on_from_its_cursor() -> None:
    """Each page takes its time; the budget ends the tick between two pages."""
    found = world()

    def slowly(_call: str, _argument: str) -> None:
        found.clock.advance(40)

    found.lumen.before = slowly
    runs = tick_until_complete(found, time_budget=150)
    assert len(runs) > 1
    assert all("time budget" in ended(run, RunState.INTERRUPTED).reason for run in runs[:-1])
    assert_complete(found, runs[-1])
    assert found.lumen.count("start") == 1


def test_a_long_run_keeps_its_lease() -> None:
    """However long it takes, no other run may start meanwhile."""
    found = world()
    held = []

    def slowly(_call: str, _argument: str) -> None:
        found.clock.advance(LEASE / 5)
        now = found.clock.now()
        with pytest.raises(LeaseHeldError):
            found.ledger.control.acquire_lease(owner="other", seconds=LEASE)
        held.append(now)

    found.lumen.before = slowly
    assert_complete(found, found.tick(time_budget=10 * LEASE))
    assert len(held) == 2 + len(PAGES)


def test_paging_in_circles_is_a_gap_and_keeps_what_was_read() -> None:
    """A repeated token ends the run; the indicators read before it are on the queue."""
    found = world()
    real = found.lumen.fetch_page

    def circling(token: str, **options: Any) -> object:
        page = real(token, **options)
        if token == "query-1/4":
            return type(page)(objects=page.objects, next_token="query-1/2")
        return page

    found.lumen.fetch_page = circling  # type: ignore[method-assign, assignment]
    run = ended(found.tick(chunk_size=5), RunState.GAP)
    assert "repeats a token" in run.reason
    assert found.enqueued_ids == wanted_ids(PAGES[:5])
    assert found.lumen.count("page") == 5
    found.settle()
    assert found.fates()[0].balanced


def test_a_page_that_lumen_forgets_is_a_gap_and_keeps_what_was_read() -> None:
    """What waits for its chunk to fill is sent: nobody will read those pages again."""
    found = world()
    found.lumen.before = fail_on("page", "query-1/3", GapError("no such token (404)"))
    run = ended(found.tick(chunk_size=5), RunState.GAP)
    assert "404" in run.reason
    assert found.enqueued_ids == wanted_ids(PAGES[:3])
    found.settle()
    assert found.fates()[0].balanced
    assert found.fates()[0].fetched == 12


@pytest.mark.parametrize("index", [1, 3, len(PAGES) - 1])
def test_no_results_for_a_page_behind_the_first_is_a_gap(index: int) -> None:
    """The page was announced, so the feed is not empty: Lumen has forgotten the query."""
    found = world(no_results_at=f"query-1/{index}")
    ended(found.tick(chunk_size=5), RunState.GAP)
    assert found.enqueued_ids == wanted_ids(PAGES[:index])


@pytest.mark.parametrize("index", [0, 1])
def test_no_results_for_the_page_of_a_resumed_run_is_a_gap(index: int) -> None:
    """Its token is an old one, the first page's too: the same tick starts a new query."""
    token = f"query-1/{index}"
    found = world(before=fail_on("page", token, UnavailableError("down")))
    ended(found.tick(), RunState.INTERRUPTED)
    found.repair()
    found.lumen.no_results_at = token
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]
    assert set(found.enqueued_ids) == set(WANTED)


@pytest.mark.parametrize(("message", "left", "offset"), [(0, 0, 0), (2, 0, 6), (2, 5, 6)])
def test_a_page_that_came_with_the_answer_and_is_not_there_any_more_is_a_gap(
    message: int, left: int, offset: int
) -> None:
    """Looked at again, an answer with less than was dealt with, or nothing, is not that page."""
    found = world(pages=PAGES[:1], inline=True)
    found.queue.before = FailAt(lambda: CredentialError("no role"), at=message)
    run = ended(found.tick(chunk_size=2), RunState.INTERRUPTED)
    assert run.cursor == Cursor(offset=offset, sequence=message)
    found.repair()
    found.lumen._queries["query-1"] = [PAGES[0][:left]]
    found.clock.advance(TICK)
    found.tick(chunk_size=2)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]


def test_a_refused_key_at_the_start_fails_the_run_with_the_remedy() -> None:
    """There is no query to come back to; the reason tells the operator what to do."""
    found = world(before=fail_on("start", "", CredentialError("check LUMEN_API_KEY")))
    assert ended(found.tick(), RunState.FAILED).reason == "check LUMEN_API_KEY"
    found.repair()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)


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


def test_a_token_forgotten_between_two_ticks_is_a_gap_and_a_new_query_at_once() -> None:
    """The old run is closed as a gap, and the same tick fetches what Lumen has now."""
    found = world()
    found.tick(max_pages=2)
    found.lumen.forget()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]
    assert set(found.enqueued_ids) == set(WANTED)
    found.settle()
    assert all(fate.balanced for fate in found.fates())


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


def test_a_run_that_died_before_its_query_was_known_is_a_gap() -> None:
    """A query may run at Lumen whose id nobody has: that is on record, and a new one starts."""
    found = world(before=fail_on("start", "", Crash()))
    with pytest.raises(Crash):
        found.tick()
    found.repair()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]
    assert "before Lumen's answer" in found.runs[1].reason


def test_a_cache_id_that_could_not_be_written_at_once_is_not_forgotten() -> None:
    """The next write of the row carries it, so the query is resumed instead of lost."""
    found = world()
    replaced = iter(range(100))

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace") and next(replaced) == 1:
            raise UnavailableError("no ledger")

    found.tables.before = before
    assert ended(found.tick(), RunState.INTERRUPTED).cache_id == "query-1"
    found.clock.advance(TICK)
    assert_complete(found, found.tick())
    assert found.lumen.count("start") == 1


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


def lost_start() -> GapError:
    """Return what a start ends with that nobody knows the outcome of."""
    return GapError("a query may run")


def test_a_start_without_an_answer_is_a_gap_and_the_next_tick_asks_anew() -> None:
    """The query that may run is on record; Lumen is not asked a second time at once."""
    found = world(before=fail_on("start", "", lost_start()))
    ended(found.tick(), RunState.GAP)
    assert found.lumen.count("start") == 1
    found.repair()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    assert [run.state for run in found.runs] == [RunState.COMPLETE, RunState.GAP]


def test_a_long_outage_without_answers_is_one_gap() -> None:
    """It is told once; the ticks after it fail, until Lumen has answered again."""
    found = world(before=fail_on("start", "", lost_start()))
    states = []
    for number in range(6):
        found.clock.advance(TICK)
        if number == 2:
            found.lumen.before = fail_on("start", "", UnavailableError("down"))
        run = found.tick()
        found.lumen.before = fail_on("start", "", lost_start())
        assert run is not None
        states.append(run.state)
    assert states == [RunState.GAP, *[RunState.FAILED] * 5]
    found.repair()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    found.clock.advance(TICK)
    found.lumen.before = fail_on("start", "", lost_start())
    ended(found.tick(), RunState.GAP)


def test_a_gap_is_told_though_the_ledger_cannot_say_whether_it_was() -> None:
    """Twice is better than not at all."""
    found = world(before=fail_on("start", "", lost_start()))

    failures = iter([UnavailableError("no answer")])

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "query") and found.lumen.count("start"):
            for failure in failures:
                raise failure

    found.tables.before = before
    ended(found.tick(), RunState.GAP)


@pytest.mark.parametrize("answered", ["cache_id", "cursor"])
def test_a_gap_tells_until_lumen_has_answered(answered: str) -> None:
    """Failed runs between do not matter, one that got an answer does; so does not having asked."""
    now = world().clock.now()
    gap = Run(run_id="1", state=RunState.GAP, started_at=now, updated_at=now, asked=True)
    failed = replace(gap, run_id="2", state=RunState.FAILED)
    got = {"cache_id": "q"} if answered == "cache_id" else {"cursor": Cursor()}
    good = replace(gap, run_id="3", state=RunState.COMPLETE, **got)
    assert is_told([failed, failed, gap])
    assert not is_told([good, gap])
    assert not is_told([failed, good, gap])
    assert not is_told([failed])
    assert not is_told([])
    assert not is_told([replace(gap, asked=False)])


def test_an_answer_of_the_ledger_that_got_lost_is_no_gap() -> None:
    """The storage client writes again and meets its own first write: nobody else was there."""
    writes = ("replace", "transact")
    count = 0

    def counting(_table: str, operation: str) -> None:
        nonlocal count
        count += operation in writes

    rehearsal = world()
    rehearsal.tables.after = counting
    rehearsal.tick()
    assert count > 12
    for write in range(count):
        found = world()
        conflict = FailAt(lambda: ConflictError("changed, by ourselves"), at=write)

        def again(_table: str, operation: str, conflict: FailAt = conflict) -> None:
            if operation in writes:
                conflict()

        found.tables.after = again
        assert_complete(found, found.tick())


def test_what_was_written_without_an_answer_is_gone_on_from() -> None:
    """An outage after each write of the head in turn: how the tick ended is on record all the same.

    So a run that never asked Lumen is no gap to the next tick, and the checkpoint never goes back.
    """
    for write in range(40):
        found = world()
        lost = FailAt(lambda: UnavailableError("no answer"), at=write)

        def after(table: str, operation: str, lost: FailAt = lost) -> None:
            if table == "chunks" and operation in ("replace", "transact"):
                lost()

        found.tables.after = after
        with suppress(UnavailableError):
            run = found.tick()
            assert run is not None
            if lost.calls > write:
                assert found.runs == [run], write
        if lost.calls <= write:
            break
        found.repair()
        found.clock.advance(TICK)
        ended(found.tick(), RunState.COMPLETE)
        assert RunState.GAP not in {run.state for run in found.runs}
        assert sorted(found.sendable_ids) == sorted(WANTED)
    else:
        raise AssertionError("more writes than were tried")


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


def test_a_pause_stops_new_runs_and_the_one_at_work(caplog: pytest.LogCaptureFixture) -> None:
    """The one at work stops at its next renewal of the lease; the tick behind the pause goes on."""
    found = world()
    control, hour = found.ledger.control, timedelta(hours=1)

    def slowly(call: str, _argument: str) -> None:
        found.clock.advance(LEASE / 5)
        if call == "page" and found.lumen.count("page") == 2:
            now = found.clock.now()
            control.pause(Pause(since=now, until=now + hour, by="ann"))

    found.lumen.before = slowly
    run = ended(found.tick(time_budget=10 * LEASE), RunState.INTERRUPTED)
    assert "paused until" in run.reason
    assert found.lumen.count("page") < len(PAGES)
    calls = len(found.lumen.calls)
    with caplog.at_level(logging.INFO):
        assert found.tick() is None
    assert f"{Event.SYNC_SKIPPED} " in caplog.text
    assert "paused until 01 Jan" in caplog.text
    assert len(found.lumen.calls) == calls
    found.clock.advance(hour.total_seconds())
    found.lumen.before = lambda _call, _argument: None
    assert_complete(found, found.tick())
    assert found.lumen.count("start") == 1


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


def test_invalid_records_are_kept_with_their_reason() -> None:
    """Each has one row, however often its page is read, in whatever run."""
    found = world()
    found.tick(max_pages=1)
    found.clock.advance(TICK)
    found.tick()
    kept = list(found.ledger.rejections.of_run(INVALID))
    assert len(kept) == found.runs[0].counts.invalid == 3
    found.clock.advance(TICK)
    found.tick()
    assert len(list(found.ledger.rejections.of_run(INVALID))) == 3
    assert {rejection.reason for rejection in kept} == {"id is missing or not a text"}


@pytest.mark.parametrize(
    ("error", "resumable", "fresh"),
    [
        (GapError("x"), RunState.GAP, RunState.GAP),
        (QueryFailedError("x"), RunState.FAILED, RunState.FAILED),
        (SettingsError(["x"]), RunState.INTERRUPTED, RunState.FAILED),
        (HaltError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (CredentialError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (ContractDriftError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (UnavailableError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (ThrottledError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (OutOfTimeError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (LeaseHeldError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (ConflictError("x"), RunState.INTERRUPTED, RunState.FAILED),
        (TryLaterError("x"), RunState.INTERRUPTED, RunState.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_how_a_run_ends_by_its_error(
    error: PipelineError, resumable: RunState, fresh: RunState
) -> None:
    """The table of exits: with Lumen's id kept a run is interrupted, without it failed."""
    assert classify_exit(error, resumable=True) is resumable
    assert classify_exit(error, resumable=False) is fresh


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


def test_a_gap_says_how_many_indicators_of_void_chunks_belong_to_it() -> None:
    """Their rows were written, their messages not all: nobody can read their page again."""
    found = world()
    found.queue.before = FailAt(Crash, at=2, lasting=True)
    with pytest.raises(Crash):
        found.tick(chunk_size=1)
    found.repair()
    found.lumen.forget()
    found.clock.advance(TICK)
    ended(found.tick(chunk_size=1), RunState.COMPLETE)
    gap = found.runs[1]
    assert gap.state is RunState.GAP
    assert gap.reason.endswith("; 5 indicators of void chunks belong to it")
    assert sorted(found.sendable_ids) == sorted(WANTED)


def test_a_gap_counts_what_is_void_and_in_no_other_chunk() -> None:
    """The chunks of another size that came after hold some of the same indicators."""
    found = world()
    found.queue.before = FailAt(Crash, at=2, lasting=True)
    with pytest.raises(Crash):
        found.tick(chunk_size=1)  # all rows of the first page, few messages
    found.repair()
    found.clock.advance(TICK)
    found.queue.before = FailAt(lambda: UnavailableError("no queue"), at=2, lasting=True)
    found.tick(chunk_size=3)
    found.repair()
    (run,) = found.runs
    rows = found.ledger.chunks.beyond(run.run_id, 0)
    behind = [row for row in rows if not row.void and row.sequence < run.sequence]
    kept = {record.id_hash for row in behind for record in row.unpacked()}
    lost = {record.id_hash for row in rows for record in row.unpacked()} - kept
    found.lumen.forget()
    found.clock.advance(TICK)
    ended(found.tick(), RunState.COMPLETE)
    gap = found.runs[1]
    assert gap.state is RunState.GAP
    assert {row.epoch for row in rows} == {1, 2}
    assert kept
    assert lost
    assert gap.reason.endswith(f"; {len(lost)} indicators of void chunks belong to it")


# Ticks and runs


@pytest.mark.parametrize("how", ["pages", "time"])
def test_a_limit_ends_a_tick_and_never_a_run(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """While the run comes further, each such tick says that it goes on, and nothing louder."""
    caplog.set_level(logging.INFO)
    found = world()
    if how == "time":
        found.lumen.before = lambda _call, _argument: found.clock.advance(40)
    options: dict[str, Any] = {"max_pages": 2} if how == "pages" else {"time_budget": 150}
    runs = tick_until_complete(found, **options)
    assert len(runs) > 2
    assert len(logged(caplog, Event.SYNC_CONTINUES)) == len(runs) - 1
    assert logged(caplog, Event.SYNC_INTERRUPTED) == []
    assert all(record.levelno == logging.INFO for record in caplog.records)


def test_a_limit_without_progress_is_an_interruption(caplog: pytest.LogCaptureFixture) -> None:
    """The second tick that came no further than the first one is worth a warning."""
    caplog.set_level(logging.INFO)
    found = world(states=[QueryState.RUNNING] * 100)
    for _ in range(3):
        ended(found.tick(poll_timeout=1), RunState.INTERRUPTED)
        found.clock.advance(TICK)
    assert len(logged(caplog, Event.SYNC_CONTINUES)) == 1
    assert len(logged(caplog, Event.SYNC_INTERRUPTED)) == 2


def test_a_feed_of_2300_pages_takes_many_ticks_and_is_healthy_all_the_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Tokens without an index, three ticks of a thousand pages at most: one run, no gap."""
    caplog.set_level(logging.INFO)
    pages = feed(["i"] * 2300)
    found = world(pages=pages)
    runs = tick_until_complete(found, max_pages=1000, chunk_size=100)
    assert len(runs) == 3
    assert len(logged(caplog, Event.SYNC_CONTINUES)) == 2
    assert len(found.runs) == 1
    assert runs[-1].counts == Counts(fetched=2300, enqueued=2300)
    assert found.sendable_ids == wanted_ids(pages)


def test_paging_in_circles_is_a_gap_across_ticks() -> None:
    """The token that repeats was followed by an earlier tick: the run's head tells."""
    found = world()
    real = found.lumen.fetch_page

    def circling(token: str, **options: Any) -> object:
        page = real(token, **options)
        if token == "query-1/4":
            return type(page)(objects=page.objects, next_token="query-1/1")
        return page

    found.lumen.fetch_page = circling  # type: ignore[method-assign, assignment]
    for _ in range(2):
        ended(found.tick(max_pages=2), RunState.INTERRUPTED)
        found.clock.advance(TICK)
    found.tick(max_pages=2)
    gap = found.runs[1]
    assert (gap.state, gap.counts.fetched) == (RunState.GAP, 25)
    assert "repeats a token" in gap.reason
    assert found.sendable_ids == wanted_ids(PAGES[:5])


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


def test_a_run_is_later_than_every_run_before_it_whatever_the_clock_says() -> None:
    """Rows are in the order of runs: an instance whose clock is behind begins no earlier one."""
    found = world()
    first = ended(found.tick(), RunState.COMPLETE)
    found.clock.advance(-600.0)
    second = ended(found.tick(), RunState.COMPLETE)
    assert second.run_id > first.run_id
    assert [run.run_id for run in found.runs] == [second.run_id, first.run_id]
