"""The ledger's promises, on tables in memory and on Azurite: who wins, what lasts, what is kept.

Races are states: `HookedTables` runs something between one writer's read and its write.
"""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from common.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_HISTORY,
    MAX_REASON,
    Attempt,
    Envelope,
    chunk_id_of,
)
from common.errors import ConflictError, LeaseHeldError, LeaseLostError, UnavailableError
from common.ledger import Ledger, open_ledger
from common.ledger.chunks import Chunk, Fate, insertion, removal, voiding
from common.ledger.control import Control
from common.ledger.poison import (
    UNKNOWN_RUN,
    PoisonedBy,
    PoisonEntry,
    PoisonRecord,
    PoisonState,
    poison_of_envelope,
    poison_of_raw,
)
from common.ledger.rejections import MAX_REJECTION_REASON, RejectedBy, Rejection
from common.ledger.runs import Counts, Cursor, Folded, Head, Run, new_run_id
from common.ledger.states import CHUNK_MOVES, OPEN_RUNS, RUN_MOVES, ChunkState, RunState
from common.ledger.tables import Operation, Row, Table, Tables, Value
from common.records import Record, pack_records
from common.text import MAX_TEXT
from tests.fakes.clock import START, FakeClock
from tests.fakes.tables import FakeTables

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

    def update(self, row: Row) -> bool:
        self._before("update")
        return self._table.update(row)

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        self._before("transact")
        return self._table.transact(operations)

    def delete(self, partition: str, key: str) -> None:
        self._before("delete")
        self._table.delete(partition, key)

    def query(self, partition: str | None = None, **which: Any) -> Iterator[Row]:
        self._before("query")
        return self._table.query(partition, **which)

    def merge_all(self, rows: Sequence[Row]) -> None:
        self._before("merge_all")
        self._table.merge_all(rows)


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
        fingerprints=tuple(range(count)),
    )


def new(
    number: int = 0, *, count: int = 100, run_id: str = RUN, epoch: int = 1, **changes: Any
) -> Chunk:
    """A chunk that has no row yet."""
    made = Chunk(
        run_id=run_id,
        key=f"{number:06d}-{epoch}",
        sequence=number,
        epoch=epoch,
        count=count,
        destination="here",
        records=pack_records(
            Record(id_hash=1000 * number + i, fingerprint=i, modified=i, ends_on=i)
            for i in range(count)
        ),
        enqueued_at=START,
    )
    return replace(made, **changes)


def write(ledger: Ledger, *chunks: Chunk) -> list[Chunk]:
    """Write the rows of new chunks, as the tick that has their run does; return them as read."""
    for made in chunks:
        head = ledger.runs.get(made.run_id)
        if head is None:
            head = ledger.runs.create(run(run_id=made.run_id))
        ledger.runs.save(head, rows=[insertion(made)])
    return [read(ledger, made) for made in chunks]


def read(ledger: Ledger, known: Chunk) -> Chunk:
    """A chunk that must be there, as it stands."""
    found = ledger.chunks.get(known.run_id, known.key)
    assert found is not None
    return found


def upload(ledger: Ledger, known: Chunk, *, rejected: Collection[int] = ()) -> bool:
    """Record that Sentinel has what may be sent of a chunk, on the row as it was read."""
    return ledger.chunks.record_uploaded(known, sent=known.to_send, rejected=rejected, at=START)


def poison(ledger: Ledger, known: Chunk, reason: str = "why") -> bool:
    """Record that a chunk was given up."""
    return ledger.chunks.record_poisoned(known.run_id, known.key, at=START, reason=reason)


def remove(ledger: Ledger, *known: Chunk) -> None:
    """Fold rows away."""
    head = ledger.runs.get(RUN)
    assert head is not None
    ledger.runs.save(head, rows=[removal(chunk) for chunk in known])


def void(ledger: Ledger, *known: Chunk) -> None:
    """Make chunks void."""
    head = ledger.runs.get(RUN)
    assert head is not None
    ledger.runs.save(head, rows=[voiding(chunk) for chunk in known])


