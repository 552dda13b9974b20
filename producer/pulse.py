"""The pulse of a tick: how the feed is when it ends, in one row and one log line.

A pulse is taken after every tick, even if the tick was skipped, failed, or could not read its
settings. `pulse_of` computes it, and is pure. Nothing here fails a tick.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from common.clock import Clock
from common.errors import ConflictError, PipelineError
from common.events import Event, Fact, emit
from common.health import Cause, Verdict, judge_health
from common.ledger import Ledger
from common.ledger.problems import ProblemKind, Problems
from common.ledger.pulses import Account, Books, Pulse
from common.ledger.states import RunState
from common.queues import SendQueue, WatchedQueue
from common.view import RunView, View, read_view

_SUMS: Final = (
    "fetched",
    "filtered",
    "invalid",
    "unchanged",
    "older",
    "enqueued",
    "corrections",
    "accepted",
    "rejected",
    "struck",
    "poisoned",
    "waited",
)
"""What the books of a run count, in the order of an `Account`."""

_TRIES: Final = 4
"""Looks for a pulse, if others are written at the same time."""

_MINUTE: Final = timedelta(minutes=1)

_APART: Final = frozenset({ProblemKind.GAP, ProblemKind.UNPROVEN})
"""Kinds that the alert on problems leaves out: a gap has an alert of its own, and records that wait
for proof need nobody in a quiet feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulseTools:
    """The parts that a pulse needs."""

    ledger: Ledger
    problems: Problems
    queue: WatchedQueue
    poison_queue: SendQueue
    clock: Clock
    requests_per_minute: float
    stale_after: timedelta
    destination: str = ""
    template_version: str | None = None


def take_pulse(tools: PulseTools, *, tick: str, run: str = "") -> Pulse:
    """Look at the feed, keep what was seen, log it, and return it.

    If the ledger or the queue cannot be read, the pulse says *unknown*, with the reason.
    """
    now = tools.clock.now()
    signed: dict[str, Any] = {"tick": tick, "run": run, "template_version": tools.template_version}
    try:
        pulse = _write_behind(tools, now, signed)
    except PipelineError as error:
        pulse = replace(unknown_pulse(now, str(error)), **signed)
    except Exception as bug:  # noqa: BLE001 - the tick is over, and its end counts
        reason = f"the pulse was stopped by a bug: {type(bug).__name__}"
        pulse = replace(unknown_pulse(now, reason), **signed)
    announce(pulse)
    return pulse


def _write_behind(tools: PulseTools, now: datetime, signed: Mapping[str, Any]) -> Pulse:
    """Look and write; again if another pulse has come in between and has told the same changes."""
    for _ in range(_TRIES - 1):
        with suppress(ConflictError):
            return _write(tools, now, signed)
    return _write(tools, now, signed)


def _write(tools: PulseTools, now: datetime, signed: Mapping[str, Any]) -> Pulse:
    """Look, and keep the pulse with its signature: tick, run and template."""
    before = tools.ledger.pulses.last_books()
    view = read_view(
        tools.ledger,
        tools.problems,
        queue=tools.queue,
        poison_queue=tools.poison_queue,
        runs=None,
        now=now,
        requests_per_minute=tools.requests_per_minute,
        stale_after=tools.stale_after,
        destination=tools.destination,
    )
    pulse, books = pulse_of(view, before)
    if before is not None and pulse.at <= before[0].at:
        # If an instance's clock is behind, the newest pulse is still the one that was written last.
        pulse = replace(pulse, at=before[0].at + timedelta(microseconds=1))
    pulse = replace(pulse, **signed)
    tools.ledger.pulses.write(pulse, books, after=None if before is None else before[1])
    if before is None or before[0].at.date() != pulse.at.date():
        with suppress(PipelineError):  # the first tick of tomorrow tries again
            tools.ledger.pulses.remove_old(pulse.at)
    return pulse


def announce(pulse: Pulse) -> None:
    """Log the one line of a pulse: its facts, under the names of its fields."""
    facts: dict[str, Fact] = {}
    for name, value in asdict(pulse).items():
        if name not in {"at", "version"}:  # a log line has both
            facts[name] = value.isoformat() if isinstance(value, datetime) else value
    emit(Event.HEALTH, **facts)


