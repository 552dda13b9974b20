"""Problems: raised sparingly, ended by what disproves them or by time, with a trace."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from common.errors import UnavailableError
from common.ledger.problems import (
    LUMEN_DISPROVES,
    MAX_TRACES,
    STANDS_FOR,
    TABLE,
    UPLOAD_DISPROVES,
    WRITE_EVERY,
    Problem,
    ProblemKind,
    Problems,
)
from common.ledger.tables import Row
from tests.fakes.clock import START, FakeClock
from tests.fakes.tables import FakeTables


class Bench:
    """Tables, a clock, and the writes that reach the tables."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tables = FakeTables()
        self.writes = 0
        self.tables.before = self._count

    def _count(self, _table: str, operation: str) -> None:
        self.writes += operation == "merge"

    def instance(self) -> Problems:
        """Return the problems as a fresh instance sees them."""
        return Problems(self.tables, clock=self.clock)


@pytest.mark.parametrize("kind", ProblemKind)
@pytest.mark.parametrize("subject", ["", "run/000001-2"])
def test_a_problem_counts_with_its_remedy(kind: ProblemKind, subject: str) -> None:
    """What, about what, since when, and until when if it is not met again."""
    bench = Bench()
    bench.instance().raise_problem(kind, "give the role", subject=subject)
    assert bench.instance().open() == [
        Problem(
            kind=kind,
            what="give the role",
            subject=subject,
            since=START,
            last_seen=START,
            until=START + STANDS_FOR,
        )
    ]


def test_a_problem_is_written_once_in_a_while() -> None:
    """An outage costs no write a chunk; each kind has its own pace."""
    bench = Bench()
    problems = bench.instance()
    for _ in range(100):
        problems.raise_problem(ProblemKind.UNAVAILABLE, "503")
        problems.raise_problem(ProblemKind.ACCESS, "403")
        bench.clock.advance(WRITE_EVERY / 10)
    assert bench.writes == 20


def test_a_problem_that_goes_on_keeps_its_beginning() -> None:
    """Whichever instance meets it again: only the time it was last seen moves."""
    bench = Bench()
    for _ in range(5):
        bench.instance().raise_problem(ProblemKind.ACCESS, "403")
        bench.clock.advance(STANDS_FOR.total_seconds())
    (problem,) = bench.instance().open()
    assert problem.since == START
    assert problem.last_seen == START + 4 * STANDS_FOR
    assert problem.until == START + 5 * STANDS_FOR


Ends = tuple[frozenset[ProblemKind], Callable[[Problems, FakeClock], object]]

ENDS: dict[str, Ends] = {
    "an upload": (UPLOAD_DISPROVES, lambda problems, clock: problems.note_success(clock.now())),
    "Lumen answers": (LUMEN_DISPROVES, lambda problems, _: problems.end(LUMEN_DISPROVES)),
    "time": (
        frozenset(ProblemKind),
        lambda _, clock: clock.advance(STANDS_FOR.total_seconds() + 1),
    ),
}


@pytest.mark.parametrize("event", ENDS)
@pytest.mark.parametrize("kind", ProblemKind)
def test_what_ends_a_problem(kind: ProblemKind, event: str) -> None:
    """An event ends the kinds that it disproves, and no other, on any instance."""
    disproves, happen = ENDS[event]
    bench = Bench()
    bench.instance().raise_problem(kind, "why")
    bench.clock.advance(WRITE_EVERY)
    other = bench.instance()
    happen(other, bench.clock)
    ends = kind in disproves
    assert [problem.kind for problem in other.open()] == ([] if ends else [kind])
    assert [problem.kind for problem in other.ended()] == ([kind] if ends else [])


def test_the_kinds_are_those_of_the_sides() -> None:
    """Every kind has one thing that ends it at once, but for the gap, which is a fact."""
    assert not UPLOAD_DISPROVES & LUMEN_DISPROVES
    assert UPLOAD_DISPROVES | LUMEN_DISPROVES | {ProblemKind.GAP} == set(ProblemKind)