def run(number: int = 0, **changes: Any) -> Run:
    """A run that began `number` seconds after the start of time."""
    at = START + timedelta(seconds=number)
    made = Run(run_id=new_run_id(at), state=RunState.RUNNING, started_at=at, updated_at=at)
    return replace(made, **changes)


# Chunks


def test_an_unknown_chunk_is_none(ledger: Ledger) -> None:
    """Nothing is known of a chunk that nobody wrote about."""
    assert ledger.chunks.get(RUN, new().key) is None
    assert list(ledger.chunks.all()) == list(ledger.chunks.outcomes()) == []


def test_a_new_chunk_comes_back_as_it_was(ledger: Ledger) -> None:
    """Place, epoch, count, destination, time, and 24 bytes of each record."""
    made = new(3, epoch=12)
    (found,) = write(ledger, made)
    assert found == made
    assert found.enqueued_at == START
    assert found.fate == Fate(pending=100)
    assert list(found.unpacked())[7] == Record(id_hash=3007, fingerprint=7, modified=7, ends_on=7)
    assert found.to_send == tuple(range(100))


def test_an_outcome_is_the_chunk_without_what_it_carries(ledger: Ledger) -> None:
    """The books need place, counts, state and time; such a chunk cannot be moved."""
    later = new(1, run_id="20260101T000001-0badcafe")
    first, second = write(ledger, new(0, count=2), later)
    deferred = envelope(0).deferred(at="", reason="503", counts=True)
    ledger.chunks.record_deferred(deferred, at=START, reason="503")
    upload(ledger, second, rejected={0, 1, 2})
    whole = list(ledger.chunks.all())
    found = list(ledger.chunks.outcomes())
    assert [chunk.run_id for chunk in found] == [later.run_id, RUN]
    assert found == [replace(chunk, records=b"", reason="") for chunk in whole]
    assert [(c.deferrals, c.accepted, c.rejected) for c in found] == [(0, 97, 3), (1, 0, 0)]
    assert [(c.enqueued_at, c.etag) for c in found] == [(START, "")] * 2
    assert list(ledger.chunks.outcomes(first.run_id)) == found[1:]
    assert not ledger.chunks.move(found[1], ChunkState.DISCARDED, at=LATER)


def test_only_who_has_the_head_writes_rows(ledger: Ledger, other: Ledger) -> None:
    """A tick that was overtaken writes none of a batch, whatever its clock says."""
    mine = ledger.runs.create(run(run_id=RUN))
    theirs = other.runs.save(mine, epoch=2, tick="theirs")
    with pytest.raises(ConflictError):
        ledger.runs.save(mine, rows=[insertion(new(number)) for number in range(99)])
    assert list(ledger.chunks.all()) == []
    other.runs.save(theirs, rows=[insertion(new(0, epoch=2))])
    assert [found.key for found in ledger.chunks.all()] == ["000000-2"]


def test_what_lies_beyond_a_number_is_found(ledger: Ledger) -> None:
    """Chunks of any epoch from that number on, of this run alone, without its head."""
    write(ledger, *(new(number, epoch=e) for number in (0, 9, 10, 99_999) for e in (1, 2)))
    write(ledger, new(10, run_id="20260101T000001-0badcafe"))
    found = [chunk.key for chunk in ledger.chunks.beyond(RUN, 10)]
    assert found == ["000010-1", "000010-2", "099999-1", "099999-2"]
    assert len(ledger.chunks.beyond(RUN, 0)) == 8
    assert ledger.chunks.beyond(RUN, 100_000) == []


def test_a_void_chunk_is_not_to_be_sent_and_not_in_the_books(ledger: Ledger) -> None:
    """An answer that still comes is written all the same."""
    first, second = write(ledger, new(0, count=2), new(1, count=2))
    void(ledger, first, second)
    void(ledger, first)
    found = read(ledger, first)
    assert (found.void, found.to_send, found.is_settled) == (True, (), True)
    assert ledger.chunks.record_uploaded(first, sent=[0, 1], rejected={1}, at=LATER)
    found = read(ledger, first)
    assert (found.void, found.state) == (True, ChunkState.UPLOADED)
    assert (found.accepted, found.rejected) == (1, 1)
    assert [chunk.void for chunk in ledger.chunks.outcomes()] == [True, True]


