"""Row 14: how long until the page shows a verdict, with much on record.

A thousand runs, a day of pulses and ten thousand messages that were given up, on one real host
against Azurite. An operator who has typed the key loads the page again: from the load to the word,
in a headless browser. The verdict of the last pulse comes first; the status, which counts what is
kept, follows and is shown beside it. It needs the set-up of `make test-page`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.browser import open_browser
from benchmarks.full_ledger import POISON, RUNS, fill
from benchmarks.pipeline import open_cloud
from benchmarks.table import Figure, Scale, shown
from common.ledger.tables import AzureTables
from common.settings import Secret, StorageSettings, destination_of
from local.functions_host.process import HostProcess
from local.services.feed import ListFeed

LOADS: Final = {Scale.QUICK: 5, Scale.FULL: 20}

MOST: Final = 1.0
"""Seconds until the first verdict."""

WITHIN: Final = 120_000
"""Milliseconds after which a load has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load of the page: seconds until the first verdict, and until the status is shown."""

    verdict: float
    status: float


def measure(scale: Scale, _: Path | None) -> list[Figure]:
    """Load the page again and again."""
    with open_browser() as browser, open_cloud(ListFeed()) as cloud:
        settings = cloud.app_settings()
        tables = AzureTables(StorageSettings(connection_string=Secret(cloud.connection_string)))
        destination = destination_of(settings["SENTINEL_BASE_URL"], settings["WORKSPACE_ID"])
        fill(tables, destination=destination)
        return judge(_load_often(browser, cloud.start_host(), LOADS[scale]))


def _load_often(browser: Any, host: HostProcess, loads: int) -> list[Load]:
    tab = browser.new_page()
    tab.set_default_timeout(WITHIN)
    tab.goto(f"{host.url}/api/dashboard")
    tab.locator("#key").fill(host.host_key)
    tab.get_by_role("button", name="Show the feed").click()
    _wait_for_all(tab)  # the first load warms everything up
    return [_load(tab) for _ in range(loads)]


def _load(tab: Any) -> Load:
    began = time.monotonic()
    tab.reload(wait_until="commit")
    tab.locator("#word:not(:empty)").wait_for()
    verdict = time.monotonic() - began
    tab.locator("#findings").get_by_text("messages given up").wait_for()
    status = time.monotonic() - began
    _wait_for_all(tab)
    return Load(verdict=verdict, status=status)


def _wait_for_all(tab: Any) -> None:
    """Wait for the last answer of a load, so that none is in the way of the next."""
    tab.locator("#acts p").wait_for()


def judge(loads: Sequence[Load]) -> list[Figure]:
    """Return the figures of some loads. Pure."""
    slowest = max(load.verdict for load in loads)
    return [
        Figure(
            row="14a",
            what=f"the page's first verdict, {RUNS:,} runs and {POISON:,} messages given up",
            value=f"median {median(load.verdict for load in loads):.2f} s, at most {slowest:.2f} s",
            reference=f"{MOST:g} s",
            ratio=None,
            goal=f"under {MOST:g} s",
            met=slowest < MOST,
            note=f"{len(loads)} loads of the page in a headless browser",
        ),
        shown(
            Figure(
                row="14b",
                what="until the status is shown, which counts them",
                value=f"median {median(load.status for load in loads):.2f} s",
                reference="",
                ratio=None,
                goal="",
                met=None,
            )
        ),
    ]
