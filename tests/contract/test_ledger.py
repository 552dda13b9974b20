"""The ledger's promises, on tables in memory and on Azurite: who wins, what lasts, what is kept.

Races are states: `HookedTables` runs something between one writer's read and its write.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from itertools import permutations
from typing import Any, assert_never

import pytest

from common.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_HISTORY,
    MAX_REASON,
    Attempt,
    Envelope,
    chunk_id_of,
)
from common.errors import ConflictError, LeaseHeldError, LeaseLostError
from common.events import MAX_TEXT
from common.fingerprints import pack
from common.ledger import Ledger, open_ledger
from common.ledger.chunks import Chunk
from common.ledger.poison import (
    UNKNOWN_RUN,
    PoisonedBy,
    PoisonEntry,
    PoisonRecord,
    PoisonState,
    PoisonTotals,
    poison_of_envelope,
    poison_of_raw,
)
from common.ledger.rejections import MAX_REJECTION_REASON, RejectedBy, Rejection
from common.ledger.runs import Counts, Cursor, Folded, Run, RunRow, new_run_id
from common.ledger.states import CHUNK_MOVES, RUN_MOVES, ChunkState, RunState
from common.ledger.tables import Row, Table, Tables
from tests.fakes.clock import START, FakeClock

RUN = "20260101T000000-0badcafe"
SOON = START + timedelta(seconds=60)
LATER = START + timedelta(hours=1)


class HookedTables:
    """Any tables, with `before` called ahead of each operation (table, operation)."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.before: Callable[[str, str], None] = lambda _table, _operation: None

    def table(self, name: str) -> "HookedTable":
        return HookedTable(self._tables.table(name), lambda what: self.before(name, what))

    def once(self, table: str, operation: str, action: Callable[[], object]) -> None:
        """Run `action` right before the next such operation, and never again."""

        def hook(name: str, what: str) -> None:
            if (name, what) == (table, operation):
                self.before = lambda _table, _operation: None
                action()

        self.before = hook


class HookedTable:
    """One table of `HookedTables`."""

    def __init__(self, table: Table, before: Callable[[str], None]) -> None:
        self._table = table
        self._before = before

    def get(self, partition: str, key: str) -> Row | None:
        self._before("get")
        return self._table.get(partition, key)

    def insert(self, row: Row) -> str:
        self._before("insert")
        return self._table.insert(row)

    def merge(self, row: Row) -> None:
        self._before("merge")
        self._table.merge(row)

    def replace(self, row: Row) -> str:
        self._before("replace")
        return self._table.replace(row)

    def delete(self, partition: str, key: str) -> None:
        self._before("delete")
        self._table.delete(partition, key)

    def query(
        self,
        partition: str | None = None,
        *,
        limit: int | None = None,
        select: Sequence[str] | None = None,
    ) -> Iterator[Row]:
        self._before("query")
        return self._table.query(partition, limit=limit, select=select)

    def merge_all(self, rows: Sequence[Row]) -> None:
        self._before("merge_all")
        self._table.merge_all(rows)

    def delete_all(self, keys: Sequence[tuple[str, str]]) -> None:
        self._before("delete_all")
        self._table.delete_all(keys)


@pytest.fixture
def hooked(tables: Tables) -> HookedTables:
    """The tables, with a hook."""
    return HookedTables(tables)


@pytest.fixture
def ledger(hooked: HookedTables) -> Ledger:
    """An empty ledger, whose operations pass the hook."""
    return open_ledger(hooked)


@pytest.fixture
def other(tables: Tables) -> Ledger:
    """The same ledger as another instance sees it, without the hook."""
    return open_ledger(tables)


def envelope(number: int = 0, *, count: int = 100) -> Envelope:
    """The envelope of one chunk of the run."""
    body = f"[{number}]".encode()
    return Envelope(
        run_id=RUN,
        chunk_id=chunk_id_of(body),
        sequence=number,
        count=count,
        body=body,
    )