def test_what_is_gone_is_not_made_void(ledger: Ledger) -> None:
    """Nothing that voids or removes creates a row: the whole transaction fails."""
    first, second = write(ledger, new(0), new(1))
    remove(ledger, first)
    for operation in (voiding, removal):
        head = ledger.runs.get(RUN)
        assert head is not None
        with pytest.raises(ConflictError):
            ledger.runs.save(head, rows=[operation(second), operation(first)])
    assert [(found.sequence, found.void) for found in ledger.chunks.all()] == [(1, False)]


def test_a_row_that_changed_since_it_was_read_is_not_removed(ledger: Ledger) -> None:
    """A late answer is not folded away unseen."""
    first, second = write(ledger, new(0), new(1))
    upload(ledger, first)
    head = ledger.runs.get(RUN)
    assert head is not None
    with pytest.raises(ConflictError):
        ledger.runs.save(head, folded=Folded(accepted=200), rows=[removal(second), removal(first)])
    assert ledger.runs.get(RUN) == head
    assert len(list(ledger.chunks.all())) == 2


@pytest.mark.parametrize("write_it", ["uploaded", "poisoned", "struck", "deferred", "turned over"])
def test_nothing_but_the_producer_creates_a_row(ledger: Ledger, write_it: str) -> None:
    """A row that is gone is settled: an outcome that comes after that changes nothing."""
    (found,) = write(ledger, new())
    remove(ledger, found)
    match write_it:
        case "uploaded":
            assert upload(ledger, found) is False
        case "poisoned":
            assert poison(ledger, found) is False
        case "struck":
            assert ledger.chunks.strike(RUN, found.key, [0]) is False
        case "deferred":
            ledger.chunks.record_deferred(envelope(), at=START, reason="busy")
        case _:
            assert ledger.chunks.turn_over(found, "there") is False
    assert list(ledger.chunks.all()) == []


@pytest.mark.parametrize("order", list(permutations(["deferred", "struck", "outcome"])))
@pytest.mark.parametrize("outcome", [ChunkState.UPLOADED, ChunkState.POISONED])
def test_writers_do_not_undo_each_other(
    ledger: Ledger, order: tuple[str, ...], outcome: ChunkState
) -> None:
    """A note, a strike and an outcome, in every order: nothing that was written is lost."""
    (made,) = write(ledger, new(7, count=3))
    deferred = envelope(7).deferred(at="now", reason="busy", counts=False)
    for step in order:
        match step, outcome:
            case "deferred", _:
                ledger.chunks.record_deferred(deferred, at=START, reason="busy")
            case "struck", _:
                assert ledger.chunks.strike(RUN, made.key, [0, 1])
            case _, ChunkState.UPLOADED:
                assert ledger.chunks.record_uploaded(made, sent=[0, 1, 2], rejected={1}, at=START)
            case _:
                assert poison(ledger, made)
    found = read(ledger, made)
    assert found.deferrals == 1
    is_struck_first = order.index("struck") < order.index("outcome")
    if outcome is ChunkState.UPLOADED:
        # Sentinel took the first, so that is what it is; it refused the second, which was struck.
        expected = Fate(accepted=2, struck=1) if is_struck_first else Fate(accepted=2, rejected=1)
    else:
        expected = Fate(struck=2, poisoned=1)
    assert found.fate == expected
    assert found.state is outcome


def test_an_answer_is_recorded_record_by_record_once_one_was_struck(ledger: Ledger) -> None:
    """Taken whole it is two counts; else each record has its letter, and the state follows."""
    whole, parts = write(ledger, new(0, count=4), new(1, count=4))
    assert upload(ledger, whole, rejected={2})
    found = read(ledger, whole)
    assert (found.letters, found.accepted, found.rejected) == ("", 3, 1)
    assert ledger.chunks.strike(RUN, parts.key, [1])
    parts = read(ledger, parts)
    assert (parts.letters, parts.to_send, parts.state) == (".S..", (0, 2, 3), ChunkState.QUEUED)
    assert ledger.chunks.record_uploaded(parts, sent=[0, 2], rejected={2}, at=LATER)
    parts = read(ledger, parts)
    assert (parts.letters, parts.to_send) == ("ASR.", (3,))
    assert ledger.chunks.record_uploaded(parts, sent=[3], rejected=(), at=LATER)
    parts = read(ledger, parts)
    assert (parts.letters, parts.state, parts.to_send) == ("ASRA", ChunkState.UPLOADED, ())
    expected = Fate(accepted=2, rejected=1, struck=1)
    assert replace(parts.fate, waited=0.0) == expected


