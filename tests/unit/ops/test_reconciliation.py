"""Reconciliation: both laws of conservation, computed from rows that two sides wrote."""

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ledger import open_ledger
from common.ledger.chunks import Chunk, insertion
from common.ledger.problems import Problems
from common.ledger.runs import Counts, Cursor, Folded, Run
from common.ledger.states import ChunkState, Letter, RunState, state_of
from common.reconciliation import Reconciliation, reconcile
from common.view import read_view
from ops.status import describe
from tests.fakes.clock import START, FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables

RUN = "20260101T000000-0badcafe"
FATES = ("accepted", "rejected", "struck", "poisoned", "pending")


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


def chunk(
    sequence: int,
    count: int,
    state: ChunkState,
    *,
    accepted: int = 0,
    letters: str = "",
    void: bool = False,
) -> Chunk:
    """Return a chunk's row; what is not accepted of an uploaded one is rejected."""
    is_whole = state is ChunkState.UPLOADED and not letters
    return Chunk(
        run_id=RUN,
        key=f"{sequence:06d}-1",
        sequence=sequence,
        epoch=1,
        count=count,
        state=state,
        accepted=accepted,
        rejected=count - accepted if is_whole else 0,
        letters=letters,
        void=void,
    )


def lettered(sequence: int, letters: str, *, void: bool = False) -> Chunk:
    """Return a chunk's row that has a letter for each record."""
    return chunk(sequence, len(letters), state_of(letters), letters=letters, void=void)


QUEUED = ChunkState.QUEUED
UPLOADED = ChunkState.UPLOADED
POISONED = ChunkState.POISONED
DISCARDED = ChunkState.DISCARDED


@pytest.mark.parametrize(
    ("found", "chunks", "expected"),
    [
        (run(sequence=None), [], {}),
        (run(fetched=4, filtered=1, invalid=1, unchanged=1, older=1), [], {}),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 5, QUEUED)], {"pending": 5}),
        (
            run(sequence=1, fetched=5, enqueued=5, corrections=2),
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
            run(sequence=1, fetched=6, enqueued=6),
            [lettered(0, ".ARPSD")],
            {"pending": 1, "accepted": 1, "rejected": 1, "poisoned": 2, "struck": 1},
        ),
        (run(sequence=1, fetched=3, enqueued=3), [lettered(0, "SSS")], {"struck": 3}),
        (
            run(sequence=4, fetched=11, filtered=3, enqueued=8),
            [
                chunk(0, 1, QUEUED),
                chunk(1, 2, POISONED),
                chunk(2, 3, UPLOADED, accepted=1),
                lettered(3, "SA"),
            ],
            {"pending": 1, "poisoned": 2, "accepted": 2, "rejected": 2, "struck": 1},
        ),
    ],
)
def test_balanced_books(found: Run, chunks: list[Chunk], expected: dict[str, int]) -> None:
    """What was enqueued is accepted, rejected, struck, poisoned or pending, to the last one."""
    fate = reconcile(found, chunks)
    assert fate.balanced
    shown = {name: getattr(fate, name) for name in FATES}
    assert shown == {**dict.fromkeys(FATES, 0), **expected}
    for name in ("fetched", "filtered", "invalid", "unchanged", "older", "enqueued", "corrections"):
        assert getattr(fate, name) == getattr(found.counts, name)


@pytest.mark.parametrize(
    ("found", "chunks"),
    [
        (run(sequence=1, fetched=5, enqueued=5), []),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 4, QUEUED)]),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 6, UPLOADED, accepted=6)]),
        (run(sequence=1, fetched=6, enqueued=5), [chunk(0, 5, QUEUED)]),
        (run(sequence=1, fetched=5, filtered=1, enqueued=5), [chunk(0, 5, QUEUED)]),
        (run(sequence=1, fetched=5, older=1, enqueued=5), [chunk(0, 5, QUEUED)]),
        (run(sequence=2, fetched=5, enqueued=5), [chunk(0, 5, QUEUED), chunk(1, 5, QUEUED)]),
        (run(sequence=1, fetched=5, enqueued=5), [chunk(0, 5, QUEUED, void=True)]),
        (run(sequence=1, fetched=5, enqueued=5), [lettered(0, "SSSS")]),
    ],
)
def test_an_imbalance_is_shown_and_not_smoothed_over(found: Run, chunks: list[Chunk]) -> None:
    """Missing rows, rows too many, void ones that were counted, and counts that do not add up."""
    assert not reconcile(found, chunks).balanced


def test_a_receipt_that_does_not_add_up_is_an_imbalance() -> None:
    """An uploaded chunk with fewer fates than indicators has lost some."""
    row = replace(chunk(0, 5, UPLOADED, accepted=3), rejected=1)
    assert not reconcile(run(sequence=1, fetched=5, enqueued=5), [row]).balanced


