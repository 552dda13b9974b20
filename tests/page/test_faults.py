"""The page shows each fault of the demo, and its buttons repair those that an operator repairs."""

import base64
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import LocalCloud
from local.demo import desk
from local.demo.faults import PLAYS
from local.services.azurite import Azurite
from local.services.tls import LocalCertificates
from tests.page.tabs import open_tab, sign_in
from tests.scenarios.kept import FEED, SEEN, Kept, keep, settings_of
from tests.scenarios.world import until

PICTURE = "TEST_PAGE_PICTURE"
"""Names the file in which the picture of the documents is kept: docs/page.png."""

Open = Callable[..., LocalCloud]


@pytest.fixture
def open_cloud(
    browser: Any,
    azurite: Azurite,
    new_account: Any,
    certificates: LocalCertificates,
    tmp_path: Path,
) -> Iterator[Open]:
    """Opens a local cloud of its own."""
    clouds: list[LocalCloud] = []

    def start(**options: Any) -> LocalCloud:
        cloud = LocalCloud(
            FEED,
            azurite=azurite,
            account=new_account(),
            certificates=certificates,
            directory=tmp_path,
            **options,
        )
        clouds.append(cloud)
        return cloud.__enter__()

    yield start
    for cloud in clouds:
        cloud.__exit__(None, None, None)


@pytest.mark.parametrize("name", PLAYS)
def test_a_fault_is_seen_and_repaired(
    name: str, browser: Any, open_cloud: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the demo says one will see is on the page, and the button that it names is there."""
    monkeypatch.setattr(desk, "DIRECTORY", tmp_path)
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    kept = keep(name, open_cloud(**settings_of(name)), folder)
    kept.until_it_shows()
    with open_tab(browser, kept.watch.host.url) as tab:
        sign_in(tab, kept.watch.host.host_key)
        _look_until(kept, tab, lambda: _is_shown(name, tab))
        if kept.play.repair.outside:
            assert kept.ask_outside() == name
        if kept.play.repair.act is not None:
            _keep_picture(name, tab)
            _press(tab, kept.play.repair.act.page)
        kept.until_it_is_over()
        _look_until(kept, tab, lambda: tab.locator("#word").inner_text() == "HEALTHY")
        assert tab.locator("#findings li").count() == 0


def _look_until(kept: Kept, tab: Any, holds: Callable[[], bool]) -> None:
    """Load the page again until it shows something, while the demo goes on."""

    def look() -> bool:
        kept.step()
        tab.reload()
        tab.locator("#rejections p").first.wait_for()  # of the last answer
        return holds()

    until(look, "the page shows it")


def _is_shown(name: str, tab: Any) -> bool:
    """Whether the page shows what the demo says of a fault."""
    match name:
        case "throttle":
            return bool(re.search(r"Queue\s*[1-9]", tab.locator("#pipeline").inner_text()))
        case "crash":
            return "running" in (tab.locator("#runs table").text_content() or "")
        case "bad-records":
            return "sentinel" in (tab.locator("#rejections").text_content() or "")
        case _:
            return SEEN[name] in tab.locator("#findings").inner_text()


def _press(tab: Any, button: str) -> None:
    """Press a button, say yes to what it would do, wait for the end, close."""
    tab.get_by_role("button", name=button).first.click()
    tab.locator("#dialog-yes").click()
    tab.locator("#dialog-result").get_by_text(re.compile("^Done|Result of each")).wait_for()
    tab.locator("#dialog-no").click()


def _keep_picture(name: str, tab: Any) -> None:
    """Keep the picture for the documents, where one is asked for."""
    path = os.environ.get(PICTURE)
    if path and name == "poison":
        tab.set_viewport_size({"width": 1000, "height": 760})
        tab.screenshot(path=path)


def test_with_entra_the_page_asks_for_no_key(browser: Any, open_cloud: Open) -> None:
    """The page itself is open to all; it leads to App Service's sign-in, then shows the feed.

    App Service adds the header here named `PRINCIPAL` to what a signed-in browser sends. One who
    has no role is told so.
    """
    settings = {"OPERATOR_CLIENT_ID": str(uuid.uuid4()), "WEBSITE_AUTH_ENABLED": "true"}
    host = open_cloud(settings=settings).start_host()
    with open_tab(browser, host.url) as tab:
        link = tab.get_by_role("link", name="Sign in with Entra")
        link.wait_for()
        assert link.get_attribute("href").startswith("/.auth/login/aad?")
        assert not tab.locator("#key").is_visible()
        tab.set_extra_http_headers({"x-ms-client-principal": _principal()})
        tab.reload()
        tab.get_by_role("alert").get_by_text(re.compile("role")).wait_for()
        tab.set_extra_http_headers({"x-ms-client-principal": _principal("operator")})
        tab.reload()
        tab.get_by_role("button", name="Sync now").wait_for()
        assert tab.locator("#feed").is_visible()
        assert not tab.locator("#sign-in").is_visible()


def _principal(*roles: str) -> str:
    """Return what App Service says of a person with these roles."""
    claims = [{"typ": "roles", "val": role} for role in roles]
    claims.append({"typ": "preferred_username", "val": "ada@example.com"})
    return base64.b64encode(json.dumps({"claims": claims, "role_typ": "roles"}).encode()).decode()