def test_the_parts_of_a_split_chunk_have_answers_of_their_own(ledger: Ledger) -> None:
    """Each is accepted, rejected, given up, replayed or discarded without the others."""
    (found,) = write(ledger, new(0, count=6))
    for _ in range(2):
        assert ledger.chunks.record_split(read(ledger, found))
    found = read(ledger, found)
    assert (found.letters, found.state) == ("......", ChunkState.QUEUED)
    first, second, third = (0, 1), (2, 3), (4, 5)
    assert ledger.chunks.record_uploaded(found, sent=first, rejected={1}, at=START)
    for part in (second, third):
        assert ledger.chunks.record_poisoned(RUN, found.key, at=START, reason="why", part=part)
    found = read(ledger, found)
    assert (found.letters, found.state) == ("ARPPPP", ChunkState.POISONED)
    assert ledger.chunks.move(found, ChunkState.QUEUED, at=LATER, part=second)
    found = read(ledger, found)
    assert (found.letters, found.state) == ("AR..PP", ChunkState.QUEUED)
    assert ledger.chunks.move(found, ChunkState.DISCARDED, at=LATER, part=third)
    found = read(ledger, found)
    assert (found.letters, found.to_send) == ("AR..DD", second)
    assert [found.is_over(part) for part in (first, second, third, None)] == [
        True,
        False,
        True,
        False,
    ]
    assert found.state_among(first) is ChunkState.UPLOADED
    assert found.state_among(third) is ChunkState.DISCARDED


def test_a_settled_chunk_is_not_split(ledger: Ledger, other: Ledger, hooked: HookedTables) -> None:
    """A copy was taken whole between the look and the split: its two counts stay."""
    (found,) = write(ledger, new(0, count=4))
    hooked.once("chunks", "replace", lambda: upload(other, found, rejected={2}))
    assert ledger.chunks.record_split(found)
    after = read(ledger, found)
    assert (after.letters, after.fate) == ("", Fate(accepted=3, rejected=1))
    remove(ledger, after)
    assert not ledger.chunks.record_split(found)


def test_striking_all_of_a_chunk_settles_it(ledger: Ledger) -> None:
    """Twice is once; what is settled otherwise is left as it is."""
    first, taken = write(ledger, new(0, count=2), new(1, count=2))
    for indexes in ([0], [0, 1], [1]):
        assert ledger.chunks.strike(RUN, first.key, indexes)
    found = read(ledger, first)
    assert (found.letters, found.state, found.to_send) == ("SS", ChunkState.STRUCK, ())
    upload(ledger, taken)
    before = read(ledger, taken)
    assert ledger.chunks.strike(RUN, taken.key, [0, 1])
    assert read(ledger, taken) == before


def test_answers_about_records_that_a_chunk_does_not_have_are_counted(ledger: Ledger) -> None:
    """As rejected, so that the books add up to what was sent."""
    (found,) = write(ledger, new(0, count=4))
    assert ledger.chunks.record_uploaded(found, sent=range(4), rejected={0}, stray=1, at=START)
    found = read(ledger, found)
    assert (found.accepted, found.rejected) == (2, 2)


def test_a_poisoned_chunk_says_why(ledger: Ledger) -> None:
    """Giving a chunk up is recorded with the reason, cut to one line; twice is once."""
    (found,) = write(ledger, new())
    for _ in range(2):
        assert poison(ledger, found, "bad\n" + "x" * 999)
    found = read(ledger, found)
    assert (found.state, found.fate) == (ChunkState.POISONED, Fate(poisoned=100))
    assert found.reason.startswith("bad x")
    assert len(found.reason) == MAX_TEXT


def test_an_uploaded_chunk_is_not_poisoned(ledger: Ledger) -> None:
    """What Sentinel has is not lost: giving it up is refused and changes nothing."""
    (found,) = write(ledger, new())
    upload(ledger, found, rejected={0})
    before = read(ledger, found)
    assert poison(ledger, found, "too late")
    assert read(ledger, found) == before