def chunk(ledger: Ledger, sent: Envelope) -> Chunk:
    """A chunk that must be there."""
    found = ledger.chunks.get(sent.run_id, sent.key)
    assert found is not None
    return found


def upload(ledger: Ledger, sent: Envelope, *, rejected: int = 0) -> None:
    """Record that Sentinel has a chunk."""
    ledger.chunks.record_uploaded(sent, accepted=sent.count - rejected, rejected=rejected, at=START)


def run(number: int = 0, **changes: Any) -> Run:
    """A run that began `number` seconds after the start of time."""
    at = START + timedelta(seconds=number)
    made = Run(run_id=new_run_id(at), state=RunState.RUNNING, started_at=at, updated_at=at)
    return replace(made, **changes)


# Chunks


def test_an_unknown_chunk_is_none(ledger: Ledger) -> None:
    """Nothing is known of a chunk that nobody wrote about."""
    assert ledger.chunks.get(RUN, envelope().key) is None
    assert list(ledger.chunks.of_run(RUN)) == []


def test_an_enqueued_chunk_is_queued(ledger: Ledger) -> None:
    """Once a message is on the queue, its chunk is there, without an outcome."""
    sent = envelope(3)
    ledger.chunks.record_enqueued([sent], at=START)
    assert chunk(ledger, sent) == Chunk(
        run_id=RUN, key=sent.key, sequence=3, count=100, state=ChunkState.QUEUED
    )


def test_a_chunk_keeps_its_fingerprints(ledger: Ledger) -> None:
    """Whoever writes a chunk's row, it holds the fingerprints of the envelope."""
    fingerprints = (0, 2**64 - 1)
    by_producer = replace(envelope(0, count=2), fingerprints=fingerprints)
    by_consumer = replace(envelope(1, count=2), fingerprints=fingerprints)
    ledger.chunks.record_enqueued([by_producer], at=START)
    upload(ledger, by_consumer)
    found = {item.fingerprints for item in ledger.chunks.all()}
    assert found == {pack(fingerprints)}


def test_an_outcome_is_the_chunk_without_what_it_carries(ledger: Ledger) -> None:
    """The books need place, counts, state and time; such a chunk cannot be moved."""
    queued = replace(envelope(0, count=2), fingerprints=(1, 2))
    late = replace(envelope(1), run_id="20260101T000001-0badcafe")
    ledger.chunks.record_enqueued([queued, late], at=START)
    deferred = queued.deferred(at="", reason="503", counts=True)
    ledger.chunks.record_deferred(deferred, at=START, reason="503")
    ledger.chunks.record_uploaded(late, accepted=97, rejected=3, at=LATER, late_ids=b"12345678")
    whole = list(ledger.chunks.all())
    found = list(ledger.chunks.outcomes())
    assert found == [replace(c, fingerprints=b"", late_ids=b"", reason="") for c in whole]
    assert [(c.deferrals, c.accepted, c.rejected) for c in found] == [(1, 0, 0), (0, 97, 3)]
    assert [(c.enqueued_at, c.etag) for c in found] == [(START, "")] * 2
    assert list(ledger.chunks.outcomes(late.run_id)) == found[1:]
    assert not ledger.chunks.move(found[0], ChunkState.DISCARDED, at=LATER)


def test_many_chunks_are_recorded_at_once(ledger: Ledger) -> None:
    """More chunks than a transaction holds are one row each, one given twice too."""
    sent = [envelope(number) for number in range(250)]
    ledger.chunks.record_enqueued([*sent, sent[0]], at=START)
    assert [found.sequence for found in ledger.chunks.of_run(RUN)] == list(range(250))
    assert list(ledger.chunks.of_run("another")) == []


def test_chunks_of_the_same_content_are_apart(ledger: Ledger) -> None:
    """The same indicators at two places of a run are two chunks, each with its outcome."""
    first, second = envelope(0), replace(envelope(0), sequence=1)
    assert first.chunk_id == second.chunk_id
    ledger.chunks.record_enqueued([first, second], at=START)
    upload(ledger, second)
    states = [found.state for found in ledger.chunks.of_run(RUN)]
    assert states == [ChunkState.QUEUED, ChunkState.UPLOADED]


