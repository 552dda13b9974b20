"""Fires a timer-triggered function on its schedule.

A timer never overlaps itself. The next due time follows from the *start* of a run: after a run that
took longer than the interval the next one starts at once, which makes up one tick; the others are
lost. With a `TimerStatusFile` the listener also remembers the last run across restarts, as the
service does in blob storage: a run that fell due meanwhile, or that died half-way, starts at once
and `IsPastDue` is true. It must not know which app it serves.

Source: Microsoft.Azure.WebJobs.Extensions.Timers 3.0.6, measured 2026-11-28 (docs/contracts.md).
"""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from local.functions_host.in_flight import InFlight
from local.functions_host.ncrontab import next_occurrence
from local.functions_host.protos import TypedData
from local.functions_host.worker import Function, Worker

log = logging.getLogger("host.timer")

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerStatus:
    """When the timer fired last (or never), is due next, and when this was noted."""

    last: datetime = NEVER
    due: datetime
    updated: datetime = NEVER

    def follows(self, schedule: str) -> bool:
        """Whether `due` comes from this schedule; if not, the schedule was changed."""
        start = self.updated if self.last == NEVER else self.last
        return self.due == next_occurrence(schedule, start)

    def as_document(self) -> dict[str, str]:
        """The status in the words of the service."""
        return {
            "Last": self.last.isoformat(),
            "Next": self.due.isoformat(),
            "LastUpdated": self.updated.isoformat(),
        }


def first_status(schedule: str, now: datetime) -> TimerStatus:
    """The status of a timer that has never fired, or whose schedule has changed."""
    return TimerStatus(due=next_occurrence(schedule, now), updated=now)


def status_after_run(schedule: str, started: datetime) -> TimerStatus:
    """The status after a run that began at `started`. Its `due` may be past: fire at once."""
    return TimerStatus(last=started, due=next_occurrence(schedule, started), updated=started)


def timer_info(status: TimerStatus, *, past_due: bool = False) -> TypedData:
    """What the host passes to a timer-triggered function: the status before this run."""
    document = {
        "Schedule": {"AdjustForDST": True},
        "ScheduleStatus": status.as_document(),
        "IsPastDue": past_due,
    }
    return TypedData(json=json.dumps(document))


class TimerStatusFile:
    """Keeps one timer's status. A file that cannot be read counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> TimerStatus | None:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            last, due, updated = (
                datetime.fromisoformat(document[name]) for name in ("Last", "Next", "LastUpdated")
            )
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            log.warning("%s holds no timer status; a new one is made", self._path)
            return None
        return TimerStatus(last=last, due=due, updated=updated)

    def write(self, status: TimerStatus) -> None:
        """Replace the file as a whole, so that a host that is killed leaves one or the other."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(status.as_document()), encoding="utf-8")
        draft.replace(self._path)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class TimerListener:
    def __init__(
        self,
        *,
        function: Function,
        worker: Worker,
        schedule: str,
        status_file: TimerStatusFile | None = None,
        now: Callable[[], datetime] = _utc_now,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        """Raises ValueError for a schedule that is malformed or never due."""
        self.in_flight = InFlight()
        self._function = function
        self._worker = worker
        self._schedule = schedule
        self._status_file = status_file
        self._now = now
        self._wait = wait
        self._stopping = threading.Event()
        next_occurrence(schedule, now())

    def start(self) -> None:
        name = f"timer-{self._function.name}"
        threading.Thread(target=self.run, name=name, daemon=True).start()

    def stop(self) -> None:
        """Fire no more; a run in progress goes on (see `in_flight`)."""
        self._stopping.set()

    def run(self) -> None:
        """Fire when due until `stop` is called."""
        status = self._recall()
        if status.due <= self._now():
            status = self._fire(status, reason="Timer fired at startup, past due", past_due=True)
        elif self._function.trigger.get("runOnStartup"):
            status = self._fire(status, reason="Timer fired at startup")
        while not self._stopping.is_set():
            log.info("%s is due at %s", self._function.name, status.due.isoformat())
            if not self._wait_until(status.due):
                status = self._fire(status, reason=f"Timer fired at {status.due.isoformat()}")

    def _recall(self) -> TimerStatus:
        """The status as it was left, if it is of this schedule; else a new one, which is kept."""
        kept = None if self._status_file is None else self._status_file.read()
        if kept is not None and kept.follows(self._schedule):
            return kept
        return self._keep(first_status(self._schedule, self._now()))

    def _keep(self, status: TimerStatus) -> TimerStatus:
        if self._status_file is not None:
            self._status_file.write(status)
        return status

    def _wait_until(self, due: datetime) -> bool:
        """Whether the listener was stopped first. A wait may end early, a tick may not."""
        while (left := (due - self._now()).total_seconds()) > 0:
            if self._wait(self._stopping, left):
                return True
        return self._stopping.is_set()

    def _fire(self, status: TimerStatus, *, reason: str, past_due: bool = False) -> TimerStatus:
        """Run the function to its end; return the status after it, which is kept only then."""
        with self.in_flight:
            started = self._now()
            info = timer_info(status, past_due=past_due)
            self._worker.invoke(self._function, info, reason=reason).wait()
            return self._keep(status_after_run(self._schedule, started))
