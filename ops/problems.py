"""Problems in the operator's hands: those that count, those that ended, gaps to acknowledge.

Problems are rows that producer and consumer raise and end; a gap is a fact in the head of its run.
Operators see both in one list. Only acknowledging writes, and it may be repeated.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from common.ledger import Ledger
from common.ledger.problems import MAX_TRACES, Problem, Problems
from common.ledger.runs import Run
from common.view import problem_of_gap
from ops.decisions import Decision


class GapResult(StrEnum):
    """What was done with the gap of one run."""

    ACKNOWLEDGED = "acknowledged"
    ALREADY = "already acknowledged"
    NO_GAP = "has no gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A run and what was done with its gap."""

    run_id: str
    result: GapResult


def ended(ledger: Ledger, problems: Problems, *, now: datetime) -> list[Problem]:
    """Return what ended before `now`, the latest end first, at most `MAX_TRACES`."""
    gaps = [problem_of_gap(gap) for gap in ledger.runs.gaps() if not gap.counts_at(now)]
    found = sorted([*problems.ended(), *gaps], key=lambda problem: problem.until, reverse=True)
    return found[:MAX_TRACES]


def acknowledge(
    ledger: Ledger, run_ids: Iterable[str], *, at: datetime, by: str, note: str = ""
) -> Iterator[Acknowledged]:
    """Acknowledge the gaps of some runs for an operator; yield what was done.

    Called twice: the first call counts. If it dies halfway: the next call continues.
    """
    signed = Decision(by=by, note=note).signed
    for run_id in run_ids:
        is_done = ledger.runs.acknowledge(run_id, at=at, by=signed)
        result = GapResult.ACKNOWLEDGED if is_done else _result_before(ledger.runs.get(run_id))
        yield Acknowledged(run_id=run_id, result=result)


def _result_before(run: Run | None) -> GapResult:
    """Return what was so before. Pure."""
    is_known = run is not None and run.acknowledged_at is not None
    return GapResult.ALREADY if is_known else GapResult.NO_GAP


def describe_problem(problem: Problem) -> dict[str, Any]:
    """Return a problem as plain JSON values."""
    return {
        "kind": problem.kind.value,
        "subject": problem.subject,
        "what": problem.what,
        "since": problem.since.isoformat(),
        "last_seen": problem.last_seen.isoformat(),
        "until": problem.until.isoformat(),
    }
