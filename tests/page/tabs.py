"""A tab of the browser at the page, and how an operator signs in there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.patience import PATIENCE
from tests.scenarios.world import LOOK_EVERY

MILLISECONDS = 1000 * PATIENCE


@contextmanager
def open_tab(
    browser: Any, url: str, *, serve: Callable[[Any], None] | None = None
) -> Iterator[Any]:
    """Open the page of the app at `url`; at the end it has logged no error.

    `serve` answers each request instead of a host; the test can then move the tab's clock.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    try:
        context.set_default_timeout(MILLISECONDS)
        if serve is not None:
            context.route("**/*", serve)
            context.clock.install()
        tab = context.new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(f"{url}/api/dashboard")
        yield tab
    finally:
        context.close()
    assert errors == []


def sign_in(tab: Any, key: str) -> None:
    """Type a key, as an operator does."""
    tab.get_by_label("Function key").fill(key)
    tab.get_by_label("Your name").fill("Ada")
    tab.get_by_role("button", name="Show the feed").click()


def wait_while_it_goes_on(tab: Any, is_done: Callable[[], bool]) -> None:
    """Wait for the end of work in slices: it may take long, but it must not stand still."""
    said, deadline = "", time.monotonic() + PATIENCE
    while not is_done():
        now = tab.locator("#dialog-text").text_content()
        if now != said:
            said, deadline = now, time.monotonic() + PATIENCE
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s behind {said!r}"
        time.sleep(LOOK_EVERY)
