"""How a chaos run ended, and what it prints about that."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a chaos run ended; numbers of indicators unless named otherwise.

    `lost` are expected ones that Sentinel lacks, `stale` those of which it has an older version
    than Lumen, whether that passes the filters or not, `duplicates` those accepted again without a
    change. `replayed` counts messages.
    """

    seed: int
    expected: int
    lost: int
    stale: int
    unexpected: int
    replayed: int
    rejected: int
    pending: int
    duplicates: int
    unbalanced_runs: tuple[str, ...]
    settled: bool
    runs: int
    gaps: int
    happenings: int
    kills: int
    ended: int
    faults_met: int
    timers: int
    requests: int
    throttled: int
    calm_seconds: float

    @property
    def good(self) -> bool:
        """Whether Sentinel holds all that it should, and the books balance.

        No record of the feed is bad, so none may have been rejected.
        """
        wrong = self.lost + self.stale + self.unexpected + self.rejected + self.pending
        return self.settled and not wrong and not self.unbalanced_runs


def render_verdict(verdict: Verdict) -> str:
    """Return the summary table and one plain sentence."""
    numbers = {
        "happenings": verdict.happenings,
        "instances killed": verdict.kills,
        "that ended themselves": verdict.ended,
        "requests that met a fault": verdict.faults_met,
        "timers fired": verdict.timers,
        "sync runs": verdict.runs,
        "of which with a gap": verdict.gaps,
        "requests to Sentinel": verdict.requests,
        "of which throttled": verdict.throttled,
        "indicators expected": verdict.expected,
        "accepted again": verdict.duplicates,
        "of an older version": verdict.stale,
        "messages replayed": verdict.replayed,
        "rejected": verdict.rejected,
        "pending": verdict.pending,
        "unexpected": verdict.unexpected,
        "lost": verdict.lost,
    }
    width = max(len(f"{number:,}") for number in numbers.values())
    table = "\n".join(f"  {name:<26}{number:>{width},}" for name, number in numbers.items())
    if verdict.good:
        return (
            f"{table}\n\nPASS: lost=0 after seed {verdict.seed}; the books of all {verdict.runs} "
            f"runs balance ({verdict.calm_seconds:.0f} s of calm to settle)."
        )
    faults = [f"lost={verdict.lost}"]
    named = ("stale", "rejected", "pending", "unexpected")
    faults += [f"{name}={number}" for name in named if (number := getattr(verdict, name))]
    if verdict.unbalanced_runs:
        faults.append(f"the books do not balance: {', '.join(verdict.unbalanced_runs)}")
    if not verdict.settled:
        faults.append("not settled in time")
    return f"{table}\n\nFAIL: seed {verdict.seed}: {'; '.join(faults)}."
