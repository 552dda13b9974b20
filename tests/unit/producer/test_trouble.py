"""Trouble with Lumen: which problem a failed call means, when it is raised, when it is over."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from common import errors
from common.errors import (
    AnswerTooLargeError,
    ContractDriftError,
    CredentialError,
    GapError,
    OutOfTimeError,
    PipelineError,
    QueryFailedError,
    SettingsError,
    ThrottledError,
    TryLaterError,
    UnavailableError,
)
from common.ledger.problems import ProblemKind
from common.ledger.states import RunState
from common.schedule import span_of
from common.settings import read_settings
from producer.lumen import QueryState
from producer.trouble import WatchedLumen, problem_of
from producer.wiring import longest_wait
from tests.fakes.crash import Crash
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import TICK, World, feed

KINDS: dict[type[PipelineError], ProblemKind | None] = {
    CredentialError: ProblemKind.LUMEN_ACCESS,
    ContractDriftError: ProblemKind.LUMEN_DRIFT,
    AnswerTooLargeError: ProblemKind.LUMEN_DRIFT,
    ThrottledError: ProblemKind.LUMEN_UNAVAILABLE,
    UnavailableError: ProblemKind.LUMEN_UNAVAILABLE,
    TryLaterError: ProblemKind.LUMEN_UNAVAILABLE,
    QueryFailedError: ProblemKind.LUMEN_UNAVAILABLE,
    OutOfTimeError: None,
    GapError: None,
}
"""What the client raises, and what each means."""

PAGES = feed(["iiii", "ii", "iii"])


def world(**lumen: object) -> World:
    """Return a world whose Lumen is as described."""
    made = World(lumen=ScriptedLumen(pages=PAGES))
    for name, value in lumen.items():
        setattr(made.lumen, name, value)
    return made


def failing(step: str, error: Callable[[], BaseException]) -> Callable[[str, str], None]:
    """Return a hook that makes one of the three calls fail."""

    def before(call: str, _argument: str) -> None:
        if call == step:
            raise error()

    return before


def open_kinds(made: World) -> set[ProblemKind]:
    """Return the kinds of problem that count."""
    return {problem.kind for problem in made.problems.open()}


@pytest.mark.parametrize("error", KINDS)
def test_each_error_means_one_problem(error: type[PipelineError]) -> None:
    """Refused, unavailable, of another form; the run records a gap."""
    assert problem_of(error("why")) is KINDS[error]


def test_every_error_is_judged() -> None:
    """Also those that the client never raises."""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    for found in classes:
        if issubclass(found, PipelineError):
            made = found(["fault"]) if found is SettingsError else found("why")
            assert problem_of(made) in {None, *ProblemKind}


@pytest.mark.parametrize("step", ["start", "status", "page"])
@pytest.mark.parametrize("error", [e for e in KINDS if KINDS[e] and e is not QueryFailedError])
def test_trouble_shows_at_once_and_ends_when_lumen_answers(
    step: str, error: type[PipelineError]
) -> None:
    """After the tick that met it, with the words of the run; each later tick meets it again."""
    made = world(before=failing(step, lambda: error("the remedy")))
    for number in range(3):
        made.tick()
        (problem,) = made.problems.open()
        assert (problem.kind, problem.what) == (KINDS[error], "the remedy")
        assert (problem.since < problem.last_seen) is (number > 0)
        made.clock.advance(TICK)
    made.repair()
    made.tick()
    assert made.runs[0].state is RunState.COMPLETE
    assert made.problems.open() == []
    assert [trace.kind for trace in made.problems.ended()] == [KINDS[error]]


@pytest.mark.parametrize(
    ("is_cut", "inline", "no_results"),
    [(True, False, False), (False, True, False), (False, False, True)],
    ids=["the first pages", "a page in the answer", "no results"],
)
def test_every_way_of_answering_ends_trouble(is_cut: bool, inline: bool, no_results: bool) -> None:
    """With the first page, before the rest is read; with a page in the answer; with no results."""
    made = world(inline=inline, no_results=no_results)
    made.problems.raise_problem(ProblemKind.LUMEN_ACCESS, "403")
    made.problems.raise_problem(ProblemKind.ACCESS, "403 at Sentinel")
    pages = 0

    def stop_at_the_third_page(call: str, _argument: str) -> None:
        nonlocal pages
        pages += call == "page"
        if is_cut and pages == 3:
            raise OutOfTimeError("too late to hide that it has answered")

    made.lumen.before = stop_at_the_third_page
    made.tick()
    assert ProblemKind.LUMEN_ACCESS not in open_kinds(made)
    assert ProblemKind.ACCESS in open_kinds(made)


def test_a_call_under_way_hides_no_answer() -> None:
    """While the second page is being fetched, the first one counts; what the call meets, counts."""
    lumen = ScriptedLumen(pages=PAGES)
    watched = WatchedLumen(lumen)
    cache_id = watched.start_query(give_up_at=1.0)
    assert cache_id is not None
    seen: list[tuple[bool, bool]] = []
    lumen.before = lambda _call, _argument: seen.append(
        (watched.has_answered, watched.trouble is None)
    )
    watched.fetch_page(f"{cache_id}/0", give_up_at=1.0)
    watched.fetch_page(f"{cache_id}/1", give_up_at=1.0)
    lumen.before = failing("page", lambda: UnavailableError("503"))
    with pytest.raises(UnavailableError):
        watched.fetch_page(f"{cache_id}/2", give_up_at=1.0)
    assert seen == [(True, True), (True, True)]
    assert (watched.has_answered, watched.trouble) == (
        False,
        (ProblemKind.LUMEN_UNAVAILABLE, "503"),
    )
    lumen.before = lambda _call, _argument: None
    watched.fetch_page(f"{cache_id}/2", give_up_at=1.0)
    assert (watched.has_answered, watched.trouble) == (True, None)


def test_a_query_that_lumen_failed_is_an_outage() -> None:
    """Lumen answers, and says that it could not do it; the next query that it can do ends it."""
    made = world(states=[QueryState.FAILED])
    made.tick()
    (problem,) = made.problems.open()
    assert (problem.kind, problem.what) == (
        ProblemKind.LUMEN_UNAVAILABLE,
        "Lumen reports that the query failed",
    )
    made.lumen.states = ()
    made.clock.advance(TICK)
    made.tick()
    assert made.problems.open() == []


def test_a_start_that_was_cut_off_is_a_gap_and_an_outage() -> None:
    """The gap tells what may be missing, the problem that Lumen does not answer."""
    made = world(before=failing("start", lambda: GapError("a query may run (504)")))
    for tick in range(3):
        made.tick()
        assert open_kinds(made) == {ProblemKind.LUMEN_UNAVAILABLE}
        assert len(made.ledger.runs.gaps()) == 1
        assert made.runs[0].state is (RunState.FAILED if tick else RunState.GAP)
        made.clock.advance(TICK)


def test_a_forgotten_query_is_a_gap_and_no_problem_of_lumen() -> None:
    """It answers: a new query starts in the same tick."""
    made = world(before=failing("page", lambda: UnavailableError("503")))
    made.tick()
    made.repair()
    made.lumen.forget()
    made.clock.advance(TICK)
    made.tick()
    assert made.problems.open() == []
    (gap,) = made.ledger.runs.gaps()
    assert gap.reason == "no such token"


@pytest.mark.parametrize("where", ["tables", "queue"])
def test_our_own_storage_is_not_lumens_trouble(where: str) -> None:
    """Its errors are of the same types, also right before Lumen is asked."""
    made = world()
    for at in range(4, 30):
        made = world()
        calls = 0

        def fail(*_: object, at: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls >= at:
                raise UnavailableError("storage")

        getattr(made, where).before = fail
        with suppress(UnavailableError):
            made.tick()
        made.repair()
        assert open_kinds(made) == set()


def test_a_problem_that_cannot_be_written_stops_no_run() -> None:
    """The run ends as it would."""
    made = world(before=failing("start", lambda: CredentialError("403")))
    refused = made.tables.before

    def before(table: str, operation: str) -> None:
        refused(table, operation)
        if table == "control" and operation in {"merge", "query"}:
            raise UnavailableError("storage")

    made.tables.before = before
    run = made.tick()
    assert run is not None
    assert (run.state, run.reason) == (RunState.FAILED, "403")


def test_a_crash_hides_no_trouble_for_long() -> None:
    """A tick that dies right after the head was written: the next one meets it again."""
    made = world(before=failing("start", lambda: CredentialError("403")))

    def die(table: str, operation: str) -> None:
        if table == "control" and operation == "merge":
            raise Crash

    made.tables.before = die
    with pytest.raises(Crash):
        made.tick()
    made.tables.before = lambda _table, _operation: None
    made.clock.advance(TICK)
    made.tick()
    assert open_kinds(made) == {ProblemKind.LUMEN_ACCESS}


@pytest.mark.parametrize("schedule", ["0 */15 * * * *", "0 0 3 * * *", "0 0 3 * * 1-5"])
def test_a_problem_counts_until_the_next_tick_is_over(schedule: str) -> None:
    """However seldom the timer fires and however long a tick takes."""
    settings = read_settings(
        {
            "PipelineStorage": "UseDevelopmentStorage=true",
            "LUMEN_API_KEY": "key",
            "CLIENT_ID": "0a0b0c0d-0000-4000-8000-000000000000",
            "CLIENT_SECRET": "a-secret",
            "TENANT_ID": "0a0b0c0d-0000-4000-8000-000000000000",
            "WORKSPACE_ID": "0a0b0c0d-0000-4000-8000-000000000000",
            "LUMEN_SCHEDULE": schedule,
        }
    )
    wait = longest_wait(settings)
    assert wait.total_seconds() > span_of(schedule, ticks=1).total_seconds() + 1500


def test_our_storage_that_failed_once_hides_no_trouble_of_lumens() -> None:
    """A start is tried again: what ends the last try counts, not what ended one before."""

    class Down(ScriptedLumen):
        def start_query(
            self, *, give_up_at: float, before: Callable[[], object] = lambda: None
        ) -> str | None:
            with suppress(UnavailableError):
                before()
            before()
            raise UnavailableError("Lumen is unavailable (503)")

    troubles = [UnavailableError("no table"), None]

    def write() -> None:
        error = troubles.pop(0)
        if error is not None:
            raise error

    watched = WatchedLumen(Down(pages=PAGES))
    with pytest.raises(UnavailableError):
        watched.start_query(give_up_at=1.0, before=write)
    assert watched.trouble == (ProblemKind.LUMEN_UNAVAILABLE, "Lumen is unavailable (503)")
