"""The status as plain JSON values: what was read, the verdict, the latest runs with their books.

`common.view` reads, `common.health` judges; here both become the answer of the HTTP function and of
the command line.
"""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from common.health import judge_health
from common.view import RunView, View
from ops.problems import describe_problem


def describe(view: View) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    diagnosis = judge_health(view)
    return {
        "health": diagnosis.verdict.value,
        "findings": list(diagnosis.findings),
        "now": view.now.isoformat(),
        **describe_asked(view),
        "queue_depth": view.queue_depth,
        "oldest_due": None if view.oldest_due is None else view.oldest_due.isoformat(),
        "drain_minutes": drain_minutes(view),
        "last_success": None if view.last_success is None else view.last_success.isoformat(),
        "poison_kept": view.poison_kept,
        "poison_queue_depth": view.poison_queue_depth,
        "problems": [describe_problem(problem) for problem in view.problems],
        "runs": [describe_run(v) for v in view.runs],
    }


def describe_asked(view: View) -> dict[str, Any]:
    """Return the open requests of operators to the producer, as plain JSON values."""
    pause = view.pause if view.is_paused else None
    request, full = view.sync_request, view.full_request
    return {
        "paused_until": None if pause is None else pause.until.isoformat(),
        "paused_by": None if pause is None else pause.by,
        "sync_requested_at": None if request is None else request.at.isoformat(),
        "sync_requested_by": None if request is None else request.by,
        "full_requested_at": None if full is None else full.isoformat(),
    }


def drain_minutes(view: View) -> float | None:
    """Return how many minutes the queue takes; None while nothing is accepted."""
    drain = view.drain_time
    return None if drain is None else round(drain / timedelta(minutes=1), 1)


def describe_run(view: RunView) -> dict[str, Any]:
    """Return a run and the fate of its indicators as plain JSON values."""
    run, books = view.run, asdict(view.fate)
    del books["waited"]
    after = view.fate.accepted_after
    return {
        "run": run.run_id,
        "state": run.state.value,
        "reason": run.reason,
        "started_at": run.started_at.isoformat(),
        "updated_at": run.updated_at.isoformat(),
        "pages": 0 if run.cursor is None else run.cursor.page + 1,
        "resumed": run.resumed,
        "full": run.full,
        **books,
        "balanced": view.fate.balanced,
        "accepted_after_seconds": None if after is None else round(after, 1),
    }
