"""Is the feed healthy, and if not, why: one report, computed from the ledger and the queue.

`look` reads, `judge_health` decides (pure), `describe` turns both into plain JSON values for the
HTTP function and the command line. Nothing here writes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.control import Lease
from common.ledger.problems import Problem, Problems
from common.ledger.runs import Run
from common.ledger.slots import Slots
from common.ledger.states import ChunkState, RunState
from common.queues import MAX_BACKLOG, SendQueue, drain_time
from ops.reconciliation import Reconciliation, reconcile
from ops.rescue import not_kept_yet

SILENT_AFTER: Final = timedelta(minutes=20)
"""How long nothing may be accepted while chunks are due. The host looks at a queue every minute
and starts in less than another; a chunk that waits for an operator is tried every 18 minutes at
the latest, by the defaults."""

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
    `waiting_since` is when the oldest of the chunks was enqueued that were not tried in vain yet,
    or the latest replay if that was later. Without a complete run for `stale_after` the feed is
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
    next_slot: datetime | None
    waiting_since: datetime | None
    requests_per_minute: float
    poison_kept: int
    stale_after: timedelta
    orphans: tuple[str, ...] = ()
    strange: int = 0
    elsewhere: int = 0
    missing: int = 0

    @property
    def overdue(self) -> int:
        """About how many messages of the queue have had their send slot.

        What waits for a slot to come is on the queue, too, but as many slots are reserved.
        """
        if self.next_slot is None:
            return 0
        ahead = max(self.next_slot - self.now, timedelta())
        return max(
            0,
            self.queue_depth
            - round(ahead / drain_time(1, requests_per_minute=self.requests_per_minute)),
        )

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
    slots: Slots,
    *,
    queue: SendQueue,
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
        problems=tuple(problems.open()),
        last_success=problems.last_success(),
        queue_depth=queue_depth,
        poison_queue_depth=poison_queue_depth,
        next_slot=slots.next_free(),
        waiting_since=_waiting_since(waiting, poison.replayed_at),
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


def _waiting_since(chunks: Iterable[Chunk], replayed_at: datetime | None) -> datetime | None:
    """Return since when the oldest queued chunk waits that was not deferred. Pure.

    Deferred ones wait for a reason of their own, which is a problem if it concerns everything. A
    replay says nowhere which chunks are old; so waiting begins anew with it, at `replayed_at`.
    """
    waiting = [
        chunk.enqueued_at
        for chunk in chunks
        if chunk.state is ChunkState.QUEUED and not chunk.void and not chunk.deferrals
    ]
    if not waiting:
        return None
    return max(filter(None, (min(waiting), replayed_at)))


def judge_health(view: View) -> Diagnosis:
    """Return the diagnosis of `view`. Pure.

    Down: nothing arrives. Degraded: it arrives, but something waits for an operator.
    """
    down = [f"{problem.what} (since {problem.since:%d %b %H:%M} UTC)" for problem in view.problems]
    degraded: list[str] = []
    missing = _missing_success(view)
    if missing and not _is_at_work(view):
        (degraded if _is_new(view) else down).append(missing)
    silence = "" if view.problems else _silence(view)
    if silence:
        down.append(silence)
    if view.poison_queue_depth:
        degraded.append(not_kept_yet(view.poison_queue_depth))
    if view.poison_kept:
        degraded.append(f"messages given up: {view.poison_kept}; see `poison list`")
    if view.drain_time > MAX_BACKLOG:
        degraded.append(f"the queue takes {view.drain_time / timedelta(hours=1):.0f} h to drain")
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
            "queue cleared? They are not sent before Lumen lists them in another version"
        )
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
        "overdue": view.overdue,
        "drain_minutes": round(view.drain_time / timedelta(minutes=1), 1),
        "last_success": None if view.last_success is None else view.last_success.isoformat(),
        "poison_kept": view.poison_kept,
        "poison_queue_depth": view.poison_queue_depth,
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
    """Return that chunks are due and nothing is accepted; empty when there is no reason to.

    Three things must hold at once, each for what is no silence. Messages are overdue, not only
    waiting for their slots, as a long queue does. The oldest chunk that was not tried in vain
    waits for `SILENT_AFTER`: not one that was enqueued just now, after hours without changes. And
    Sentinel has accepted nothing for as long: the chunk may be at the end of a long queue.
    """
    if not view.overdue or view.waiting_since is None:
        return ""
    since = max(filter(None, (view.waiting_since, view.last_success)))
    if view.now - since <= SILENT_AFTER:
        return ""
    return (
        f"chunks are due ({view.overdue}) and Sentinel has accepted nothing since "
        f"{since:%d %b %H:%M} UTC, without a problem noted: see whether the function "
        "sentinel_upload runs, is disabled or fails, and its log lines of chunks"
    )
