"""The parts of a sync run, made from the settings.

Imported on the first run, not with the app: numpy comes with it, and every instance of every
function imports all triggers.
"""

import random
from datetime import timedelta
from typing import Any

from common.clock import SystemClock
from common.errors import SettingsError
from common.identity import storage_credential
from common.ledger import open_ledger
from common.ledger.problems import STANDS_FOR, Problems
from common.ledger.slots import Slots
from common.ledger.tables import AzureTables
from common.queues import POISON_QUEUE, UPLOAD_QUEUE, AzureQueue
from common.schedule import read_stale_after, span_of
from common.settings import Settings, read_destination, read_setting, read_storage_settings
from common.transport import PlainSession
from producer.drain import DrainConfig, Sender
from producer.index import VersionIndex
from producer.indicators import Filters
from producer.lumen import LumenClient
from producer.pulse import PulseTools
from producer.sync import SyncConfig, SyncTools


def sync_config(settings: Settings) -> SyncConfig:
    """Return the settings that a run obeys."""
    return SyncConfig(
        drain=DrainConfig(
            filters=Filters(
                threshold=settings.lumen_confidence_threshold,
                ipv4=settings.lumen_enable_ipv4,
                domain=settings.lumen_enable_domain,
                unknown_revoked=settings.send_unknown_revoked,
            ),
            destination=settings.destination,
            chunk_size=settings.chunk_size,
            max_pages=settings.max_pages,
        ),
        poll_interval=settings.lumen_poll_interval,
        poll_timeout=settings.lumen_poll_timeout,
        time_budget=settings.run_time_budget,
        lease=settings.run_lease,
        reupload_after_days=settings.reupload_after_days,
        known_for_days=settings.known_for_days,
        known_max=settings.known_max,
        requests_per_minute=settings.sentinel_requests_per_minute,
    )


def sync_tools(settings: Settings, *, session: PlainSession | None = None) -> SyncTools:
    """Return the parts of a run; `session` reaches Lumen."""
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
        index=VersionIndex(tables),
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
        problems=Problems(tables, clock=clock, stands_for=longest_wait(settings)),
        clock=clock,
    )


def pulse_tools() -> PulseTools:
    """Return the parts of a pulse, from the environment; raises `SettingsError`.

    Only the storage settings must be right: the pulse reports faults in the others.
    """
    storage = read_storage_settings()
    credential, clock = storage_credential(storage), SystemClock()
    tables = AzureTables(storage, credential=credential)
    return PulseTools(
        ledger=open_ledger(tables),
        problems=Problems(tables, clock=clock),
        queue=AzureQueue(UPLOAD_QUEUE, storage, credential=credential),
        poison_queue=AzureQueue(POISON_QUEUE, storage, credential=credential),
        clock=clock,
        requests_per_minute=float(_read_or_default("SENTINEL_REQUESTS_PER_MINUTE")),
        stale_after=read_stale_after(),
        destination=read_destination(),
        template_version=_read_or_default("TEMPLATE_VERSION"),
    )


def _read_or_default(name: str) -> Any:
    try:
        return read_setting(name)
    except SettingsError:
        return read_setting(name, {})


def longest_wait(settings: Settings) -> timedelta:
    """Return the longest time between one try to ask Lumen and the end of the next."""
    pause = span_of(settings.lumen_schedule, ticks=1)
    return pause + timedelta(seconds=settings.run_time_budget) + STANDS_FOR
