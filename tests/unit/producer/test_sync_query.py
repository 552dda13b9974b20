"""A sync run and its query: polled, failed, expired, forgotten by Lumen, never answered."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from common.errors import (
    ConflictError,
    CredentialError,
    GapError,
    UnavailableError,
)
from common.events import Event
from common.ledger.runs import Cursor, Run
from common.ledger.states import RunState
from producer.lumen import Page, QueryState
from producer.sync import (
    is_told,
)
from tests.fakes.crash import Crash
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


def test_the_query_is_polled_until_it_is_complete() -> None:
    """Queued, pending and running mean: look again after the interval."""
    found = world(states=[QueryState.QUEUED, QueryState.PENDING, QueryState.RUNNING])
    assert_complete(found, found.tick())
    assert found.lumen.count("status") == 4
    assert found.clock.sleeps == [5.0, 5.0, 5.0]


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


def circle(found: World) -> None:
    """Let the fifth page name the third as the next one."""
    real = found.lumen.fetch_page

    def circling(token: str, **options: Any) -> Page:
        page = real(token, **options)
        return replace(page, next_token="query-1/2") if token == "query-1/4" else page

    found.lumen.fetch_page = circling  # type: ignore[method-assign]


def forget(page: int) -> Callable[[World], None]:
    """Let Lumen not know a page of the query."""
    gone = fail_on("page", f"query-1/{page}", GapError("no such token (404)"))
    return lambda found: setattr(found.lumen, "before", gone)


def find_nothing(page: int) -> Callable[[World], None]:
    """Let Lumen have no results for a page, which was announced: the feed is not empty."""
    return lambda found: setattr(found.lumen, "no_results_at", f"query-1/{page}")


BREAKS: dict[str, tuple[Callable[[World], None], str, int]] = {
    "pages in a circle": (circle, "repeats a token", 5),
    "a page forgotten": (forget(3), "404", 3),
    "no results for the second page": (find_nothing(1), "", 1),
    "no results for the fourth page": (find_nothing(3), "", 3),
    "no results for the last page": (find_nothing(len(PAGES) - 1), "", len(PAGES) - 1),
}
"""How a query breaks off, what the reason says, and how many pages were read before."""


@pytest.mark.parametrize("what", BREAKS)
def test_a_query_that_breaks_off_is_a_gap_and_keeps_what_was_read(what: str) -> None:
    """What waits for its chunk to fill is sent, too: nobody will read those pages again."""
    break_off, told, pages = BREAKS[what]
    found = world()
    break_off(found)
    run = ended(found.tick(chunk_size=5), RunState.GAP)
    assert told in run.reason
    assert found.enqueued_ids == wanted_ids(PAGES[:pages])
    found.settle()
    (fate,) = found.fates()
    assert fate.balanced
    assert fate.fetched == sum(map(len, PAGES[:pages]))


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
