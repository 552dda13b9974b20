"""Problems: one row a kind, raised sparingly, closed by the first success of anybody."""

from datetime import timedelta

import pytest

from common.errors import UnavailableError
from common.ledger.problems import TABLE, WRITE_EVERY, Kind, Problem, Problems
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


@pytest.mark.parametrize("kind", Kind)
def test_a_problem_stands_with_its_remedy(kind: Kind) -> None:
    """What, since when, and last seen when; the others do not stand."""
    bench = Bench()
    bench.instance().raise_problem(kind, "give the role")
    assert bench.instance().open() == [
        Problem(kind=kind, what="give the role", since=START, last_seen=START)
    ]


def test_a_problem_is_written_once_in_a_while() -> None:
    """An outage costs no write a chunk; each kind has its own pace."""
    bench = Bench()
    problems = bench.instance()
    for _ in range(100):
        problems.raise_problem(Kind.UNAVAILABLE, "503")
        problems.raise_problem(Kind.ACCESS, "403")
        bench.clock.advance(WRITE_EVERY / 10)
    assert bench.writes == 20


def test_a_problem_that_goes_on_keeps_its_beginning() -> None:
    """Whichever instance meets it again: only the time it was last seen moves."""
    bench = Bench()
    for _ in range(5):
        bench.instance().raise_problem(Kind.ACCESS, "403")
        bench.clock.advance(60)
    (problem,) = bench.instance().open()
    assert problem.since == START
    assert problem.last_seen == START + timedelta(seconds=240)


def test_the_first_success_closes_every_problem() -> None:
    """Whoever raised it; the rows stay, so that one can see what was."""
    bench = Bench()
    bench.instance().raise_problem(Kind.ACCESS, "403")
    bench.instance().raise_problem(Kind.UNAVAILABLE, "503")
    bench.clock.advance(10)
    other = bench.instance()
    other.note_success(other.moment())
    assert other.open() == []
    assert {problem.closed_at for problem in other.all()} == {bench.clock.now()}
    assert other.last_success() == bench.clock.now()


def test_a_problem_that_comes_back_is_a_new_one() -> None:
    """It begins when it came back, at once and not at the next write that is due."""
    bench = Bench()
    problems = bench.instance()
    problems.raise_problem(Kind.ACCESS, "403")
    bench.clock.advance(10)
    problems.note_success(problems.moment())
    bench.clock.advance(10)
    problems.raise_problem(Kind.ACCESS, "403 again")
    (problem,) = problems.open()
    assert (problem.since, problem.what) == (bench.clock.now(), "403 again")
    assert problem.closed_at is None


def test_successes_cost_one_write_in_a_while() -> None:
    """While all goes well; a problem of one's own is closed at once."""
    bench = Bench()
    problems = bench.instance()
    for _ in range(100):
        problems.note_success(problems.moment())
        bench.clock.advance(WRITE_EVERY / 10)
    assert bench.writes == 10
    problems.raise_problem(Kind.DRIFT, "418")
    problems.note_success(problems.moment())
    assert problems.open() == []


def test_a_problem_of_another_instance_is_closed_in_a_while() -> None:
    """An instance whose chunks pass notices what stands, though it raised nothing itself."""
    bench = Bench()
    mine = bench.instance()
    mine.note_success(mine.moment())
    bench.instance().raise_problem(Kind.REFUSING, "all of it")
    mine.note_success(mine.moment())
    assert len(mine.open()) == 1
    bench.clock.advance(WRITE_EVERY)
    mine.note_success(mine.moment())
    assert mine.open() == []


def test_a_success_after_trouble_closes_at_once() -> None:
    """The chunk that met a problem closes it, whichever instance raised it and whatever was due."""
    bench = Bench()
    mine = bench.instance()
    mine.note_success(mine.moment())
    bench.instance().raise_problem(Kind.REFUSING, "all of it")
    mine.note_success(mine.moment(), after_trouble=True)
    assert mine.open() == []


@pytest.mark.parametrize("ahead", [-7200, 0, 7200])
def test_a_problem_ends_with_the_chunk_that_met_it_last(ahead: float) -> None:
    """Whichever instance it ends on, and whatever that one's clock says; the row stays."""
    bench = Bench()
    bench.instance().raise_problem(Kind.ACCESS, "403", met_by="run/1")
    bench.instance().raise_problem(Kind.UNAVAILABLE, "503", met_by="run/1")
    bench.clock.advance(ahead)
    other = bench.instance()
    other.chunk_ended("run/1")
    assert other.open() == []
    assert {problem.kind for problem in other.all()} == {Kind.ACCESS, Kind.UNAVAILABLE}
    assert {problem.closed_at for problem in other.all()} == {bench.clock.now()}
    assert other.last_success() is None


