"""The demo as a newcomer runs it: what it prints, and that its exit status is the verdict."""

import json
import subprocess
import sys

import pytest

from local.functions_host.process import PROJECT_ROOT

KEYS = {
    "fetched",
    "filtered",
    "invalid",
    "unchanged",
    "enqueued",
    "accepted",
    "rejected",
    "poisoned",
    "pending",
    "balanced",
    "requests",
    "throttled",
    "seconds",
}


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local.demo", *arguments]
    return subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.usefixtures("azurite")
def test_the_demo_passes_and_ends_with_one_json_line() -> None:
    """A clean run: verdict PASS, exit status 0, and the numbers of the run as the last line."""
    done = _demo("--indicators", "1500", "--hosts", "2", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    *_, verdict, last = [line for line in done.stdout.splitlines() if line]
    assert verdict.startswith("PASS: ")
    numbers = json.loads(last)
    assert set(numbers) == KEYS
    assert numbers["fetched"] == 1500
    assert numbers["balanced"] is True
    assert numbers["accepted"] == numbers["enqueued"] > 0


@pytest.mark.usefixtures("azurite")
def test_the_demo_plays_a_fault_and_explains_it() -> None:
    """With a fault the verdict is the same, and the last word is what was to be seen."""
    done = _demo("--indicators", "1500", "--fault", "bad-records")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fault: Sentinel refuses whole requests" in done.stdout
    assert "what you saw: " in done.stdout


def test_a_wrong_option_is_explained() -> None:
    """Nonsense ends with the usage, before anything is started."""
    done = _demo("--indicators", "none")
    assert done.returncode == 2
    assert "'none' is not a whole number above 0" in done.stderr
