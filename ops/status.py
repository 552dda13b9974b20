"""The status as plain JSON values: what was read, the verdict, the latest runs with their books.

`common.view` reads, `common.health` judges; here both become the answer of the HTTP function and of
the command line.
"""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from common.health import judge_health
from common.ledger.arrivals import RunArrival
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
        "arrival": describe_arrival(view),
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
        **_arrived(view.arrival),
    }


def describe_arrival(view: View) -> dict[str, Any]:
    """Return what the workspace was seen to hold, as plain JSON values.

    Of the newest run of whose sample something has arrived, or should have; null without one.
    """
    last, latest = view.arrival.last, view.arrival.latest
    return {
        "checked_at": None if last is None else last.at.isoformat(),
        "off": last is not None and last.is_off,
        "trouble": "" if last is None else last.trouble,
        "run": None if latest is None else latest.run_id,
        **_arrived(latest),
        "older": None if latest is None else latest.older,
        "different": None if latest is None else latest.different,
        "longest_seconds": None if latest is None else latest.longest_seconds,
    }


def _arrived(found: RunArrival | None) -> dict[str, Any]:
    return {
        "sampled": None if found is None else found.sampled,
        "arrived": None if found is None else found.arrived,
        "not_arrived": None if found is None else found.missing,
        "arrived_after_seconds": None if found is None else found.median_seconds,
    }
