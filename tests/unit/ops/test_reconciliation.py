"""Reconciliation: both laws of conservation, computed from rows that two sides wrote."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ledger import open_ledger
from common.ledger.chunks import Chunk
from common.ledger.problems import Problems
from common.ledger.runs import Counts, Cursor, Folded, Run
from common.ledger.slots import Slots
from common.ledger.states import ChunkState, RunState
from ops.reconciliation import Reconciliation, reconcile
from ops.status import describe, look
from tests.fakes.clock import START, FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables
from tests.unit.consumer.samples import envelope

RUN = "20260101T000000-0badcafe"


def run(*, sequence: int | None = 0, **counts: int) -> Run:
    """Return a run whose checkpoint lies behind `sequence` chunks; None: before its query."""
    return Run(
        run_id=RUN,
        state=RunState.RUNNING,
        started_at=START,
        updated_at=START,
        cursor=None if sequence is None else Cursor(sequence=sequence),
        counts=Counts(**counts),
    )


def chunk(sequence: int, count: int, state: ChunkState, *, accepted: int = 0) -> Chunk:
    """Return a chunk's row; what is not accepted of an uploaded one is rejected."""
    return Chunk(
        run_id=RUN,
        key=f"{sequence:06d}-{sequence:032x}",
        sequence=sequence,
        count=count,
        state=state,
        accepted=accepted,
        rejected=count - accepted if state is ChunkState.UPLOADED else 0,
    )


QUEUED = ChunkState.QUEUED
UPLOADED = ChunkState.UPLOADED
POISONED = ChunkState.POISONED
DISCARDED = ChunkState.DISCARDED


@pytest.mark.parametrize(
    ("found", "chunks", "expected"),
    [
        (run(sequence=None), [], {}),
        (run(fetched=3, filtered=1, invalid=1, unchanged=1), [], {}),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 5, QUEUED)], {"pending": 5}),
        (
            run(sequence=1, fetched=5, enqueued=5),
            [chunk(0, 5, UPLOADED, accepted=5)],
            {"accepted": 5},
        ),
        (
            run(sequence=1, fetched=5, enqueued=5),
            [chunk(0, 5, UPLOADED, accepted=2)],
            {"accepted": 2, "rejected": 3},
        ),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 5, POISONED)], {"poisoned": 5}),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 5, DISCARDED)], {"poisoned": 5}),
        (
            run(sequence=3, fetched=9, filtered=3, enqueued=6),
            [chunk(0, 1, QUEUED), chunk(1, 2, POISONED), chunk(2, 3, UPLOADED, accepted=1)],
            {"pending": 1, "poisoned": 2, "accepted": 1, "rejected": 2},
        ),
    ],
)
def test_balanced_books(found: Run, chunks: list[Chunk], expected: dict[str, int]) -> None:
    """What was enqueued is accepted, rejected, poisoned or pending, to the last indicator."""
    fate = reconcile(found, chunks)
    assert fate.balanced
    shown = {name: getattr(fate, name) for name in ("accepted", "rejected", "poisoned", "pending")}
    assert shown == {"accepted": 0, "rejected": 0, "poisoned": 0, "pending": 0, **expected}
    assert (fate.fetched, fate.enqueued) == (found.counts.fetched, found.counts.enqueued)


@pytest.mark.parametrize(
    ("found", "chunks"),
    [
        (run(sequence=1, fetched=5, enqueued=5), []),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 4, QUEUED)]),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 6, UPLOADED, accepted=6)]),
        (run(sequence=1, fetched=6, enqueued=5), [chunk(0, 5, QUEUED)]),
        (run(sequence=1, fetched=5, filtered=1, enqueued=5), [chunk(0, 5, QUEUED)]),
        (run(sequence=2, fetched=5, enqueued=5), [chunk(0, 5, QUEUED), chunk(1, 5, QUEUED)]),
    ],
)
def test_an_imbalance_is_shown_and_not_smoothed_over(found: Run, chunks: list[Chunk]) -> None:
    """Missing rows, rows too many, and counts that do not add up."""
    assert not reconcile(found, chunks).balanced


def test_a_receipt_that_does_not_add_up_is_an_imbalance() -> None:
    """An uploaded chunk with fewer fates than indicators has lost some."""
    row = Chunk(run_id=RUN, key="0", sequence=0, count=5, state=UPLOADED, accepted=3, rejected=1)
    assert not reconcile(run(sequence=1, fetched=5, enqueued=5), [row]).balanced


@pytest.mark.parametrize("sequence", [None, 0, 1, 2])
def test_chunks_behind_the_checkpoint_count_as_fetched_and_enqueued(sequence: int | None) -> None:
    """A run that is under way, or died before its checkpoint, is balanced all the same."""
    chunks = [chunk(0, 5, UPLOADED, accepted=5), chunk(1, 3, QUEUED), chunk(2, 2, POISONED)]
    before = sum(row.count for row in chunks[: sequence or 0])
    fate = reconcile(run(sequence=sequence, fetched=before, enqueued=before), chunks)
    assert fate.balanced
    assert (fate.fetched, fate.enqueued) == (10, 10)
    assert (fate.accepted, fate.pending, fate.poisoned) == (5, 3, 2)


