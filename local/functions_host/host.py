"""Puts a host together: one app, a listener for each trigger, one HTTP front.

A function whose trigger cannot be listened to (an unset `%NAME%`, a bad schedule, no connection)
is *in error*: it is reported and left out, and the others run, as in the service. A function with
the app setting `AzureWebJobs.<name>.Disabled` is indexed and not listened to, so that several host
processes can play the separate scale groups of a Flex Consumption plan.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from local.functions_host.host_settings import (
    SettingsError,
    read_host_settings,
    resolve_connection,
    resolve_placeholders,
)
from local.functions_host.http_front import HttpFront, Keys
from local.functions_host.queue_listener import AZURE_LEASE, QueueListener
from local.functions_host.routes import Route, route_of
from local.functions_host.storage_failures import StorageFailures
from local.functions_host.timer import TimerListener, TimerStatusFile
from local.functions_host.worker import Function, Worker

log = logging.getLogger("host")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """`timer_status`: the folder in which timers remember their last run. `storage_patience`: how
    long storage may be away before the host ends itself; None: as long as it likes."""

    host_key: str
    master_key: str
    port: int = 0
    timers: bool = True
    timer_status: Path | None = None
    queue_lease: timedelta = AZURE_LEASE
    storage_patience: timedelta | None = None


class Host:
    """Raises SettingsError or IndexingError when the app as a whole cannot run."""

    def __init__(self, app_dir: Path, options: HostOptions, *, stop: Callable[[], None]) -> None:
        """`stop` is called when the host has to end because of its storage; see `failed`."""
        self._options = options
        self._failed = threading.Event()
        self._stop = stop
        self._failures = StorageFailures(patience=options.storage_patience, end_host=self._fail)
        self._settings = read_host_settings(app_dir)
        self._worker = Worker(app_dir, function_timeout=self._settings.function_timeout)
        self.functions: Sequence[Function] = self._worker.start()
        self._errors: dict[str, str] = {}
        self._routes: list[Route] = []
        self._listeners: list[QueueListener | TimerListener] = []
        for function in self.functions:
            if not is_disabled(function.name):
                self._add(function)
        self.function_keys = {
            route.function.name: secrets.token_urlsafe(24) for route in self._routes
        }
        self._front = HttpFront(
            worker=self._worker,
            functions=self.functions,
            routes=self._routes,
            errors=self._errors,
            keys=Keys(host=options.host_key, master=options.master_key, own=self.function_keys),
            port=options.port,
        )
        self.port = self._front.port

    @property
    def failed(self) -> bool:
        """Whether the host ends itself because of its storage."""
        return self._failed.is_set()

    def start(self) -> None:
        self._front.start()
        for listener in self._listeners:
            listener.start()

    def drain(self, patience: timedelta) -> bool:
        """Stop listening and wait for what runs; whether all of it ended in time."""
        for part in (*self._listeners, self._front):
            part.stop()
        log.info("nothing new is started; waiting for running invocations")
        deadline = time.monotonic() + patience.total_seconds()
        return all(
            part.in_flight.wait_until_at_most(0, max(0.0, deadline - time.monotonic()))
            for part in (*self._listeners, self._front)
        )

    def _fail(self) -> None:
        self._failed.set()
        self._stop()

    def _add(self, function: Function) -> None:
        try:
            self._listen_to(function)
        except (SettingsError, ValueError) as error:
            reason = f"The '{function.name}' function is in error: {error}"
            self._errors[function.name] = reason
            log.error("%s", reason)  # noqa: TRY400 - the reason says it all

    def _listen_to(self, function: Function) -> None:
        match function.trigger_type:
            case "httpTrigger":
                self._routes.append(route_of(function, self._settings.route_prefix))
            case "queueTrigger":
                self._listeners.append(self._queue_listener(function))
            case "timerTrigger":
                listener = self._timer_listener(function)
                if self._options.timers:
                    self._listeners.append(listener)
            case other:
                raise SettingsError(f"this host has no {other}")

    def _queue_listener(self, function: Function) -> QueueListener:
        trigger = function.trigger
        return QueueListener(
            function=function,
            worker=self._worker,
            connection=resolve_connection(str(trigger.get("connection") or "")),
            queue_name=resolve_placeholders(str(trigger["queueName"])),
            settings=self._settings.queues,
            failures=self._failures,
            lease=self._options.queue_lease,
        )

    def _timer_listener(self, function: Function) -> TimerListener:
        schedule = resolve_placeholders(str(function.trigger["schedule"]))
        folder = self._options.timer_status
        status_file = None if folder is None else TimerStatusFile(folder / f"{function.name}.json")
        return TimerListener(
            function=function, worker=self._worker, schedule=schedule, status_file=status_file
        )


def is_disabled(name: str) -> bool:
    """Whether the app setting that switches off a function is set, in either spelling."""
    spellings = (f"AzureWebJobs.{name}.Disabled", f"AzureWebJobs_{name}_Disabled")
    return any(os.environ.get(spelling, "").lower() in ("true", "1") for spelling in spellings)