def test_removed_chunks_are_gone(ledger: Ledger) -> None:
    """Removing takes the named rows, more than a transaction holds, and no other; twice is once."""
    sent = [envelope(number) for number in range(250)]
    ledger.chunks.record_enqueued(sent, at=START)
    finished = list(ledger.chunks.of_run(RUN))[1:]
    for _ in range(2):
        ledger.chunks.remove(finished)
    assert [found.sequence for found in ledger.chunks.all()] == [0]


@pytest.mark.parametrize("order", list(permutations(["enqueued", "deferred", "outcome"])))
@pytest.mark.parametrize("outcome", [ChunkState.UPLOADED, ChunkState.POISONED])
def test_both_sides_write_in_any_order(
    ledger: Ledger, order: tuple[str, ...], outcome: ChunkState
) -> None:
    """Producer and consumer never undo each other: in every order the chunk ends the same."""
    sent = envelope(7)
    deferred = sent.deferred(at="now", reason="busy", counts=False)
    for step in order:
        match step, outcome:
            case "enqueued", _:
                ledger.chunks.record_enqueued([sent], at=START)
            case "deferred", _:
                ledger.chunks.record_deferred(deferred, at=START, reason="busy")
            case _, ChunkState.UPLOADED:
                upload(ledger, deferred, rejected=1)
            case _:
                ledger.chunks.record_poisoned(deferred, at=START, reason="busy")
    uploaded = outcome is ChunkState.UPLOADED
    expected = Chunk(
        run_id=RUN,
        key=sent.key,
        sequence=7,
        count=100,
        state=outcome,
        accepted=99 if uploaded else 0,
        rejected=1 if uploaded else 0,
        deferrals=1,
    )
    assert replace(chunk(ledger, sent), reason="") == expected


def test_a_late_enqueue_does_not_undo_an_upload(ledger: Ledger) -> None:
    """A consumer may be done before the producer writes its row: the outcome stays."""
    sent = envelope()
    upload(ledger, sent, rejected=2)
    ledger.chunks.record_enqueued([sent], at=LATER)
    found = chunk(ledger, sent)
    assert (found.state, found.accepted, found.rejected) == (ChunkState.UPLOADED, 98, 2)


def test_the_consumer_s_row_is_whole_alone(ledger: Ledger) -> None:
    """Where the producer died before writing, the consumer's row has number and count."""
    sent = envelope(4, count=17)
    upload(ledger, sent)
    assert (chunk(ledger, sent).sequence, chunk(ledger, sent).count) == (4, 17)


def test_a_poisoned_chunk_says_why(ledger: Ledger) -> None:
    """Giving a chunk up is recorded with the reason, cut to one line; twice is once."""
    sent = envelope()
    ledger.chunks.record_enqueued([sent], at=START)
    for _ in range(2):
        ledger.chunks.record_poisoned(sent, at=START, reason="bad\n" + "x" * 999)
    found = chunk(ledger, sent)
    assert found.state is ChunkState.POISONED
    assert found.reason.startswith("bad x")
    assert len(found.reason) == MAX_TEXT


def test_an_uploaded_chunk_is_not_poisoned(ledger: Ledger) -> None:
    """What Sentinel has is not lost: giving it up is refused and changes nothing."""
    sent = envelope()
    upload(ledger, sent, rejected=1)
    before = chunk(ledger, sent)
    ledger.chunks.record_poisoned(sent, at=LATER, reason="too late")
    assert chunk(ledger, sent) == before


@pytest.mark.parametrize(("known", "write"), [(True, "replace"), (False, "insert")])
def test_an_upload_wins_the_race(
    ledger: Ledger, other: Ledger, hooked: HookedTables, known: bool, write: str
) -> None:
    """An upload recorded between the look at a chunk and giving it up is kept."""
    sent = envelope()
    if known:
        ledger.chunks.record_enqueued([sent], at=START)
    hooked.once("chunks", write, lambda: upload(other, sent))
    ledger.chunks.record_poisoned(sent, at=START, reason="crashed")
    assert chunk(ledger, sent).state is ChunkState.UPLOADED


