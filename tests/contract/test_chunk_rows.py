"""Rows of chunks, in memory and on Azurite: who wins, what lasts, what is left alone.

Races are states: `HookedTables` runs something between one writer's read and its write.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from common.errors import ConflictError
from common.ledger import Ledger
from common.ledger.chunks import Chunk, Fate, insertion, removal, voiding
from common.ledger.runs import Folded
from common.ledger.states import CHUNK_MOVES, ChunkState
from common.ledger.tables import Row, Tables, Value
from common.records import Record
from common.text import MAX_TEXT
from tests.contract.hooked_tables import HookedTables
from tests.contract.rows import (
    LATER,
    RUN,
    envelope,
    new,
    poison,
    read,
    remove,
    run,
    upload,
    void,
    write,
)
from tests.fakes.clock import START


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
    assert list(ledger.chunks.records()) == [(c.run_id, c.key, c.records) for c in whole]
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
    first, second, third = (0, 1), (2, 3), (4, 5)
    for _ in range(2):
        assert ledger.chunks.record_split(read(ledger, found), [first, second, third])
    found = read(ledger, found)
    assert (found.letters, found.state) == ("......", ChunkState.QUEUED)
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


def test_a_split_makes_pending_what_only_a_larger_message_gave_up(ledger: Ledger) -> None:
    """Its parts answer for it from then on; what is final, or is poison of a part, stays so."""
    (found,) = write(ledger, new(0, count=6))
    assert ledger.chunks.record_poisoned(RUN, found.key, at=START, reason="why")
    assert ledger.chunks.strike(RUN, found.key, [1])
    assert ledger.chunks.record_split(read(ledger, found), [(0, 1, 2), (3, 4), (5,)])
    found = read(ledger, found)
    assert (found.letters, found.part_sizes) == (".S....", bytes([3, 3, 3, 2, 2, 1]))
    for part in (None, (3, 4, 5), (5,)):
        assert ledger.chunks.record_poisoned(RUN, found.key, at=START, reason="why", part=part)
    assert read(ledger, found).letters == ".S...P"
    for _ in range(2):
        assert ledger.chunks.record_split(read(ledger, found), [(3,), (4, 5)])
    found = read(ledger, found)
    assert (found.letters, found.part_sizes) == (".S...P", bytes([3, 3, 3, 1, 2, 1]))
    for part in (None, (3, 4, 5)):
        assert not ledger.chunks.move(found, ChunkState.DISCARDED, at=LATER, part=part)
    assert read(ledger, found).letters == ".S...P"


def test_a_settled_chunk_is_not_split(ledger: Ledger, other: Ledger, hooked: HookedTables) -> None:
    """A copy was taken whole between the look and the split: its two counts stay."""
    (found,) = write(ledger, new(0, count=4))
    hooked.once("chunks", "replace", lambda: upload(other, found, rejected={2}))
    assert ledger.chunks.record_split(found, [(0, 1), (2, 3)])
    after = read(ledger, found)
    assert (after.letters, after.fate) == ("", Fate(accepted=3, rejected=1))
    remove(ledger, after)
    assert not ledger.chunks.record_split(found, [(0, 1), (2, 3)])


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
        {"part_sizes": b"\x01"},
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
