"""Asking a demo that runs elsewhere on this machine to end the cause of its fault: `--repair`.

It stands for what on Azure is done outside of the app: a portal, another team, the end of an
outage. Demo and asker meet in files of the demo's own folder, `.demo/<process id>`: `fault` says
which cause lasts, `repair` asks for its end, and goes once the demo has seen to it.
"""

import time
from pathlib import Path

from local.run_directory import DIRECTORY, is_running

FAULT, REPAIR = "fault", "repair"

ANSWERED_WITHIN = 30.0
"""Seconds; the demo looks every half a second, and between two answers of the app."""

_LOOK_EVERY = 0.05


class Desk:
    """The demo's side: says that a cause lasts, and sees whether its end is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def name(self) -> str:
        """By which `--repair` names this demo: its process."""
        return self._directory.name

    def open(self, fault: str) -> None:
        """Say which cause lasts."""
        (self._directory / FAULT).write_text(fault, encoding="utf-8")

    def is_asked(self) -> bool:
        """Whether somebody asked for the end of the cause."""
        return (self._directory / REPAIR).exists()

    def close(self) -> None:
        """Say that the cause is over; twice is allowed."""
        for name in (FAULT, REPAIR):
            (self._directory / name).unlink(missing_ok=True)


class NotAskedError(Exception):
    """Nobody can be asked; the message says why and what to do."""


def ask_for_repair(process: int = 0, *, within: float = ANSWERED_WITHIN) -> str:
    """End the cause in the demo of a process, or in the only one; return the fault's name.

    Raises `NotAskedError`.
    """
    folder = _folder(process)
    fault = (folder / FAULT).read_text(encoding="utf-8")
    asked = folder / REPAIR
    asked.touch()
    end = time.monotonic() + within
    while asked.exists():
        if not is_running(folder.name):
            raise NotAskedError(f"the demo of process {folder.name} has ended")
        if time.monotonic() > end:
            raise NotAskedError(f"the demo of process {folder.name} does not answer")
        time.sleep(_LOOK_EVERY)
    return fault


def _folder(process: int) -> Path:
    """Return the folder of the demo that is meant."""
    waiting = [path.parent for path in DIRECTORY.glob(f"*/{FAULT}") if is_running(path.parent.name)]
    meant = [path for path in waiting if process in (0, int(path.name))]
    if not meant:
        raise NotAskedError(
            "no demo with a fault that is ended outside of the app is running; start one: "
            'make demo ARGS="--fault outage --keep"'
        )
    if len(meant) > 1:
        which = ", ".join(sorted(path.name for path in meant))
        raise NotAskedError(f"several demos have a fault: say which, --repair PROCESS ({which})")
    return meant[0]
