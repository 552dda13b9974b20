"""The demo's verdict: good only when everything is where it should be."""

from dataclasses import fields, replace

import pytest

from common.reconciliation import Reconciliation
from local.demo.report import (
    FATES,
    MEANINGS,
    READ,
    SENT,
    Outcome,
    Verdict,
    add_runs,
    as_json,
    render_table,
    render_verdict,
)

GOOD = Outcome(
    fates={
        "fetched": 14,
        "filtered": 3,
        "invalid": 1,
        "unchanged": 0,
        "older": 2,
        "enqueued": 8,
        "corrections": 1,
        "accepted": 5,
        "rejected": 1,
        "struck": 2,
        "poisoned": 0,
        "pending": 0,
    },
    balanced=True,
    states=("gap", "complete"),
    reasons=("token unknown", ""),
    expected=5,
    missing=0,
    unexpected=0,
    requests=1,
    throttled=0,
    seconds=1.0,
    sampled=2,
    arrived=2,
)


def test_a_good_outcome_passes() -> None:
    """Balanced, settled, nothing missing and nothing too much: PASS."""
    assert GOOD.verdict is Verdict.PASS
    assert render_verdict(GOOD).startswith("PASS: Sentinel holds all 5 indicators")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"balanced": False}, "the books do not balance"),
        ({"missing": 2}, "2 of 5 indicators are missing"),
        ({"unexpected": 1}, "1 indicator should not be at Sentinel"),
        ({"arrived": 1}, "1 of a sample of 2 is not in the workspace"),
        ({"fates": {**GOOD.fates, "pending": 4}}, "4 are still on the queue"),
        ({"states": ("failed",), "reasons": ("bad key",)}, "the last sync run is failed (bad key)"),
        ({"states": (), "reasons": ()}, "the last sync run is not started"),
    ],
)
def test_whatever_is_wrong_fails_and_is_told(fault: dict[str, object], told: str) -> None:
    """Each single fault makes the verdict FAIL and is named."""
    outcome = replace(GOOD, **fault)  # type: ignore[arg-type]
    assert outcome.verdict is Verdict.FAIL
    assert render_verdict(outcome).startswith("FAIL: ")
    assert told in render_verdict(outcome)


def test_a_fault_that_was_not_met_is_no_pass() -> None:
    """All is well, yet nothing was shown: a verdict of its own, and what to do about it."""
    outcome = replace(GOOD, unmet="no instance died")
    assert outcome.verdict is Verdict.NOT_MET
    assert render_verdict(outcome).startswith(
        "NOT MET: the fault was not met: no instance died; use more indicators. "
    )


def test_what_is_wrong_outweighs_a_fault_that_was_not_met() -> None:
    """The verdict is FAIL then, and names both."""
    outcome = replace(GOOD, unmet="no instance died", missing=1)
    assert outcome.verdict is Verdict.FAIL
    assert "1 of 5 indicators is missing" in render_verdict(outcome)
    assert "the fault was not met: no instance died" in render_verdict(outcome)


def test_the_table_shows_a_broken_law() -> None:
    """A law of conservation that is off is shown with its difference."""
    assert "OFF" not in render_table(GOOD)
    for fate in SENT:
        off = replace(GOOD, fates={**GOOD.fates, fate: GOOD.fates[fate] - 1})
        assert "OFF +1  enqueued" in render_table(off)
        assert "ok        fetched" in render_table(off)
    for fate in set(READ) - {"enqueued"}:
        off = replace(GOOD, fates={**GOOD.fates, fate: GOOD.fates[fate] - 1})
        assert "OFF +1  fetched" in render_table(off)
    corrected = replace(GOOD, fates={**GOOD.fates, "corrections": 8})
    assert "OFF" not in render_table(corrected), "a part of what is enqueued"


def test_the_last_line_of_the_table_is_what_arrived() -> None:
    """As a sample, with what is missing of it."""
    assert render_table(GOOD).endswith("ok        accepted → arrived (sample): 2 of 2")
    off = render_table(replace(GOOD, arrived=0))
    assert off.endswith("OFF -2    accepted → arrived (sample): 0 of 2".replace("    ", "  "))


def test_every_fate_of_the_pipeline_has_its_line() -> None:
    """The table has what the app's status tells of a run, each with its meaning."""
    told = {f.name for f in fields(Reconciliation)} - {"waited"}  # seconds, not a fate
    assert set(FATES) == set(MEANINGS) == told
    table = render_table(GOOD)
    assert all(f"{fate} " in table and MEANINGS[fate] in table for fate in FATES)


def test_runs_are_added_and_told_as_json() -> None:
    """The numbers of several runs are summed, and the JSON has every fate."""
    run = dict.fromkeys(FATES, 2)
    assert add_runs([run, run]) == dict.fromkeys(FATES, 4)
    assert set(FATES) < set(as_json(GOOD))


def test_the_json_line_has_the_verdict() -> None:
    """A script sees the verdict and what it rests on without reading the sentence."""
    told = as_json(replace(GOOD, missing=2))
    assert {name: told[name] for name in ("verdict", "expected", "missing", "unexpected")} == {
        "verdict": "FAIL",
        "expected": 5,
        "missing": 2,
        "unexpected": 0,
    }
