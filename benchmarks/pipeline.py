"""The pipeline on a local cloud, as benchmarks drive it: a world, a sync, everything delivered.

It sees what an operator sees, through the status function of the app; what has arrived it asks the
Sentinel simulator.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from local.cloud import LocalCloud
from local.functions_host.process import HostProcess
from local.services.azurite import Azurite
from local.services.feed import Feed

LOOK_EVERY: Final = 0.5
TICK_EVERY: Final = 5.0
"""Seconds after which the timer is fired again while a run is not complete."""

TICKS: Final = 20
"""Ticks without a complete run after which a benchmark gives up."""

WITHIN: Final = 900.0
"""Seconds without the end of a sync after which a benchmark gives up."""

_RUNS: Final = 200
"""Runs of the status: more than any benchmark makes."""


@contextmanager
def open_cloud(
    feed: Feed, *, azurite: Azurite | None = None, **options: Any
) -> Iterator[LocalCloud]:
    """Yield a local cloud with this feed, and no host yet; `options` are those of `LocalCloud`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        if azurite is not None:
            with LocalCloud(feed, azurite=azurite, directory=Path(directory), **options) as cloud:
                yield cloud
        else:
            with (
                Azurite() as own,
                LocalCloud(feed, azurite=own, directory=Path(directory), **options) as cloud,
            ):
                yield cloud


def sync(host: HostProcess) -> dict[str, Any]:
    """Fire the timer until a new run is complete, as every 15 minutes would; return that run."""
    before = {run["run"] for run in runs(host) if run["state"] == "complete"}
    fired, ticks = 0.0, 0

    def completed() -> dict[str, Any] | None:
        nonlocal fired, ticks
        found = runs(host)
        new = [run for run in found if run["state"] == "complete" and run["run"] not in before]
        if new:
            return new[0]
        at_work = bool(found) and found[0]["state"] == "running"
        if not at_work and time.monotonic() - fired > TICK_EVERY:
            if ticks == TICKS:
                raise RuntimeError(f"no sync run is complete after {ticks} ticks")
            host.invoke_admin("lumen_sync")
            fired, ticks = time.monotonic(), ticks + 1
        return None

    return until(completed, "a sync run is complete")


def deliver_all(host: HostProcess) -> list[dict[str, Any]]:
    """Wait until no indicator of any run is pending; return the runs, newest first."""

    def settled() -> list[dict[str, Any]] | None:
        found = runs(host)
        return None if any(run["pending"] for run in found) else found

    return until(settled, "everything is delivered")


def runs(host: HostProcess) -> list[dict[str, Any]]:
    """Return the latest runs with the fate of their indicators, newest first."""
    answer = host.get(f"/api/read/status?runs={_RUNS}")
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["runs"]
    return found


def until[T](condition: Callable[[], T | None], what: str, *, within: float = WITHIN) -> T:
    """Return the first true value of `condition`. Raises TimeoutError."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}")
        time.sleep(LOOK_EVERY)
    return value