def test_giving_up_survives_other_writers(
    ledger: Ledger, other: Ledger, hooked: HookedTables
) -> None:
    """A row that changes meanwhile, but is not uploaded, is poisoned all the same."""
    sent = envelope()
    hooked.once(
        "chunks", "insert", lambda: other.chunks.record_deferred(sent, at=START, reason="busy")
    )
    ledger.chunks.record_poisoned(sent, at=START, reason="crashed")
    assert chunk(ledger, sent).state is ChunkState.POISONED


def test_a_row_that_keeps_changing_is_left_for_later(
    ledger: Ledger, other: Ledger, hooked: HookedTables
) -> None:
    """When the row changes at every try, the call ends with a conflict, not in a loop."""
    sent = envelope()
    ledger.chunks.record_enqueued([sent], at=START)

    def hook(_table: str, operation: str) -> None:
        if operation == "replace":
            other.chunks.record_deferred(sent, at=START, reason="busy")

    hooked.before = hook
    with pytest.raises(ConflictError, match="kept changing"):
        ledger.chunks.record_poisoned(sent, at=START, reason="crashed")
    assert chunk(other, sent).state is ChunkState.QUEUED


def test_an_upload_wins_over_poison(ledger: Ledger) -> None:
    """A replay that succeeds makes a poisoned chunk an uploaded one, without a reason."""
    sent = envelope()
    ledger.chunks.record_poisoned(sent, at=START, reason="refused")
    upload(ledger, sent)
    found = chunk(ledger, sent)
    assert (found.state, found.accepted, found.reason) == (ChunkState.UPLOADED, 100, "")


def in_state(ledger: Ledger, number: int, state: ChunkState) -> Envelope:
    """A chunk that was brought into a state."""
    sent = envelope(number)
    ledger.chunks.record_enqueued([sent], at=START)
    match state:
        case ChunkState.QUEUED:
            pass
        case ChunkState.UPLOADED:
            upload(ledger, sent)
        case ChunkState.POISONED:
            ledger.chunks.record_poisoned(sent, at=START, reason="refused")
        case ChunkState.DISCARDED:
            ledger.chunks.record_poisoned(sent, at=START, reason="refused")
            assert ledger.chunks.move(chunk(ledger, sent), state, at=START)
        case _:
            assert_never(state)
    return sent


def test_an_operator_moves_a_chunk_as_the_table_says(ledger: Ledger) -> None:
    """Of all moves between two states only those of `CHUNK_MOVES` are written."""
    for number, origin in enumerate(ChunkState):
        for step, target in enumerate(ChunkState):
            sent = in_state(ledger, 10 * number + step, origin)
            allowed = target in CHUNK_MOVES[origin]
            assert ledger.chunks.move(chunk(ledger, sent), target, at=LATER) is allowed
            assert chunk(ledger, sent).state is (target if allowed else origin)


def test_an_operator_moves_no_chunk_without_a_row(ledger: Ledger) -> None:
    """A chunk that was folded away is not brought back by a move."""
    found = chunk(ledger, in_state(ledger, 0, ChunkState.POISONED))
    ledger.chunks.remove([found])
    assert ledger.chunks.move(found, ChunkState.DISCARDED, at=START) is False
    assert ledger.chunks.get(RUN, found.key) is None


@pytest.mark.parametrize("operation", ["get", "replace"])
def test_an_upload_wins_the_race_with_an_operator(
    ledger: Ledger, other: Ledger, hooked: HookedTables, operation: str
) -> None:
    """An upload recorded while an operator discards the chunk is kept."""
    sent = in_state(ledger, 0, ChunkState.POISONED)
    found = chunk(ledger, sent)
    hooked.once("chunks", operation, lambda: upload(other, sent))
    assert ledger.chunks.move(found, ChunkState.DISCARDED, at=START) is False
    assert chunk(ledger, sent).state is ChunkState.UPLOADED


