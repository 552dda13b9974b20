"""The parts that the operators' functions need, made from the storage settings alone.

They need neither Lumen nor Sentinel nor Entra, so they work while those fail. The workspace is
opened by the function that asks it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from common.clock import Clock, SystemClock
from common.identity import storage_credential
from common.ledger import Ledger, open_ledger
from common.ledger.problems import Problems
from common.ledger.sends import Sends
from common.ledger.slots import Slots
from common.ledger.tables import AzureTables
from common.queues import (
    POISON_QUEUE,
    SYNC_QUEUE,
    UPLOAD_QUEUE,
    AzureQueue,
    ReceiveQueue,
    SendQueue,
    WatchedQueue,
)
from common.schedule import read_stale_after
from common.settings import read_destination, read_setting, read_storage_settings
from common.view import View, read_view
from common.workspace import Workspace
from ops.workspace import open_workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """Ledger, queues and what goes with them."""

    ledger: Ledger
    problems: Problems
    sends: Sends
    slots: Slots
    queue: WatchedQueue
    poison_queue: ReceiveQueue
    sync_queue: SendQueue
    clock: Clock
    requests_per_minute: float
    stale_after: timedelta
    workspace: Callable[[], Workspace]
    """Opens the workspace; raises `SettingsError`."""
    destination: str = ""
    """The present workspace; empty if the environment does not name it."""

    def view(self, *, runs: int) -> View:
        """Read the state of the pipeline, with its latest `runs` runs."""
        return read_view(
            self.ledger,
            self.problems,
            queue=self.queue,
            poison_queue=self.poison_queue,
            runs=runs,
            now=self.clock.now(),
            requests_per_minute=self.requests_per_minute,
            stale_after=self.stale_after,
            destination=self.destination,
        )


def open_toolbox() -> Toolbox:
    """Return the toolbox that the environment describes; raises `SettingsError`."""
    storage = read_storage_settings()
    rate = float(read_setting("SENTINEL_REQUESTS_PER_MINUTE"))
    credential = storage_credential(storage)
    tables, clock = AzureTables(storage, credential=credential), SystemClock()
    return Toolbox(
        ledger=open_ledger(tables),
        problems=Problems(tables, clock=clock),
        sends=Sends(tables, clock=clock),
        slots=Slots(tables, clock=clock, requests_per_minute=rate),
        queue=AzureQueue(UPLOAD_QUEUE, storage, credential=credential),
        poison_queue=AzureQueue(POISON_QUEUE, storage, credential=credential),
        sync_queue=AzureQueue(SYNC_QUEUE, storage, credential=credential),
        clock=clock,
        requests_per_minute=rate,
        stale_after=read_stale_after(),
        workspace=cache(lambda: open_workspace(clock)),
        destination=read_destination(),
    )
