"""The page's acts: what is done is what was shown, and what is said belongs to what is asked.

Against the API over a bench, in a real browser: no host, no storage.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from common.envelope import Attempt
from common.ledger.poison import PoisonRecord, PoisonState
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.runs import Run
from common.ledger.states import RunState
from ops import doctor
from ops.api.parameters import MAX_NAMES, MAX_ROWS
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


@pytest.mark.parametrize(
    ("verb", "done"), [("Discard", PoisonState.DISCARDED), ("Replay", PoisonState.REPLAYED)]
)
@pytest.mark.parametrize("of_one_reason", [True, False], ids=["one-reason", "all"])
def test_an_act_takes_what_was_shown_and_no_more(
    tab: Any, app: BenchApp, verb: str, done: PoisonState, *, of_one_reason: bool
) -> None:
    """Not what was given up since the look; of a group not what only contains its reason."""
    bench = app.bench
    shown = [bench.poison(number, reason=NARROW) for number in range(2)]
    other = bench.poison(2, reason=WIDE)
    show(tab)
    if of_one_reason:
        press(tab, f"{verb} these", row=NARROW)
    else:
        press(tab, f"{verb} all 3")
        shown.append(other)
    tab.locator("#dialog-yes").wait_for()
    assert tab.locator("#dialog-yes").inner_text() == f"{verb} {len(shown)}"
    later = bench.poison(3, reason=NARROW)
    tab.locator("#dialog-yes").click()
    tab.get_by_text("Result of each").wait_for()
    assert {state(bench, record) for record in shown} == {done}
    assert state(bench, later) is PoisonState.KEPT
    if of_one_reason:
        assert state(bench, other) is PoisonState.KEPT
    act = next(iter(bench.toolbox.ledger.acts.latest()))
    assert act.note == (f"{verb} these: {NARROW}" if of_one_reason else f"{verb} all 3")


def test_many_names_go_in_several_calls(tab: Any, app: BenchApp) -> None:
    """No call has more names than the API takes, and nothing is left out."""
    bench = app.bench
    records = [bench.poison(number) for number in range(MOST_NAMES + 1)]
    show(tab)
    press(tab, "Discard these")
    tab.locator("#dialog-yes").click()
    tab.get_by_text("Result of each").wait_for()
    assert tab.locator("#dialog-text").inner_text() == f"{MOST_NAMES + 1} discarded."
    assert {state(bench, record) for record in records} == {PoisonState.DISCARDED}
    # On a busy machine a call ends before all of its names, and the same names are sent again.
    sent = dict.fromkeys(tuple(call.given["names"]) for call in app.done("act/poison/discard"))
    assert [len(names) for names in sent] == [MOST_NAMES, 1]
    assert MOST_NAMES <= MAX_NAMES


@pytest.mark.parametrize("older", ["work", "look", "sample", "run"])
def test_an_older_act_says_nothing_in_a_newer_question(tab: Any, app: BenchApp, older: str) -> None:
    """Its answer comes after its dialog was closed and the next was opened: that stays as it is."""
    app.bench.poison(0, reason=NARROW)
    app.bench.poison(1, reason=WIDE)
    show(tab)
    match older:
        case "work":
            app.holds = lambda call: call.path == "act/poison/replay" and call.changes
            press(tab, "Replay these", row=NARROW)
            tab.locator("#dialog-yes").click()
        case "look":
            app.holds = lambda call: call.path == "act/poison/replay"
            app.refused["act/poison/replay"] = HTTPStatus.SERVICE_UNAVAILABLE
            press(tab, "Replay these", row=NARROW)
        case "sample":
            app.holds = lambda call: call.path.startswith("read/poison/")
            press(tab, "Sample")
        case "run":
            app.holds = lambda call: call.path == "act/sync"
            press(tab, "Sync now")
            tab.locator("#dialog-yes").click()
    tab.wait_for_function("document.querySelector('#dialog-yes').hidden")
    _until_held(tab, app)
    tab.locator("#dialog-no").click()
    press(tab, "Discard these", row=WIDE)
    tab.locator("#dialog-yes").wait_for()
    question = tab.locator("#dialog").inner_text()
    assert "1 would be discarded" in question
    app.release()
    _answer_one_more(tab)
    assert tab.locator("#dialog").inner_text() == question
    assert tab.locator("#dialog-yes").is_visible()
    assert not tab.locator("#dialog-progress").is_visible()


def _until_held(tab: Any, app: BenchApp) -> None:
    """Let requests of the tab in until one is held."""
    while not app.held:
        _answer_one_more(tab)


def _answer_one_more(tab: Any) -> None:
    """Let the tab ask and get one more answer, behind all that it has got."""
    tab.evaluate("fetch('/api/read/acts').then((answer) => answer.text())")


def test_a_busy_app_hides_the_acts_until_the_next_look_only(tab: Any, app: BenchApp) -> None:
    """503 says nothing of the key: the page says so, and asks again."""
    sync = tab.get_by_role("button", name="Sync now")
    app.refused["act"] = HTTPStatus.SERVICE_UNAVAILABLE
    show(tab)
    assert sync.count() == 0
    assert "Not known what this key may do" in tab.locator("#trouble").inner_text()
    del app.refused["act"]
    tab.clock.fast_forward(EVERY)
    sync.wait_for()
    tab.wait_for_function("document.querySelector('#trouble').textContent === ''")


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
def test_a_reading_key_is_not_asked_about_again(
    tab: Any, app: BenchApp, status: HTTPStatus
) -> None:
    """It may not act: that is known, and no trouble."""
    app.refused["act"] = status
    show(tab)
    app.calls.clear()
    with tab.expect_response("**/api/read/acts?**"):
        tab.clock.fast_forward(EVERY)
    assert not any(call.path == "act" for call in app.calls)
    assert tab.get_by_role("button", name="Sync now").count() == 0
    assert tab.locator("#trouble").inner_text() == ""


def test_a_gap_that_is_none_any_more_is_said(tab: Any, app: BenchApp) -> None:
    """Somebody else acknowledged it meanwhile: that is not done by this act."""
    gap: Run = app.bench.run(RunState.GAP, reason="token unknown")
    app.bench.clock.advance(60)
    app.bench.run()
    show(tab)
    press(tab, "Acknowledge")
    ledger = app.bench.toolbox.ledger
    ledger.runs.acknowledge(gap.run_id, at=app.bench.clock.now(), by="ann")
    tab.locator("#dialog-yes").click()
    said = tab.locator("#dialog-result").get_by_text("already acknowledged")
    said.wait_for()
    assert said.inner_text() == f"Run {gap.run_id}: already acknowledged."


def test_what_has_ended_is_folded_and_stays_as_it_was_left(tab: Any, app: BenchApp) -> None:
    """It does not push the repair down; a look does not close what an operator opened."""
    ledger = app.bench.toolbox.ledger
    for _ in range(2):
        gap = app.bench.run(RunState.GAP, reason="token unknown")
        ledger.runs.acknowledge(gap.run_id, at=app.bench.clock.now(), by="ann")
        app.bench.clock.advance(60)
    show(tab)
    ended = tab.locator("#problems").get_by_role("region", name="Ended")
    assert ended.count() == 0
    assert tab.locator("#problems").get_by_text("no problem").is_visible()
    tab.locator("#problems summary").get_by_text("Ended: 2", exact=True).click()
    assert ended.locator("tbody tr").count() == 2
    with tab.expect_response("**/api/read/acts?**"):
        tab.clock.fast_forward(EVERY)
    _answer_one_more(tab)
    assert ended.is_visible()


@pytest.mark.parametrize("is_well", [True, False])
def test_the_doctor_says_first_what_needs_attention(
    tab: Any, monkeypatch: pytest.MonkeyPatch, *, is_well: bool
) -> None:
    """A sentence, then a check a row: those that are not ok first, each with its remedy."""
    lines = [doctor.ok("clock", "0 s off"), doctor.not_asked("upload", "there is no token")]
    rows = [["not asked", "upload", "there is no token", ""], ["ok", "clock", "0 s off", ""]]
    said = "All is well; 1 not asked."
    if not is_well:
        lines.append(doctor.problem("token", "Entra refuses <b>it</b>", "renew the secret"))
        rows.insert(0, ["problem", "token", "Entra refuses <b>it</b>", "renew the secret"])
        said = "1 of 3 checks needs attention; 1 not asked."
    monkeypatch.setattr("ops.api.reading.examine_all", lambda: lines)
    press(tab, "Ask the doctor")
    checks = tab.get_by_role("region", name="Checks")
    checks.wait_for()
    assert tab.locator("#answers > p").inner_text() == said
    shown = checks.locator("tbody tr").all()
    assert [row.locator("td").all_inner_texts() for row in shown] == rows


def reject(bench: Bench, number: int, by: RejectedBy) -> None:
    """Record a rejection, later than all before."""
    rejection = Rejection(
        run_id="invalid" if by is RejectedBy.VALIDATION else "20260101T000000-0badcafe",
        position=f"chunk-{number:06d}-1-1",
        rejected_by=by,
        indicator_id=f"indicator--{number}",
        pattern="",
        reason="no pattern",
        content=b"{}",
        at=bench.clock.now() + timedelta(seconds=number),
    )
    bench.toolbox.ledger.rejections.record([rejection])


def test_newer_invalid_records_do_not_hide_a_refused_one(tab: Any, app: BenchApp) -> None:
    """It is not among the rows that are shown; the look finds it, and it alone is sent again."""
    reject(app.bench, 0, RejectedBy.SENTINEL)
    for number in range(1, 61):
        reject(app.bench, number, RejectedBy.VALIDATION)
    show(tab)
    press(tab, "Retry all that Sentinel refused")
    tab.locator("#dialog-yes").wait_for()
    assert tab.locator("#dialog-yes").inner_text() == "Retry 1"
    tab.locator("#dialog-yes").click()
    tab.get_by_text("Result of each").wait_for()
    assert tab.locator("#dialog-text").inner_text() == "1 goes with the next run."


def test_where_all_are_shown_and_none_was_refused_no_retry_is_offered(
    tab: Any, app: BenchApp
) -> None:
    """An invalid record cannot be sent."""
    reject(app.bench, 1, RejectedBy.VALIDATION)
    show(tab)
    assert tab.get_by_role("button", name="Download").count() == 1
    assert tab.get_by_role("button", name="Retry").count() == 0


@pytest.mark.parametrize("count", [1, MAX_ROWS + 1])
def test_a_download_says_how_much_it_has(tab: Any, app: BenchApp, count: int) -> None:
    """All, or the newest thousand of them."""
    for number in range(count):
        reject(app.bench, number, RejectedBy.VALIDATION)
    show(tab)
    with tab.expect_download() as download:
        press(tab, "Download as CSV" if count == 1 else "Download the newest 1,000 as CSV")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + min(count, MAX_ROWS)
    said = "all records" if count == 1 else "the newest 1,000 of 1,001 records"
    assert said in tab.locator("#dialog-text").inner_text()


def test_a_download_that_fails_says_why(tab: Any, app: BenchApp) -> None:
    """The button does not just do nothing."""
    reject(app.bench, 1, RejectedBy.VALIDATION)
    show(tab)
    app.refused["read/rejections"] = HTTPStatus.SERVICE_UNAVAILABLE
    press(tab, "Download as CSV")
    tab.locator("#dialog").get_by_text("Not downloaded: storage is away").wait_for()
