"""The health of the feed: one verdict, and one reason for each thing that is wrong.

`judge_health` is pure. The producer calls it at the end of each tick, for the pulse; operators
whenever they look. Each reason has a code from a closed list, for alerts, and a sentence for
people.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from common.ledger.arrivals import ASKED_FOR, LastCheck
from common.ledger.problems import STOPS_THE_FEED, STOPS_UPLOADS, Problem, ProblemKind
from common.ledger.states import RunState
from common.queues import MAX_BACKLOG
from common.view import View


class Verdict(StrEnum):
    """The verdict on the feed."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Indicators arrive, but something waits for an operator."""
    PAUSED = "paused"
    """An operator has stopped runs and uploads for a while."""
    DOWN = "down"
    """Nothing arrives."""
    UNKNOWN = "unknown"
    """The ledger cannot be read, or no tick has reported for too long."""


class Cause(StrEnum):
    """What a reason is about, besides the kinds of problems."""

    PAUSED = "paused"
    NO_COMPLETE_RUN = "no-complete-run"
    SILENCE = "silence"
    POISON_QUEUE = "poison-queue"
    POISON = "poison"
    BACKLOG = "backlog"
    ORPHAN_RUN = "orphan-run"
    LATER_RELEASE = "later-release"
    OTHER_WORKSPACE = "other-workspace"
    MESSAGES_MISSING = "messages-missing"
    BOOKS = "books"
    NOT_ARRIVED = "not-arrived"
    ARRIVED_OLDER = "arrived-older"
    ARRIVAL_UNKNOWN = "arrival-unknown"
    LEDGER = "ledger"
    """The ledger itself cannot be read; only the pulse of a tick says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that is wrong, and the verdict that it causes."""

    code: ProblemKind | Cause
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The verdict, and its reasons, the worst first."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """A sentence for each reason."""
        return tuple(reason.text for reason in self.reasons)


_WORST_FIRST: Final = (Verdict.PAUSED, Verdict.DOWN, Verdict.DEGRADED, Verdict.HEALTHY)
"""A pause comes first: a feed that an operator has stopped is not down. What is said of a healthy
feed comes last."""


def judge_health(view: View) -> Diagnosis:
    """Return the diagnosis of `view`. Pure."""
    found = [
        *_pause(view),
        *_problems(view),
        *_flow(view),
        *_poison(view),
        *_ledger(view),
        *_arrival(view),
    ]
    reasons = sorted(found, key=lambda reason: _WORST_FIRST.index(reason.verdict))
    verdict = reasons[0].verdict if reasons else Verdict.HEALTHY
    return Diagnosis(verdict=verdict, reasons=tuple(reasons))


def _down(code: ProblemKind | Cause, text: str) -> Reason:
    return Reason(code=code, verdict=Verdict.DOWN, text=text)


def _degraded(code: ProblemKind | Cause, text: str) -> Reason:
    return Reason(code=code, verdict=Verdict.DEGRADED, text=text)


def _pause(view: View) -> Iterator[Reason]:
    if view.is_paused and view.pause is not None:
        yield Reason(
            code=Cause.PAUSED,
            verdict=Verdict.PAUSED,
            text=f"{view.pause.text}: no new run starts and nothing is uploaded; `resume` ends it",
        )


def _problems(view: View) -> Iterator[Reason]:
    """Yield a reason for each problem; records that wait for proof are counted in one."""
    unproven: list[Problem] = []
    for problem in view.problems:
        if problem.kind is ProblemKind.UNPROVEN:
            unproven.append(problem)
            continue
        make = _down if problem.kind in STOPS_THE_FEED else _degraded
        yield make(problem.kind, f"{problem.what} (since {problem.since:%d %b %H:%M} UTC)")
    if unproven:
        since = min(problem.since for problem in unproven)
        plural = "record that Sentinel refused waits" if len(unproven) == 1 else "records wait"
        yield _degraded(
            ProblemKind.UNPROVEN,
            f"{len(unproven)} {plural} for proof that Sentinel accepts anything (since "
            f"{since:%d %b %H:%M} UTC): nothing to do in a quiet feed",
        )


def _flow(view: View) -> Iterator[Reason]:
    """Yield what is missing: a complete run, or uploads of messages that are due."""
    missing = _missing_success(view)
    if missing and not _is_at_work(view):
        make = _degraded if _is_new(view) else _down
        yield make(Cause.NO_COMPLETE_RUN, missing)
    explained = any(problem.kind in STOPS_UPLOADS for problem in view.problems)
    if view.silent_since is not None and not explained:
        yield _down(
            Cause.SILENCE,
            "messages are due and Sentinel has accepted nothing since "
            f"{view.silent_since:%d %b %H:%M} UTC, and no problem is open: check whether the "
            "function sentinel_upload runs, is disabled or fails, and read its log lines",
        )
    drain = view.drain_time
    if drain is not None and drain > MAX_BACKLOG:
        yield _degraded(
            Cause.BACKLOG, f"the queue takes {drain / timedelta(hours=1):.0f} h to drain"
        )


def _poison(view: View) -> Iterator[Reason]:
    if view.poison_queue_depth:
        yield _degraded(Cause.POISON_QUEUE, not_kept_yet(view.poison_queue_depth))
    if view.poison_kept:
        yield _degraded(Cause.POISON, f"messages given up: {view.poison_kept}; see `poison list`")


def _ledger(view: View) -> Iterator[Reason]:
    """Yield what is wrong with the rows of runs and chunks."""
    for run_id in view.orphans:
        yield _degraded(
            Cause.ORPHAN_RUN,
            f"run {run_id} is open, but the run lease does not name it: the next tick closes it",
        )
    for run in view.recent:
        if run.state is RunState.OTHER:
            why = run.reason or "it is of a later release"
            yield _degraded(Cause.LATER_RELEASE, f"run {run.run_id} is left alone: {why}")
    if view.strange:
        yield _degraded(
            Cause.LATER_RELEASE,
            f"chunk rows that this release cannot read: {view.strange}; they are left alone: "
            "deploy the release that wrote them, or restore the rows",
        )
    if view.elsewhere:
        yield _degraded(
            Cause.OTHER_WORKSPACE,
            f"indicators that wait for another workspace than the present one: {view.elsewhere}; "
            "correct WORKSPACE_ID and SENTINEL_BASE_URL, or see `destination adopt`",
        )
    if view.missing:
        yield _degraded(
            Cause.MESSAGES_MISSING,
            f"indicators that wait, while no message is on the queue: {view.missing}; was the "
            "queue cleared? After seven days `chunks lost` closes the books; they are sent only in "
            "versions that Lumen lists later",
        )
    for view_of_run in view.runs:
        if not view_of_run.fate.balanced:
            yield _degraded(
                Cause.BOOKS, f"the books of run {view_of_run.run.run_id} do not balance"
            )


def _arrival(view: View) -> Iterator[Reason]:
    """Yield what the workspace lacks of what Sentinel accepted; the feed itself is not at fault."""
    late = [run for run in view.arrival.runs if view.now - run.accepted_at <= ASKED_FOR]
    missing = [run for run in late if run.missing]
    if missing:
        yield _degraded(
            Cause.NOT_ARRIVED,
            "indicators that Sentinel accepted and that are not in the workspace: "
            f"{sum(run.missing for run in missing)} of a sample of "
            f"{sum(run.sampled for run in missing)}. Check in this order: is WORKSPACE_ID the "
            "workspace that you look at? Does an ingestion rule of Sentinel or a transformation of "
            "the table ThreatIntelIndicators drop them? Does Azure report an incident?",
        )
    older = sum(run.older for run in late)
    if older:
        yield _degraded(
            Cause.ARRIVED_OLDER,
            f"indicators of which the workspace got an older version last: {older} of a sample; "
            "another sender uploads the same indicators: stop it, then ask for `sync --full`",
        )
    yield from _not_asked(view.arrival.last)


def _not_asked(last: LastCheck | None) -> Iterator[Reason]:
    """Yield why the workspace could not be asked; the feed may still be healthy."""
    if last is not None and last.trouble:
        yield Reason(
            code=Cause.ARRIVAL_UNKNOWN,
            verdict=Verdict.HEALTHY,
            text=f"whether indicators arrive is not known: {last.trouble}",
        )


def not_kept_yet(depth: int) -> str:
    """Return the finding of `depth` messages on the poison queue. Pure."""
    return (
        f"messages that the host gave up and that are not kept yet: {depth}; if this stays, see "
        "whether the function keep_poison runs, is disabled or fails, then use `poison rescue`: "
        "they live 7 days"
    )


def _missing_success(view: View) -> str:
    """Return what is wrong with the last complete run; empty if it is recent enough.

    A pause explains a missing run, and so does one that ended less than `stale_after` ago.
    """
    if view.pause is not None and view.now - view.pause.until <= view.stale_after:
        return ""
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
    """Whether the feed began so recently that no run need be complete yet."""
    return bool(view.recent) and view.now - view.recent[-1].started_at <= view.stale_after


def _is_at_work(view: View) -> bool:
    """Whether a long run makes progress, which is healthy however many ticks it takes."""
    newest = view.recent[0] if view.recent else None
    return (
        newest is not None
        and newest.is_open
        and newest.counts.fetched > 0
        and view.now - newest.progressed_at <= view.stale_after
    )
