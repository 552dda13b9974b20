"""One tick of the timer: resume the unfinished run, or else start one, and drain its pages.

Three facts must survive a crash. Which run is open: written before Lumen is asked. That Lumen is
about to be asked: written at most `ASK_WITHIN` seconds before. Lumen's `cache_id`: written before
anything waits for the query. A tick first raises the epoch of every open run: an earlier tick then
fails at its next write. It also makes the rows beyond the checkpoint void. Every exit leaves the
run's head with a state and a reason; after an error, `classify_exit` alone chooses the state.
`drain` turns pages into messages.
"""

import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import batched
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
from common.ledger import Ledger
from common.ledger.chunks import ids_without_fate, voiding
from common.ledger.control import Lease, Pause
from common.ledger.problems import LUMEN_DISPROVES, Problems
from common.ledger.runs import ROWS_A_WRITE, Cursor, Head, Run, new_run_id
from common.ledger.states import CLOSED_RUNS, RunState
from common.queues import MAX_BACKLOG, SendQueue, drain_time
from producer.drain import DrainConfig, Sender, drain_pages
from producer.entries import Keeping
from producer.fold import KNOWN_MAX, FoldConfig, survey
from producer.index import VersionIndex
from producer.known import Known
from producer.lumen import Page, QueryState, QueryStatus
from producer.trouble import Lumen, WatchedLumen
from producer.versions import Policy
from producer.wishes import WISHES_A_RUN, put_in_front

MAX_STALL: Final = timedelta(hours=24)
"""A run whose checkpoint has not moved for this long is closed as a gap, so that a new query can
start. How long Lumen's tokens live is not documented."""

MIN_RESUMPTIONS: Final = 3
"""`MAX_STALL` closes a run only after this many resumptions without progress, because
`LUMEN_SCHEDULE` may be daily, or rarer. No single wait counts for more than its share of
`MAX_STALL`: after a long pause Lumen is asked again, before the run is called stalled."""

NOTHING_LISTED: Final = ""
"""The page token of a query that listed nothing: the run may still have wishes to send. No token of
Lumen's is empty."""

ASK_WITHIN: Final = 5.0
"""Most seconds between the write that Lumen is about to be asked and each request, by a clock that
counts suspended time. An instance that stalled for longer writes again; that write fails if another
tick has overtaken it."""

_RUNS_LOOKED_BACK: Final = 200
"""How many earlier runs are searched for a gap that already reports an outage of Lumen: two days of
ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """The settings a run obeys; times in seconds where the name does not say days."""

    drain: DrainConfig
    poll_interval: float = 5.0
    poll_timeout: float = 300.0
    time_budget: float = 1500.0
    lease: float = 600.0
    reupload_after_days: int = 0
    known_for_days: int = 90
    known_max: int = KNOWN_MAX
    requests_per_minute: float = 95.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTools:
    """The parts that a run needs."""

    lumen: Lumen
    ledger: Ledger
    index: VersionIndex
    sender: Sender
    queue: SendQueue
    problems: Problems
    clock: Clock


def run_sync(config: SyncConfig, tools: SyncTools, *, owner: str) -> Run | None:
    """Do what is due at this tick; return the last run that was worked on.

    None if another instance is at work, or the feed is paused.

    An unfinished run is resumed first; if it ends as a gap, a new query starts at once. The tick
    serves an operator's earlier request for a run, however the run ends. Called twice: the second
    call finds the lease taken. If it dies halfway: the lease expires and the next call resumes.
    Raises only for bugs, and if the ledger cannot be reached.
    """
    pause = _pause(tools.ledger, tools.clock)
    if pause is not None:
        emit(Event.SYNC_SKIPPED, reason=pause.text)
        return None
    tick = f"{owner}:{secrets.token_hex(4)}"
    try:
        lease = tools.ledger.control.acquire_lease(owner=tick, seconds=config.lease)
    except LeaseHeldError as error:
        emit(Event.SYNC_SKIPPED, reason=str(error))
        return None
    sync = _Sync(config, tools, lease, tick=tick)
    try:
        return sync.do_what_is_due()
    except LeaseLostError as lost:
        emit(Event.SYNC_SKIPPED, reason=str(lost))
        return None
    finally:
        with suppress(PipelineError):  # it expires by itself; do not hide an earlier error
            sync.release()


def _pause(ledger: Ledger, clock: Clock) -> Pause | None:
    """Return the current pause, if any."""
    last = ledger.control.last_pause()
    return last if last is not None and last.is_on(clock.now()) else None


def classify_exit(error: PipelineError, *, resumable: bool) -> RunState:
    """Return the state in which a run ends after `error`; `resumable` if Lumen's id is stored."""
    match error:
        case GapError():
            return RunState.GAP
        case TryLaterError() | HaltError() | ContractDriftError() if resumable:
            return RunState.INTERRUPTED
        case _:
            return RunState.FAILED


