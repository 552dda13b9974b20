"""The demo as a newcomer runs it: what it prints, and that its exit status is the verdict."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.demo.faults import PLAYS
from local.functions_host.process import PROJECT_ROOT
from tests.patience import PATIENCE

KEYS = {
    "verdict",
    "fetched",
    "filtered",
    "invalid",
    "unchanged",
    "older",
    "enqueued",
    "corrections",
    "accepted",
    "rejected",
    "struck",
    "poisoned",
    "pending",
    "balanced",
    "expected",
    "missing",
    "unexpected",
    "sampled",
    "arrived",
    "requests",
    "throttled",
    "seconds",
}

COMMAND = (sys.executable, "-m", "local.demo")


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def _start_demo(*arguments: str, scratch: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _read_until(demo: subprocess.Popen[str], text: str) -> str:
    """Return the first line that holds the text."""
    assert demo.stdout
    found = next((line for line in demo.stdout if text in line), None)
    assert found, f"the demo ended before it said {text!r}"
    return found


ODD_ONES: list[dict[str, object]] = [
    {},
    {"id": "indicator--not-a-uuid"},
    {"created": " "},
    {"confidence": 85.0},
    {"confidence": "85.0"},
    {"confidence": "low"},
    {"revoked": True},
    {"type": "malware"},
]
"""What is odd about each object of a small feed: three of them are sent."""


@pytest.mark.usefixtures("azurite")
def test_a_feed_of_odd_objects_passes_and_ends_with_one_json_line(tmp_path: Path) -> None:
    """The judge expects of each object what the documents say; the numbers are the last line."""
    objects = [
        {
            "type": "indicator",
            "id": f"indicator--{number:08d}-0000-4000-8000-000000000000",
            "created": "2026-10-01T00:00:00Z",
            "modified": "2026-10-01T00:00:00Z",
            "pattern": f"[domain-name:value = 'h{number}.example']",
            "pattern_type": "stix",
            "valid_from": "2026-10-01T00:00:00Z",
            "confidence": 80,
        }
        | odd
        for number, odd in enumerate(ODD_ONES)
    ]
    path = tmp_path / "feed.json"
    bundle = {"type": "bundle", "objects": objects}
    path.write_text(json.dumps(bundle, indent=1), encoding="utf-8")
    done = _demo("--feed", str(path), "--hosts", "2", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    *_, verdict, last = [line for line in done.stdout.splitlines() if line]
    assert verdict.startswith("PASS: ")
    numbers = json.loads(last)
    assert set(numbers) == KEYS
    assert (numbers["verdict"], numbers["balanced"]) == ("PASS", True)
    assert numbers["accepted"] == numbers["enqueued"] == numbers["expected"]
    assert numbers["arrived"] == numbers["sampled"] > 0
    found = {name: numbers[name] for name in ("fetched", "invalid", "filtered", "accepted")}
    assert found == {"fetched": 8, "invalid": 4, "filtered": 1, "accepted": 3}


@pytest.mark.usefixtures("azurite")
@pytest.mark.parametrize("fault", PLAYS)
def test_a_small_feed_meets_the_fault_and_it_is_explained(fault: str) -> None:
    """With a fault the verdict is the same, and the last word is what was to be seen."""
    done = _demo("--indicators", "200", "--fault", fault)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"fault: {PLAYS[fault].story}" in done.stdout
    assert done.stdout.endswith(f"what you saw: {PLAYS[fault].lesson}\n")


@pytest.mark.usefixtures("azurite")
def test_a_fault_that_was_not_met_is_not_explained() -> None:
    """One record is never refused: no PASS, no explanation, but what to do."""
    done = _demo("--indicators", "1", "--fault", "bad-records", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "NOT MET: the fault was not met: " in done.stdout
    assert "use more indicators" in done.stdout
    assert "what you saw" not in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["verdict"] == "NOT MET"


@pytest.mark.usefixtures("azurite")
def test_what_keep_prints_can_be_pasted_for_ops(tmp_path: Path) -> None:
    """The line that it prints makes `python -m ops` see the run."""
    demo = _start_demo("--indicators", "200", "--keep", scratch=tmp_path)
    try:
        over_http = _read_until(demo, "export LUMEN_SENTINEL_URL=")
        for line in (over_http, _read_until(demo, "export PipelineStorage=")):
            status = subprocess.run(
                ["sh", "-c", f"{line.strip()}; {shlex.quote(sys.executable)} -m ops status"],
                cwd=PROJECT_ROOT,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert "the feed is HEALTHY" in status.stdout, status.stderr
            assert re.search(r"complete +200 ", status.stdout)
        assert "new" in _read_until(demo, "Lumen lists ")
    finally:
        demo.terminate()
        demo.communicate(timeout=PATIENCE)


@pytest.mark.usefixtures("azurite")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_end_from_outside_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """After Ctrl-C or a closed terminal the status says so, and the scratch folder is gone."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("ignored here and by what is started here, as under nohup")
    demo = _start_demo("--indicators", "200", scratch=tmp_path)
    try:
        _read_until(demo, "firing the timer")
    finally:
        demo.send_signal(number)
        told, _ = demo.communicate(timeout=PATIENCE)
    assert ("stopping ... (again to stop at once)" in told) is (number is signal.SIGINT)
    assert demo.returncode == 128 + number
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("azurite")
def test_pressed_again_it_waits_for_no_host(tmp_path: Path) -> None:
    """A second Ctrl-C kills what the first one waits for; nothing is left behind either."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("ignored here and by what is started here, as under nohup")
    demo = _start_demo("--indicators", "200", scratch=tmp_path)
    try:
        _read_until(demo, "firing the timer")
        demo.send_signal(signal.SIGINT)
        _read_until(demo, "stopping ...")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 128 + signal.SIGINT
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("azurite")
def test_a_closed_pipe_ends_it_without_a_traceback(tmp_path: Path) -> None:
    """As in `make demo | head`: nothing on standard error, nothing left behind."""
    with (tmp_path / "errors").open("w+") as errors:
        demo = subprocess.Popen(
            [*COMMAND, "--indicators", "200"],
            cwd=PROJECT_ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        _read_until(demo, "local cloud is up")
        assert demo.stdout
        demo.stdout.close()
        assert demo.wait(timeout=PATIENCE) == 128 + signal.SIGPIPE
        errors.seek(0)
        assert errors.read() == ""
    assert [path.name for path in tmp_path.iterdir()] == ["errors"]


@pytest.mark.usefixtures("azurite")
def test_a_report_shows_what_the_terminal_showed(tmp_path: Path) -> None:
    """One HTML file with verdict, table and picture."""
    path = tmp_path / "report.html"
    done = _demo("--indicators", "200", "--report", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    page = path.read_text(encoding="utf-8")
    assert "PASS: Sentinel holds all" in page
    assert page.count("<polyline") == 2
