"""Versions in bulk: each function on sorted arrays against a plain one on dicts and lists."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ledger.states import Letter
from common.ledger.versions import ENTRY_BYTES, LAST_DAY, VOID
from common.records import NO_END, Record, pack_records
from producer.entries import (
    Entries,
    Keeping,
    Place,
    RowRecords,
    concatenate,
    entries_of,
    foldable,
    merged_tables,
    newest,
    no_entries,
    row_records,
    row_table,
    to_enter,
    unpack_entries,
    words,
)

HIGHEST = 2**64 - 1
TODAY = 20_000

IDS = st.sampled_from([0, 1, 2, 3, 2**63, HIGHEST])
PRINTS = st.sampled_from([0, 1, HIGHEST])
MOMENTS = st.sampled_from([0, 1, 2, 2**48 - 1])


@dataclass(frozen=True)
class Entry:
    """One entry, plain."""

    id: int
    fingerprint: int
    modified: int
    entered: int = TODAY
    kept: int = TODAY + 90
    is_void: bool = False


def entries(*made: Entry) -> Entries:
    """Return plain entries, of different ids in order, as arrays."""
    return Entries(
        ids=words([entry.id for entry in made]),
        fingerprints=words([entry.fingerprint for entry in made]),
        modified=words([entry.modified for entry in made]),
        entered=np.array([entry.entered for entry in made], dtype=np.uint16),
        kept=np.array(
            [entry.kept | (VOID if entry.is_void else 0) for entry in made], dtype=np.uint16
        ),
    )


def plain(found: Entries) -> list[Entry]:
    """Return arrays as plain entries."""
    return [
        Entry(
            id=int(found.ids[at]),
            fingerprint=int(found.fingerprints[at]),
            modified=int(found.modified[at]),
            entered=int(found.entered[at]),
            kept=int(found.kept[at]) & LAST_DAY,
            is_void=bool(found.kept[at] & VOID),
        )
        for at in range(len(found))
    ]


single = st.builds(
    Entry,
    id=IDS,
    fingerprint=PRINTS,
    modified=MOMENTS,
    entered=st.integers(0, LAST_DAY),
    kept=st.integers(0, LAST_DAY),
    is_void=st.booleans(),
)
parts = st.lists(
    st.lists(single, max_size=6, unique_by=lambda entry: entry.id).map(
        lambda found: sorted(found, key=lambda entry: entry.id)
    ),
    max_size=5,
)


def reference_newest(made: list[Entry]) -> list[Entry]:
    """Return the newest of each id, later ones winning ties; void only if all such are."""
    best: dict[int, Entry] = {}
    for entry in made:
        known = best.get(entry.id)
        if known is None or entry.modified >= known.modified:
            best[entry.id] = entry
    found = []
    for _, entry in sorted(best.items()):
        equal = [
            other
            for other in made
            if (other.id, other.fingerprint, other.modified)
            == (entry.id, entry.fingerprint, entry.modified)
        ]
        is_void = all(other.is_void for other in equal)
        found.append(replace(entry, is_void=is_void))
    return found


@given(made=parts)
def test_the_newest_of_each_id_is_kept(made: list[list[Entry]]) -> None:
    """Of equal `modified` that of the later part; the bit stays only if every such entry has it."""
    found = newest([entries(*part) for part in made]) if made else no_entries()
    assert plain(found) == reference_newest([entry for part in made for entry in part])


@given(made=parts)
def test_merging_in_steps_is_merging_at_once(made: list[list[Entry]]) -> None:
    """However segments were merged before, the same version of each id is the newest."""
    at_once = newest([no_entries(), *(entries(*part) for part in made)])
    by_steps = no_entries()
    for part in made:
        by_steps = newest([by_steps, entries(*part)])
    for whole, stepped in zip(plain(at_once), plain(by_steps), strict=True):
        assert (whole.id, whole.fingerprint, whole.modified) == (
            stepped.id,
            stepped.fingerprint,
            stepped.modified,
        )


@given(made=st.lists(single, max_size=8, unique_by=lambda entry: entry.id))
def test_entries_come_back_from_their_bytes(made: list[Entry]) -> None:
    """26 bytes each, every bit of every field."""
    packed = entries(*made).pack()
    assert len(packed) == ENTRY_BYTES * len(made)
    assert plain(unpack_entries(packed)) == made


def test_the_stored_form_of_an_entry_stays() -> None:
    """Column by column, little-endian: ids, fingerprints, 6 bytes of time, days, the bit."""
    made = Entry(1, 2, 3, entered=4, kept=5, is_void=True)
    assert entries(made).pack().hex() == (
        "0100000000000000" + "0200000000000000" + "030000000000" + "0400" + "0580"
    )


@pytest.mark.parametrize("length", [1, 25, 27])
def test_cut_entries_are_noticed(length: int) -> None:
    """Bytes that are no whole number of entries are refused."""
    with pytest.raises(ValueError, match="truncated"):
        unpack_entries(bytes(length))


@given(made=st.lists(single, max_size=6, unique_by=lambda e: e.id), wanted=st.lists(IDS | PRINTS))
def test_finding_is_looking_through(made: list[Entry], wanted: list[int]) -> None:
    """Each wanted id has the place of its entry, or -1; any number of times, in any order."""
    made = sorted(made, key=lambda entry: entry.id)
    ids = [entry.id for entry in made]
    expected = [ids.index(number) if number in ids else -1 for number in wanted]
    assert entries(*made).find(words(wanted)).tolist() == expected


def test_no_parts_make_no_entries() -> None:
    """An index of no segments is empty."""
    assert len(concatenate([])) == len(newest([])) == len(no_entries()) == 0


@given(made=st.lists(single, max_size=8, unique_by=lambda e: e.id), today=st.integers(0, LAST_DAY))
def test_an_entry_lives_to_the_end_of_its_last_day(made: list[Entry], today: int) -> None:
    """Whether it is void makes no difference."""
    expected = [entry for entry in made if entry.kept >= today]
    assert plain(entries(*made).alive(today)) == expected


@given(
    made=st.lists(single, max_size=12, unique_by=lambda e: (e.id, e.fingerprint, e.modified)),
    count=st.integers(0, 14),
    today=st.integers(0, LAST_DAY),
)
def test_those_that_end_first_go_and_none_of_today(
    made: list[Entry], count: int, today: int
) -> None:
    """Of those entered before today the `count` with the earliest last days, as they stand."""
    made = [replace(entry, kept=min(entry.kept, LAST_DAY - 1)) for entry in made]
    stays = entries(*made).ends_late(count, today=today).tolist()
    gone = [entry for entry, does in zip(made, stays, strict=True) if not does]
    kept = [entry for entry, does in zip(made, stays, strict=True) if does]
    assert all(entry.entered < today for entry in gone)
    earlier = [entry for entry in kept if entry.entered < today]
    assert len(gone) == min(count, len(gone) + len(earlier))
    last = max((entry.kept for entry in gone), default=0)
    assert all(entry.kept >= last for entry in earlier)


@dataclass(frozen=True)
class PlainRow:
    """One chunk row, plain: ids with fingerprint and moment, letters, and whether it is void."""

    records: tuple[tuple[int, int, int], ...]
    letters: str
    is_void: bool


@st.composite
def plain_rows(draw: st.DrawFn) -> list[PlainRow]:
    """Rows in which no id is twice, as no chunk has it twice."""
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        ids = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
        rows.append(
            PlainRow(
                records=tuple((number, draw(PRINTS), draw(MOMENTS)) for number in ids),
                letters=draw(st.text("".join(Letter), min_size=len(ids), max_size=len(ids))),
                is_void=draw(st.booleans()),
            )
        )
    return rows


def arrays(rows: list[PlainRow], *, ends_on: int = NO_END) -> RowRecords:
    """Return rows as arrays."""
    return row_records(
        b"".join(
            pack_records(
                Record(id_hash=i, fingerprint=f, modified=m, ends_on=ends_on)
                for i, f, m in row.records
            )
            for row in rows
        ),
        letters="".join(row.letters for row in rows),
        counts=[len(row.records) for row in rows],
        void=[row.is_void for row in rows],
    )


def is_open(row: PlainRow, index: int) -> bool:
    """Whether a record may still be sent."""
    return not row.is_void and row.letters[index] in ".P"


def is_void(row: PlainRow, index: int) -> bool:
    """Whether a record is void without an answer."""
    return row.is_void and row.letters[index] not in "AR"


@given(rows=plain_rows())
def test_rows_are_read_record_by_record(rows: list[PlainRow]) -> None:
    """Place, version, and what its letter and its row say of each."""
    found = arrays(rows, ends_on=7)
    expected = [
        (number, index, *row.records[index], 7, row.letters[index] in "AR", is_void(row, index))
        for number, row in enumerate(rows)
        for index in range(len(row.records))
    ]
    columns: list[Any] = [
        found.row,
        found.index,
        found.ids,
        found.fingerprints,
        found.modified,
        found.ends_on,
        found.is_answered,
        found.is_void,
    ]
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    assert found.is_on_its_way.tolist() == [
        is_open(row, index) for row in rows for index in range(len(row.records))
    ]
    assert len(found) == len(expected)


def reference_table(rows: list[PlainRow]) -> list[Entry]:
    """Return the newest of each id in `rows`, `entered` saying whether it is on its way."""
    made = [
        Entry(*record, entered=is_open(row, index), kept=0, is_void=is_void(row, index))
        for row in rows
        for index, record in enumerate(row.records)
    ]
    return reference_newest(made)


@given(rows=plain_rows(), cut=st.integers(0, 5))
def test_a_table_of_rows_says_the_newest_and_what_is_on_its_way(
    rows: list[PlainRow], cut: int
) -> None:
    """Made at once or of two parts; every place from which an id may still be sent is found."""
    names = [("run", str(number)) for number in range(len(rows))]
    at_once = row_table(names, arrays(rows))
    by_parts = merged_tables(
        row_table(names[:cut], arrays(rows[:cut])), row_table(names[cut:], arrays(rows[cut:]))
    )
    for table in (at_once, by_parts):
        assert plain(table.newest) == reference_table(rows)
        for wanted in (0, 1, 2, 3, 2**63, HIGHEST, 77):
            expected = [
                Place(run_id="run", key=str(number), index=index, fingerprint=record[1])
                for number, row in enumerate(rows)
                for index, record in enumerate(row.records)
                if record[0] == wanted and is_open(row, index)
            ]
            assert list(table.places(wanted)) == expected


def reference_foldable(rows: list[PlainRow], candidates: list[bool]) -> list[bool]:
    """Return the rows that fold: row by row, until a row that stays holds back no other."""
    may = list(candidates)
    changed = True
    while changed:
        changed = False
        for later in range(len(rows)):
            ids = {record[0] for record in rows[later].records}
            for earlier in range(later):
                shares = ids & {record[0] for record in rows[earlier].records}
                if may[later] and shares and not may[earlier]:
                    may[later] = False
                    changed = True
    return may


@given(rows=plain_rows(), data=st.data())
def test_a_row_folds_only_with_or_after_every_earlier_row_that_shares_an_id(
    rows: list[PlainRow], data: st.DataObject
) -> None:
    """One that stays holds back the later ones of its ids, and those hold back theirs."""
    candidates = data.draw(
        st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)), label="candidates"
    )
    found = foldable(arrays(rows), candidates)
    assert found == reference_foldable(rows, candidates)
    ids = [{record[0] for record in row.records} for row in rows]
    for earlier, later in itertools.combinations(range(len(rows)), 2):
        assert not (found[later] and ids[earlier] & ids[later] and not found[earlier])


@given(rows=plain_rows(), data=st.data())
def test_an_answer_is_entered_where_it_was_given_and_the_rest_everywhere(
    rows: list[PlainRow], data: st.DataObject
) -> None:
    """Of the rows that are folded: what this destination answered, and what nobody did."""
    flags = st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))
    folded, here = data.draw(flags, label="folded"), data.draw(flags, label="here")
    expected = [
        folded[number] and (here[number] or row.letters[index] not in "AR")
        for number, row in enumerate(rows)
        for index in range(len(row.records))
    ]
    assert to_enter(arrays(rows), folded=folded, answered_here=here).tolist() == expected


@pytest.mark.parametrize(
    ("ends_on", "expected"),
    [
        (NO_END, TODAY + 365),
        (1, TODAY + 90),
        (TODAY, TODAY + 90),
        (TODAY + 83, TODAY + 90),
        (TODAY + 84, TODAY + 91),
        (TODAY + 5000, TODAY + 5007),
        (LAST_DAY - 7, LAST_DAY),
        (2**16 - 1, LAST_DAY),
    ],
)
@pytest.mark.parametrize("void", [True, False])
def test_how_long_an_entry_is_kept(*, ends_on: int, expected: int, void: bool) -> None:
    """A week behind its end, at least ninety days; a year without an end; never past 2059."""
    records = arrays([PlainRow(((1, 2, 3),), ".", is_void=void)], ends_on=ends_on)
    (found,) = plain(entries_of(records, today=TODAY, keeping=Keeping(), chosen=np.array([True])))
    assert found == Entry(1, 2, 3, entered=TODAY, kept=expected, is_void=void)


@pytest.mark.parametrize(("known_for", "expected"), [(30, 365), (365, 365), (366, 366), (900, 900)])
def test_without_an_end_it_is_known_for_as_long_as_is_asked(known_for: int, expected: int) -> None:
    """A year, or `KNOWN_FOR_DAYS` where that is more."""
    records = arrays([PlainRow(((1, 2, 3),), "A", is_void=False)])
    keeping = Keeping(known_for=known_for)
    (found,) = plain(entries_of(records, today=TODAY, keeping=keeping, chosen=np.array([True])))
    assert found.kept == TODAY + expected


@given(rows=plain_rows(), data=st.data())
def test_what_is_entered_is_the_newest_of_what_is_chosen(
    rows: list[PlainRow], data: st.DataObject
) -> None:
    """Later rows win ties, and the bit stays only if every record of that version has it."""
    records = arrays(rows)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(records), max_size=len(records)))
    made = [
        Entry(*record, kept=TODAY + 365, is_void=is_void(row, index))
        for row in rows
        for index, record in enumerate(row.records)
    ]
    expected = reference_newest([entry for entry, is_in in zip(made, chosen, strict=True) if is_in])
    found = entries_of(records, today=TODAY, keeping=Keeping(), chosen=np.array(chosen, dtype=bool))
    assert plain(found) == expected