def test_folded_chunks_are_counted_once() -> None:
    """Their rows are gone, or come back by a late copy: their fate is in the run's row."""
    folded = Folded(accepted=5, rejected=1, discarded=2, chunks=0b11)
    found = replace(run(sequence=3, fetched=11, enqueued=11), folded=folded)
    rest = chunk(2, 3, QUEUED)
    for chunks in ([rest], [chunk(0, 6, UPLOADED, accepted=6), rest]):
        fate = reconcile(found, chunks)
        assert fate.balanced
        shown = (fate.accepted, fate.rejected, fate.poisoned, fate.pending)
        assert shown == (5, 1, 2, 3)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 100), st.sampled_from(ChunkState)), max_size=20),
    checkpoint=st.integers(0, 20),
    others=st.tuples(*[st.integers(0, 99)] * 3),
    lost=st.integers(0, 1),
)
def test_the_books_balance_exactly_when_nothing_is_missing(
    sizes: list[tuple[int, ChunkState]],
    checkpoint: int,
    others: tuple[int, int, int],
    lost: int,
) -> None:
    """For any chunks in any states and any checkpoint: one row less and it shows."""
    chunks = [
        chunk(at, count, state, accepted=count // 2 if state is UPLOADED else 0)
        for at, (count, state) in enumerate(sizes)
    ]
    before = sum(row.count for row in chunks[:checkpoint])
    filtered, invalid, unchanged = others
    found = run(
        sequence=checkpoint,
        fetched=before + sum(others),
        filtered=filtered,
        invalid=invalid,
        unchanged=unchanged,
        enqueued=before,
    )
    seen = chunks[lost:] if checkpoint else chunks
    assert reconcile(found, seen).balanced is (seen == chunks)


def test_the_report_is_plain_json_with_the_newest_runs_first() -> None:
    """Queue depth and each run with its fate, its reason and whether it balances."""
    tables, queue, clock = FakeTables(), FakeQueue(), FakeClock()
    ledger = open_ledger(tables)
    for number in range(4):
        name = f"2026010{number + 1}T000000-0badcafe"
        ledger.runs.create(
            Run(
                run_id=name,
                state=RunState.INTERRUPTED,
                started_at=START,
                updated_at=START,
                cursor=Cursor(page=2, sequence=1),
                counts=Counts(fetched=3, enqueued=3),
                resumed=number,
                reason="why",
            )
        )
    queue.send("message", delay=60)
    ledger.chunks.record_uploaded(envelope(), accepted=3, rejected=0, at=clock.now())

    def report_of(runs: int) -> dict[str, Any]:
        view = look(
            ledger,
            Problems(tables, clock=clock),
            Slots(tables, clock=clock, requests_per_minute=95),
            queue=queue,
            poison_queue=FakeQueue(),
            runs=runs,
            now=clock.now(),
            requests_per_minute=95,
            stale_after=timedelta(minutes=45),
        )
        return describe(view)

    report = report_of(3)
    assert report["queue_depth"] == 1
    assert [shown["resumed"] for shown in report["runs"]] == [3, 2, 1]
    oldest = report_of(9)["runs"][-1]
    assert oldest["run"] == "20260101T000000-0badcafe"
    assert (oldest["state"], oldest["reason"], oldest["pages"]) == ("interrupted", "why", 3)
    assert report["runs"][0]["balanced"] is False


def test_a_reconciliation_is_balanced_only_if_both_laws_hold() -> None:
    """One law alone proves nothing."""
    whole = {
        "fetched": 4,
        "filtered": 1,
        "invalid": 1,
        "unchanged": 1,
        "enqueued": 1,
        "accepted": 1,
        "rejected": 0,
        "poisoned": 0,
        "pending": 0,
    }
    assert Reconciliation(**whole).balanced
    for name, number in whole.items():
        assert not Reconciliation(**{**whole, name: number + 1}).balanced


@pytest.mark.parametrize("partial_first", [True, False])
def test_of_two_chunks_of_one_sequence_the_older_is_extra(partial_first: bool) -> None:
    """A short chunk whose producer died, then the full one: the books balance in any order."""
    early = replace(chunk(0, 60, UPLOADED, accepted=60), key="000000-a", enqueued_at=START)
    late = replace(
        chunk(0, 100, UPLOADED, accepted=100), key="000000-b", enqueued_at=START + timedelta(1)
    )
    rows = [early, late] if partial_first else [late, early]
    fate = reconcile(run(sequence=1, fetched=100, enqueued=100), rows)
    assert fate.balanced
    assert (fate.enqueued, fate.accepted) == (160, 160)
