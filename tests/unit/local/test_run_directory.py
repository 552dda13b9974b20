"""Where runs keep their files: none disturbs another that is still running."""

import os
from pathlib import Path

import pytest

from local import run_directory


def test_only_what_ended_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs keeps its directory, whoever started it; anything else goes."""
    monkeypatch.setattr(run_directory, "DIRECTORY", tmp_path)
    mine, first, gone, other = (
        tmp_path / name for name in (str(os.getpid()), "1", str(2**22 + 7), "chaos")
    )
    for directory in (mine, first, gone, other):
        directory.mkdir()
    assert run_directory.fresh_directory() == mine
    assert sorted(tmp_path.iterdir()) == sorted([first, mine])
