"""Fires a timer-triggered function on its schedule.

A timer never overlaps itself: the next due time is looked for when the function has ended, so a
run that takes longer than the interval costs the ticks in between. The service also remembers the
last run in blob storage and reports a late one; this host starts without a memory, so `IsPastDue`
is false. It must not know which app it serves.
"""

import json
import logging
import threading
from datetime import UTC, datetime

from local.functions_host.in_flight import InFlight
from local.functions_host.ncrontab import next_occurrence
from local.functions_host.protos import TypedData
from local.functions_host.worker import Function, Worker

log = logging.getLogger("host.timer")

NEVER = datetime.min.replace(tzinfo=UTC)


def timer_info(*, last: datetime, due: datetime, updated: datetime) -> TypedData:
    """What the host tells a timer-triggered function: the status before this run."""
    status = {
        "Last": last.isoformat(),
        "Next": due.isoformat(),
        "LastUpdated": updated.isoformat(),
    }
    document = {
        "Schedule": {"AdjustForDST": True},
        "ScheduleStatus": status,
        "IsPastDue": False,
    }
    return TypedData(json=json.dumps(document))


class TimerListener:
    def __init__(self, *, function: Function, worker: Worker, schedule: str) -> None:
        """Raises ValueError for a schedule that is malformed or never due."""
        self.in_flight = InFlight()
        self._function = function
        self._worker = worker
        self._schedule = schedule
        self._last = NEVER
        self._stopping = threading.Event()
        next_occurrence(schedule, datetime.now(UTC))

    def start(self) -> None:
        name = f"timer-{self._function.name}"
        threading.Thread(target=self._listen, name=name, daemon=True).start()

    def stop(self) -> None:
        """Fire no more; a run in progress goes on (see `in_flight`)."""
        self._stopping.set()

    def _listen(self) -> None:
        if self._function.trigger.get("runOnStartup"):
            self._fire(datetime.now(UTC), reason="Timer fired at startup")
        while not self._stopping.is_set():
            due = next_occurrence(self._schedule, datetime.now(UTC))
            log.info("%s is due at %s", self._function.name, due.isoformat())
            if not self._wait_until(due):
                self._fire(due, reason=f"Timer fired at {due.isoformat()}")

    def _wait_until(self, due: datetime) -> bool:
        """Whether the listener was stopped first. A wait may end early, a tick may not."""
        while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
            if self._stopping.wait(left):
                return True
        return self._stopping.is_set()

    def _fire(self, due: datetime, *, reason: str) -> None:
        with self.in_flight:
            info = timer_info(last=self._last, due=due, updated=self._last)
            self._last = due
            self._worker.invoke(self._function, info, reason=reason).wait()
