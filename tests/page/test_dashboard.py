"""The page in a real browser, against the app on the local cloud with much on record."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.full_ledger import (
    EVIL,
    POISON,
    REPLAYED,
    given_up,
    indicator_of,
    poisoned,
    reason_of,
    row_of,
)
from common.fingerprints import id_hash
from common.ledger.chunks import insertion
from common.records import Record, pack_records
from local.functions_host.process import HostProcess
from tests.page.conftest import HERE, run_of_poison
from tests.page.tabs import open_tab, sign_in, wait_while_it_goes_on
from tests.scenarios.versions import version
from tests.scenarios.world import World, until

Full = tuple[World, HostProcess]
SERIOUS = ("serious", "critical")


@pytest.fixture
def tab(browser: Any, full: Full) -> Iterator[Any]:
    """A tab at the page, which has logged no error in the end."""
    with open_tab(browser, full[1].url) as tab:
        yield tab


def shown(tab: Any, host: HostProcess) -> Any:
    """Return the tab with the feed on it, by a key that may act."""
    sign_in(tab, host.host_key)
    tab.locator("#poison table").wait_for()
    return tab


def test_the_verdict_and_its_reasons_are_on_top(tab: Any, full: Full) -> None:
    """What is wrong in words, and the numbers of each step."""
    world, host = full
    shown(tab, host)
    assert tab.locator("#word").inner_text() == "DEGRADED"
    assert "poison" in tab.locator("#findings").inner_text()
    for step in ("Lumen", "Producer", "Queue", "Consumer", "Sentinel", "Arrived"):
        assert step in tab.locator("#pipeline").inner_text()
    assert tab.locator("#runs rect").count() > 90 * 4
    assert world.ledger.poison.count_kept() == POISON


def test_the_last_pulse_is_shown_until_the_status_comes(tab: Any, full: Full) -> None:
    """The verdict does not wait for ten thousand rows; whose it is stands beside it."""
    held: list[Any] = []

    def hold(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    tab.route("**/api/read/status?**", hold)
    sign_in(tab, full[1].host_key)
    tab.get_by_text("as of the last tick").wait_for()
    assert tab.locator("#word").inner_text() == "DEGRADED"
    assert tab.locator("#findings").inner_text() == "Asking why …"
    until(lambda: tab.title() and held, "the status is asked for")  # a call lets the tab's news in
    held[0].continue_()
    tab.locator("#findings").get_by_text("messages given up").wait_for()
    assert "last tick" not in tab.locator("#as-of").inner_text()


def test_a_wrong_key_is_said_in_words(tab: Any) -> None:
    """Nothing is shown, and the key is not kept."""
    sign_in(tab, "no key at all")
    tab.get_by_role("alert").get_by_text("not valid").wait_for()
    assert not tab.locator("#feed").is_visible()
    assert tab.evaluate("sessionStorage.getItem('key')") is None


def test_a_key_that_only_reads_is_offered_no_act(tab: Any, full: Full) -> None:
    """Everything is shown; what the key may not do is not there to be pressed."""
    _, host = full
    sign_in(tab, host.function_keys["read"])
    tab.locator("#poison table").wait_for()
    tab.locator("#acts p").wait_for()
    act = re.compile("^(Sync now|Pause|Resume|Replay|Discard|Retry|Acknowledge)")
    assert tab.get_by_role("button", name=act).count() == 0
    assert tab.get_by_role("button", name="Sample").count() > 0


def test_a_short_number_or_time_has_its_exact_value(tab: Any, full: Full) -> None:
    """In the reader's own way on the page; as it is for whoever points at it, or tabs to it."""
    shown(tab, full[1])
    times = tab.locator("#as-of .exact")
    exact = times.get_attribute("data-exact")
    assert datetime.fromisoformat(exact).tzinfo is not None
    assert times.inner_text() != exact
    assert (times.get_attribute("title"), times.get_attribute("tabindex")) == (exact, "0")
    whole = tab.locator("#pipeline .exact").first
    assert re.fullmatch(r"\d{1,3}([.,\s]\d{3})+", whole.get_attribute("data-exact"))


def test_a_reason_is_text_and_no_markup(tab: Any, full: Full) -> None:
    """Whatever a service says: it is shown as it is, and nothing of it runs."""
    shown(tab, full[1])
    assert EVIL in tab.locator("#poison").inner_text()
    assert tab.locator("#poison img").count() == 0
    assert tab.title() != "owned"


def test_the_policy_lets_nothing_else_run(tab: Any) -> None:
    """A script that got into the page all the same would not run, nor call another place."""
    blocked = tab.evaluate(
        """async () => {
            const script = document.createElement('script');
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
            try { await fetch('https://example.com/'); return false; } catch { return true; }
        }"""
    )
    assert blocked
    assert tab.title() != "owned"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_bars_people_from_using_it(tab: Any, full: Full, scheme: str) -> None:
    """By the rules of axe, before and behind the key, in both colour schemes."""
    tab.emulate_media(color_scheme=scheme)
    assert faults(tab) == []
    shown(tab, full[1])
    assert faults(tab) == []


