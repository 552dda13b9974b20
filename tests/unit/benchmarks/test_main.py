"""The runner: rows in order, failures shown, goals that are missed change no exit status."""

import importlib
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as runner
from benchmarks.table import Figure, Scale

ROWS = dict(runner.MODULES)
MISSED = Figure(
    row="2", what="w", value="v", reference="r", ratio=9.0, goal="at most 1 x", met=False
)


def _fails(scale: Scale, feed: Path | None) -> list[Figure]:
    raise OSError("no such service")


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows: one that fails, and one whose goal is missed."""
    fakes = {"failing": _fails, "missing": lambda scale, feed: [MISSED]}
    monkeypatch.setattr(runner, "MODULES", {"1": "failing", "2": "missing"})
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name, measure in fakes.items():
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", SimpleNamespace(measure=measure))


def test_every_row_has_its_module() -> None:
    """Rows 1 to 14 in order, each with a `measure`."""
    assert list(ROWS) == [str(number) for number in range(1, 15)]
    modules = [importlib.import_module(f"benchmarks.{name}") for name in ROWS.values()]
    assert all(callable(module.measure) for module in modules)


def test_a_row_that_raises_is_shown_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are measured all the same, and the exit status is 1."""
    assert runner.main([]) == 1
    shown = capsys.readouterr().out
    assert "FAILED: OSError: no such service" in shown
    assert "at most 1 x  NO" in shown


def test_a_missed_goal_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown and written down; the exit status is 0."""
    result = tmp_path / "result.json"
    assert runner.main(["--only", "2", "--quick", "--markdown", "--json", str(result)]) == 0
    assert "| NO |" in capsys.readouterr().out
    written = json.loads(result.read_text())
    assert written["scale"] == "quick"
    assert [line["met"] for line in written["lines"]] == [False]


def test_the_heading_names_the_rows_that_no_file_feeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that nobody takes made-up indicators for real ones."""
    path = tmp_path / "feed.jsonl"
    path.touch()
    runner.main(["--only", "2", "--feed", str(path)])
    shown = capsys.readouterr().out
    assert shown.startswith(
        "Full scale, indicators from a file (rows 3, 7, 9, 12, 13 and 14: made up); "
    )


def test_unknown_rows_and_files_are_refused(tmp_path: Path) -> None:
    """Before anything is measured."""
    for wrong in (["--only", "3"], ["--feed", str(tmp_path / "none.jsonl")]):
        with pytest.raises(SystemExit) as caught:
            runner.main(wrong)
        assert caught.value.code == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "it names no row"),
        (" , ", "it names no row"),
        ("3", "there is no row 3; there are 1, 2"),
    ],
)
def test_rows_that_are_not_there_are_named(
    asked: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is an empty list taken for all of them, or for none."""
    with pytest.raises(SystemExit):
        runner.main(["--only", asked])
    assert said in capsys.readouterr().err


def test_rows_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the order in which they are asked for."""
    runner.main(["--only", "2,1"])
    progress = capsys.readouterr().err
    assert progress.index("row 1") < progress.index("row 2")
