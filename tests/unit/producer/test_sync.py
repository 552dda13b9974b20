"""One sync run in every way it can go: what is asked of Lumen, and in which state it ends."""

import logging
from datetime import timedelta
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
from common.ledger.runs import Counts
from common.ledger.states import RunState
from producer.lumen import QueryState
from producer.sync import (
    classify_exit,
)
from tests.unit.producer.sync_ticks import (
    PAGES,
    assert_complete,
    ended,
    logged,
    tick_until_complete,
    world,
)
from tests.unit.producer.sync_world import (
    LEASE,
    TICK,
    feed,
    wanted_ids,
)


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


def test_a_run_is_later_than_every_run_before_it_whatever_the_clock_says() -> None:
    """Rows are in the order of runs: an instance whose clock is behind begins no earlier one."""
    found = world()
    first = ended(found.tick(), RunState.COMPLETE)
    found.clock.advance(-600.0)
    second = ended(found.tick(), RunState.COMPLETE)
    assert second.run_id > first.run_id
    assert [run.run_id for run in found.runs] == [second.run_id, first.run_id]
