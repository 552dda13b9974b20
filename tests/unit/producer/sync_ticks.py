"""One feed and the ticks over it, for the tests of the sync run."""

from collections.abc import Callable
from typing import Any

import pytest

from common.events import Event
from common.ledger.runs import Counts, Run
from common.ledger.states import RunState
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import (
    TICK,
    World,
    feed,
    wanted_ids,
)

SHAPES = ("iiifxii", "", "ofiix", "ffff", "iiiiiiixi", "iiif")
PAGES = feed(SHAPES)
WANTED = wanted_ids(PAGES)
TOTAL = Counts(fetched=29, filtered=7, invalid=3, enqueued=19, other_kind=1)


def world(**lumen: object) -> World:
    """Return a world with the feed above, whose Lumen is as described."""
    made = World(lumen=ScriptedLumen(pages=PAGES))
    for name, value in lumen.items():
        setattr(made.lumen, name, value)
    return made


def ended(run: Run | None, state: RunState) -> Run:
    """Return the run of a tick, which must have ended in this state."""
    assert run is not None
    assert (run.state, run.reason) == (state, run.reason)
    return run


def logged(caplog: pytest.LogCaptureFixture, event: Event) -> list[str]:
    """Return the lines of an event."""
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if line.startswith(event.value + " ")]


def fail_on(call: str, argument: str, error: BaseException) -> Callable[[str, str], None]:
    """Return a hook that raises when Lumen is asked just this."""

    def before(name: str, given: str) -> None:
        if (name, given) == (call, argument):
            raise error

    return before


def tick_until_complete(found: World, **options: Any) -> list[Run]:
    """Return the run as each tick left it, until it was complete."""
    runs: list[Run] = []
    while len(runs) < 30:
        run = found.tick(**options)
        found.clock.advance(TICK)
        assert run is not None
        runs.append(run)
        if run.state is RunState.COMPLETE:
            return runs
    raise AssertionError(f"not complete after {len(runs)} ticks")


def assert_complete(found: World, run: Run | None, *, counts: Counts = TOTAL) -> None:
    """Check that a run is complete, nothing is missing, and the books are balanced."""
    done = ended(run, RunState.COMPLETE)
    assert done.counts == counts
    assert found.sendable_ids == WANTED
    found.settle()
    (fate,) = found.fates()
    assert fate.balanced
    assert (fate.accepted, fate.pending) == (len(WANTED), 0)