@pytest.mark.parametrize("writer", ["poison", "strike", "deferral", "void"])
def test_an_upload_wins_the_race(
    ledger: Ledger, other: Ledger, hooked: HookedTables, writer: str
) -> None:
    """A change between the look at a chunk and its receipt is read and merged: both stay."""
    (found,) = write(ledger, new(count=3))
    deferred = envelope().deferred(at="now", reason="busy", counts=False)
    changes: dict[str, Callable[[], object]] = {
        "poison": lambda: poison(other, found),
        "strike": lambda: other.chunks.strike(RUN, found.key, [0]),
        "deferral": lambda: other.chunks.record_deferred(deferred, at=START, reason="busy"),
        "void": lambda: void(other, found),
    }
    hooked.once("chunks", "replace", changes[writer])
    assert upload(ledger, found)
    after = read(ledger, found)
    assert (after.state, after.fate) == (ChunkState.UPLOADED, Fate(accepted=3))
    assert after.void is (writer == "void")
    assert after.deferrals == (writer == "deferral")


@pytest.mark.parametrize("writer", ["poison", "strike"])
def test_an_upload_is_not_undone_in_a_race(
    ledger: Ledger, other: Ledger, hooked: HookedTables, writer: str
) -> None:
    """An upload recorded between the look at a chunk and giving it up, or striking it, is kept."""
    (found,) = write(ledger, new(count=3))
    hooked.once("chunks", "replace", lambda: upload(other, found))
    if writer == "poison":
        assert poison(ledger, found)
    else:
        assert ledger.chunks.strike(RUN, found.key, [0, 1])
    assert read(ledger, found).fate == Fate(accepted=3)


def test_a_row_that_keeps_changing_is_left_for_later(
    ledger: Ledger, other: Ledger, hooked: HookedTables
) -> None:
    """When the row changes at every try, the call ends with a conflict, not in a loop."""
    (found,) = write(ledger, new())

    def hook(_table: str, operation: str) -> None:
        if operation == "replace":
            other.chunks.record_deferred(envelope(), at=START, reason="busy")

    hooked.before = hook
    with pytest.raises(ConflictError, match="kept changing"):
        poison(ledger, found)
    assert read(other, found).state is ChunkState.QUEUED


def test_an_upload_wins_over_poison(ledger: Ledger) -> None:
    """A replay that succeeds makes a poisoned chunk an uploaded one, without a reason."""
    (found,) = write(ledger, new())
    poison(ledger, found)
    assert upload(ledger, read(ledger, found))
    after = read(ledger, found)
    assert (after.state, after.accepted, after.reason) == (ChunkState.UPLOADED, 100, "")


STATES = [state for state in ChunkState if state is not ChunkState.OTHER]


def in_state(ledger: Ledger, number: int, state: ChunkState, *, struck: bool = False) -> Chunk:
    """A chunk that was brought into a state, by its letters if one was struck first."""
    (found,) = write(ledger, new(number, count=3))
    if struck:
        ledger.chunks.strike(RUN, found.key, [0])
    match state:
        case ChunkState.QUEUED:
            pass
        case ChunkState.UPLOADED:
            upload(ledger, read(ledger, found))
        case ChunkState.POISONED:
            poison(ledger, found)
        case ChunkState.DISCARDED:
            poison(ledger, found)
            assert ledger.chunks.move(read(ledger, found), state, at=START)
        case ChunkState.STRUCK:
            ledger.chunks.strike(RUN, found.key, [0, 1, 2])
        case _:
            raise AssertionError(state)
    return read(ledger, found)


@pytest.mark.parametrize("struck", [False, True])
@pytest.mark.parametrize("target", [ChunkState.QUEUED, ChunkState.DISCARDED])
def test_an_operator_moves_a_chunk_as_the_table_says(
    ledger: Ledger, target: ChunkState, *, struck: bool
) -> None:
    """To be sent again, or given up for good: only as `CHUNK_MOVES` allows, and never what was
    struck."""
    for number, origin in enumerate(STATES):
        found = in_state(ledger, number, origin, struck=struck)
        allowed = target in CHUNK_MOVES[origin]
        assert ledger.chunks.move(found, target, at=LATER) is allowed
        after = read(ledger, found)
        assert after.state is (target if allowed else origin)
        if struck:
            assert after.each[0] == "S"


