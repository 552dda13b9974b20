"""Heads of runs, in memory and on Azurite: what they keep, and who may write them."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from common.errors import ConflictError, LeaseLostError
from common.ledger import Ledger
from common.ledger.chunks import insertion
from common.ledger.runs import Counts, Cursor, Folded, Head
from common.ledger.states import OPEN_RUNS, RUN_MOVES, RunState
from common.ledger.tables import Tables
from common.text import MAX_TEXT
from tests.contract.rows import (
    LATER,
    RUN,
    SOON,
    new,
    run,
    write,
)
from tests.fakes.clock import START, FakeClock


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cache_id": "é-1", "cursor": Cursor(), "resumed": 3},
        {"cursor": Cursor(token="é" * 2000, offset=7, page=3, sequence=250)},
        {"cursor": Cursor(token="t", offset=9, page=4, sequence=251, done=True)},
        {
            "counts": Counts(
                fetched=100,
                filtered=1,
                invalid=2,
                unchanged=3,
                older=4,
                enqueued=90,
                corrections=6,
                other_kind=5,
            ),
            "reason": "reached MAX_PAGES",
        },
        {"stalled": 4, "progress_at": LATER, "reason": "outage"},
        {
            "full_request": START,
            "folded": Folded(accepted=1, rejected=2, struck=3, discarded=4),
            "asked": True,
            "epoch": 7,
            "tick": "host:1:0badcafe",
            "step": 99,
            "trail": bytes(range(256)) * 240,
            "stalled_for": 1234.5,
        },
    ],
)
def test_a_run_comes_back_as_it_was(ledger: Ledger, changes: dict[str, Any]) -> None:
    """Every field of a run's row is read as it was written, the missing cursor too."""
    created = ledger.runs.create(run(**changes))
    assert ledger.runs.get(created.run_id) == created


def test_an_unknown_run_is_none(ledger: Ledger) -> None:
    """Nothing is known of a run that was not created."""
    assert ledger.runs.get(RUN) is None
    assert list(ledger.runs.latest(10)) == []


def test_a_run_is_created_once(ledger: Ledger) -> None:
    """A second row of the same id is a conflict, but for the very same one, written again."""
    created = ledger.runs.create(run())
    assert ledger.runs.create(created) == created
    with pytest.raises(ConflictError):
        ledger.runs.create(replace(created, tick="theirs"))
    assert ledger.runs.get(created.run_id) == created


def test_a_run_is_saved_step_by_step(ledger: Ledger) -> None:
    """Each save builds on the one before; what it does not name stays."""
    made = ledger.runs.create(run(cache_id="c", cursor=Cursor()))
    made = ledger.runs.save(made, cursor=Cursor(token="t", page=1), counts=Counts(fetched=5))
    made = ledger.runs.save(made, state=RunState.INTERRUPTED, reason="outage")
    assert ledger.runs.get(made.run_id) == made
    assert (made.cache_id, made.cursor) == ("c", Cursor(token="t", page=1))


def test_a_cursor_can_be_taken_back(ledger: Ledger) -> None:
    """Saving a run without a cursor removes the one that was there."""
    made = ledger.runs.create(run(cursor=Cursor(token="t")))
    ledger.runs.save(made, cursor=None)
    found = ledger.runs.get(made.run_id)
    assert found is not None
    assert found.cursor is None


def test_who_lost_the_run_cannot_move_its_cursor(ledger: Ledger, other: Ledger) -> None:
    """A save over a row that another instance has written since is a conflict, and no write."""
    mine = ledger.runs.create(run())
    theirs = other.runs.get(mine.run_id)
    assert theirs is not None
    saved = other.runs.save(theirs, tick="theirs", cursor=Cursor(token="theirs"))
    with pytest.raises(ConflictError):
        ledger.runs.save(mine, cursor=Cursor(token="mine"))
    assert ledger.runs.get(mine.run_id) == saved


def test_a_run_moves_as_the_table_says(ledger: Ledger) -> None:
    """Of all moves between two states only those of `RUN_MOVES` are written."""
    states = [state for state in RunState if state is not RunState.OTHER]
    for origin in states:
        for target in states:
            made = ledger.runs.create(run(state=origin))
            if target == origin or target in RUN_MOVES[origin]:
                assert ledger.runs.save(made, state=target).state is target
            else:
                with pytest.raises(ValueError, match=f"from {origin} to {target}"):
                    ledger.runs.save(made, state=target)
                assert ledger.runs.get(made.run_id) == made


