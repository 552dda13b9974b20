"""Drives the Functions Python worker library: index an app, run its functions.

All untyped contact with `azure_functions_runtime` is in this file. The worker is a set of
coroutines; they run on one event loop in a thread of their own, and synchronous functions run on
the worker's thread pool, as in the service. The rest of the host is ordinary blocking code that
holds an `Invocation` and waits for it.

It must not know what triggered an invocation.
"""

import asyncio
import json
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime

from local.functions_host import protos
from local.functions_host.protos import TypedData

log = logging.getLogger("host.worker")


class IndexingError(Exception):
    """The worker could not load the app; on Azure all its functions would be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function as the worker indexed it; `bindings` are its function.json equivalents."""

    name: str
    function_id: str
    bindings: tuple[Mapping[str, Any], ...]

    @property
    def trigger(self) -> Mapping[str, Any]:
        return next(item for item in self.bindings if str(item["type"]).endswith("Trigger"))

    @property
    def trigger_type(self) -> str:
        return str(self.trigger["type"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an invocation ended. `message` and `stack_trace` are the exception's, if any."""

    succeeded: bool
    return_value: TypedData | None = None
    message: str = ""
    stack_trace: str = ""


class Worker:
    """The worker of one app; the library allows one per process."""

    def __init__(self, app_dir: Path, *, function_timeout: timedelta | None) -> None:
        self._app_dir = app_dir
        self._function_timeout = function_timeout
        self._running = Running()
        self._loop = asyncio.new_event_loop()

    def start(self) -> list[Function]:
        """Load the app and return its functions. Raises IndexingError."""
        runtime.start_threadpool_executor()
        functions = self._loop.run_until_complete(self._index())
        threading.Thread(target=self._loop.run_forever, name="worker-loop", daemon=True).start()
        return functions

    def invoke(
        self,
        function: Function,
        argument: TypedData,
        *,
        reason: str,
        metadata: Mapping[str, TypedData] | None = None,
        trace_parent: str | None = None,
    ) -> "Invocation":
        """Start `function` with `argument` for its trigger, without waiting for it."""
        invocation_id = str(uuid.uuid4())
        data = protos.ParameterBinding(name=function.trigger["name"], data=argument)
        request = protos.Message(
            invocation_id=invocation_id,
            function_id=function.function_id,
            input_data=[data],
            trigger_metadata=dict(metadata or {}),
            trace_context=protos.Message(
                trace_parent=trace_parent or new_trace_parent(), trace_state="", attributes={}
            ),
            retry_context=protos.Message(retry_count=0, max_retry_count=0, exception=None),
        )
        log.info(
            "Executing 'Functions.%s' (Reason='%s', Id=%s)", function.name, reason, invocation_id
        )
        future = asyncio.run_coroutine_threadsafe(
            runtime.invocation_request(_envelope(invocation_request=request)), self._loop
        )
        return Invocation(
            function.name,
            invocation_id,
            future,
            timeout=self._function_timeout,
            running=self._running,
        )

    async def _index(self) -> list[Function]:
        request = protos.Message(capabilities={}, function_app_directory=str(self._app_dir))
        answer = await runtime.worker_init_request(_envelope(worker_init_request=request))
        if answer.result.status != protos.StatusResult.Success:
            raise IndexingError(_describe_indexing(answer.result.exception, self._app_dir))
        answer = await runtime.functions_metadata_request(_envelope())
        if not answer.function_metadata_results:
            raise IndexingError(
                f"no functions found: is there a function_app.py in {self._app_dir}?"
            )
        return [
            Function(
                name=item.name,
                function_id=item.function_id,
                bindings=tuple(json.loads(binding) for binding in item.raw_bindings),
            )
            for item in answer.function_metadata_results
        ]


class Running:
    """The invocations of one worker that have not ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._invocations: set[Invocation] = set()

    def add(self, invocation: "Invocation") -> None:
        with self._lock:
            self._invocations.add(invocation)

    def remove(self, invocation: "Invocation") -> None:
        with self._lock:
            self._invocations.discard(invocation)

    def fail_all(self, message: str) -> None:
        """End every one of them, as far as its trigger is concerned."""
        with self._lock:
            running = list(self._invocations)
        for invocation in running:
            invocation.end(Result(succeeded=False, message=message))


class Invocation:
    """A function that is running, or has ended. Wait for it in one thread."""

    def __init__(
        self,
        name: str,
        invocation_id: str,
        future: Future[Any],
        *,
        timeout: timedelta | None,
        running: Running,
    ) -> None:
        self._name = name
        self._id = invocation_id
        self._timeout = timeout
        self._running = running
        self._started = time.monotonic()
        self._outcome: Future[Result] = Future()
        running.add(self)
        future.add_done_callback(self._hear)

    def wait(self, seconds: float | None = None) -> Result | None:
        """The result, or None when `seconds` have passed first.

        A function that outlives `functionTimeout` has failed as far as its trigger is concerned,
        and so has every other one that runs in this worker: Azure restarts the whole worker. Here
        the code cannot be stopped: it keeps its thread until it returns.
        """
        left = self._seconds_left()
        patience = min((limit for limit in (seconds, left) if limit is not None), default=None)
        try:
            result = self._outcome.result(patience)
        except TimeoutError:
            if self._seconds_left() != 0:
                return None
            self._running.fail_all(
                f"Timeout value of {self._timeout} exceeded by function "
                f"'Functions.{self._name}' (Id: '{self._id}'). Initiating cancellation."
            )
            result = self._outcome.result()
        self._record(result)
        return result

    def end(self, result: Result) -> None:
        """Set how it ended; the first one to say so is believed."""
        self._running.remove(self)
        with suppress(InvalidStateError):
            self._outcome.set_result(result)

    def _hear(self, future: Future[Any]) -> None:
        """Take what the worker says; an error of its own is raised where the result is awaited."""
        error = future.exception()
        if error is None:
            self.end(_result_of(future.result()))
            return
        self._running.remove(self)
        with suppress(InvalidStateError):
            self._outcome.set_exception(error)

    def _seconds_left(self) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, self._started + self._timeout.total_seconds() - time.monotonic())

    def _record(self, result: Result) -> None:
        took = (time.monotonic() - self._started) * 1000
        ended = "Succeeded" if result.succeeded else "Failed"
        level = logging.INFO if result.succeeded else logging.ERROR
        text = "Executed 'Functions.%s' (%s, Id=%s, Duration=%dms)"
        log.log(level, text, self._name, ended, self._id, took)
        if not result.succeeded:
            log.error("%s: %s\n%s", self._name, result.message, result.stack_trace)


def new_trace_parent() -> str:
    """A W3C trace context such as the host starts for a trigger that brought none."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def _envelope(**request: Any) -> SimpleNamespace:
    """The object the worker's entry points take: the request, and where its classes come from."""
    properties = {"host": "127.0.0.1", "protos": protos}
    return SimpleNamespace(request=SimpleNamespace(**request), properties=properties)


def _result_of(response: Any) -> Result:
    if response.result.status != protos.StatusResult.Success:
        error = response.result.exception
        return Result(succeeded=False, message=error.message, stack_trace=error.stack_trace)
    if response.output_data:
        return Result(succeeded=False, message="output bindings are not supported by this host")
    return Result(succeeded=True, return_value=response.return_value)


def _describe_indexing(error: Any, app_dir: Path) -> str:
    """One line: what failed and the app's own line it came from.

    The worker appends advice and the whole `sys.path` to import errors; that part is cut.
    """
    message = str(error.message).partition(". Cannot find module. Please check")[0]
    message = " ".join(message.split())
    own = [line.strip() for line in error.stack_trace.splitlines() if str(app_dir) in line]
    return f"{message} ({own[-1].removeprefix('File ')})" if own else message
