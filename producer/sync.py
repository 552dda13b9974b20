"""One sync run: resume what is unfinished, else query Lumen, and drain its pages to the queue.

Two things must not be lost: Lumen's `cache_id` is written before anything waits for the query,
and which run is open is written before the query starts. Every exit leaves the run's row with
a state and a reason; what it means for the next tick is decided in one place, `classify_exit`.
How pages become messages is `drain`'s business.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from common.clock import Clock
from common.errors import (
    BacklogError,
    ContractDriftError,
    GapError,
    HaltError,
    LeaseHeldError,
    LeaseLostError,
    OutOfTimeError,
    PipelineError,
    QueryFailedError,
    TryLaterError,
    UnavailableError,
)
from common.events import Event, emit
from common.fingerprints import KnownSet, KnownVersions
from common.ledger import Ledger
from common.ledger.control import Lease
from common.ledger.fold import chunks_in_flight, fold_chunks
from common.ledger.runs import Cursor, Run, RunRow, new_run_id
from common.ledger.states import RunState
from common.queues import MAX_BACKLOG, SendQueue, drain_time
from producer.drain import DrainConfig, Sender, drain_pages
from producer.lumen import LumenClient, Page, QueryState, QueryStatus

MAX_STALL: Final = timedelta(hours=24)
"""A run whose cursor has not moved for this long is closed as a gap, so that a new query can
start; how long Lumen's tokens live is not documented."""

MIN_RESUMPTIONS: Final = 3
"""Resumptions without progress before that: `LUMEN_SCHEDULE` may be daily, or rarer."""

_RUNS_LOOKED_BACK: Final = 200
"""Two days of ticks: as far back as an outage of Lumen is known to be one and the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """The settings a run obeys; times in seconds."""

    drain: DrainConfig
    poll_interval: float = 5.0
    poll_timeout: float = 300.0
    time_budget: float = 1500.0
    lease: float = 600.0
    reupload_after: timedelta = timedelta(days=7)
    requests_per_minute: float = 95.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTools:
    """What a run works with."""

    lumen: LumenClient
    ledger: Ledger
    sender: Sender
    queue: SendQueue
    poison_queue: SendQueue
    clock: Clock


def run_sync(config: SyncConfig, tools: SyncTools, *, owner: str) -> Run | None:
    """Do what is due at this tick; return the run worked on last, None when another is at it.

    An unfinished run is resumed first; when it ends as a gap, a new query starts at once.
    Called twice: the second call finds the lease taken. If it dies halfway: the lease expires
    and the next call resumes. Raises only for bugs, and when the ledger cannot be reached.
    """
    try:
        lease = tools.ledger.control.acquire_lease(
            owner=owner, now=tools.clock.now(), seconds=config.lease
        )
    except LeaseHeldError as error:
        emit(Event.SYNC_SKIPPED, reason=str(error))
        return None
    sync = _Sync(config, tools, lease)
    try:
        run = sync.resume_open_run()
        return sync.start_new_run() if run is None or run.state is RunState.GAP else run
    except LeaseLostError as lost:
        emit(Event.SYNC_SKIPPED, reason=str(lost))
        return None
    finally:
        with suppress(PipelineError):  # it expires by itself, and must not hide what came before
            sync.release()


def classify_exit(error: PipelineError, *, resumable: bool) -> RunState:
    """Return the state in which a run ends after `error`; `resumable` when Lumen's id is kept."""
    match error:
        case GapError():
            return RunState.GAP
        case TryLaterError() | HaltError() | ContractDriftError() if resumable:
            return RunState.INTERRUPTED
        case _:
            return RunState.FAILED


def is_stalled(run: Run, *, now: datetime) -> bool:
    """Whether `run` was resumed often enough, and for long enough, without its cursor moving."""
    return run.stalled >= MIN_RESUMPTIONS and now - run.progressed_at > MAX_STALL


def is_told(runs: Iterable[Run]) -> bool:
    """Whether a gap tells already that a query may run whose id is not known.

    `runs` are the earlier ones, the newest first. Since the gap Lumen has answered none of them.
    """
    for run in runs:
        if run.cache_id is not None or run.cursor is not None:
            return False
        if run.asked and run.state is RunState.GAP:
            return True
    return False


