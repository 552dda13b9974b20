"""What is read to judge the feed: the latest runs with their books, and the obstacles.

`read_view` reads ledger and queues and writes nothing; `common.health` judges its result. The
producer calls it at the end of each tick, operators whenever they ask.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from common.envelope import decode_envelope
from common.errors import PipelineError
from common.ledger import Ledger
from common.ledger.arrivals import ArrivalBook, RunArrival
from common.ledger.chunks import Chunk
from common.ledger.control import Lease, Pause, SyncRequest
from common.ledger.problems import STOPS_UPLOADS, Problem, ProblemKind, Problems
from common.ledger.runs import GAP_COUNTS_FOR, Gap, Run
from common.ledger.states import ChunkState
from common.queues import SendQueue, WatchedQueue, drain_time
from common.reconciliation import Reconciliation, reconcile

SILENT_AFTER: Final = timedelta(minutes=20)
"""How long ago the oldest visible message may have been due while nothing is accepted. The host
polls a queue every minute and starts within another; the rest is for a queue of late messages only,
which take new send slots."""

LOOKS: Final = 5
"""How often a run with unbalanced books is read again while its row keeps changing."""

HEALTH_RUNS: Final = 96
"""Least number of runs that the diagnosis reads: a day of the default schedule, so that a gap at
night is still seen in the morning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run and the fate of its indicators."""

    run: Run
    fate: Reconciliation
    arrival: RunArrival | None = None
    """What of its sample has arrived; None where that was not asked, or long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was read: the latest runs (newest first) and everything that stands in the way.

    `runs` are those asked for, reconciled; `recent` are at least `HEALTH_RUNS` for the diagnosis.
    `oldest_due` is when the oldest visible message of the upload queue was due, None where there is
    none that says so; `oldest_pending` when the oldest chunk was enqueued of which something is
    still to be sent. Without a complete run for `stale_after` the feed is
    not healthy, unless one makes progress. `orphans` are open runs that the lease does not name,
    `strange` chunk rows that this release cannot read, `elsewhere` the indicators that wait for
    another workspace than the present one, and `missing` those of which no message can be found.
    `pause` is the last one, which may be over; `sync_request` and `full_request` are what an
    operator has asked for and no run has served yet. `arrival` is what the workspace was seen to
    hold.
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
    oldest_pending: datetime | None = None
    orphans: tuple[str, ...] = ()
    strange: int = 0
    elsewhere: int = 0
    missing: int = 0
    pause: Pause | None = None
    sync_request: SyncRequest | None = None
    full_request: datetime | None = None
    arrival: ArrivalBook = field(default_factory=ArrivalBook)

    @property
    def is_paused(self) -> bool:
        """Whether an operator's pause is on."""
        return self.pause is not None and self.pause.is_on(self.now)

    @property
    def paused_until(self) -> datetime | None:
        """When the current pause ends; None without one."""
        return self.pause.until if self.pause is not None and self.is_paused else None

    @property
    def drain_time(self) -> timedelta | None:
        """How long the queue takes at the configured rate; None while nothing is accepted."""
        stopped = any(problem.kind in STOPS_UPLOADS for problem in self.problems)
        if stopped or self.is_paused or self.silent_since is not None:
            return None
        return drain_time(self.queue_depth, requests_per_minute=self.requests_per_minute)

    @property
    def silent_since(self) -> datetime | None:
        """Since when a message is due and nothing was accepted; None while that is recent.

        Two conditions must hold; each rules out one false alarm. The oldest visible message was due
        more than `SILENT_AFTER` ago: after quiet hours a new message was not. And the last success
        was that long ago: the message may be at the end of a long queue. A pause explains silence
        until it ends.
        """
        if self.oldest_due is None or self.is_paused:
            return None
        pause_end = None if self.pause is None else self.pause.until
        since = max(filter(None, (self.oldest_due, self.last_success, pause_end)))
        return since if self.now - since > SILENT_AFTER else None


