"""What the demo says at the end: the reconciliation table, the verdict, the JSON line. Pure.

The numbers of the pipeline come from its own status function; the judge is the Sentinel
simulator, which remembers every object that it accepted. Both have to agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from local.demo.words import count

FATES = (
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
)

READ = ("filtered", "invalid", "unchanged", "older", "enqueued")
SENT = ("accepted", "rejected", "struck", "poisoned", "pending")
"""The two laws of conservation: what is fetched, and what is enqueued, add up from these."""

MEANINGS = {
    "fetched": "objects read from Lumen",
    "filtered": "below the confidence threshold, or of a kind switched off",
    "invalid": "not usable as Lumen sent them (kept with the reason)",
    "unchanged": "known in this version: sent or on its way",
    "older": "older than the version that is known",
    "enqueued": "put on the queue",
    "corrections": "of these, known ones that the filters would have dropped",
    "accepted": "taken by Sentinel",
    "rejected": "refused by Sentinel one by one (kept with the reason)",
    "struck": "superseded by a newer version before they were sent",
    "poisoned": "given up as a whole chunk (kept for replay)",
    "pending": "still on the queue",
}


class Verdict(StrEnum):
    """NOT_MET: all is as it should be, but the fault that was to be played never happened."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_MET = "NOT MET"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a demo ended. `fates` sums the runs; `expected` ids should be at Sentinel.

    Of `sampled` accepted indicators, `arrived` were found in the workspace by the app itself.

    `unmet` says what did not happen of the fault that was to be played; empty when it did.
    """

    fates: Mapping[str, int]
    balanced: bool
    states: tuple[str, ...]
    reasons: tuple[str, ...]
    expected: int
    missing: int
    unexpected: int
    requests: int
    throttled: int
    seconds: float
    sampled: int = 0
    arrived: int = 0
    unmet: str = ""

    @property
    def verdict(self) -> Verdict:
        """PASS where everything balances, Sentinel holds what it should, and the fault was met."""
        settled = self.fates["pending"] == 0 and self.states[-1:] == ("complete",)
        lost = self.missing or self.unexpected or self.arrived < self.sampled
        if not (self.balanced and settled) or lost:
            return Verdict.FAIL
        return Verdict.NOT_MET if self.unmet else Verdict.PASS


def add_runs(runs: list[dict[str, Any]]) -> dict[str, int]:
    """Return the sum of every fate over the runs of a status report."""
    return {fate: sum(int(run[fate]) for run in runs) for fate in FATES}


def render_table(outcome: Outcome) -> str:
    """Return the reconciliation table."""
    fates, sampled, arrived = outcome.fates, outcome.sampled, outcome.arrived
    width = max(len(f"{count:,}") for count in fates.values())
    lines = []
    for fate in FATES:
        indent = "" if fate == "fetched" else "  " if fate in READ else "    "
        lines.append(f"  {indent + fate:<14}{fates[fate]:>{width},}   {MEANINGS[fate]}")
    lines += [
        "",
        f"  {_law(fates, 'fetched', READ)}  fetched  = {' + '.join(READ)}",
        f"  {_law(fates, 'enqueued', SENT)}  enqueued = {' + '.join(SENT)}",
        f"  {_sign(arrived - sampled)}  accepted → arrived (sample): {arrived:,} of {sampled:,}",
    ]
    return "\n".join(lines)


def render_verdict(outcome: Outcome) -> str:
    """Return the verdict and its reasons."""
    verdict = outcome.verdict
    rate = f"{count(outcome.requests, 'request')}, {outcome.throttled:,} throttled"
    match verdict:
        case Verdict.PASS:
            told = (
                f"Sentinel holds {_all(outcome.expected)} that should be there, "
                "nothing else, and the books balance"
            )
        case Verdict.NOT_MET:
            told = (
                f"the fault was not met: {outcome.unmet}; use more indicators. "
                "All else is as it should be"
            )
        case Verdict.FAIL:
            told = "; ".join(_faults(outcome))
        case _:
            assert_never(verdict)
    return f"{verdict}: {told} ({rate}, {outcome.seconds:.1f} s)."


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the object of the last line with `--json`."""
    return {
        "verdict": outcome.verdict.value,
        **outcome.fates,
        "balanced": outcome.balanced,
        "expected": outcome.expected,
        "missing": outcome.missing,
        "unexpected": outcome.unexpected,
        "sampled": outcome.sampled,
        "arrived": outcome.arrived,
        "requests": outcome.requests,
        "throttled": outcome.throttled,
        "seconds": round(outcome.seconds, 2),
    }


def _faults(outcome: Outcome) -> list[str]:
    """Return everything that is not as it should be."""
    faults = []
    if not outcome.balanced:
        faults.append("the books do not balance")
    if outcome.missing:
        of = f"{outcome.missing:,} of {count(outcome.expected, 'indicator')}"
        faults.append(f"{of} {_are(outcome.missing)} missing")
    if outcome.unexpected:
        faults.append(f"{count(outcome.unexpected, 'indicator')} should not be at Sentinel")
    if outcome.arrived < outcome.sampled:
        lost = outcome.sampled - outcome.arrived
        faults.append(
            f"{lost:,} of a sample of {outcome.sampled:,} {_are(lost)} not in the workspace"
        )
    if outcome.fates["pending"]:
        pending = outcome.fates["pending"]
        faults.append(f"{pending:,} {_are(pending)} still on the queue")
    if outcome.states[-1:] != ("complete",):
        last = outcome.states[-1] if outcome.states else "not started"
        reason = f" ({outcome.reasons[-1]})" if outcome.reasons and outcome.reasons[-1] else ""
        faults.append(f"the last sync run is {last}{reason}")
    if outcome.unmet:
        faults.append(f"the fault was not met: {outcome.unmet}")
    return faults


def _all(number: int) -> str:
    return "the only indicator" if number == 1 else f"all {number:,} indicators"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _law(fates: Mapping[str, int], whole: str, parts: Sequence[str]) -> str:
    return _sign(fates[whole] - sum(fates[part] for part in parts))


def _sign(off: int) -> str:
    return f"OFF {off:+d}" if off else "ok      "
