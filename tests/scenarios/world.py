"""A world for scenarios, and the one verdict that each of them ends with.

The function app runs in real host processes against Azurite and the simulators. The verdict reads
the ledger with the product's own code and asks the Sentinel simulator, which knows nothing of it,
what it holds: the two must tell the same story.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.ledger import Ledger, open_ledger
from common.ledger.chunks import Chunk
from common.ledger.runs import Run
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import AzureTables
from common.queues import UPLOAD_QUEUE, AzureQueue
from common.settings import Secret, StorageSettings
from local.cloud import LocalCloud
from local.feed import Feed, expected_ids
from local.functions_host.process import HostProcess
from ops.reconciliation import Reconciliation, reconcile

WITHIN = 60.0
LOOK_EVERY = 0.05
THRESHOLD = 65

CONSUMER = ("sentinel_upload", "keep_poison")
PRODUCER = ("lumen_sync",)
"""What to disable for an instance that only produces, or only consumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A local cloud with its feed, and the ledger as the tests read it."""

    cloud: LocalCloud
    feed: Feed
    ledger: Ledger
    queue: AzureQueue

    @property
    def expected(self) -> set[str]:
        """The ids that must be at Sentinel in the end."""
        return expected_ids(self.feed, threshold=THRESHOLD)

    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        return list(self.ledger.runs.latest(100))[::-1]

    def chunks(self) -> list[Chunk]:
        """Every chunk of every run."""
        return [chunk for run in self.runs() for chunk in self.ledger.chunks.of_run(run.run_id)]

    def fates(self) -> list[Reconciliation]:
        """The reconciliation of every run, oldest first."""
        return [reconcile(run, self.ledger.chunks.of_run(run.run_id)) for run in self.runs()]

    def fire_timer(self, host: HostProcess) -> None:
        """Fire the timer and do not wait."""
        host.invoke_admin("lumen_sync")

    def sync(self, host: HostProcess) -> Run:
        """Fire the timer until a run is complete, as every 15 minutes would; return that run."""
        known = {run.run_id for run in self.runs() if run.state is RunState.COMPLETE}

        def complete() -> Run | None:
            ticks = _ticks(host)
            self.fire_timer(host)
            until(lambda: _ticks(host) > ticks, "the timer's function ends")
            done = [run for run in self.runs() if run.state is RunState.COMPLETE]
            return next((run for run in done if run.run_id not in known), None)

        return until(complete, "a sync run is complete")

    def deliver_all(self) -> None:
        """Wait until no chunk is without an outcome and the queue is empty."""
        until(
            lambda: (
                not any(c.state is ChunkState.QUEUED for c in self.chunks())
                and self.queue.depth() == 0
            ),
            "everything is delivered",
        )


def open_world(cloud: LocalCloud, feed: Feed) -> World:
    """Return the world of a local cloud that runs."""
    storage = StorageSettings(connection_string=Secret(cloud.connection_string))
    return World(
        cloud=cloud,
        feed=feed,
        ledger=open_ledger(AzureTables(storage)),
        queue=AzureQueue(UPLOAD_QUEUE, storage),
    )


def until[T](condition: Callable[[], T | None], what: str, *, within: float = WITHIN) -> T:
    """Return the first true value of `condition`; fail when none comes within `within` s."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(LOOK_EVERY)
    return value


def _ticks(host: HostProcess) -> int:
    return host.log_text().count("Executed 'Functions.lumen_sync'")


def assert_conserved(world: World, *, poisoned: int = 0, rejected: int | None = None) -> None:
    """Assert the conservation law of every run, and that Sentinel lacks nothing.

    `poisoned` indicators may be missing, as the ledger must know; `rejected` ones too, where
    the number is given.
    """
    fates = world.fates()
    assert fates, "no run was recorded"
    for run, fate in zip(world.runs(), fates, strict=True):
        assert fate.balanced, f"run {run.run_id} ({run.state}) does not balance: {fate}"
        assert fate.pending == 0, f"run {run.run_id} has indicators without a fate: {fate}"
    assert sum(fate.poisoned for fate in fates) == poisoned
    if rejected is not None:
        assert sum(fate.rejected for fate in fates) == rejected
    missing = world.cloud.sentinel.missing(world.expected)
    assert len(missing) <= poisoned + (rejected or 0), f"{len(missing)} indicators were lost"
    unexpected = set(world.cloud.sentinel.accepted) - world.expected
    assert not unexpected, f"{len(unexpected)} indicators should not be at Sentinel"


def log_lines(host: HostProcess, event: str) -> list[str]:
    """Return the lines of a host's log that tell of `event`."""
    return [line for line in host.log_text().splitlines() if f" {event} {{" in line]


Options = dict[str, Any]
