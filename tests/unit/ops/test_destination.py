"""Adopting: chunks that wait for another destination go to the present one, when that is safe."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from common.errors import UnavailableError
from common.ledger.sends import QUIET_AFTER
from common.ledger.states import ChunkState
from common.ledger.tables import MAX_BATCH_ENTITIES
from ops.destination import Adoption, adopt
from tests.unit.ops.samples import HERE, RUN, Bench, chunk

BEFORE = "sentinel.example/before"


def _adopt(
    bench: Bench, *, dry_run: bool = False, go_on: Callable[[], bool] = lambda: True
) -> Adoption:
    tools = bench.toolbox
    return adopt(tools.ledger, tools.sends, destination=HERE, dry_run=dry_run, go_on=go_on)


def _adopted(chunks: int, indicators: int) -> Adoption:
    return Adoption(chunks=chunks, indicators=indicators, left={BEFORE: chunks})


def test_what_waits_for_another_destination_is_turned_over() -> None:
    """Only that: what is for the present one, settled or void stays as it is."""
    bench = Bench()
    bench.write_row(0)
    for sequence in range(1, 6):
        bench.write_row(sequence, destination=BEFORE)
    bench.upload(2)
    bench.void(3)
    bench.toolbox.ledger.chunks.strike(RUN, chunk(4).key, {0})
    bench.toolbox.ledger.chunks.record_poisoned(
        RUN, chunk(5).key, at=bench.clock.now(), reason="why"
    )
    untouched = {sequence: bench.row(sequence) for sequence in (0, 2, 3)}
    assert _adopt(bench) == _adopted(3, 5)
    assert {sequence: bench.row(sequence) for sequence in (0, 2, 3)} == untouched
    assert [bench.row(sequence).destination for sequence in (1, 4, 5)] == [HERE] * 3
    assert bench.row(4).letters == "S."
    assert bench.row(5).state is ChunkState.POISONED
    assert _adopt(bench) == Adoption()


def test_a_row_that_cannot_be_read_is_left_alone() -> None:
    """It is of a later release, or damaged: neither counted nor written."""
    bench = Bench()
    bench.write_row(0, destination=BEFORE)
    bench.write_row(1, destination=BEFORE)
    bench.set_row(0, state="sent-twice")
    bench.set_row(1, count="two")
    rows = [bench.row(0).etag, bench.row(1).etag]
    assert _adopt(bench) == Adoption()
    assert [bench.row(0).etag, bench.row(1).etag] == rows


@pytest.mark.parametrize("seconds", [0.0, QUIET_AFTER - 0.1, QUIET_AFTER, 10_000.0])
def test_nothing_is_turned_over_while_a_request_may_be_under_way(seconds: float) -> None:
    """To the earlier workspace, whatever became of it; by the storage's clock."""
    bench = Bench()
    bench.write_row(0, destination=BEFORE)
    bench.toolbox.sends.note(BEFORE)
    bench.clock.advance(seconds)
    bench.toolbox.sends.note(HERE)  # what goes to the present one is in nobody's way
    done = _adopt(bench)
    if seconds < QUIET_AFTER:
        assert (done.chunks, done.indicators) == (0, 0)
        assert f"sent to {BEFORE} {seconds:.0f} s ago" in done.waits
        assert f"try again in {QUIET_AFTER - seconds:.0f} s" in done.waits
        assert bench.row(0).destination == BEFORE
    else:
        assert done == _adopted(1, 2)


def test_a_dry_run_says_what_would_go_and_changes_nothing() -> None:
    """Neither a row nor its ETag; soon after a request it waits, too."""
    bench = Bench()
    bench.write_row(0, destination=BEFORE)
    row = bench.row(0)
    assert _adopt(bench, dry_run=True) == _adopted(1, 2)
    assert (bench.row(0), bench.row(0).etag) == (row, row.etag)
    bench.toolbox.sends.note(BEFORE)
    assert _adopt(bench, dry_run=True).waits


def _upload(bench: Bench) -> None:
    bench.upload(0)


def _strike(bench: Bench) -> None:
    bench.toolbox.ledger.chunks.strike(RUN, chunk(0).key, {1})


@pytest.mark.parametrize("happen", [_upload, _strike, Bench.void, Bench.remove_row])
def test_a_row_that_changes_at_the_same_moment_is_not_overwritten(
    happen: Callable[[Bench], None],
) -> None:
    """What came since stays, its neighbours go; called again, the command takes what is left."""
    bench = Bench()
    for sequence in range(3):
        bench.write_row(sequence, destination=BEFORE)

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "transact"):
            bench.tables.before = lambda _table, _operation: None
            happen(bench)

    bench.tables.before = before
    assert _adopt(bench) == replace(_adopted(2, 4), changed=1)
    expected = _adopted(1, 1) if happen is _strike else Adoption()
    assert _adopt(bench) == expected


def test_adopting_goes_as_far_as_there_is_time() -> None:
    """Batch by batch; what is left is told, and the next call begins with it."""
    bench = Bench()
    count = 2 * MAX_BATCH_ENTITIES + 1
    for sequence in range(count):
        bench.write_row(sequence, destination=BEFORE)
    looks = iter([True, False])
    done = _adopt(bench, go_on=lambda: next(looks))
    assert (done.chunks, done.remaining) == (MAX_BATCH_ENTITIES, count - MAX_BATCH_ENTITIES)
    bench.tables.rows_read = 0
    assert _adopt(bench) == _adopted(done.remaining, 2 * done.remaining)
    assert bench.tables.rows_read < count + done.remaining + 10


@pytest.mark.parametrize("at", range(1, 4))
def test_adopting_that_dies_goes_on_when_it_is_called_again(at: int) -> None:
    """Each hundred is a write of its own, and what is turned over is not counted twice."""
    bench = Bench()
    for sequence in range(3 * MAX_BATCH_ENTITIES):
        bench.write_row(sequence, destination=BEFORE)
    writes: list[int] = []

    def before(_table: str, operation: str) -> None:
        if operation == "transact":
            writes.append(1)
            if len(writes) == at:
                raise UnavailableError("storage is away")

    bench.tables.before = before
    with pytest.raises(UnavailableError):
        _adopt(bench)
    bench.tables.before = lambda _table, _operation: None
    assert _adopt(bench).chunks == (4 - at) * MAX_BATCH_ENTITIES
    assert _adopt(bench) == Adoption()
