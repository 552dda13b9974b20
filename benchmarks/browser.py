"""A headless Chromium, for the row of the page and for its tests.

They need the set-up of `make test-page`: Playwright, and the browser of an npm package where none
is installed.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = Path(__file__).resolve().parents[1] / "tests/page"
"""The folder whose `node_modules` has the browser."""

UNSAFE: Final = (
    "--disable-web-security",
    "--allow-running-insecure-content",
    "--single-process",
)
"""Switches of the npm package's list that would make it another browser than users have."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield a running browser; raises ImportError without Playwright."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of another set-up

    path, arguments = _installed() or _packaged()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield running
        finally:
            running.close()


def _installed() -> tuple[str, list[str]] | None:
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    return None if path is None else (path, ["--no-sandbox"])


def _packaged() -> tuple[str, list[str]]:
    """Return the path of the npm package's browser, and the switches that it wants."""
    node = shutil.which("node") or str(PACKAGES.parents[1] / ".venv/bin/node")
    script = (
        "import c from '@sparticuz/chromium';"
        "console.log(JSON.stringify([await c.executablePath(), c.args]))"
    )
    found = subprocess.run(
        [node, "--input-type=module", "-e", script],
        cwd=PACKAGES,
        capture_output=True,
        text=True,
        check=True,
    )
    path, arguments = json.loads(found.stdout)
    return path, [each for each in arguments if not each.startswith(UNSAFE)]