@pytest.mark.parametrize("sequence", [None, 0, 1, 2, 3])
def test_chunks_beyond_the_checkpoint_are_not_in_the_books(sequence: int | None) -> None:
    """A run that is under way, or died before its checkpoint, is balanced all the same.

    Their messages may not be on the queue yet; the next tick makes them void.
    """
    chunks = [chunk(0, 5, UPLOADED, accepted=5), chunk(1, 3, QUEUED), chunk(2, 2, POISONED)]
    counted = chunks[: sequence or 0]
    before = sum(row.count for row in counted)
    fate = reconcile(run(sequence=sequence, fetched=before, enqueued=before), chunks)
    assert fate.balanced
    assert (fate.fetched, fate.enqueued) == (before, before)
    assert fate.accepted + fate.pending + fate.poisoned == before


@pytest.mark.parametrize("state", list(ChunkState))
def test_a_void_chunk_is_not_in_the_books_whatever_became_of_it(state: ChunkState) -> None:
    """Its page was read again, into a chunk of the same number and a later epoch."""
    again = replace(chunk(0, 100, UPLOADED, accepted=100), key="000000-2", epoch=2)
    void = chunk(0, 60, state, accepted=60 if state is UPLOADED else 0, void=True)
    for rows in ([void, again], [again, void]):
        fate = reconcile(run(sequence=1, fetched=100, enqueued=100), rows)
        assert fate.balanced
        assert (fate.enqueued, fate.accepted) == (100, 100)


def test_folded_chunks_are_counted_once() -> None:
    """Their rows are gone: their fate is in the run's head, and discarded ones are poisoned."""
    folded = Folded(accepted=5, rejected=1, struck=4, discarded=2)
    found = replace(run(sequence=3, fetched=15, enqueued=15), folded=folded)
    fate = reconcile(found, [chunk(2, 3, QUEUED)])
    assert fate.balanced
    assert {name: getattr(fate, name) for name in FATES} == {
        "accepted": 5,
        "rejected": 1,
        "struck": 4,
        "poisoned": 2,
        "pending": 3,
    }


@given(
    found=st.lists(st.text(st.sampled_from("".join(Letter)), min_size=1, max_size=30), max_size=12),
    voids=st.sets(st.integers(0, 11)),
    checkpoint=st.integers(0, 12),
    others=st.tuples(*[st.integers(0, 99)] * 4),
    lost=st.integers(0, 1),
)
def test_the_books_balance_exactly_when_nothing_is_missing(
    found: list[str],
    voids: set[int],
    checkpoint: int,
    others: tuple[int, int, int, int],
    lost: int,
) -> None:
    """For any letters, void chunks and checkpoint: one counted row less and it shows."""
    chunks = [lettered(at, letters, void=at in voids) for at, letters in enumerate(found)]
    counted = [row for row in chunks[:checkpoint] if not row.void]
    before = sum(row.count for row in counted)
    filtered, invalid, unchanged, older = others
    books = run(
        sequence=checkpoint,
        fetched=before + sum(others),
        filtered=filtered,
        invalid=invalid,
        unchanged=unchanged,
        older=older,
        enqueued=before,
    )
    missing = counted[:1] if lost else []
    fate = reconcile(books, [row for row in chunks if row not in missing])
    assert fate.balanced is not bool(missing)


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
                counts=Counts(fetched=5, older=2, enqueued=3, corrections=1),
                resumed=number,
                reason="why",
            )
        )
    first = ledger.runs.get(RUN)
    assert first is not None
    ledger.runs.save(first, rows=[insertion(chunk(0, 3, QUEUED))])
    written = ledger.chunks.get(RUN, "000000-1")
    assert written is not None
    ledger.chunks.record_uploaded(written, sent=(0, 1, 2), rejected={1}, at=START)
    queue.send("message", delay=60)

    def report_of(runs: int) -> dict[str, Any]:
        view = read_view(
            ledger,
            Problems(tables, clock=clock),
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
    assert oldest["run"] == RUN
    assert (oldest["state"], oldest["reason"], oldest["pages"]) == ("interrupted", "why", 3)
    shown = {f.name: oldest[f.name] for f in fields(Reconciliation) if f.name != "waited"}
    assert shown == {
        "fetched": 5,
        "filtered": 0,
        "invalid": 0,
        "unchanged": 0,
        "older": 2,
        "enqueued": 3,
        "corrections": 1,
        "accepted": 2,
        "rejected": 1,
        "struck": 0,
        "poisoned": 0,
        "pending": 0,
    }
    assert oldest["balanced"] is True
    assert report["runs"][0]["balanced"] is False


def test_a_reconciliation_is_balanced_only_if_both_laws_hold() -> None:
    """One law alone proves nothing; corrections are a part of what is enqueued."""
    whole = {
        "fetched": 5,
        "filtered": 1,
        "invalid": 1,
        "unchanged": 1,
        "older": 1,
        "enqueued": 1,
        "corrections": 1,
        "accepted": 1,
        "rejected": 0,
        "struck": 0,
        "poisoned": 0,
        "pending": 0,
    }
    assert Reconciliation(**whole).balanced
    for name, number in whole.items():
        changed = Reconciliation(**{**whole, name: number + 1})
        assert changed.balanced is (name == "corrections")