def is_stalled(run: Run) -> bool:
    """Whether `run` was resumed often enough, and for long enough, without its cursor moving."""
    return run.stalled >= MIN_RESUMPTIONS and run.stalled_for > MAX_STALL.total_seconds()


def is_told(runs: Iterable[Run]) -> bool:
    """Whether an earlier gap already reports a query whose id we never learned.

    `runs` are the earlier ones, newest first. An earlier gap counts only if Lumen has answered no
    run since.
    """
    for run in runs:
        if run.cache_id is not None or run.cursor is not None:
            return False
        if run.asked and run.state is RunState.GAP:
            return True
    return False


class _Sync:
    """One tick: its lease, its deadline, and all that it does to a run."""

    def __init__(self, config: SyncConfig, tools: SyncTools, lease: Lease, *, tick: str) -> None:
        self._config = config
        self._lumen = WatchedLumen(tools.lumen)
        self._ledger = tools.ledger
        self._index = tools.index
        self._sender = tools.sender
        self._queue = tools.queue
        self._problems = tools.problems
        self._clock = tools.clock
        self._is_noted = False
        self._lease = lease
        self._tick = tick
        self._renewed = tools.clock.monotonic()
        self._deadline = self._renewed + config.time_budget

    def do_what_is_due(self) -> Run:
        """Resume open runs, else start one; return the last one worked on."""
        asked = self._ledger.control.sync_request()  # one that comes later is for the next tick
        run = self.resume_open_runs()
        # Also after a gap: only a new query can list what the lost one would have listed.
        if run is None or run.state is RunState.GAP:
            run = self.start_new_run()
        if asked is not None:
            with suppress(PipelineError):  # the request may then be served twice
                self._ledger.control.sync_served(asked)
        return run

    def resume_open_runs(self) -> Run | None:
        """Resume the run that the lease names and return it as it ended; None without one.

        Any other open run is closed: its tick was overtaken before the lease named it.
        """
        mine: Head | None = None
        for run in self._ledger.runs.open():
            head = self._take_over(run)
            if run.run_id == self._lease.open_run:
                mine = head
            elif run.asked:
                self._close(head, GapError("no lease names the run, whose query may have begun"))
            else:
                self._close(head, UnavailableError("no lease names the run; Lumen was not asked"))
        return None if mine is None else self._resume(mine)

    def _resume(self, head: Head) -> Run:
        run = head.run
        emit(Event.SYNC_RESUMED, run=run.run_id, resumed=run.resumed, stalled=run.stalled)
        if run.asked and run.cache_id is None and run.cursor is None:
            return self._close(head, GapError("died before Lumen's answer to its query was kept"))
        if run.cursor is not None and run.cursor.done:
            return self._close(head, None)  # without Lumen, which may no longer know the query
        if is_stalled(run):
            why = f"made no progress since {run.progressed_at:%d %b %H:%M} UTC"
            return self._close(head, GapError(f"{why}: {run.reason}" if run.reason else why))
        return self._work(head)

    def start_new_run(self) -> Run:
        """Start a query, drain it, and return the run as it ended.

        Rows are ordered by run, and runs by id. So even if this clock is behind that of an earlier
        tick, the new id must be the greater one.
        """
        now = self._clock.now()
        for latest in self._ledger.runs.latest(1):
            if latest.state is not RunState.OTHER:  # whose start is unknown
                now = max(now, latest.started_at + timedelta(seconds=1))
        run = self._ledger.runs.create(
            Run(
                run_id=new_run_id(now),
                state=RunState.RUNNING,
                started_at=now,
                updated_at=now,
                tick=self._tick,
                full_request=self._ledger.control.full_request(),
                wishes=self._ledger.wishes.first(WISHES_A_RUN),
            )
        )
        self._lease = self._ledger.control.set_open_run(self._lease, run.run_id)
        return self._work(self._head(run))

    def release(self) -> None:
        """Give the lease back."""
        self._ledger.control.release_lease(self._lease)

    def _head(self, run: Run) -> Head:
        return Head(self._ledger.runs, run, tick=self._tick, clock=self._clock)

    def _take_over(self, run: Run) -> Head:
        """Raise the epoch, so no other tick can write the run; void rows beyond the checkpoint."""
        head = self._head(run)
        waited = timedelta() if run.age is None else min(run.age, MAX_STALL / MIN_RESUMPTIONS)
        head.save(
            state=RunState.RUNNING,
            epoch=run.epoch + 1,
            resumed=run.resumed + 1,
            stalled=run.stalled + 1,
            stalled_for=run.stalled_for + waited.total_seconds(),
        )
        self._void_beyond(head)
        return head

    def _void_beyond(self, head: Head) -> None:
        """Make the rows beyond the checkpoint void."""
        beyond = self._ledger.chunks.beyond(head.run.run_id, head.run.sequence)
        fresh = [chunk for chunk in beyond if not chunk.void]
        for some in batched(fresh, ROWS_A_WRITE, strict=False):
            head.save(rows=[voiding(chunk) for chunk in some])

    def _work(self, head: Head) -> Run:
        """Take the run as far as possible and record how it ended."""
        error: PipelineError | None = None
        bug: Exception | None = None
        try:
            known = self._survey(head.run)
            first = self._with_wishes(head, self._await_query(head))
            drain_pages(
                head,
                first,
                fetch=lambda token: self._fetch(head, token),
                sender=self._sender,
                config=self._config.drain,
                known=known,
                policy=self._policy(head.run),
                ledger_id=self._ledger.chunks.ledger_id(),
                keep_going=self._between_pages,
                give_up_at=self._deadline,
            )
        except LeaseLostError:
            raise
        except PipelineError as stop:
            error = stop
        except Exception as unforeseen:  # noqa: BLE001 - raised again below
            bug = unforeseen
        # Closed outside the handler: otherwise an error while closing would be chained to the first
        # one, whose traceback may show what must not be logged.
        if bug is None:
            return self._close(head, error)
        with suppress(PipelineError):  # the bug says more
            self._close(head, TryLaterError(f"stopped by a bug: {type(bug).__name__}"))
        raise bug

    def _close(self, head: Head, error: PipelineError | None) -> Run:
        """Record how a run ended, or in which state it waits for the next tick."""
        state, reason = RunState.COMPLETE, ""
        if error is not None:
            state = classify_exit(error, resumable=head.run.cache_id is not None)
            reason = str(error)
        if state in {RunState.GAP, RunState.FAILED}:
            reason += self._lose_the_rest(head)
        elif state is RunState.COMPLETE:
            # Before the head: after a crash here this run is resumed. If the head came first, a
            # crash would leave the requests, and so cause an extra run.
            self._ledger.wishes.remove(head.run.wishes)
            if head.run.full_request is not None:
                self._ledger.control.full_done(head.run.full_request)
        # A closed run reads no more pages, so it needs no trail of them.
        trail = b"" if state in CLOSED_RUNS else head.run.trail
        run = head.save(state=state, reason=reason, trail=trail)
        self._note_lumen()
        # After the head: until then the next tick finds this run by the lease.
        if not run.is_open and run.run_id == self._lease.open_run:
            self._lease = self._ledger.control.set_open_run(self._lease, None)
        # True if only the tick ended, at one of its limits, and the run made progress.
        is_going_on = isinstance(error, OutOfTimeError) and run.is_open and run.stalled == 0
        _announce(run, is_going_on=is_going_on)
        return run

    def _lose_the_rest(self, head: Head) -> str:
        """Make rows beyond the checkpoint void; return a text on indicators lost with them."""
        self._void_beyond(head)
        lost = ids_without_fate(self._ledger.chunks.beyond(head.run.run_id, 0))
        return f"; {lost} indicators of void chunks belong to it" if lost else ""

    def _survey(self, run: Run) -> Known:
        """Fold settled rows and return the known versions.

        Raises `BacklogError` if a new query would only lengthen the queue.
        """
        if run.cache_id is None and run.cursor is None:  # a resumed run must go on: tokens expire
            self._check_backlog()
        config = self._config
        found = survey(
            runs=self._ledger.runs,
            chunks=self._ledger.chunks,
            index=self._index,
            config=FoldConfig(
                destination=config.drain.destination,
                keeping=Keeping(known_for=config.known_for_days),
                known_max=config.known_max,
            ),
            tick=self._tick,
            today=self._today(),
            keep_going=self._check_time,
        )
        if found.dropped:
            emit(Event.VERSIONS_DROPPED, run=run.run_id, versions=found.dropped)
        return found.known

    def _policy(self, run: Run) -> Policy:
        return Policy(
            today=self._today(),
            reupload_after=self._config.reupload_after_days,
            full=run.full,
        )

    def _today(self) -> int:
        """Return the day, counted since 1970."""
        return int(self._clock.now().timestamp() // 86_400)

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

    def _await_query(self, head: Head) -> Page | None:
        """See Lumen's query through and return its first page; None for a resumed run.

        On return the head has a cursor.
        """
        if head.run.cursor is not None:
            return None
        if head.run.cache_id is None:
            cache_id = self._start_query(head)
            if cache_id is None:
                head.save(cursor=Cursor())
                return Page(objects=[], next_token=None)
            # Kept in memory first: if this write fails, the next write of the head carries it.
            head.run = replace(head.run, cache_id=cache_id)
            head.save()
        status = self._poll(head.run.cache_id or "")
        is_empty = status.page == Page(objects=[], next_token=None)
        head.save(cursor=Cursor(token=NOTHING_LISTED if is_empty else status.token))
        if status.token is None:
            return status.page
        # Only here, with a new token, may "no results" mean an empty feed.
        return self._lumen.fetch_page(status.token, is_first=True, give_up_at=self._deadline)

    def _with_wishes(self, head: Head, first: Page | None) -> Page | None:
        """Return the run's first page with its wishes in front; otherwise `first`."""
        run = head.run
        if not run.wishes or run.cursor is None or run.cursor.page > 0:
            return first
        page = first or self._fetch(head, run.cursor.token)
        return put_in_front(page, [self._ledger.wishes.content(ref.key) for ref in run.wishes])

    def _write_asked(self, head: Head) -> None:
        """Record that Lumen is about to be asked; on return, that is at most `ASK_WITHIN` s old."""
        while True:
            began = self._clock.boottime()
            head.save(asked=True)
            if self._clock.boottime() - began <= ASK_WITHIN:
                return
            self._check_time()

    def _start_query(self, head: Head) -> str | None:
        """Start the query; raises `GapError` if it may run under an id that we never learned.

        If an earlier gap already reports such a query, raises `UnavailableError` instead: until
        Lumen answers a start, one gap reports all of them.
        """
        lost: GapError
        try:
            return self._lumen.start_query(
                before=lambda: self._write_asked(head), give_up_at=self._deadline
            )
        except GapError as error:
            lost = error
        told = False
        with suppress(PipelineError):  # reporting it twice is better than not at all
            earlier = self._ledger.runs.latest(_RUNS_LOOKED_BACK)
            told = is_told(found for found in earlier if found.run_id != head.run.run_id)
        if told:
            raise UnavailableError(f"{lost}; the earlier gap reports it")
        raise lost

    def _poll(self, cache_id: str) -> QueryStatus:
        """Poll the query until it is completed."""
        patience = min(self._clock.monotonic() + self._config.poll_timeout, self._deadline)
        while True:
            status = self._lumen.query_status(cache_id, give_up_at=self._deadline)
            match status.state:
                case QueryState.COMPLETED:
                    return status
                case QueryState.FAILED:
                    failed = QueryFailedError("Lumen reports that the query failed")
                    self._lumen.query_failed(failed)
                    raise failed
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

    def _fetch(self, head: Head, token: str | None) -> Page:
        """Return the page that `token` names; None names the one in the query's own answer."""
        if token == NOTHING_LISTED:
            return Page(objects=[], next_token=None)
        if token is not None:
            return self._lumen.fetch_page(token, give_up_at=self._deadline)
        if head.run.cache_id is None:
            return Page(objects=[], next_token=None)  # Lumen had no results and gave no id
        status = self._lumen.query_status(head.run.cache_id, give_up_at=self._deadline)
        # The page existed before, and was not empty.
        expected = max(1, head.run.checkpoint.cursor.offset - len(head.run.wishes))
        if status.page is None or len(status.page.objects) < expected:
            raise GapError("Lumen no longer gives the page that came with the query's answer")
        return status.page

    def _between_pages(self) -> None:
        """Record once a tick that Lumen answers, and continue while there is time."""
        if not self._is_noted:
            self._note_lumen()
        self._check_time()

    def _note_lumen(self) -> None:
        """Raise the problem of the last call to Lumen, or end the problems that it disproves."""
        with suppress(PipelineError):  # the run's head reports it, too
            if self._lumen.trouble is not None:
                self._problems.raise_problem(*self._lumen.trouble)
            elif self._lumen.has_answered:
                self._problems.end(LUMEN_DISPROVES)
                self._is_noted = True

    def _check_time(self) -> None:
        """Renew the lease; raise `OutOfTimeError` if the time is used up, or a pause began."""
        now = self._clock.monotonic()
        # Renewed after a quarter of its time, so that one slow write does not lose it.
        if now - self._renewed > self._config.lease / 4:
            pause = _pause(self._ledger, self._clock)
            if pause is not None:
                raise OutOfTimeError(f"{pause.text}; the run goes on then")
            self._lease = self._ledger.control.renew_lease(self._lease)
            self._renewed = now
        if now > self._deadline:
            raise OutOfTimeError("the time budget is used up; the next tick goes on")


_EVENTS: Final = {
    RunState.COMPLETE: Event.SYNC_COMPLETE,
    RunState.INTERRUPTED: Event.SYNC_INTERRUPTED,
    RunState.GAP: Event.SYNC_GAP,
    RunState.FAILED: Event.SYNC_FAILED,
}


def _announce(run: Run, *, is_going_on: bool) -> None:
    """Log the one canonical line of a tick's work on a run."""
    counts = run.counts
    emit(
        Event.SYNC_CONTINUES if is_going_on else _EVENTS[run.state],
        run=run.run_id,
        reason=run.reason,
        pages=0 if run.cursor is None else run.cursor.page + 1,
        chunks=0 if run.cursor is None else run.cursor.sequence,
        fetched=counts.fetched,
        filtered=counts.filtered,
        invalid=counts.invalid,
        unchanged=counts.unchanged,
        older=counts.older,
        enqueued=counts.enqueued,
        corrections=counts.corrections,
        other_kind=counts.other_kind,
        resumed=run.resumed,
        seconds=round((run.updated_at - run.started_at).total_seconds(), 1),
    )