def test_an_operator_moves_no_chunk_without_a_row(ledger: Ledger) -> None:
    """A chunk that was folded away is not brought back by a move."""
    found = in_state(ledger, 0, ChunkState.POISONED)
    remove(ledger, found)
    assert ledger.chunks.move(found, ChunkState.DISCARDED, at=START) is False
    assert ledger.chunks.get(RUN, found.key) is None


def test_an_upload_wins_the_race_with_an_operator(
    ledger: Ledger, other: Ledger, hooked: HookedTables
) -> None:
    """An upload recorded while an operator discards the chunk is kept."""
    found = in_state(ledger, 0, ChunkState.POISONED)
    hooked.once("chunks", "replace", lambda: upload(other, found))
    assert ledger.chunks.move(found, ChunkState.DISCARDED, at=START) is False
    assert read(ledger, found).state is ChunkState.UPLOADED


def test_a_chunk_is_turned_over_unless_it_changed(ledger: Ledger) -> None:
    """Another workspace; its letters and everything else stay."""
    (found,) = write(ledger, new(count=2))
    ledger.chunks.strike(RUN, found.key, [0])
    assert ledger.chunks.turn_over(found, "there") is False
    found = read(ledger, found)
    assert ledger.chunks.turn_over(found, "there") is True
    assert read(ledger, found) == replace(found, destination="there")


def test_the_ledger_has_one_id(ledger: Ledger, other: Ledger, hooked: HookedTables) -> None:
    """Made once, by whoever is first, and no chunk nor run."""
    assert ledger.chunks.known_ledger_id() is None
    first: list[str] = []
    hooked.once("chunks", "insert", lambda: first.append(other.chunks.ledger_id()))
    assert ledger.chunks.ledger_id() == first[0] == other.chunks.known_ledger_id()
    assert len(first[0]) == 16
    assert list(ledger.chunks.all()) == list(ledger.chunks.outcomes()) == []
    assert list(ledger.runs.latest(9)) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"records": b"cut"},
        {"letters": "A"},
        {"letters": "?" * 100},
        {"count": -1},
        {"epoch": "one"},
        {"state": "invented"},
    ],
    ids=str,
)
def test_a_row_that_cannot_be_read_is_listed_and_left_alone(
    ledger: Ledger, tables: Tables, damage: dict[str, Value]
) -> None:
    """Of a later release, or damaged: nothing that reads it fails, and no outcome is written.

    Whoever has an outcome is told, so that the message waits for the release that can write it.
    """
    found, whole = write(ledger, new(0), new(1))
    assert found.row is not None
    tables.table("chunks").merge(Row(partition=found.row.partition, key=found.row.key, data=damage))
    odd = read(ledger, found)
    before = odd.row
    assert odd.state is ChunkState.OTHER
    assert (odd.run_id, odd.key, odd.is_settled) == (RUN, found.key, False)
    assert odd.reason or "state" in damage
    assert [chunk.key for chunk in ledger.chunks.all()] == [found.key, whole.key]
    assert len(list(ledger.chunks.outcomes())) == 2
    for outcome in (upload, poison):
        with pytest.raises(ConflictError, match="left alone"):
            outcome(ledger, odd)
    assert ledger.chunks.strike(RUN, odd.key, [0])
    for state in STATES:
        assert ledger.chunks.move(odd, state, at=LATER) is False
    assert read(ledger, odd).row == before


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
    "damage", [{"state": "invented"}, {"epoch": None}, {"cursor": b"{"}, {"counts": 1}], ids=str
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


# The run lease


def outlast(tables: Tables, seconds: float) -> float:
    """Let a lease of `seconds` end; of one in memory by its clock, of a real one by its length.

    Returns the length to ask for.
    """
    if isinstance(tables, FakeTables):
        tables.monotonic = lambda before=tables.monotonic: before() + seconds  # type: ignore[misc]
        return seconds
    return 0.0


