"""The page's acts: what is done is what was shown, and what is said belongs to what is asked.

Against the API over a bench, in a real browser: no host, no storage.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from common.envelope import Attempt
from common.ledger.poison import PoisonRecord, PoisonState
from tests.page.bench_app import URL, BenchApp
from tests.page.tabs import open_tab
from tests.unit.ops.samples import Bench

NARROW = "Sentinel is broken"
WIDE = "Sentinel is broken (503)"
MOST_NAMES = 500
"""The most names that the page gives in one call."""
EVERY = 30_000
"""Milliseconds between two looks of the page."""


@pytest.fixture
def app() -> BenchApp:
    """The app, on whose bench the test puts what the page shows."""
    return BenchApp()


@pytest.fixture
def tab(browser: Any, app: BenchApp) -> Iterator[Any]:
    """A tab of that app."""
    with open_tab(browser, URL, serve=app.serve) as tab:
        tab.locator("#acts > *").wait_for()
        yield tab


def show(tab: Any) -> None:
    """Let the page look again, now."""
    tab.reload()
    tab.locator("#acts > *").wait_for()


def press(tab: Any, button: str, *, row: str = "") -> None:
    """Press the button of that name, in the row that begins with a text."""
    place = tab.locator("tr", has=tab.get_by_role("cell", name=row, exact=True)) if row else tab
    place.get_by_role("button", name=button).first.click()


def state(bench: Bench, record: PoisonRecord) -> PoisonState:
    """Return the state of a record now."""
    found = bench.toolbox.ledger.poison.get(record.run_id, record.poison_id)
    assert found is not None
    return found.state


def test_a_sample_shows_when_and_why_a_message_failed_before(tab: Any, app: BenchApp) -> None:
    """Its reason, earlier failures and indicators; a time that is none is shown as it is."""
    earlier = (
        Attempt(at="2026-01-01T07:39:42+00:00", reason="503 at first"),
        Attempt(at="soon", reason="400 then"),
    )
    app.bench.toolbox.ledger.poison.keep(replace(app.bench.poison(), history=earlier))
    show(tab)
    press(tab, "Sample")
    history = tab.get_by_role("region", name="History")
    history.wait_for()
    assert history.locator(".exact").get_attribute("data-exact") == "2026-01-01T07:39:42+00:00"
    for text in ("503 at first", "soon", "400 then"):
        assert text in history.inner_text()
    assert tab.get_by_role("region", name="Indicators").locator("tbody tr").count() == 2
