"""Is the feed healthy, and if not, why: one report, computed from the ledger and the queue.

`look` reads, `judge_health` decides (pure), `describe` turns both into plain JSON values for the
HTTP function and the command line. Nothing here writes.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from common.ledger import Ledger
from common.ledger.poison import PoisonState
from common.ledger.problems import Problem, Problems
from common.ledger.runs import Run
from common.ledger.states import RunState
from common.queues import MAX_BACKLOG, SendQueue, drain_time
from ops.reconciliation import Reconciliation, reconcile

STALE_AFTER: Final = timedelta(minutes=45)
"""Without a complete run for this long the feed is not healthy: three ticks of the default."""

HEALTH_RUNS: Final = 20
"""Runs that the diagnosis looks at, however few are asked for: five hours of the default."""


class Health(StrEnum):
    """How the feed is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run and the fate of its indicators."""

    run: Run
    fate: Reconciliation


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was read: the latest runs (newest first) and everything that stands in the way.

    `runs` are those asked for, reconciled; `recent` are at least `HEALTH_RUNS` for the diagnosis.
    """

    now: datetime
    runs: tuple[RunView, ...]
    recent: tuple[Run, ...]
    problems: tuple[Problem, ...]
    last_success: datetime | None
    queue_depth: int
    requests_per_minute: float
    poison_kept: int

    @property
    def drain_time(self) -> timedelta:
        """How long the queue takes at the configured rate."""
        return drain_time(self.queue_depth, requests_per_minute=self.requests_per_minute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The health, and one sentence for each thing that is not as it should be."""

    health: Health
    findings: tuple[str, ...]


def look(
    ledger: Ledger,
    problems: Problems,
    queue: SendQueue,
    *,
    runs: int,
    now: datetime,
    requests_per_minute: float,
) -> View:
    """Read the latest `runs` runs and what else the health depends on."""
    recent = tuple(ledger.runs.latest(max(runs, HEALTH_RUNS)))
    return View(
        now=now,
        runs=tuple(
            RunView(run=run, fate=reconcile(run, ledger.chunks.of_run(run.run_id)))
            for run in recent[:runs]
        ),
        recent=recent,
        problems=tuple(problems.open()),
        last_success=problems.last_success(),
        queue_depth=queue.depth(),
        requests_per_minute=requests_per_minute,
        poison_kept=sum(r.state is PoisonState.KEPT for r in ledger.poison.all()),
    )


def judge_health(view: View) -> Diagnosis:
    """Return the diagnosis of `view`. Pure.

    Down: nothing arrives. Degraded: it arrives, but something waits for an operator.
    """
    down = [f"{problem.what} (since {problem.since:%d %b %H:%M} UTC)" for problem in view.problems]
    degraded: list[str] = []
    missing = _missing_success(view)
    if missing:
        (degraded if _is_at_work(view) else down).append(missing)
    if view.poison_kept:
        degraded.append(f"messages given up: {view.poison_kept}; see `poison list`")
    if view.drain_time > MAX_BACKLOG:
        degraded.append(f"the queue takes {view.drain_time / timedelta(hours=1):.0f} h to drain")
    degraded += [
        f"the books of run {v.run.run_id} do not balance" for v in view.runs if not v.fate.balanced
    ]
    degraded += [
        f"run {run.run_id} has a gap: {run.reason}"
        for run in view.recent
        if run.state is RunState.GAP
    ]
    health = Health.DOWN if down else Health.DEGRADED if degraded else Health.HEALTHY
    return Diagnosis(health=health, findings=(*down, *degraded))


def describe(view: View) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    diagnosis = judge_health(view)
    return {
        "health": diagnosis.health.value,
        "findings": list(diagnosis.findings),
        "now": view.now.isoformat(),
        "queue_depth": view.queue_depth,
        "drain_minutes": round(view.drain_time / timedelta(minutes=1), 1),
        "last_success": None if view.last_success is None else view.last_success.isoformat(),
        "poison_kept": view.poison_kept,
        "problems": [
            {
                "kind": problem.kind.value,
                "what": problem.what,
                "since": problem.since.isoformat(),
                "last_seen": problem.last_seen.isoformat(),
            }
            for problem in view.problems
        ],
        "runs": [describe_run(v) for v in view.runs],
    }


def describe_run(view: RunView) -> dict[str, Any]:
    """Return a run and the fate of its indicators as plain JSON values."""
    run = view.run
    return {
        "run": run.run_id,
        "state": run.state.value,
        "reason": run.reason,
        "started_at": run.started_at.isoformat(),
        "updated_at": run.updated_at.isoformat(),
        "pages": 0 if run.cursor is None else run.cursor.page + 1,
        "resumed": run.resumed,
        "full": run.full,
        **asdict(view.fate),
        "balanced": view.fate.balanced,
    }


def _missing_success(view: View) -> str:
    """Return what is wrong with the last complete run; empty when it is recent enough."""
    complete = [run.updated_at for run in view.recent if run.state is RunState.COMPLETE]
    reason = view.recent[0].reason if view.recent else ""
    why = f": {reason}" if reason else ""
    if not complete:
        return f"no sync run is complete yet{why}"
    age = view.now - max(complete)
    if age <= STALE_AFTER:
        return ""
    minutes = age / timedelta(minutes=1)
    return f"the last complete sync run ended {minutes:.0f} minutes ago{why}"


def _is_at_work(view: View) -> bool:
    """Whether a long run is being worked on: its pages arrive, though its end does not yet."""
    newest = view.recent[0] if view.recent else None
    return (
        newest is not None
        and newest.is_open
        and newest.counts.fetched > 0
        and view.now - newest.updated_at <= STALE_AFTER
    )
