"""The timer that starts a sync run.

Importing needs no setting: clients are made on the first call and kept for the instance's life.
A settings fault makes that call fail with every fault in one message, and the next one read anew.
"""

import os
import random
import socket
from dataclasses import replace
from datetime import timedelta
from functools import cache

import azure.functions as func
import requests

from common.clock import SystemClock
from common.errors import SettingsError
from common.events import Event, emit
from common.identity import storage_credential
from common.ledger import open_ledger
from common.ledger.slots import Slots
from common.ledger.states import RunState
from common.ledger.tables import AzureTables
from common.queues import POISON_QUEUE, UPLOAD_QUEUE, AzureQueue
from common.settings import Settings, read_settings, schedule_for_trigger
from common.transport import PlainSession
from producer.drain import DrainConfig, Sender
from producer.indicators import Filters
from producer.lumen import LumenClient
from producer.sync import SyncConfig, SyncTools, run_sync

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
    try:
        config, tools = _build()
    except SettingsError as error:
        emit(Event.SYNC_FAILED, reason=str(error))
        raise
    drain = replace(config.drain, trace_parent=context.trace_context.trace_parent or "")
    config = replace(config, drain=drain)
    run = run_sync(config, tools, owner=f"{socket.gethostname()}:{os.getpid()}")
    if run is not None and run.state is RunState.FAILED:
        raise RuntimeError(f"sync run {run.run_id} failed: {run.reason}")


@cache
def _build() -> tuple[SyncConfig, SyncTools]:
    settings = read_settings()
    return sync_config(settings), sync_tools(settings)


def sync_config(settings: Settings) -> SyncConfig:
    """Return what a run needs of the settings."""
    return SyncConfig(
        drain=DrainConfig(
            filters=Filters(
                threshold=settings.lumen_confidence_threshold,
                ipv4=settings.lumen_enable_ipv4,
                domain=settings.lumen_enable_domain,
            ),
            chunk_size=settings.chunk_size,
            max_pages=settings.max_pages,
        ),
        poll_interval=settings.lumen_poll_interval,
        poll_timeout=settings.lumen_poll_timeout,
        time_budget=settings.run_time_budget,
        lease=settings.run_lease,
        reupload_after=timedelta(days=settings.reupload_after_days),
        requests_per_minute=settings.sentinel_requests_per_minute,
    )


def sync_tools(settings: Settings, *, session: requests.Session | None = None) -> SyncTools:
    """Return what a run works with; `session` reaches Lumen."""
    clock, rng = SystemClock(), random.Random()  # noqa: S311 - jitter, not secrets
    credential = storage_credential(settings.storage)
    tables = AzureTables(settings.storage, credential=credential)
    ledger = open_ledger(tables)
    queue = AzureQueue(UPLOAD_QUEUE, settings.storage, credential=credential)
    return SyncTools(
        lumen=LumenClient(
            base_url=settings.lumen_base_url,
            api_key=settings.lumen_api_key,
            backoff=settings.backoff,
            clock=clock,
            rng=rng,
            session=session or PlainSession(),
        ),
        ledger=ledger,
        sender=Sender(
            queue=queue,
            ledger=ledger,
            slots=Slots(
                tables, clock=clock, requests_per_minute=settings.sentinel_requests_per_minute
            ),
            backoff=settings.backoff,
            clock=clock,
            rng=rng,
        ),
        queue=queue,
        poison_queue=AzureQueue(POISON_QUEUE, settings.storage, credential=credential),
        clock=clock,
    )