def test_the_newest_runs_come_first(ledger: Ledger) -> None:
    """Runs are listed from the latest back, over changes of day and year, up to the limit."""
    numbers = [0, 1, 59, 3600, 86_400, 40_000_000, 400_000_000]
    for number in random.Random(0).sample(numbers, len(numbers)):  # noqa: S311 - any order
        ledger.runs.create(run(number))
    begun = [(found.started_at - START).total_seconds() for found in ledger.runs.latest(5)]
    assert begun == numbers[:-6:-1]
    assert len(list(ledger.runs.latest(100))) == len(numbers)


def test_a_head_keeps_its_latest_version(ledger: Ledger) -> None:
    """Saving through a `Head` stamps time and tick, and goes on from the row it wrote."""
    clock = FakeClock()
    head = Head(ledger.runs, ledger.runs.create(run()), tick="mine", clock=clock)
    clock.advance(60)
    head.save(cursor=Cursor(page=1), reason="why\n" + "x" * 999)
    last = head.save(state=RunState.COMPLETE)
    assert ledger.runs.get(last.run_id) == last == head.run
    assert (last.updated_at, last.progress_at, last.tick, last.step) == (SOON, SOON, "mine", 2)
    assert len(last.reason) == MAX_TEXT


def test_a_head_that_was_overtaken_says_so(ledger: Ledger, other: Ledger) -> None:
    """Whatever it is about to write, alone or with rows: nothing is written."""
    clock = FakeClock()
    mine = Head(ledger.runs, ledger.runs.create(run(run_id=RUN)), tick="mine", clock=clock)
    theirs = other.runs.save(mine.run, epoch=2, tick="theirs")
    for rows in ([], [insertion(new())]):
        with pytest.raises(LeaseLostError, match=f"goes on with run {RUN}"):
            mine.save(rows=rows, cursor=Cursor(page=1))
    assert ledger.runs.get(RUN) == theirs
    assert list(ledger.chunks.all()) == []


def test_only_a_cursor_that_moves_is_progress(ledger: Ledger) -> None:
    """What counts the ticks without it begins anew then, and only then."""
    clock = FakeClock()
    begun = ledger.runs.create(run(stalled=3, stalled_for=99.0, cursor=Cursor(page=1)))
    head = Head(ledger.runs, begun, tick="mine", clock=clock)
    clock.advance(60)
    found = head.save(cursor=Cursor(page=1), counts=Counts(fetched=1))
    assert (found.stalled, found.stalled_for, found.progressed_at) == (3, 99.0, START)
    found = head.save(cursor=Cursor(page=1, offset=1))
    assert (found.stalled, found.stalled_for, found.progressed_at) == (0, 0.0, SOON)


def test_the_open_runs_are_found(ledger: Ledger) -> None:
    """Those that have something left to do, the newest first; a run of a later release has not."""
    made = [ledger.runs.create(run(number, state=state)) for number, state in enumerate(RunState)]
    expected = [found.run_id for found in reversed(made) if found.state in OPEN_RUNS]
    assert [found.run_id for found in ledger.runs.open()] == expected
    assert len(expected) == 2
    write(ledger, *(new(number, run_id=expected[0]) for number in range(3)))
    assert [found.run_id for found in ledger.runs.latest(99)] == [
        found.run_id for found in reversed(made)
    ]
    age = ledger.runs.open()[0].age
    assert age is not None
    assert age < timedelta(minutes=1)


@pytest.mark.parametrize(
    "damage",
    [
        {"state": "invented"},
        {"epoch": None},
        {"cursor": b"{"},
        {"cursor": b'{"token": "1", "offset": 0, "page": 0, "sequence": 0, "done": "no"}'},
        {"wishes": b"[" * 50_000},
        {"counts": 1},
    ],
    ids=["state", "epoch", "cursor", "done", "wishes", "unknown property"],
)
def test_a_head_that_cannot_be_read_is_listed_and_left_alone(
    ledger: Ledger, tables: Tables, damage: dict[str, Any]
) -> None:
    """Of a later release, or damaged: it costs no other run, and no tick goes on with it."""
    good, odd = ledger.runs.create(run(0)), ledger.runs.create(run(1, cursor=Cursor()))
    table = tables.table("chunks")
    row = next(row for row in table.query(key="head") if row.data["run_id"] == odd.run_id)
    data = {name: value for name, value in {**row.data, **damage}.items() if value is not None}
    table.replace(replace(row, data=data))
    found = {run.run_id: run for run in ledger.runs.latest(9)}
    assert found[good.run_id] == good
    if "counts" in damage:  # a property that this release does not know
        assert found[odd.run_id].state is RunState.RUNNING
        return
    assert found[odd.run_id].state is RunState.OTHER
    assert [run.run_id for run in ledger.runs.open()] == [good.run_id]
