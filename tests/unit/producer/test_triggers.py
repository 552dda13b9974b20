"""The timer's trigger: a pulse behind every tick, whatever the tick came to."""

import json
import logging
from typing import Any

import pytest

from common.errors import SettingsError, UnavailableError
from common.ledger.problems import ProblemKind, Problems
from common.ledger.runs import Run
from common.ledger.states import RunState
from producer import triggers
from tests.fakes.clock import START
from tests.unit.ops.samples import RUN, Bench
from tests.unit.producer.test_pulse import tools


@pytest.mark.parametrize(
    ("end", "tick", "run"),
    [
        (RunState.COMPLETE, "complete", RUN),
        (RunState.FAILED, "failed", RUN),
        (None, "skipped", ""),
        (SettingsError(["LUMEN_API_KEY: is required"]), "error", ""),
        (UnavailableError("table control cannot be reached"), "error", ""),
        (ZeroDivisionError(), "error", ""),
    ],
    ids=["complete", "failed", "skipped", "wrong settings", "no ledger", "bug"],
)
def test_every_tick_has_a_pulse(
    end: RunState | Exception | None, tick: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row, which says how the tick ended; what the tick raises is raised all the same."""
    bench = Bench()

    def work(_trace: str) -> Run | None:
        if isinstance(end, Exception):
            raise end
        if end is None:
            return None
        return Run(run_id=RUN, state=end, started_at=START, updated_at=START)

    monkeypatch.setattr(triggers, "_run_sync", work)
    monkeypatch.setattr(triggers, "_pulse_tools", lambda: tools(bench))
    if isinstance(end, Exception):
        with pytest.raises(type(end)):
            triggers._tick("")
    else:
        triggers._tick("")
    (pulse,) = bench.toolbox.ledger.pulses.latest(9)
    assert (pulse.tick, pulse.run) == (tick, run)


def test_without_storage_settings_the_pulse_is_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no ledger to write to; the log says that nothing is known, and why."""

    def no_tools() -> Any:
        raise SettingsError(["PipelineStorage: is required and not set"])

    monkeypatch.setattr(triggers, "_pulse_tools", no_tools)
    monkeypatch.setattr(triggers, "_run_sync", lambda _trace: None)
    with caplog.at_level(logging.INFO, "lumen_sentinel"):
        triggers._tick("")
    (line,) = [record.getMessage() for record in caplog.records]
    facts = json.loads(line.removeprefix("health "))
    assert (facts["verdict"], facts["tick"]) == ("unknown", "skipped")
    assert "PipelineStorage" in facts["reason"]


@pytest.mark.parametrize("tables_are_named", [True, False])
def test_wrong_settings_are_a_problem_at_once(
    monkeypatch: pytest.MonkeyPatch, tables_are_named: bool
) -> None:
    """The status need not wait until a run is missing; the tick fails with the same words."""
    bench = Bench()
    error = SettingsError(["LUMEN_BASE_URL: is not a URL"])

    def fail() -> Any:
        raise error

    def problems() -> Problems:
        if not tables_are_named:
            raise SettingsError(["PipelineStorage: names no tables"])
        return bench.toolbox.problems

    monkeypatch.setattr(triggers, "_build", fail)
    monkeypatch.setattr(triggers, "_safe_problems", problems)
    monkeypatch.setattr(triggers, "_pulse_tools", lambda: tools(bench))
    with pytest.raises(SettingsError, match="LUMEN_BASE_URL"):
        triggers._tick("")
    found = bench.toolbox.problems.open()
    assert [problem.kind for problem in found] == [ProblemKind.LUMEN_ACCESS] * tables_are_named
    assert all("LUMEN_BASE_URL: is not a URL" in problem.what for problem in found)