@pytest.mark.parametrize("ahead", [-7200, 0, 7200])
def test_a_problem_that_another_chunk_met_since_stands_until_that_one_ends(ahead: float) -> None:
    """Of two that wait the last to meet it matters, whatever their clocks say."""
    bench = Bench()
    bench.clock.advance(86_400)
    since = bench.clock.now()
    bench.instance().raise_problem(Kind.UNAVAILABLE, "503", met_by="run/1")
    bench.clock.advance(ahead)
    bench.instance().raise_problem(Kind.UNAVAILABLE, "503", met_by="run/2")
    bench.instance().chunk_ended("run/1")
    assert [problem.since for problem in bench.instance().open()] == [since]
    bench.instance().chunk_ended("run/2")
    assert bench.instance().open() == []


@pytest.mark.parametrize("name", ["run/2", "run", ""])
def test_a_chunk_that_met_nothing_closes_nothing(name: str) -> None:
    """Neither what another met, nor what was closed before."""
    bench = Bench()
    problems = bench.instance()
    problems.raise_problem(Kind.ACCESS, "403", met_by="run/2")
    problems.chunk_ended("run/2")
    closed = list(problems.all())
    problems.raise_problem(Kind.DRIFT, "418", met_by="run/1")
    bench.clock.advance(60)
    problems.chunk_ended(name)
    assert [problem.kind for problem in problems.open()] == [Kind.DRIFT]
    assert set(closed) < set(problems.all())


def test_a_problem_that_is_met_while_it_is_closed_stands() -> None:
    """Another chunk meets it between the look and the write."""
    bench = Bench()
    bench.instance().raise_problem(Kind.ACCESS, "403", met_by="run/1")

    def before(_table: str, operation: str) -> None:
        if operation == "replace":
            bench.tables.before = bench._count
            bench.instance().raise_problem(Kind.ACCESS, "403", met_by="run/2")

    bench.tables.before = before
    bench.instance().chunk_ended("run/1")
    assert [problem.kind for problem in bench.instance().open()] == [Kind.ACCESS]


def test_a_problem_that_ended_with_a_chunk_may_come_back_at_once() -> None:
    """It is a new one, and not held back by when its like was written last."""
    bench = Bench()
    problems = bench.instance()
    problems.raise_problem(Kind.ACCESS, "403", met_by="run/1")
    problems.chunk_ended("run/1")
    bench.clock.advance(WRITE_EVERY / 2)
    problems.raise_problem(Kind.ACCESS, "403", met_by="run/2")
    assert [problem.since for problem in problems.open()] == [bench.clock.now()]


def test_a_closing_that_failed_is_made_up_for() -> None:
    """A later success closes what storage did not take."""
    bench = Bench()
    problems = bench.instance()
    problems.raise_problem(Kind.ACCESS, "403")

    def before(_table: str, _operation: str) -> None:
        raise UnavailableError("storage")

    bench.tables.before = before
    with pytest.raises(UnavailableError):
        problems.note_success(problems.moment())
    bench.tables.before = lambda _table, _operation: None
    bench.clock.advance(WRITE_EVERY)
    problems.note_success(problems.moment())
    assert problems.open() == []


def test_a_success_is_noted_with_the_time_it_was_sent() -> None:
    """Not when its answer came."""
    bench = Bench()
    problems = bench.instance()
    sent = problems.moment()
    bench.clock.advance(8)
    problems.note_success(sent)
    assert problems.last_success() == sent.at


def test_a_kind_of_another_release_stops_nothing() -> None:
    """Its row is left alone; what is known is told and closed."""
    bench = Bench()
    bench.tables.table(TABLE).merge(
        Row(partition="problem", key="unheard-of", data={"what": "?", "is_open": True})
    )
    problems = bench.instance()
    problems.raise_problem(Kind.THROTTLED, "429")
    assert [problem.kind for problem in problems.open()] == [Kind.THROTTLED]
    problems.note_success(problems.moment())
    assert problems.open() == []


def test_before_anything_happened_nothing_is_known() -> None:
    """No problem, and no success either."""
    problems = Bench().instance()
    assert problems.open() == []
    assert problems.last_success() is None
