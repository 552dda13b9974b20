"""The timer that starts a sync run, the queue with operators' requests, and the pulse after each.

Importing needs no setting: clients are made on the first call and kept for the instance's life.
With wrong settings that call fails with every fault in one message; the next call reads the
settings again.
"""

import os
import socket
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import azure.functions as func

from common.clock import SystemClock
from common.errors import PipelineError, SettingsError
from common.events import Event, emit, new_trace_parent, traced
from common.identity import storage_credential
from common.ledger.control import Control
from common.ledger.problems import STANDS_FOR, ProblemKind, Problems
from common.ledger.states import RunState
from common.ledger.tables import AzureTables
from common.queues import SYNC_QUEUE, AzureQueue
from common.schedule import span_of
from common.settings import (
    STORAGE_CONNECTION,
    read_settings,
    read_storage_settings,
    schedule_for_trigger,
)
from producer.requests import RequestTools, serve_request

if TYPE_CHECKING:
    from common.ledger.runs import Run

blueprint = func.Blueprint()


@blueprint.timer_trigger(
    arg_name="timer",
    # Read here and not as %LUMEN_SCHEDULE%: an unset setting must mean the default, not an
    # app without a timer.
    schedule=schedule_for_trigger(),
    run_on_startup=False,
)
def lumen_sync(timer: func.TimerRequest, context: func.Context) -> None:  # noqa: ARG001
    """Resume or start a sync run."""
    run = _tick(context.trace_context.trace_parent or new_trace_parent())
    if run is not None and run.state is RunState.FAILED:
        raise RuntimeError(f"sync run {run.run_id} failed: {run.reason}")


@blueprint.queue_trigger(arg_name="message", queue_name=SYNC_QUEUE, connection=STORAGE_CONNECTION)
def sync_now(message: func.QueueMessage, context: func.Context) -> None:  # noqa: ARG001
    """Run a tick that an operator asked for, unless the request was served or taken back."""
    trace_parent = context.trace_context.trace_parent or new_trace_parent()
    serve_request(_requests(), tick=lambda: _tick(trace_parent))


def _tick(trace_parent: str) -> "Run | None":
    """Run a tick, then take the pulse, even if the tick was skipped or failed."""
    tick, run_id = "error", ""
    with traced(trace_parent):
        try:
            run = _run_sync(trace_parent)
            tick, run_id = ("skipped", "") if run is None else (run.state.value, run.run_id)
            return run
        finally:
            _take_pulse(tick, run_id)


def _take_pulse(tick: str, run_id: str) -> None:
    from producer.pulse import announce, take_pulse, unknown_pulse  # noqa: PLC0415

    try:
        tools = _pulse_tools()
    except SettingsError as error:
        unknown = unknown_pulse(SystemClock().now(), str(error))
        announce(replace(unknown, tick=tick, run=run_id))
        return
    take_pulse(tools, tick=tick, run=run_id)


def _run_sync(trace_parent: str) -> "Run | None":
    # Here and not above: `producer.wiring` says why.
    from producer.sync import run_sync  # noqa: PLC0415

    try:
        config, tools = _build()
    except SettingsError as error:
        emit(Event.SYNC_FAILED, reason=str(error))
        with suppress(PipelineError):  # the settings of the tables may be wrong, too
            _safe_problems().raise_problem(ProblemKind.LUMEN_ACCESS, str(error))
        raise
    drain = replace(config.drain, trace_parent=trace_parent)
    config = replace(config, drain=drain)
    return run_sync(config, tools, owner=f"{socket.gethostname()}:{os.getpid()}")


@cache
def _requests() -> RequestTools:
    storage, clock = read_storage_settings(), SystemClock()
    credential = storage_credential(storage)
    return RequestTools(
        control=Control(AzureTables(storage, credential=credential)),
        queue=AzureQueue(SYNC_QUEUE, storage, credential=credential),
        clock=clock,
    )


@cache
def _safe_problems() -> Problems:
    """Return the problems, which need no settings but those of the tables."""
    storage = read_storage_settings()
    return Problems(
        AzureTables(storage, credential=storage_credential(storage)),
        clock=SystemClock(),
        stands_for=span_of(schedule_for_trigger(), ticks=1) + STANDS_FOR,
    )


@cache
def _pulse_tools():  # type: ignore[no-untyped-def]
    from producer.wiring import pulse_tools  # noqa: PLC0415

    return pulse_tools()


@cache
def _build():  # type: ignore[no-untyped-def] # its types come with numpy, too
    from producer.wiring import sync_config, sync_tools  # noqa: PLC0415

    settings = read_settings()
    return sync_config(settings), sync_tools(settings)