@pytest.mark.parametrize("seconds", [5.0, STANDS_FOR.total_seconds() + 1])
def test_a_problem_that_ended_leaves_a_trace(seconds: float) -> None:
    """From when to when: to the success, or to when it ended because it was not met again."""
    bench = Bench()
    bench.instance().raise_problem(ProblemKind.ACCESS, "403", subject="a/b")
    bench.clock.advance(seconds)
    problems = bench.instance()
    problems.note_success(bench.clock.now())
    (trace,) = problems.ended()
    assert (trace.kind, trace.what, trace.subject) == (ProblemKind.ACCESS, "403", "a/b")
    assert (trace.since, trace.until) == (START, min(bench.clock.now(), START + STANDS_FOR))


def test_the_last_ten_traces_are_kept() -> None:
    """The oldest goes first; traces are no problems."""
    bench = Bench()
    problems = bench.instance()
    for number in range(MAX_TRACES + 3):
        problems.raise_problem(ProblemKind.ACCESS, f"{number}")
        bench.clock.advance(WRITE_EVERY)
        problems.note_success(bench.clock.now())
    assert problems.open() == []
    traces = problems.ended()
    assert [trace.what for trace in traces] == [f"{number}" for number in range(12, 2, -1)]
    assert len(list(bench.tables.table(TABLE).query("problem"))) == MAX_TRACES


def test_a_problem_that_comes_back_after_its_end_leaves_a_trace_first() -> None:
    """No process noticed its end: the row shows it, then the trace."""
    bench = Bench()
    bench.instance().raise_problem(ProblemKind.DRIFT, "418")
    bench.clock.advance(3600)
    before = bench.instance().ended()
    bench.instance().raise_problem(ProblemKind.DRIFT, "419")
    (problem,) = bench.instance().open()
    assert (problem.what, problem.since) == ("419", bench.clock.now())
    assert bench.instance().ended() == before
    assert (before[0].what, before[0].until) == ("418", START + STANDS_FOR)


def test_a_side_that_tries_seldom_lets_its_problems_count_longer() -> None:
    """Until its next try, whatever the default is."""
    bench = Bench()
    daily = timedelta(days=1)
    slow = Problems(bench.tables, clock=bench.clock, stands_for=daily)
    slow.raise_problem(ProblemKind.LUMEN_ACCESS, "403")
    bench.clock.advance(daily.total_seconds())
    assert [problem.until for problem in slow.open()] == [bench.clock.now()]


def test_a_problem_that_comes_back_is_a_new_one() -> None:
    """It begins when it came back, at once and not at the next write that is due."""
    bench = Bench()
    problems = bench.instance()
    problems.raise_problem(ProblemKind.ACCESS, "403")
    bench.clock.advance(10)
    problems.note_success(bench.clock.now())
    bench.clock.advance(10)
    problems.raise_problem(ProblemKind.ACCESS, "403 again")
    (problem,) = problems.open()
    assert (problem.since, problem.what) == (bench.clock.now(), "403 again")


def test_successes_cost_one_write_in_a_while() -> None:
    """While all goes well; a problem of one's own is closed at once."""
    bench = Bench()
    problems = bench.instance()
    for _ in range(100):
        problems.note_success(bench.clock.now())
        bench.clock.advance(WRITE_EVERY / 10)
    assert bench.writes == 10
    problems.raise_problem(ProblemKind.DRIFT, "418")
    problems.note_success(bench.clock.now())
    assert problems.open() == []


def test_a_problem_of_another_instance_is_closed_in_a_while() -> None:
    """An instance whose chunks pass notices what stands, though it raised nothing itself."""
    bench = Bench()
    mine = bench.instance()
    mine.note_success(bench.clock.now())
    bench.instance().raise_problem(ProblemKind.REFUSING, "all of it")
    mine.note_success(bench.clock.now())
    assert len(mine.open()) == 1
    bench.clock.advance(WRITE_EVERY)
    mine.note_success(bench.clock.now())
    assert mine.open() == []


def test_a_success_after_trouble_closes_at_once() -> None:
    """The chunk that met a problem closes it, whichever instance raised it and whatever was due."""
    bench = Bench()
    mine = bench.instance()
    mine.note_success(bench.clock.now())
    bench.instance().raise_problem(ProblemKind.REFUSING, "all of it")
    mine.note_success(bench.clock.now(), after_trouble=True)
    assert mine.open() == []


