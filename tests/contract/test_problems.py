"""Problems over the tables in memory and over Azurite."""

from common.ledger.problems import Kind, Problems
from common.ledger.tables import Tables
from tests.fakes.clock import FakeClock


def test_a_problem_is_closed_with_its_chunk_and_stays_on_record(tables: Tables) -> None:
    """A row that a query gave is written back as a whole, unless it has changed."""
    clock = FakeClock()
    problems = Problems(tables, clock=clock)
    problems.raise_problem(Kind.ACCESS, "403", met_by="run/1")
    problems.raise_problem(Kind.DRIFT, "418", met_by="run/2")
    (before,) = (problem for problem in problems.all() if problem.kind is Kind.ACCESS)
    clock.advance(60)
    problems.chunk_ended("run/1")
    assert [problem.kind for problem in problems.open()] == [Kind.DRIFT]
    (after,) = (problem for problem in problems.all() if problem.kind is Kind.ACCESS)
    assert after.closed_at == clock.now()
    assert (after.what, after.since, after.last_seen) == ("403", before.since, before.last_seen)
