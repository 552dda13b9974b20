"""Problems over the tables in memory and over Azurite."""

from common.ledger.problems import STANDS_FOR, ProblemKind, Problems
from common.ledger.tables import Tables
from tests.fakes.clock import FakeClock


def test_a_problem_that_ended_leaves_its_trace(tables: Tables) -> None:
    """Row and trace change places in one transaction; another kind stays as it is."""
    clock = FakeClock()
    problems = Problems(tables, clock=clock)
    problems.raise_problem(ProblemKind.UNPROVEN, "1 record waits", subject="run/000001-2")
    problems.raise_problem(ProblemKind.LUMEN_ACCESS, "403")
    (before,) = (problem for problem in problems.open() if problem.kind is ProblemKind.UNPROVEN)
    clock.advance(60)
    problems.note_success(clock.now())
    problems.note_success(clock.now(), after_trouble=True)
    assert [problem.kind for problem in problems.open()] == [ProblemKind.LUMEN_ACCESS]
    (after,) = problems.ended()
    assert after.until == clock.now()
    assert (after.what, after.subject) == ("1 record waits", "run/000001-2")
    assert (after.since, after.last_seen) == (before.since, before.last_seen)
    clock.advance(STANDS_FOR.total_seconds())
    assert problems.open() == []
    assert [problem.kind for problem in problems.ended()] == [
        ProblemKind.LUMEN_ACCESS,
        ProblemKind.UNPROVEN,
    ]