# Runs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cache_id": "é-1", "cursor": Cursor(), "resumed": 3},
        {"cursor": Cursor(token="é" * 2000, offset=7, page=3, sequence=250)},
        {"cursor": Cursor(token="t", offset=9, page=4, sequence=251, done=True)},
        {
            "counts": Counts(
                fetched=100, filtered=1, invalid=2, unchanged=3, enqueued=94, other_kind=5
            ),
            "reason": "reached MAX_PAGES",
        },
        {"stalled": 4, "progress_at": LATER, "reason": "outage"},
        {
            "full_request": START,
            "folded": Folded(accepted=1, rejected=2, discarded=3, chunks=1 << 9999 | 1),
        },
    ],
)
def test_a_run_comes_back_as_it_was(ledger: Ledger, changes: dict[str, Any]) -> None:
    """Every field of a run's row is read as it was written, the missing cursor too."""
    created = ledger.runs.create(run(**changes))
    assert ledger.runs.get(created.run_id) == created


def test_a_cursor_of_a_release_before_is_read(tables: Tables, ledger: Ledger) -> None:
    """Without `done` in it there is something left to read, or nobody knows."""
    created = ledger.runs.create(run(cursor=Cursor(token="t", offset=7, page=3, sequence=250)))
    (row,) = tables.table("runs").query()
    cursor = row.data["cursor"]
    assert isinstance(cursor, bytes)
    written = json.loads(cursor)
    assert written.pop("done") is False
    old = {**row.data, "cursor": json.dumps(written).encode()}
    tables.table("runs").replace(replace(row, data=old))
    found = ledger.runs.get(created.run_id)
    assert found is not None
    assert found.cursor == created.cursor


def test_an_unknown_run_is_none(ledger: Ledger) -> None:
    """Nothing is known of a run that was not created."""
    assert ledger.runs.get(RUN) is None
    assert list(ledger.runs.latest(10)) == []


def test_a_run_is_created_once(ledger: Ledger) -> None:
    """A second row of the same id is a conflict, but for the very same one, written again."""
    created = ledger.runs.create(run())
    assert ledger.runs.create(created) == created
    with pytest.raises(ConflictError):
        ledger.runs.create(replace(created, resumed=1))
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
    saved = other.runs.save(theirs, cursor=Cursor(token="theirs"))
    with pytest.raises(ConflictError):
        ledger.runs.save(mine, cursor=Cursor(token="mine"))
    assert ledger.runs.get(mine.run_id) == saved


def test_a_run_moves_as_the_table_says(ledger: Ledger) -> None:
    """Of all moves between two states only those of `RUN_MOVES` are written."""
    for origin in RunState:
        for target in RunState:
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


def test_a_run_row_keeps_its_latest_version(ledger: Ledger) -> None:
    """Saving through a `RunRow` stamps the time and goes on from the row it wrote."""
    clock = FakeClock()
    row = RunRow(ledger.runs, ledger.runs.create(run()), clock)
    clock.advance(60)
    row.save(cursor=Cursor(page=1))
    last = row.save(state=RunState.COMPLETE)
    assert ledger.runs.get(last.run_id) == last == row.run
    assert last.updated_at == SOON


# The run lease


def test_the_lease_is_taken_by_one(ledger: Ledger, other: Ledger) -> None:
    """While it is held, another instance is told by whom and until when."""
    lease = ledger.control.acquire_lease(owner="mine", now=START, seconds=600)
    assert (lease.owner, lease.open_run) == ("mine", None)
    assert lease.expires_at == START + timedelta(seconds=600)
    with pytest.raises(LeaseHeldError, match=r"held by mine until 00:10:00 UTC"):
        other.control.acquire_lease(owner="theirs", now=SOON, seconds=600)