def read_view(
    ledger: Ledger,
    problems: Problems,
    *,
    queue: WatchedQueue,
    poison_queue: SendQueue,
    runs: int | None,
    now: datetime,
    requests_per_minute: float,
    stale_after: timedelta,
    destination: str = "",
) -> View:
    """Read the latest `runs` runs and what else the health depends on.

    None: the latest `HEALTH_RUNS`, and every older run that still has a chunk row. `destination` is
    the present workspace; empty if unknown.
    """
    asked = ledger.control.read_all()  # first: a run that is open and not named stays so
    recent = tuple(ledger.runs.latest(max(runs or 0, HEALTH_RUNS)))
    queue_depth, poison_queue_depth = queue.depth(), poison_queue.depth()  # before the rows
    oldest_due = _oldest_due(queue.peek())
    chunks = list(ledger.chunks.outcomes())
    poison_kept = ledger.poison.count_kept()
    older = () if runs is not None else _older_heads(ledger, recent, chunks)
    waiting = _waiting(recent, chunks)
    pending = [chunk for chunk in waiting if chunk.fate.pending]
    arrival = ledger.arrivals.read()
    has_messages = queue_depth + poison_queue_depth > 0
    return View(
        now=now,
        runs=tuple(_balance(ledger, (*recent[:runs], *older), chunks, arrival)),
        recent=recent,
        problems=tuple(standing(ledger, problems, now=now)),
        last_success=problems.last_success(),
        queue_depth=queue_depth,
        poison_queue_depth=poison_queue_depth,
        oldest_due=oldest_due,
        requests_per_minute=requests_per_minute,
        poison_kept=poison_kept,
        stale_after=stale_after,
        oldest_pending=min((chunk.enqueued_at for chunk in pending), default=None),
        orphans=tuple(_orphans(recent, asked.lease)),
        strange=sum(chunk.state is ChunkState.OTHER for chunk in chunks),
        elsewhere=sum(
            len(chunk.to_send) for chunk in waiting if destination not in ("", chunk.destination)
        ),
        missing=0 if has_messages else _pending_for_long(pending, now=now),
        pause=asked.pause,
        sync_request=asked.sync_request,
        full_request=asked.full_request,
        arrival=arrival,
    )


def _older_heads(ledger: Ledger, recent: Sequence[Run], chunks: Iterable[Chunk]) -> list[Run]:
    """Return the runs that still have a chunk row and are not among the `recent` ones."""
    read = {run.run_id for run in recent}
    older = dict.fromkeys(chunk.run_id for chunk in chunks if chunk.run_id not in read)
    return list(filter(None, map(ledger.runs.get, older)))


def _waiting(recent: Iterable[Run], chunks: Iterable[Chunk]) -> list[Chunk]:
    """Return the chunks with unsent records, without those beyond a checkpoint.

    Chunks beyond a checkpoint may become void.
    """
    reached = {run.run_id: run.sequence for run in recent}
    return [
        chunk
        for chunk in chunks
        if chunk.to_send and chunk.sequence < reached.get(chunk.run_id, chunk.sequence + 1)
    ]


def _pending_for_long(pending: Iterable[Chunk], *, now: datetime) -> int:
    """Return how many indicators wait in chunks whose message is long overdue."""
    return sum(chunk.fate.pending for chunk in pending if now - chunk.enqueued_at > SILENT_AFTER)


def standing(ledger: Ledger, problems: Problems, *, now: datetime) -> list[Problem]:
    """Return what counts at `now`: problems, then gaps."""
    gaps = [problem_of_gap(gap) for gap in ledger.runs.gaps() if gap.counts_at(now)]
    return [*problems.open(), *gaps]


def problem_of_gap(gap: Gap) -> Problem:
    """Return a gap as a problem; an acknowledged one has its end, and by whom. Pure."""
    if gap.acknowledged_at is None:
        ending = f"see the runbook, then `ack {gap.run_id}`"
    else:
        ending = f"acknowledged by {gap.acknowledged_by}"
    return Problem(
        kind=ProblemKind.GAP,
        what=f"run {gap.run_id} has a gap: {gap.reason}; {ending}",
        since=gap.since,
        last_seen=gap.since,
        until=gap.acknowledged_at or gap.since + GAP_COUNTS_FOR,
        subject=gap.run_id,
    )


def _orphans(recent: Sequence[Run], lease: Lease | None) -> Iterator[str]:
    """Yield the open runs that the lease does not name: the next tick closes them. Pure.

    Not the newest: its tick may be about to name it.
    """
    named = None if lease is None else lease.open_run
    return (run.run_id for run in recent[1:] if run.is_open and run.run_id != named)


def _balance(
    ledger: Ledger, runs: Sequence[Run], chunks: Iterable[Chunk], arrival: ArrivalBook
) -> Iterator[RunView]:
    """Reconcile `runs` with the chunk rows that were read after them.

    A concurrent fold changes the run's row and removes chunk rows. So unbalanced books are read
    again, until they balance or the run's row stops changing.
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
        yield replace(view, arrival=arrival.of(run.run_id))


def _oldest_due(texts: Iterable[str]) -> datetime | None:
    """Return when the oldest of some messages was due; unreadable ones are skipped."""
    found = []
    for text in texts:
        with suppress(PipelineError):
            due = decode_envelope(text).due_at
            if due is not None:
                found.append(datetime.fromtimestamp(due, UTC))
    return min(found, default=None)