def test_the_lease_is_taken_by_one(ledger: Ledger, other: Ledger) -> None:
    """While it is held, another instance is told by whom and for how long."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=600)
    assert (lease.owner, lease.open_run) == ("mine", None)
    with pytest.raises(LeaseHeldError, match=r"held by mine, written .* ago; .* for 600 s"):
        other.control.acquire_lease(owner="theirs", seconds=1)


@pytest.mark.parametrize(("first_time", "write_it"), [(True, "insert"), (False, "replace")])
def test_of_two_that_find_it_free_one_gets_the_lease(
    ledger: Ledger, other: Ledger, hooked: HookedTables, first_time: bool, write_it: str
) -> None:
    """Who takes the lease between another's look and write has it; the other is told."""
    if not first_time:
        ledger.control.release_lease(ledger.control.acquire_lease(owner="old", seconds=600))
    hooked.once(
        "control", write_it, lambda: other.control.acquire_lease(owner="theirs", seconds=600)
    )
    with pytest.raises(LeaseHeldError):
        ledger.control.acquire_lease(owner="mine", seconds=600)
    with pytest.raises(LeaseHeldError, match="held by theirs"):
        ledger.control.acquire_lease(owner="mine", seconds=600)


def test_a_lease_that_was_not_written_for_its_time_is_taken_over_with_its_run(
    ledger: Ledger, other: Ledger, tables: Tables
) -> None:
    """The run that a dead instance left open is handed to the next; the old one cannot write."""
    seconds = 60.0 if isinstance(tables, FakeTables) else 0.0
    old = ledger.control.acquire_lease(owner="dead", seconds=seconds)
    old = ledger.control.set_open_run(old, RUN)
    outlast(tables, seconds)
    new = other.control.acquire_lease(owner="next", seconds=600)
    assert (new.owner, new.open_run) == ("next", RUN)
    with pytest.raises(LeaseLostError):
        ledger.control.renew_lease(old)
    with pytest.raises(LeaseLostError):
        ledger.control.set_open_run(old, None)
    assert other.control.read_lease() == new


def test_a_renewed_lease_lasts_longer(ledger: Ledger, other: Ledger) -> None:
    """Renewing it makes it young again and keeps the open run."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=600)
    lease = ledger.control.set_open_run(lease, RUN)
    lease = ledger.control.renew_lease(lease)
    assert lease.open_run == RUN
    with pytest.raises(LeaseHeldError):
        other.control.acquire_lease(owner="theirs", seconds=60)


def test_a_lease_grows_old_by_the_storages_clock() -> None:
    """From its last write on; a holder that keeps writing keeps it, whatever any clock says."""
    clock = FakeClock()
    control = Control(FakeTables(clock.monotonic))
    lease = control.acquire_lease(owner="mine", seconds=60)
    for _ in range(5):
        clock.advance(59)
        lease = control.renew_lease(lease)
    clock.advance(59.9)
    with pytest.raises(LeaseHeldError):
        control.acquire_lease(owner="theirs", seconds=1)
    clock.advance(0.1)
    assert control.acquire_lease(owner="theirs", seconds=60).owner == "theirs"


def test_a_released_lease_is_free_and_remembers(ledger: Ledger, other: Ledger) -> None:
    """After a release anybody may take the lease at once, and learns which run is open."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=600)
    lease = ledger.control.set_open_run(lease, RUN)
    ledger.control.release_lease(lease)
    assert other.control.acquire_lease(owner="theirs", seconds=60).open_run == RUN


def test_releasing_what_is_not_held_is_harmless(ledger: Ledger, other: Ledger) -> None:
    """A second release, or one after a takeover, changes nothing and raises nothing."""
    old = ledger.control.acquire_lease(owner="slow", seconds=60)
    ledger.control.release_lease(old)
    ledger.control.release_lease(old)
    new = other.control.acquire_lease(owner="next", seconds=600)
    ledger.control.release_lease(old)
    assert other.control.read_lease() == new