@pytest.mark.parametrize(("first_time", "write"), [(True, "insert"), (False, "replace")])
def test_of_two_that_find_it_free_one_gets_the_lease(
    ledger: Ledger, other: Ledger, hooked: HookedTables, first_time: bool, write: str
) -> None:
    """Who takes the lease between another's look and write has it; the other is told."""
    if not first_time:
        lease = ledger.control.acquire_lease(owner="old", now=START, seconds=600)
        ledger.control.release_lease(lease, now=START)
    hooked.once(
        "control",
        write,
        lambda: other.control.acquire_lease(owner="theirs", now=SOON, seconds=600),
    )
    with pytest.raises(LeaseHeldError):
        ledger.control.acquire_lease(owner="mine", now=SOON, seconds=600)
    with pytest.raises(LeaseHeldError, match="held by theirs"):
        ledger.control.acquire_lease(owner="mine", now=SOON, seconds=600)


def test_an_expired_lease_is_taken_over_with_its_run(ledger: Ledger, other: Ledger) -> None:
    """The run that a dead instance left open is handed to the next; the old one cannot write."""
    old = ledger.control.acquire_lease(owner="dead", now=START, seconds=60)
    old = ledger.control.set_open_run(old, RUN)
    new = other.control.acquire_lease(owner="next", now=SOON, seconds=60)
    assert (new.owner, new.open_run) == ("next", RUN)
    with pytest.raises(LeaseLostError):
        ledger.control.renew_lease(old, now=SOON, seconds=60)
    with pytest.raises(LeaseLostError):
        ledger.control.set_open_run(old, None)
    assert other.control.read_lease() == new


def test_a_renewed_lease_lasts_longer(ledger: Ledger, other: Ledger) -> None:
    """Renewing moves the expiry and keeps the open run."""
    lease = ledger.control.acquire_lease(owner="mine", now=START, seconds=60)
    lease = ledger.control.set_open_run(lease, RUN)
    lease = ledger.control.renew_lease(lease, now=SOON, seconds=60)
    assert lease.open_run == RUN
    with pytest.raises(LeaseHeldError):
        other.control.acquire_lease(owner="theirs", now=SOON, seconds=60)


def test_a_released_lease_is_free_and_remembers(ledger: Ledger, other: Ledger) -> None:
    """After a release anybody may take the lease at once, and learns which run is open."""
    lease = ledger.control.acquire_lease(owner="mine", now=START, seconds=600)
    lease = ledger.control.set_open_run(lease, RUN)
    ledger.control.release_lease(lease, now=START)
    assert other.control.acquire_lease(owner="theirs", now=START, seconds=60).open_run == RUN


def test_releasing_what_is_not_held_is_harmless(ledger: Ledger, other: Ledger) -> None:
    """A second release, or one after a takeover, changes nothing and raises nothing."""
    old = ledger.control.acquire_lease(owner="slow", now=START, seconds=60)
    ledger.control.release_lease(old, now=START)
    ledger.control.release_lease(old, now=START)
    new = other.control.acquire_lease(owner="next", now=SOON, seconds=600)
    ledger.control.release_lease(old, now=SOON)
    assert other.control.read_lease() == new


def test_a_closed_run_is_forgotten(ledger: Ledger) -> None:
    """Once no run is open, the next holder finds none."""
    lease = ledger.control.acquire_lease(owner="mine", now=START, seconds=60)
    lease = ledger.control.set_open_run(lease, RUN)
    lease = ledger.control.set_open_run(lease, None)
    ledger.control.release_lease(lease, now=START)
    assert ledger.control.acquire_lease(owner="next", now=START, seconds=60).open_run is None


# Poison


def raw(message: str) -> PoisonRecord:
    """The record of a message that cannot be decoded."""
    return poison_of_raw(message, reason="not JSON", poisoned_by=PoisonedBy.HOST, at=START)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        "x" * MAX_ENVELOPE_BYTES,
        "é漢😀\x00\u2028" * 4000,
        "\ud800 half a pair \udfff" * 2000,
        "\ud83d" * MAX_ENVELOPE_BYTES,
    ],
    ids=["empty", "short", "64 KiB", "any letter", "lone surrogates", "192 KiB of them"],
)
def test_a_message_is_kept_whatever_is_in_it(ledger: Ledger, message: str) -> None:
    """The text of a poisoned message comes back letter by letter."""
    record = raw(message)
    ledger.poison.keep(record)
    assert ledger.poison.get(UNKNOWN_RUN, record.poison_id) == record
    assert record.count == 0