def unknown_pulse(now: datetime, reason: str) -> Pulse:
    """Return the pulse of a feed whose state cannot be read."""
    return Pulse(at=now, verdict=Verdict.UNKNOWN, reasons=Cause.LEDGER.value, reason=reason)


def pulse_of(view: View, before: tuple[Pulse, Books] | None) -> tuple[Pulse, Books]:
    """Return the pulse for a view, and the books that the next pulse needs. Pure.

    `before` is the previous pulse; without one, everything that the view shows counts as new.
    """
    earlier = before[1] if before else Books()
    come = _come(view.runs, earlier)
    minutes = None if before is None else max(0.0, (view.now - before[0].at) / _MINUTE)
    counts: dict[str, Any] = {name: round(come[name]) for name in _SUMS if name != "waited"}
    pulse = replace(
        _standing(view),
        minutes=_rounded(minutes),
        accepted_after_seconds=_ratio(come["waited"], max(come["accepted"], 0.0)),
        rate_per_minute=_ratio(come["accepted"], minutes),
        **counts,
    )
    return pulse, _books(view, earlier)


def _standing(view: View) -> Pulse:
    """Return the part of a pulse that needs only the view."""
    diagnosis = judge_health(view)
    complete = (run.updated_at for run in view.recent if run.state is RunState.COMPLETE)
    return Pulse(
        at=view.now,
        verdict=diagnosis.verdict.value,
        reasons=" ".join(dict.fromkeys(reason.code.value for reason in diagnosis.reasons)),
        reason=diagnosis.reasons[0].text if diagnosis.reasons else "",
        backlog=view.queue_depth,
        drain_minutes=_minutes(view.drain_time),
        poison_queue=view.poison_queue_depth,
        poison_kept=view.poison_kept,
        pending=sum(each.fate.pending for each in view.runs),
        oldest_pending_minutes=_age(view, view.oldest_pending),
        last_accepted_minutes=_age(view, view.last_success),
        last_complete_minutes=_age(view, max(complete, default=None)),
        problems=len(view.problems),
        oldest_problem_minutes=_age(view, min(_urgent_since(view), default=None)),
        gaps=[problem.kind for problem in view.problems].count(ProblemKind.GAP),
        books_balance=all(each.fate.balanced for each in view.runs),
        paused_until=view.paused_until,
        arrived_after_seconds=view.arrival.median_seconds,
    )


def _urgent_since(view: View) -> Iterator[datetime]:
    """Yield since when each problem is open that an alert on problems is about."""
    return (problem.since for problem in view.problems if problem.kind not in _APART)


def _come(runs: tuple[RunView, ...], earlier: Books) -> Mapping[str, float]:
    """Return how much each sum has grown since earlier books.

    A run that is neither newer than those books nor in them can no longer change.
    """
    total = dict.fromkeys(_SUMS, 0.0)
    for each in runs:
        known = earlier.accounts.get(each.run.run_id)
        if known is None and each.run.run_id <= earlier.newest:
            continue
        for name, now, then in zip(_SUMS, _account(each), known or _NOTHING, strict=False):
            total[name] += now - then
    return total


_NOTHING: Final[Account] = (0.0,) * len(_SUMS)


def _account(each: RunView) -> Account:
    return tuple(float(getattr(each.fate, name)) for name in _SUMS)


def _books(view: View, earlier: Books) -> Books:
    """Return the account of each run that may still change."""
    return Books(
        newest=max((each.run.run_id for each in view.runs), default=earlier.newest),
        accounts={
            each.run.run_id: _account(each)
            for each in view.runs
            if each.run.is_open or each.fate.pending or each.fate.poisoned
        },
    )


def _age(view: View, moment: datetime | None) -> float | None:
    return None if moment is None else _minutes(max(timedelta(), view.now - moment))


def _minutes(time: timedelta | None) -> float | None:
    return None if time is None else round(time / _MINUTE, 1)


def _ratio(part: float, whole: float | None) -> float | None:
    """Return a quotient, rounded; None where there is nothing to divide by."""
    return round(part / whole, 1) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
