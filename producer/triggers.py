"""The timer that starts a sync run.

Importing needs no setting: clients are made on the first call and kept for the instance's life.
A settings fault makes that call fail with every fault in one message; the next call reads them
again.
"""

import os
import socket
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import azure.functions as func

from common.errors import SettingsError
from common.events import Event, emit
from common.ledger.states import RunState
from common.settings import read_settings, schedule_for_trigger

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
    run = _run_sync(context.trace_context.trace_parent or "")
    if run is not None and run.state is RunState.FAILED:
        raise RuntimeError(f"sync run {run.run_id} failed: {run.reason}")


def _run_sync(trace_parent: str) -> "Run | None":
    # Here and not above: `producer.wiring` says why.
    from producer.sync import run_sync  # noqa: PLC0415

    try:
        config, tools = _build()
    except SettingsError as error:
        emit(Event.SYNC_FAILED, reason=str(error))
        raise
    drain = replace(config.drain, trace_parent=trace_parent)
    config = replace(config, drain=drain)
    return run_sync(config, tools, owner=f"{socket.gethostname()}:{os.getpid()}")


@cache
def _build():  # type: ignore[no-untyped-def] # its types come with numpy, too
    from producer.wiring import sync_config, sync_tools  # noqa: PLC0415

    settings = read_settings()
    return sync_config(settings), sync_tools(settings)