def test_an_envelope_is_kept_with_its_history(ledger: Ledger) -> None:
    """The record of a decoded message has its run, chunk, count and what was tried before."""
    made = envelope(count=42)
    for number in range(MAX_HISTORY):
        made = made.deferred(at=f"at {number}", reason="r" * MAX_REASON, counts=True)
    record = poison_of_envelope(
        made, "text", reason="given up", poisoned_by=PoisonedBy.CONSUMER, at=START
    )
    ledger.poison.keep(record)
    assert list(ledger.poison.all()) == [record]
    assert (record.run_id, record.poison_id) == (RUN, made.key)
    assert (record.count, record.attempts) == (42, MAX_HISTORY)
    assert record.history[0] == Attempt(at="at 0", reason="r" * MAX_REASON)


def test_an_entry_is_the_record_without_its_message(ledger: Ledger) -> None:
    """A list tells everything but message and history, and when the record was settled."""
    record = raw("message")
    ledger.poison.keep(record)
    (entry,) = ledger.poison.entries()
    assert entry.settled_at is None
    assert entry == PoisonEntry(**{f.name: getattr(record, f.name) for f in fields(PoisonEntry)})
    found = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
    assert found is not None
    assert ledger.poison.settle(found, PoisonState.DISCARDED, at=LATER)
    (entry,) = ledger.poison.entries()
    assert (entry.state, entry.settled_at) == (PoisonState.DISCARDED, LATER)


def test_the_totals_of_the_poison_say_what_is_kept_and_when_one_was_replayed(
    ledger: Ledger,
) -> None:
    """Settled records are not counted; of several replays the last one is told."""
    assert ledger.poison.totals() == PoisonTotals(kept=0, replayed_at=None)
    for text in "abcde":
        ledger.poison.keep(raw(text))
    assert ledger.poison.totals() == PoisonTotals(kept=5, replayed_at=None)
    settled = [(PoisonState.REPLAYED, LATER), (PoisonState.REPLAYED, SOON)]
    records = ledger.poison.all()
    for state, at in [*settled, (PoisonState.DISCARDED, LATER + timedelta(hours=1))]:
        assert ledger.poison.settle(next(records), state, at=at)
    assert ledger.poison.totals() == PoisonTotals(kept=2, replayed_at=LATER)


def test_poison_that_comes_again_keeps_its_first_time(ledger: Ledger) -> None:
    """A message given up twice is one record: first time of the first, the rest of the last."""
    first = raw("message")
    again = replace(first, reason="still not JSON", first_at=LATER, last_at=LATER, attempts=3)
    ledger.poison.keep(first)
    ledger.poison.keep(again)
    assert list(ledger.poison.all()) == [replace(again, first_at=START)]


def test_poison_that_comes_out_of_order_keeps_the_earlier_time(ledger: Ledger) -> None:
    """Two instances may write in either order; the first time is the earlier one."""
    late = replace(raw("message"), first_at=LATER, last_at=LATER)
    ledger.poison.keep(late)
    ledger.poison.keep(raw("message"))
    assert next(ledger.poison.all()).first_at == START


def test_a_shorter_message_leaves_nothing_of_the_longer(ledger: Ledger) -> None:
    """A record that is written anew with less text comes back with just that."""
    long = replace(raw("x" * MAX_ENVELOPE_BYTES), poison_id="one")
    ledger.poison.keep(long)
    ledger.poison.keep(replace(long, message="short"))
    assert next(ledger.poison.all()).message == "short"