class _Sync:
    """A tick at work: the lease, the deadline, and the moves of a run."""

    def __init__(self, config: SyncConfig, tools: SyncTools, lease: Lease) -> None:
        self._config = config
        self._lumen = tools.lumen
        self._ledger = tools.ledger
        self._sender = tools.sender
        self._queue = tools.queue
        self._poison_queue = tools.poison_queue
        self._clock = tools.clock
        self._lease = lease
        self._renewed = tools.clock.monotonic()
        self._deadline = self._renewed + config.time_budget

    def resume_open_run(self) -> Run | None:
        """Resume the run that the lease names and return it as it ended; None without one."""
        run = None if self._lease.open_run is None else self._ledger.runs.get(self._lease.open_run)
        if run is None or not run.is_open:
            return None
        stalled = is_stalled(run, now=self._clock.now())
        row = RunRow(self._ledger.runs, run, self._clock)
        row.save(
            state=RunState.RUNNING, resumed=run.resumed + 1, stalled=run.stalled + 1, reason=""
        )
        emit(Event.SYNC_RESUMED, run=run.run_id, resumed=row.run.resumed, stalled=row.run.stalled)
        if run.asked and run.cache_id is None and run.cursor is None:
            return self._close(row, GapError("died before Lumen's answer to its query was kept"))
        if run.cursor is not None and run.cursor.done:
            return self._close(row, None)  # without Lumen, which may not know the query any more
        if stalled:
            why = f"made no progress since {run.progressed_at:%d %b %H:%M} UTC: {run.reason}"
            return self._close(row, GapError(why))
        return self._work(row)

    def start_new_run(self) -> Run:
        """Start a query, drain it, and return the run as it ended."""
        now = self._clock.now()
        run = Run(
            run_id=new_run_id(now),
            state=RunState.RUNNING,
            started_at=now,
            updated_at=now,
            full_request=self._ledger.control.full_request(),
        )
        self._lease = self._ledger.control.set_open_run(self._lease, run.run_id)
        return self._work(RunRow(self._ledger.runs, self._ledger.runs.create(run), self._clock))

    def release(self) -> None:
        """Give the lease back."""
        self._ledger.control.release_lease(self._lease, now=self._clock.now())

    def _work(self, row: RunRow) -> Run:
        """Take the run as far as it goes and write how it ended."""
        error: PipelineError | None = None
        bug: Exception | None = None
        try:
            known = self._known(row.run)
            first = self._await_query(row)
            drain_pages(
                row,
                first,
                fetch=lambda token: self._fetch(row, token),
                sender=self._sender,
                config=self._config.drain,
                known=known,
                keep_going=self._check_time,
                give_up_at=self._deadline,
            )
        except LeaseLostError:
            raise
        except PipelineError as stop:
            error = stop
        except Exception as unforeseen:  # noqa: BLE001 - raised again below
            bug = unforeseen
        # Closed out here: an error met while closing must not carry the first one along, whose
        # trace may show what no log line may.
        if bug is None:
            return self._close(row, error)
        with suppress(PipelineError):  # the bug tells more
            self._close(row, TryLaterError(f"stopped by a bug: {type(bug).__name__}"))
        raise bug

    def _close(self, row: RunRow, error: PipelineError | None) -> Run:
        state = RunState.COMPLETE
        if error is not None:
            state = classify_exit(error, resumable=row.run.cache_id is not None)
        if state is RunState.COMPLETE and row.run.full_request is not None:
            # First, so that dying here leaves a full run to resume and not one too many.
            self._ledger.control.full_done(row.run.full_request)
        run = row.save(state=state, reason=str(error or ""))
        if not run.is_open:
            self._lease = self._ledger.control.set_open_run(self._lease, None)
        _announce(run)
        return run

    def _known(self, run: Run) -> KnownVersions:
        """Return what need not be sent; the same at every resumption of a run.

        Raises `BacklogError` when a new query would only lengthen the queue.
        """
        if run.cache_id is None:
            self._check_backlog()
            fold = fold_chunks(
                run_id=run.run_id,
                is_full=run.full,
                runs=self._ledger.runs,
                chunks=self._ledger.chunks,
                known=self._ledger.known,
                at=self._clock.now(),
                queues_are_empty=self._queue.depth() == 0 and self._poison_queue.depth() == 0,
                keep_going=self._check_time,
            )
            if fold.missing:
                emit(Event.CHUNKS_MISSING, run=run.run_id, chunks=fold.missing)
            in_flight = fold.in_flight
        else:
            in_flight = chunks_in_flight(self._ledger.chunks, run_id=run.run_id, is_full=run.full)
        if run.full:
            return KnownVersions(KnownSet(in_flight.fingerprints), in_flight.doubts)
        known = self._ledger.known.load(as_of=run.started_at, lifetime=self._config.reupload_after)
        return KnownVersions(KnownSet(in_flight.fingerprints, runs=known), in_flight.doubts)

    def _check_backlog(self) -> None:
        depth = self._queue.depth()
        needed = drain_time(depth, requests_per_minute=self._config.requests_per_minute)
        if needed > MAX_BACKLOG:
            hours = needed / timedelta(hours=1)
            raise BacklogError(
                f"{depth} chunks wait on the queue, {hours:.0f} h at the rate of "
                "SENTINEL_REQUESTS_PER_MINUTE: no new query before it is under "
                f"{MAX_BACKLOG / timedelta(hours=1):.0f} h; is the consumer running?"
            )

    def _await_query(self, row: RunRow) -> Page | None:
        """See Lumen's query through and return its first page; None for a run that goes on.

        On return the row has a cursor.
        """
        if row.run.cursor is not None:
            return None
        if row.run.cache_id is None:
            row.save(asked=True)
            cache_id = self._start_query(row.run)
            if cache_id is None:
                row.save(cursor=Cursor())
                return Page(objects=[], next_token=None)
            # Known from here on: should this write fail, the next one of the row carries it.
            row.run = replace(row.run, cache_id=cache_id)
            row.save()
        status = self._poll(row.run.cache_id or "")
        row.save(cursor=Cursor(token=status.token))
        if status.token is None:
            return status.page
        # Only here, with a token that is new, may "no results" mean that there are none.
        return self._lumen.fetch_page(status.token, is_first=True, give_up_at=self._deadline)

    def _start_query(self, run: Run) -> str | None:
        """Start the query; raises `GapError` when it may run, but only for the first such end.

        While Lumen leaves every start without an answer, one gap tells of all of them.
        """
        lost: GapError
        try:
            return self._lumen.start_query(give_up_at=self._deadline)
        except GapError as error:
            lost = error
        told = False
        with suppress(PipelineError):  # twice is better than not at all
            earlier = self._ledger.runs.latest(_RUNS_LOOKED_BACK)
            told = is_told(found for found in earlier if found.run_id != run.run_id)
        if told:
            raise UnavailableError(f"{lost}; the gap before tells of it")
        raise lost

    def _poll(self, cache_id: str) -> QueryStatus:
        """Look at the query until it is completed."""
        patience = min(self._clock.monotonic() + self._config.poll_timeout, self._deadline)
        while True:
            status = self._lumen.query_status(cache_id, give_up_at=self._deadline)
            match status.state:
                case QueryState.COMPLETED:
                    return status
                case QueryState.FAILED:
                    raise QueryFailedError("Lumen reports that the query failed")
                case QueryState.EXPIRED:
                    raise GapError("Lumen reports that the query expired before it was drained")
                case QueryState.QUEUED | QueryState.PENDING | QueryState.RUNNING:
                    pass
                case _:
                    assert_never(status.state)
            if self._clock.monotonic() + self._config.poll_interval > patience:
                raise OutOfTimeError(
                    f"Lumen's query is still {status.state.value} after "
                    f"{self._config.poll_timeout:g} s; the next tick looks again"
                )
            self._clock.sleep(self._config.poll_interval)
            self._check_time()

    def _fetch(self, row: RunRow, token: str | None) -> Page:
        """Return the page that `token` names; None names the one in the query's own answer."""
        if token is not None:
            return self._lumen.fetch_page(token, give_up_at=self._deadline)
        if row.run.cache_id is None:
            return Page(objects=[], next_token=None)  # Lumen had no results and gave no id
        status = self._lumen.query_status(row.run.cache_id or "", give_up_at=self._deadline)
        # It was there before, with at least what is dealt with; had it been empty, all was done.
        expected = max(1, 0 if row.run.cursor is None else row.run.cursor.offset)
        if status.page is None or len(status.page.objects) < expected:
            raise GapError("Lumen no longer gives the page that came with the query's answer")
        return status.page

    def _check_time(self) -> None:
        """Keep the lease; raise `OutOfTimeError` when the time budget is used up."""
        now = self._clock.monotonic()
        if now - self._renewed > self._config.lease / 4:
            self._lease = self._ledger.control.renew_lease(
                self._lease, now=self._clock.now(), seconds=self._config.lease
            )
            self._renewed = now
        if now > self._deadline:
            raise OutOfTimeError("the time budget is used up; the next tick goes on")


_EVENTS: Final = {
    RunState.COMPLETE: Event.SYNC_COMPLETE,
    RunState.INTERRUPTED: Event.SYNC_INTERRUPTED,
    RunState.GAP: Event.SYNC_GAP,
    RunState.FAILED: Event.SYNC_FAILED,
}


def _announce(run: Run) -> None:
    """Log the one canonical line of a run."""
    counts = run.counts
    emit(
        _EVENTS[run.state],
        run=run.run_id,
        reason=run.reason,
        pages=0 if run.cursor is None else run.cursor.page + 1,
        chunks=0 if run.cursor is None else run.cursor.sequence,
        fetched=counts.fetched,
        filtered=counts.filtered,
        invalid=counts.invalid,
        unchanged=counts.unchanged,
        enqueued=counts.enqueued,
        other_kind=counts.other_kind,
        resumed=run.resumed,
        seconds=round((run.updated_at - run.started_at).total_seconds(), 1),
    )
