"""`--repair`: the right demo is asked, and what cannot be asked is explained."""

import os
import threading
from pathlib import Path

import pytest

from local.demo import desk
from local.demo.desk import FAULT, REPAIR, Desk, NotAskedError, ask_for_repair
from tests.patience import PATIENCE

GONE = str(2**22 + 7)
"""No process has this number."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this process, as a demo's."""
    monkeypatch.setattr(desk, "DIRECTORY", tmp_path)
    own = tmp_path / str(os.getpid())
    own.mkdir()
    return own


def demo_of(process: str, folder: Path) -> None:
    """Leave what a demo with a fault leaves."""
    other = folder.parent / process
    other.mkdir()
    (other / FAULT).write_text("throttle", encoding="utf-8")


def test_a_demo_does_what_it_is_asked(folder: Path) -> None:
    """The asker waits for it and learns which fault it was; another one has nothing to ask."""
    mine = Desk(folder)
    mine.open("outage")
    demo_of(GONE, folder)
    told: list[str] = []
    asker = threading.Thread(target=lambda: told.append(ask_for_repair(within=PATIENCE)))
    asker.start()
    while not mine.is_asked():
        assert asker.is_alive()
    mine.close()
    asker.join()
    assert told == ["outage"]
    assert not list(folder.iterdir())
    with pytest.raises(NotAskedError, match="no demo with a fault"):
        ask_for_repair()


def test_of_several_demos_one_is_named(folder: Path) -> None:
    """Which there are is said; a process without a fault is none."""
    Desk(folder).open("outage")
    demo_of("1", folder)
    with pytest.raises(NotAskedError, match=f"1, {folder.name}|{folder.name}, 1"):
        ask_for_repair()
    with pytest.raises(NotAskedError, match="no demo with a fault"):
        ask_for_repair(int(GONE))


def test_a_demo_that_does_not_answer_is_not_waited_for(folder: Path) -> None:
    """The asker says so; the request stays for when it looks again."""
    Desk(folder).open("outage")
    with pytest.raises(NotAskedError, match="does not answer"):
        ask_for_repair(within=0.0)
    assert (folder / REPAIR).exists()