def test_a_closed_run_is_forgotten(ledger: Ledger) -> None:
    """Once no run is open, the next holder finds none."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=60)
    lease = ledger.control.set_open_run(lease, RUN)
    lease = ledger.control.set_open_run(lease, None)
    ledger.control.release_lease(lease)
    assert ledger.control.acquire_lease(owner="next", seconds=60).open_run is None


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
    assert list(ledger.poison.entries()) == []
    (entry,) = ledger.poison.entries(settled=True)
    assert (entry.name, entry.state, entry.settled_at) == (
        record.name,
        PoisonState.DISCARDED,
        LATER,
    )
    settled = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
    assert settled == replace(record, state=PoisonState.DISCARDED)
    assert list(ledger.poison.all()) == [settled]


def test_poison_that_comes_again_after_it_was_settled_is_kept_once_more(ledger: Ledger) -> None:
    """It is one record, with its first time; settled again it is one record, too."""
    record = raw("message")
    for moment in (SOON, LATER):
        again = replace(record, first_at=moment, last_at=moment)
        ledger.poison.keep(again)
        expected = replace(again, first_at=SOON)
        assert ledger.poison.get(UNKNOWN_RUN, record.poison_id) == expected
        assert [entry.state for entry in ledger.poison.entries(settled=True)] == [PoisonState.KEPT]
        found = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
        assert found is not None
        assert ledger.poison.settle(found, PoisonState.REPLAYED, at=moment)
        (entry,) = ledger.poison.entries(settled=True)
        assert (entry.state, entry.settled_at) == (PoisonState.REPLAYED, moment)


def test_poison_that_is_given_up_while_it_is_settled_stays_kept(
    ledger: Ledger, hooked: HookedTables
) -> None:
    """The settled row is written by then; what is kept counts."""
    record = raw("message")
    ledger.poison.keep(record)
    found = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
    assert found is not None
    again = replace(record, reason="once more")
    hooked.once("poison", "transact", lambda: ledger.poison.keep(again))
    assert not ledger.poison.settle(found, PoisonState.REPLAYED, at=LATER)
    assert [e.reason for e in ledger.poison.entries(settled=True)] == ["once more"]
    assert ledger.poison.count_kept() == 1


def test_of_two_who_settle_a_record_at_once_one_does(ledger: Ledger, hooked: HookedTables) -> None:
    """The other is told so, and what it meant to note is nowhere."""
    ledger.poison.keep(raw("message"))
    (found,) = ledger.poison.all()

    def discard() -> None:
        assert ledger.poison.settle(found, PoisonState.DISCARDED, at=SOON)

    hooked.once("poison", "replace", discard)
    assert not ledger.poison.settle(found, PoisonState.REPLAYED, at=LATER)
    (entry,) = ledger.poison.entries(settled=True)
    assert (entry.state, entry.settled_at) == (PoisonState.DISCARDED, SOON)
    assert ledger.poison.count_kept() == 0


def test_a_record_whose_move_was_cut_short_is_settled_and_purged(
    ledger: Ledger, hooked: HookedTables
) -> None:
    """It died behind the first write: settled where it was kept, and removed when it is old."""
    ledger.poison.keep(raw("message"))
    (found,) = ledger.poison.all()

    def die() -> None:
        raise UnavailableError("the process is gone")

    hooked.once("poison", "merge", die)
    with pytest.raises(UnavailableError):
        ledger.poison.settle(found, PoisonState.DISCARDED, at=SOON)
    assert list(ledger.poison.entries()) == []
    assert [e.state for e in ledger.poison.entries(settled=True)] == [PoisonState.DISCARDED]
    assert ledger.poison.purge(ledger.poison.settled_before(SOON)) == 0
    assert ledger.poison.purge(ledger.poison.settled_before(LATER)) == 1
    assert list(ledger.poison.entries(settled=True)) == []


def test_what_is_kept_of_the_poison_is_counted(ledger: Ledger) -> None:
    """Settled records are not."""
    assert ledger.poison.count_kept() == 0
    for text in "abcde":
        ledger.poison.keep(raw(text))
    assert ledger.poison.count_kept() == 5
    states = (PoisonState.REPLAYED, PoisonState.REPLAYED, PoisonState.DISCARDED)
    for record, state in zip(list(ledger.poison.all()), states, strict=False):
        assert ledger.poison.settle(record, state, at=LATER)
    assert ledger.poison.count_kept() == 2


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
