"""The timer trigger on a clock of its own: late ticks, and what a restart remembers."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from local.functions_host.protos import TypedData
from local.functions_host.timer import TimerListener, TimerStatus, TimerStatusFile
from local.functions_host.worker import Function, Worker

type Eventually = Callable[[Callable[[], object]], None]
type World = Any

START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY_5_S = "*/5 * * * * *"


@dataclass
class Scripted:
    """A clock and a worker whose runs take so many seconds each; the last run stops the timer."""

    durations: list[float]
    at: float = 0.0
    startup: bool = False
    fired: list[float] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    dies: bool = False

    def now(self) -> datetime:
        return START + timedelta(seconds=self.at)

    def wait(self, stopping: threading.Event, seconds: float) -> bool:
        if not self.durations:
            stopping.set()
        self.at += seconds
        return stopping.is_set()

    def invoke(self, function: Function, argument: TypedData, *, reason: str) -> Any:
        self.fired.append(self.at)
        self.told.append(json.loads(str(argument.json)))
        return SimpleNamespace(wait=self._run)

    def _run(self) -> None:
        if self.dies:
            raise SystemExit
        self.at += self.durations.pop(0)
        if not self.durations:
            self.listener.stop()

    def play(self, path: Path | None = None, *, schedule: str = EVERY_5_S) -> None:
        """Run a timer until its runs are used up, or its clock reaches the next due time."""
        trigger = {"type": "timerTrigger", "name": "timer", "runOnStartup": self.startup}
        function = Function(name="tick", function_id="1", bindings=(trigger,))
        self.listener = TimerListener(
            function=function,
            worker=cast("Worker", self),
            schedule=schedule,
            status_file=None if path is None else TimerStatusFile(path),
            now=self.now,
            wait=self.wait,
        )
        self.listener.run()


@pytest.mark.parametrize(
    ("durations", "fired"),
    [
        ([1, 1, 1], [5, 10, 15]),
        ([5, 5, 1], [5, 10, 15]),
        ([7, 7, 7, 1], [5, 12, 19, 26]),
        ([17, 17, 1], [5, 22, 39]),
        ([17, 1, 1, 1], [5, 22, 25, 30]),
    ],
    ids=["short", "as long as the interval", "longer", "of three intervals", "one long run"],
)
def test_a_long_run_is_followed_at_once(durations: list[float], fired: list[float]) -> None:
    """Of the ticks that a run takes the time of, one is made up at its end; the others are lost."""
    timer = Scripted(durations)
    timer.play()
    assert timer.fired == fired
    assert [told["IsPastDue"] for told in timer.told] == [False] * len(fired)


def test_a_run_at_startup_counts_as_a_run() -> None:
    """The schedule goes on from its start, and it is not past due."""
    timer = Scripted([7, 1], at=1, startup=True)
    timer.play()
    assert timer.fired == [1, 8]
    assert timer.told[0]["IsPastDue"] is False


@pytest.mark.parametrize(
    ("away", "fired", "past_due"),
    [(3, [10], [False]), (30, [36, 40], [True, False])],
    ids=["nothing missed", "ticks missed"],
)
def test_a_restart_makes_up_one_tick(
    tmp_path: Path, away: float, fired: list[float], past_due: list[bool]
) -> None:
    """A host that was away when its timer was due fires it at once, past due, and then on time."""
    path = tmp_path / "tick.json"
    Scripted([1]).play(path)
    second = Scripted([1] * len(fired), at=6 + away)
    second.play(path)
    assert second.fired == fired
    assert [told["IsPastDue"] for told in second.told] == past_due


def test_a_run_that_dies_starts_at_once_again(tmp_path: Path) -> None:
    """The status is written after a run only, so a host killed in mid-run left the tick open."""
    path = tmp_path / "tick.json"
    with pytest.raises(SystemExit):
        Scripted([1], dies=True).play(path)
    second = Scripted([1], at=8)
    second.play(path)
    assert (second.fired, second.told[0]["IsPastDue"]) == ([8], True)


def test_no_status_is_no_run(tmp_path: Path) -> None:
    """A first start, and an unreadable file, only note when the timer is due."""
    for text in (None, "", "{}", '{"Last": 1, "Next": 2, "LastUpdated": 3}', "[]"):
        path = tmp_path / "folder" / "tick.json"
        if text is not None:
            path.write_text(text)
        timer = Scripted([], at=3)
        timer.play(path)
        assert timer.fired == []
        status = TimerStatusFile(path).read()
        assert status is not None
        assert (status.due, status.updated) == (
            START + timedelta(seconds=5),
            START + timedelta(seconds=3),
        )


def test_another_schedule_is_no_missed_run(tmp_path: Path) -> None:
    """A `Next` that the schedule does not give is of an older one: noted anew, not run."""
    path = tmp_path / "tick.json"
    Scripted([1]).play(path)
    later = Scripted([], at=100)
    later.play(path, schedule="0 0 * * * *")
    assert later.fired == []
    assert TimerStatusFile(path).read() == TimerStatus(
        due=START + timedelta(hours=1), updated=START + timedelta(seconds=100)
    )


def test_a_host_remembers_between_processes(world: World, eventually: Eventually) -> None:
    """The option of the command line: missed for a year, run once; then nothing until next year."""
    folder = world.folder / "timers"
    options = {"enable": (), "timers": True, "timer_status": folder}
    yearly = {"SCHEDULE": "0 0 0 1 1 *"}
    last = datetime(2020, 6, 1, tzinfo=UTC)
    status = TimerStatus(last=last, due=datetime(2021, 1, 1, tzinfo=UTC), updated=last)
    TimerStatusFile(folder / "tick.json").write(status)
    first = world.start(settings=yearly, **options)
    eventually(lambda: world.journal("tick") and "tick is due at" in first.log_text())
    first.terminate()
    second = world.start(settings=yearly, **options)
    eventually(lambda: "tick is due at" in second.log_text())
    (tick,) = world.journal("tick")
    assert tick["past_due"] is True
    assert tick["status"]["Last"] == "2020-06-01T00:00:00+00:00"
