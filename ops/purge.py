"""Remove old records for an operator: closed runs, rejections, settled poison, pulses, acts.

A run's head stays while anything still needs it: a chunk row, kept poison, a gap that is too fresh.
The newest run and the newest complete run stay, because health is judged by them; and the newest
pulse, because the next one continues from it. A record is removed only if it has not changed since
it was read. Called twice, or dies halfway: the next call removes the rest.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from common.ledger import Ledger
from common.ledger.runs import GAP_COUNTS_FOR, Run
from common.ledger.states import CLOSED_RUNS, RunState
from common.ledger.tables import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """How many records were removed, or would be.

    `remaining` is 0 if nothing is left, else in how many of its steps time ran out.
    """

    runs: int = 0
    rejections: int = 0
    poison: int = 0
    pulses: int = 0
    acts: int = 0
    remaining: int = 0

    @property
    def total(self) -> int:
        """How many were removed or counted, and are known to be left."""
        return sum(asdict(self).values())


class _Supply:
    """Hands out items for as long as there is time; knows whether any may be left."""

    def __init__(self, go_on: Callable[[], bool]) -> None:
        self._go_on = go_on
        self.left = 0

    def of[T](self, items: Iterable[T]) -> Iterator[T]:
        """Yield items while there is time; without any, nothing is asked for."""
        rest = iter(items)
        while self._go_on():
            try:
                item = next(rest)
            except StopIteration:
                return
            yield item
        self.left += 1


def purge(
    ledger: Ledger,
    *,
    older_than: timedelta,
    now: datetime,
    go_on: Callable[[], bool] = lambda: True,
) -> Purged:
    """Remove what was last written, or settled, longer than `older_than` before `now`.

    Stops when `go_on` says so.
    """
    before, supply = now - older_than, _Supply(go_on)
    return Purged(
        poison=ledger.poison.purge(supply.of(ledger.poison.settled_before(before))),
        rejections=ledger.rejections.purge(supply.of(ledger.rejections.seen_before(before))),
        pulses=ledger.pulses.remove(supply.of(_pulses_to_go(ledger, before=before))),
        acts=ledger.acts.remove(supply.of(ledger.acts.before(before))),
        runs=sum(map(ledger.runs.remove, supply.of(_runs_to_go(ledger, before=before, now=now)))),
        remaining=supply.left,
    )


def count_old(
    ledger: Ledger,
    *,
    older_than: timedelta,
    now: datetime,
    go_on: Callable[[], bool] = lambda: True,
) -> Purged:
    """Return what a purge would remove; counted for as long as it may `go_on`."""
    before, supply = now - older_than, _Supply(go_on)

    def count(items: Iterable[object]) -> int:
        return sum(1 for _ in supply.of(items))

    return Purged(
        poison=count(ledger.poison.settled_before(before, to_count=True)),
        rejections=count(ledger.rejections.seen_before(before, to_count=True)),
        pulses=count(_pulses_to_go(ledger, before=before)),
        acts=count(ledger.acts.before(before)),
        runs=count(_runs_to_go(ledger, before=before, now=now)),
        remaining=supply.left,
    )


def _pulses_to_go(ledger: Ledger, *, before: datetime) -> Iterator[Row]:
    """Yield the rows of old pulses but for the newest pulse."""
    newest = next(ledger.pulses.latest(1), None)
    if newest is not None:
        yield from ledger.pulses.before(min(before, newest.at))


def _runs_to_go(ledger: Ledger, *, before: datetime, now: datetime) -> Iterator[Run]:
    """Yield the old runs that nothing needs any more.

    Rows are written only together with the head: one that is written behind the look at the rows
    changes the head, which is removed as it was read here.
    """
    others = _not_needed_for_health(ledger.runs.latest(None))
    old = [run for run in others if may_go(run, before=before, now=now)]
    needed = {entry.run_id for entry in ledger.poison.entries()} if old else set()
    needed |= ledger.runs.with_rows() if old else set()
    yield from (run for run in old if run.run_id not in needed)


def _not_needed_for_health(runs: Iterable[Run]) -> Iterator[Run]:
    """Yield runs but for the newest and the newest complete one, of all, the newest first. Pure."""
    seen_complete = False
    for number, run in enumerate(runs):
        is_newest_complete = run.state is RunState.COMPLETE and not seen_complete
        seen_complete = seen_complete or is_newest_complete
        if number and not is_newest_complete:
            yield run


def may_go(run: Run, *, before: datetime, now: datetime) -> bool:
    """Whether a run, taken alone, is over and old enough. Pure."""
    if run.state not in CLOSED_RUNS:
        return False
    if run.state is RunState.GAP and run.acknowledged_at is None:
        before = min(before, now - GAP_COUNTS_FOR)
    return run.updated_at < before