def faults(tab: Any) -> list[str]:
    """Return what axe finds serious; its script comes in by the debugger, past the policy."""
    source = (HERE / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    tab.evaluate(source)
    found = tab.evaluate("axe.run()")["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found
        if fault["impact"] in SERIOUS
    ]


def test_an_indicator_is_found_as_text_and_no_markup(tab: Any, full: Full) -> None:
    """Where it is and why, with a reason that would like to be markup; by the keyboard alone.

    The workspace cannot be asked here: the answer says so, and an id gets the ledger's part.
    """
    world, host = full
    shown(tab, host)
    number = POISON - 1
    record = Record(id_hash=id_hash(indicator_of(number)), fingerprint=number)
    envelope = poisoned(run_of_poison(world), number, world.ledger.chunks.ledger_id())
    row = replace(
        row_of(envelope, world.destination, datetime.now(UTC)), records=pack_records([record])
    )
    world.tables.table("chunks").transact([given_up(insertion(row))])
    world.cloud.workspace.behaviour.role_granted = False
    tab.get_by_label("Address, domain, or id").fill(indicator_of(number))
    tab.keyboard.press("Enter")
    tab.locator("#found").get_by_role("cell", name="poisoned", exact=True).wait_for()
    found = tab.locator("#found").inner_text()
    assert EVIL in found
    assert "Sentinel was not asked: the workspace denies queries" in found
    assert tab.locator("#found img").count() == 0
    assert tab.title() != "owned"
    tab.get_by_label("Address, domain, or id").fill(
        "<img src=x onerror=\"document.title='owned'\">"
    )
    tab.keyboard.press("Enter")
    tab.locator("#found").get_by_text("it knows ids alone").wait_for()
    assert tab.title() != "owned"
    assert faults(tab) == []


def test_what_sentinel_holds_has_its_state_in_a_word(tab: Any, full: Full) -> None:
    """As the program prints it."""
    world, host = full
    shown(tab, host)
    world.cloud.workspace.behaviour.role_granted = True
    world.cloud.workspace.ingest([version(1, revoked=True)])
    tab.get_by_label("Address, domain, or id").fill("h1.example")
    tab.keyboard.press("Enter")
    tab.locator("#found").get_by_role("cell", name="revoked", exact=True).wait_for()


def test_a_narrow_screen_at_twice_the_size_scrolls_one_way(tab: Any, full: Full) -> None:
    """400 pixels at 200 % are 200: nothing sticks out to the right."""
    tab.set_viewport_size({"width": 200, "height": 700})
    shown(tab, full[1])
    assert tab.evaluate("document.documentElement.scrollWidth") <= 200


def test_the_keyboard_is_enough(tab: Any, full: Full) -> None:
    """From the key to a dry run and out of it, without a mouse."""
    tab.locator("#key").focus()
    tab.keyboard.type(full[1].host_key)
    tab.keyboard.press("Enter")
    tab.locator("#poison table").wait_for()
    target = tab.get_by_role("row", name=re.compile("onerror")).get_by_role(
        "button", name="Replay these"
    )
    for _ in range(400):
        tab.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            break
    tab.keyboard.press("Enter")
    tab.get_by_role("dialog").wait_for()
    tab.keyboard.press("Escape")
    assert not tab.get_by_role("dialog").is_visible()


def test_three_thousand_messages_are_replayed_with_progress(tab: Any, full: Full) -> None:
    """First what would happen, then the question, then progress; a reload half-way loses nothing.

    What is done stays done, and the same again goes on with the rest.
    """
    world, host = full
    shown(tab, host)
    before = world.queue.depth()
    begin_replay(tab, REPLAYED)
    tab.get_by_text(re.compile(r"^\d[\d,.]* of ")).wait_for()
    tab.reload()
    tab.locator("#poison table").wait_for()
    left = REPLAYED - (world.queue.depth() - before)
    assert 0 < left < REPLAYED
    row = tab.get_by_role("row", name=re.compile("500 ten times"))
    row.get_by_role("button", name="Replay these").click()
    wait_while_it_goes_on(tab, tab.locator("#dialog-yes").is_visible)
    tab.locator("#dialog-yes").click()
    wait_while_it_goes_on(tab, tab.get_by_text("Result of each").is_visible)
    assert tab.locator("#dialog-text").inner_text().endswith("replayed.")
    assert world.queue.depth() - before >= REPLAYED
    acts = list(world.ledger.acts.latest())
    assert {act.by for act in acts} == {"Ada"}


def begin_replay(tab: Any, messages: int) -> None:
    """Ask for the replay of one reason, look at the number, say yes."""
    row = tab.get_by_role("row", name=re.compile(re.escape(reason_of(0))))
    row.get_by_role("button", name="Replay these").click()
    wait_while_it_goes_on(tab, tab.locator("#dialog-yes").is_visible)
    said = tab.locator("#dialog-text").inner_text()
    assert re.sub(r"\D", "", said) == str(messages)
    assert "would be replayed" in said
    tab.locator("#dialog-yes").click()
