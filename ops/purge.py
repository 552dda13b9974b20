"""Remove old records for an operator: closed runs, rejections, settled poison, pulses.

A run's head stays while anything still needs it: a chunk row, kept poison, a gap that is too fresh.
The newest run and the newest complete run stay, because health is judged by them; and the newest
pulse, because the next one continues from it. A record is removed only if it has not changed since
it was read. Called twice, or dies halfway: the next call removes the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.ledger import Ledger
from common.ledger.runs import GAP_COUNTS_FOR, Run
from common.ledger.states import CLOSED_RUNS, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """How many records were removed, or would be."""

    runs: int
    rejections: int
    poison: int
    pulses: int


def purge(ledger: Ledger, *, older_than: timedelta, now: datetime, dry_run: bool = False) -> Purged:
    """Remove what was last written, or settled, longer than `older_than` before `now`."""
    before = now - older_than
    poison = ledger.poison.settled_before(before)
    rejections = ledger.rejections.seen_before(before)
    newest = next(ledger.pulses.latest(1), None)
    pulses = () if newest is None else ledger.pulses.before(min(before, newest.at))
    if dry_run:
        return Purged(
            poison=sum(1 for _ in poison),
            rejections=sum(1 for _ in rejections),
            pulses=sum(1 for _ in pulses),
            runs=sum(1 for _ in _runs_to_go(ledger, before=before, now=now)),
        )
    return Purged(
        poison=ledger.poison.purge(poison),
        rejections=ledger.rejections.purge(rejections),
        pulses=ledger.pulses.remove(pulses),
        runs=sum(ledger.runs.remove(run) for run in _runs_to_go(ledger, before=before, now=now)),
    )


def _runs_to_go(ledger: Ledger, *, before: datetime, now: datetime) -> Iterator[Run]:
    """Yield the old runs that nothing needs any more."""
    with_poison = {entry.run_id for entry in ledger.poison.entries()}
    is_newest, seen_complete = True, False
    for run in ledger.runs.latest(None):
        is_newest_complete = run.state is RunState.COMPLETE and not seen_complete
        seen_complete = seen_complete or is_newest_complete
        stays = is_newest or is_newest_complete or not may_go(run, before=before, now=now)
        is_newest = False
        if not (stays or run.run_id in with_poison or ledger.runs.has_rows(run.run_id)):
            yield run


def may_go(run: Run, *, before: datetime, now: datetime) -> bool:
    """Whether a run, taken alone, is over and old enough. Pure."""
    if run.state not in CLOSED_RUNS:
        return False
    if run.state is RunState.GAP and run.acknowledged_at is None:
        before = min(before, now - GAP_COUNTS_FOR)
    return run.updated_at < before
