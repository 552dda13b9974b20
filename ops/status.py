"""Is the feed healthy, and if not, why: one report, computed from the ledger and the queue.

`look` reads, `judge_health` decides (pure), `describe` turns both into plain JSON values for the
HTTP function and the command line. Nothing here writes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from common.envelope import decode_envelope
from common.errors import PipelineError
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.control import Lease
from common.ledger.problems import (
    STOPS_THE_FEED,
    STOPS_UPLOADS,
    Kind,
    Problem,
    Problems,
)
from common.ledger.runs import Run
from common.ledger.states import ChunkState, RunState
from common.queues import MAX_BACKLOG, SendQueue, WatchedQueue, drain_time
from ops.problems import describe_problem, standing
from ops.reconciliation import Reconciliation, reconcile
from ops.rescue import not_kept_yet

SILENT_AFTER: Final = timedelta(minutes=20)
"""How long ago the oldest visible message may have been due while nothing is accepted. The host
looks at a queue every minute and starts in less than another; the rest is for a queue of messages
that were all late, which take new send slots."""

LOOKS: Final = 5
"""How often a run is read whose books do not balance while its row keeps changing."""

HEALTH_RUNS: Final = 96
"""Runs that the diagnosis looks at, however few are asked for: a day of the default, so that a gap
at night is still seen in the morning."""


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
    `oldest_due` is when the oldest visible message of the upload queue was due, None where there is
    none that says so. Without a complete run for `stale_after` the feed is
    not healthy, unless one comes further. `orphans` are open runs that the lease does not name,
    `strange` chunk rows that this release cannot read, `elsewhere` the indicators that wait for
    another workspace than the present one, and `missing` those of which no message can be found.
    """

    now: datetime
    runs: tuple[RunView, ...]
    recent: tuple[Run, ...]
    problems: tuple[Problem, ...]
    last_success: datetime | None
    queue_depth: int
    poison_queue_depth: int
    oldest_due: datetime | None
    requests_per_minute: float
    poison_kept: int
    stale_after: timedelta
    orphans: tuple[str, ...] = ()
    strange: int = 0
    elsewhere: int = 0
    missing: int = 0

    @property
    def drain_time(self) -> timedelta | None:
        """How long the queue takes at the configured rate; None while nothing is accepted."""
        stopped = any(problem.kind in STOPS_UPLOADS for problem in self.problems)
        if stopped or self.silent_since is not None:
            return None
        return drain_time(self.queue_depth, requests_per_minute=self.requests_per_minute)

    @property
    def silent_since(self) -> datetime | None:
        """Since when a message is due and nothing is accepted; None while that is not long ago.

        Two things must hold at once, each for what is no silence. The oldest visible message was
        due more than `SILENT_AFTER` ago: after hours without changes one that was enqueued just now
        is not. And so long ago was the last success: the message may be at the end of a long queue.
        """
        if self.oldest_due is None:
            return None
        since = max(filter(None, (self.oldest_due, self.last_success)))
        return since if self.now - since > SILENT_AFTER else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The health, and one sentence for each thing that is not as it should be."""

    health: Health
    findings: tuple[str, ...]


def look(
    ledger: Ledger,
    problems: Problems,
    *,
    queue: WatchedQueue,
    poison_queue: SendQueue,
    runs: int,
    now: datetime,
    requests_per_minute: float,
    stale_after: timedelta,
    destination: str = "",
) -> View:
    """Read the latest `runs` runs and what else the health depends on.

    `destination` is the present workspace; empty where that is not known.
    """
    lease = ledger.control.read_lease()  # first: a run that is open and not named stays so
    recent = tuple(ledger.runs.latest(max(runs, HEALTH_RUNS)))
    queue_depth, poison_queue_depth = queue.depth(), poison_queue.depth()  # before the rows
    oldest_due = _oldest_due(queue.peek())
    chunks = list(ledger.chunks.outcomes())
    poison = ledger.poison.totals()
    reached = {run.run_id: run.sequence for run in recent}
    waiting = [
        chunk
        for chunk in chunks
        if chunk.to_send and chunk.sequence < reached.get(chunk.run_id, chunk.sequence + 1)
    ]
    return View(
        now=now,
        runs=tuple(_balance(ledger, recent[:runs], chunks)),
        recent=recent,
        problems=tuple(standing(ledger, problems, now=now)),
        last_success=problems.last_success(),
        queue_depth=queue_depth,
        poison_queue_depth=poison_queue_depth,
        oldest_due=oldest_due,
        requests_per_minute=requests_per_minute,
        poison_kept=poison.kept,
        stale_after=stale_after,
        orphans=tuple(_orphans(recent, lease)),
        strange=sum(chunk.state is ChunkState.OTHER for chunk in chunks),
        elsewhere=sum(
            len(chunk.to_send) for chunk in waiting if destination not in ("", chunk.destination)
        ),
        missing=sum(
            chunk.fate.pending
            for chunk in waiting
            if not queue_depth + poison_queue_depth and now - chunk.enqueued_at > SILENT_AFTER
        ),
    )


def _orphans(recent: Sequence[Run], lease: Lease | None) -> Iterator[str]:
    """Yield the open runs that the lease does not name: the next tick closes them. Pure.

    Not the newest: its tick may be about to name it.
    """
    named = None if lease is None else lease.open_run
    return (run.run_id for run in recent[1:] if run.is_open and run.run_id != named)


def _balance(ledger: Ledger, runs: Sequence[Run], chunks: Iterable[Chunk]) -> Iterator[RunView]:
    """Reconcile `runs` with the chunk rows that were read after them.

    A sync run that folds in between takes rows away and changes the run's row first. So books
    that do not balance are read again, until they do or the run's row has stood still.
    """
    by_run = defaultdict(list)
    for chunk in chunks:
        by_run[chunk.run_id].append(chunk)
    for run in runs:
        view = RunView(run=run, fate=reconcile(run, by_run[run.run_id]))
        for _ in range(LOOKS):
            again = None if view.fate.balanced else ledger.runs.get(run.run_id)
            if again is None or again.etag == view.run.etag:
                break
            mine = ledger.chunks.outcomes(run.run_id)
            view = RunView(run=again, fate=reconcile(again, mine))
        yield view


def _oldest_due(texts: Iterable[str]) -> datetime | None:
    """Return when the oldest of some messages was due; those that cannot be read say nothing."""
    found = []
    for text in texts:
        with suppress(PipelineError):
            due = decode_envelope(text).due_at
            if due is not None:
                found.append(datetime.fromtimestamp(due, UTC))
    return min(found, default=None)


def judge_health(view: View) -> Diagnosis:
    """Return the diagnosis of `view`. Pure.

    Down: nothing arrives. Degraded: it arrives, but something waits for an operator.
    """
    down, degraded = _stated(view.problems)
    missing = _missing_success(view)
    if missing and not _is_at_work(view):
        (degraded if _is_new(view) else down).append(missing)
    silence = _silence(view)
    if silence:
        down.append(silence)
    if view.poison_queue_depth:
        degraded.append(not_kept_yet(view.poison_queue_depth))
    if view.poison_kept:
        degraded.append(f"messages given up: {view.poison_kept}; see `poison list`")
    drain = view.drain_time
    if drain is not None and drain > MAX_BACKLOG:
        degraded.append(f"the queue takes {drain / timedelta(hours=1):.0f} h to drain")
    degraded += [
        f"run {run_id} is open, but the run lease does not name it: the next tick closes it"
        for run_id in view.orphans
    ]
    degraded += [
        f"run {run.run_id} is left alone: {run.reason or 'it is of a later release'}"
        for run in view.recent
        if run.state is RunState.OTHER
    ]
    if view.strange:
        degraded.append(
            f"chunk rows that this release cannot read: {view.strange}; they are left alone: "
            "deploy the release that wrote them, or restore the rows"
        )
    if view.elsewhere:
        degraded.append(
            f"indicators that wait for another workspace than the present one: {view.elsewhere}; "
            "correct WORKSPACE_ID and SENTINEL_BASE_URL, or see `destination adopt`"
        )
    if view.missing:
        degraded.append(
            f"indicators that wait, while no message is on the queue: {view.missing}; was the "
            "queue cleared? After seven days `chunks lost` closes the books; they are sent only in "
            "versions that Lumen lists later"
        )
    degraded += [
        f"the books of run {v.run.run_id} do not balance" for v in view.runs if not v.fate.balanced
    ]
    health = Health.DOWN if down else Health.DEGRADED if degraded else Health.HEALTHY
    return Diagnosis(health=health, findings=(*down, *degraded))


def _stated(problems: Iterable[Problem]) -> tuple[list[str], list[str]]:
    """Return a sentence for each problem: those that stop the feed, and the others. Pure.

    Records that wait for proof are counted in one sentence.
    """
    down: list[str] = []
    degraded: list[str] = []
    unproven = [problem for problem in problems if problem.kind is Kind.UNPROVEN]
    for problem in problems:
        if problem.kind is not Kind.UNPROVEN:
            stated = f"{problem.what} (since {problem.since:%d %b %H:%M} UTC)"
            (down if problem.kind in STOPS_THE_FEED else degraded).append(stated)
    if unproven:
        since = min(problem.since for problem in unproven)
        plural = "record that Sentinel refused waits" if len(unproven) == 1 else "records wait"
        degraded.append(
            f"{len(unproven)} {plural} for proof that Sentinel accepts anything (since "
            f"{since:%d %b %H:%M} UTC): nothing to do in a quiet feed"
        )
    return down, degraded


def describe(view: View) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    diagnosis = judge_health(view)
    return {
        "health": diagnosis.health.value,
        "findings": list(diagnosis.findings),
        "now": view.now.isoformat(),
        "queue_depth": view.queue_depth,
        "oldest_due": None if view.oldest_due is None else view.oldest_due.isoformat(),
        "drain_minutes": drain_minutes(view),
        "last_success": None if view.last_success is None else view.last_success.isoformat(),
        "poison_kept": view.poison_kept,
        "poison_queue_depth": view.poison_queue_depth,
        "problems": [describe_problem(problem) for problem in view.problems],
        "runs": [describe_run(v) for v in view.runs],
    }


def drain_minutes(view: View) -> float | None:
    """Return how many minutes the queue takes; None while nothing is accepted."""
    drain = view.drain_time
    return None if drain is None else round(drain / timedelta(minutes=1), 1)


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
    if not view.recent:
        return (
            "no sync run is on record in this storage account: either the timer has not fired yet, "
            "or this is another account than the pipeline's"
        )
    reason = view.recent[0].reason
    why = f": {reason}" if reason else ""
    if not complete:
        return f"none of the last {len(view.recent)} sync runs is complete{why}"
    age = view.now - max(complete)
    if age <= view.stale_after:
        return ""
    minutes = age / timedelta(minutes=1)
    return f"the last complete sync run ended {minutes:.0f} minutes ago{why}"


def _is_new(view: View) -> bool:
    """Whether the feed has begun so lately that no run need be complete yet."""
    return bool(view.recent) and view.now - view.recent[-1].started_at <= view.stale_after


def _is_at_work(view: View) -> bool:
    """Whether a long run comes further: that is healthy, however many ticks it takes."""
    newest = view.recent[0] if view.recent else None
    return (
        newest is not None
        and newest.is_open
        and newest.counts.fetched > 0
        and view.now - newest.progressed_at <= view.stale_after
    )


def _silence(view: View) -> str:
    """Return that messages are due and nothing is accepted; empty where a problem explains it."""
    explained = any(problem.kind in STOPS_UPLOADS for problem in view.problems)
    if explained or view.silent_since is None:
        return ""
    return (
        f"messages are due and Sentinel has accepted nothing since {view.silent_since:%d %b %H:%M} "
        "UTC, without a problem noted: see whether the function sentinel_upload runs, is disabled "
        "or fails, and its log lines of chunks"
    )