def test_different_messages_are_different_records(ledger: Ledger) -> None:
    """Undecodable messages are told apart by their text, those of runs by their chunk."""
    made = envelope()
    records = [
        raw("one"),
        raw("two"),
        poison_of_envelope(made, "t", reason="r", poisoned_by=PoisonedBy.HOST, at=START),
    ]
    for record in records:
        ledger.poison.keep(record)
    assert {item.poison_id for item in ledger.poison.all()} == {
        record.poison_id for record in records
    }
    assert ledger.poison.get(RUN, "0" * 32) is None


# Rejections


def rejection(position: str = "page-000001-000002", **changes: Any) -> Rejection:
    """A rejection of the run."""
    made = Rejection(
        run_id=RUN,
        position=position,
        rejected_by=RejectedBy.SENTINEL,
        indicator_id="indicator--1",
        pattern="[domain-name:value = 'bücher.example']",
        reason="no pattern_type\nsecond line",
        content='{"name":"bücher"}'.encode(),
        at=START,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"content": b"", "indicator_id": "", "pattern": "", "reason": ""},
        {"rejected_by": RejectedBy.VALIDATION, "content": bytes(10_000_000)},
    ],
)
def test_a_rejection_comes_back_as_it_was(ledger: Ledger, changes: dict[str, Any]) -> None:
    """Reason and content of a refused record are kept, however long what compresses is."""
    record = rejection(**changes)
    ledger.rejections.record([record])
    assert list(ledger.rejections.of_run(RUN)) == [record]
    assert list(ledger.rejections.of_run("another")) == []


def test_recording_again_changes_nothing(ledger: Ledger) -> None:
    """The step that found rejections may run twice: the same rows, by position."""
    records = [rejection(f"page-000000-{number:06d}") for number in range(250)]
    for _ in range(2):
        ledger.rejections.record(records)
    assert list(ledger.rejections.of_run(RUN)) == records


def test_a_record_that_is_named_twice_is_one_rejection(ledger: Ledger) -> None:
    """Sentinel may name the same record twice; the last word stays."""
    ledger.rejections.record([rejection(reason="first"), rejection(reason="last")])
    assert [found.reason for found in ledger.rejections.of_run(RUN)] == ["last"]


@pytest.mark.parametrize("size", [65_000, 65_536, 70_000, 200_000, 520_000])
def test_a_large_record_is_kept_whole(ledger: Ledger, size: int) -> None:
    """What does not fit in one property is kept in pieces."""
    content = random.Random(0).randbytes(size)  # noqa: S311 - repeatable, not secret
    for _ in range(2):
        ledger.rejections.record([rejection(content=content), rejection("another")])
    found = {item.position: item.content for item in ledger.rejections.of_run(RUN)}
    assert found == {rejection().position: content, "another": rejection().content}


def test_a_monstrous_record_is_kept_in_part(ledger: Ledger, tables: Tables) -> None:
    """A megabyte that does not compress costs its end, not the rejection."""
    content = random.Random(0).randbytes(1_000_000)  # noqa: S311 - repeatable, not secret
    ledger.rejections.record([rejection(content=content)])
    [found] = ledger.rejections.of_run(RUN)
    assert found == rejection(content=found.content)
    assert len(found.content) > 500_000
    assert content.startswith(found.content)
    [row] = tables.table("rejections").query(RUN)
    assert row.data["content_bytes"] == 1_000_000


def test_long_texts_of_a_rejection_are_cut(ledger: Ledger) -> None:
    """Pattern, reason and id are cut, so that a hundred rejections fit in one transaction."""
    long = "é" * 100_000
    content = random.Random(0).randbytes(65_000)  # noqa: S311 - repeatable, not secret
    ledger.rejections.record(
        rejection(str(number), pattern=long, reason=long, indicator_id=long, content=content)
        for number in range(100)
    )
    found = list(ledger.rejections.of_run(RUN))
    assert len(found) == 100
    assert {(len(item.pattern), len(item.reason), len(item.indicator_id)) for item in found} == {
        (MAX_REJECTION_REASON, MAX_REJECTION_REASON, MAX_TEXT)
    }
    assert all(item.content == content for item in found)