def test_a_success_does_not_end_what_arose_after_it_was_sent() -> None:
    """Its answer came later, and proves nothing about then; the next success ends it at once."""
    bench = Bench()
    mine = bench.instance()
    sent = bench.clock.now()
    bench.clock.advance(1)
    mine.raise_problem(ProblemKind.ACCESS, "403")
    mine.note_success(sent)
    assert [problem.kind for problem in mine.open()] == [ProblemKind.ACCESS]
    mine.note_success(bench.clock.now())
    assert mine.open() == []


def test_a_problem_counts_behind_the_time_without_a_try() -> None:
    """Told to wait for an hour, nothing meets the problem again before that is over."""
    bench = Bench()
    hour = timedelta(hours=1)
    bench.instance().raise_problem(ProblemKind.THROTTLED, "429", no_try_for=hour)
    (problem,) = bench.instance().open()
    assert problem.until == START + hour + STANDS_FOR


def test_a_problem_that_is_met_while_it_is_ended_counts() -> None:
    """Another chunk meets it between the look and the write."""
    bench = Bench()
    bench.instance().raise_problem(ProblemKind.ACCESS, "403")

    def before(_table: str, operation: str) -> None:
        if operation == "transact":
            bench.tables.before = bench._count
            bench.instance().raise_problem(ProblemKind.ACCESS, "403 again")

    bench.tables.before = before
    bench.instance().end({ProblemKind.ACCESS})
    assert [problem.what for problem in bench.instance().open()] == ["403 again"]
    assert bench.instance().ended() == []


def test_a_problem_that_ended_may_come_back_at_once() -> None:
    """It is a new one, and not held back by when its like was written last."""
    bench = Bench()
    problems = bench.instance()
    problems.raise_problem(ProblemKind.LUMEN_ACCESS, "403")
    problems.end(LUMEN_DISPROVES)
    bench.clock.advance(WRITE_EVERY / 2)
    problems.raise_problem(ProblemKind.LUMEN_ACCESS, "403")
    assert [problem.since for problem in problems.open()] == [bench.clock.now()]


def test_a_closing_that_failed_is_made_up_for() -> None:
    """A later success closes what storage did not take."""
    bench = Bench()
    problems = bench.instance()
    problems.raise_problem(ProblemKind.ACCESS, "403")

    def before(_table: str, _operation: str) -> None:
        raise UnavailableError("storage")

    bench.tables.before = before
    with pytest.raises(UnavailableError):
        problems.note_success(bench.clock.now())
    bench.tables.before = lambda _table, _operation: None
    bench.clock.advance(WRITE_EVERY)
    problems.note_success(bench.clock.now())
    assert problems.open() == []


def test_a_success_is_noted_with_the_time_it_was_sent() -> None:
    """Not when its answer came."""
    bench = Bench()
    problems = bench.instance()
    sent = bench.clock.now()
    bench.clock.advance(8)
    problems.note_success(sent)
    assert problems.last_success() == sent


def test_a_kind_of_another_release_stops_nothing() -> None:
    """Its row is left alone; what is known is told and closed."""
    bench = Bench()
    bench.tables.table(TABLE).merge(
        Row(partition="problem", key="unheard-of", data={"what": "?", "is_open": True})
    )
    problems = bench.instance()
    problems.raise_problem(ProblemKind.THROTTLED, "429")
    assert [problem.kind for problem in problems.open()] == [ProblemKind.THROTTLED]
    problems.note_success(bench.clock.now())
    assert problems.open() == []


def test_before_anything_happened_nothing_is_known() -> None:
    """No problem, and no success either."""
    problems = Bench().instance()
    assert problems.open() == []
    assert problems.last_success() is None


def test_the_end_of_many_problems_costs_one_write_and_one_removal_each() -> None:
    """Hundreds of records may wait for proof: what they left is looked at once, not for each."""
    bench = Bench()
    number = 5 * MAX_TRACES
    for at in range(number):
        bench.instance().raise_problem(ProblemKind.UNPROVEN, "1 waits", subject=f"run/{at:06d}-1")
    made: Counter[str] = Counter()
    bench.tables.before = lambda _table, operation: made.update([operation])
    bench.instance().end(UPLOAD_DISPROVES)
    assert made == {"query": 2, "transact": number, "delete": number - MAX_TRACES}
    assert bench.instance().open() == []
    assert len(bench.instance().ended()) == MAX_TRACES
