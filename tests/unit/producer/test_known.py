"""What a tick knows, against plain lists: the index, the rows, and what it has put into chunks."""

from copy import replace
from dataclasses import dataclass
from itertools import count

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.delivery import LONGEST_DELIVERY
from common.ledger.chunks import Chunk
from common.ledger.states import Letter
from common.ledger.versions import VOID, SegmentInfo
from common.records import Record, pack_records
from producer.entries import Entries, Place, row_records, row_table, words
from producer.index import Segment
from producer.known import Known
from producer.versions import KnownVersion

IDS = (0, 1, 2, 3, 2**64 - 1)
UNKNOWN = 77
ASKED = [UNKNOWN, *reversed(IDS), 2, 2]

Facts = dict[int, KnownVersion]
"""What one place knows of some ids."""

ids = st.sampled_from(IDS)
prints = st.sampled_from([0, 1, 2**64 - 1])
moments = st.sampled_from([0, 1, 2])


@dataclass(frozen=True)
class PlainRow:
    """A row: id, fingerprint and moment of each record, its letters, and whether it is void."""

    records: tuple[tuple[int, int, int], ...]
    letters: str
    is_void: bool = False


def merged(before: Facts, after: Facts) -> Facts:
    """Return what two places know: the newest, the later place winning ties; the bit if both."""
    found = dict(before)
    for number, fact in after.items():
        known = before.get(number)
        if known is None:
            found[number] = fact
            continue
        is_equal = (known.fingerprint, known.modified) == (fact.fingerprint, fact.modified)
        best = known if fact.modified < known.modified else fact
        found[number] = replace(
            best,
            is_void=best.is_void and (known.is_void if is_equal else True),
            is_recent=known.is_recent or fact.is_recent,
        )
    return found


def facts_of(row: PlainRow) -> Facts:
    """Return what a row knows."""
    return {
        number: KnownVersion(
            fingerprint,
            modified,
            is_void=row.is_void and letter not in "AR",
            is_on_its_way=not row.is_void and letter in ".P",
        )
        for (number, fingerprint, modified), letter in zip(row.records, row.letters, strict=True)
    }


def open_places(rows: list[PlainRow], wanted: int) -> list[Place]:
    """Return from where versions of an id may still be sent."""
    return [
        Place(run_id="run", key=str(number), index=index, fingerprint=record[1])
        for number, row in enumerate(rows)
        for index, (record, letter) in enumerate(zip(row.records, row.letters, strict=True))
        if record[0] == wanted and not row.is_void and letter in ".P"
    ]


@st.composite
def segments(draw: st.DrawFn) -> list[tuple[float, Facts]]:
    """Segments with their ages, each with some ids."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        age = draw(st.sampled_from([0.0, LONGEST_DELIVERY - 0.5, LONGEST_DELIVERY, 10_000.0]))
        facts = {
            number: KnownVersion(
                draw(prints),
                draw(moments),
                is_void=draw(st.booleans()),
                entered_on=draw(st.integers(0, 2**15 - 1)),
                is_recent=age < LONGEST_DELIVERY,
            )
            for number in draw(st.lists(ids, unique=True))
        }
        found.append((age, facts))
    return found


@st.composite
def rows(draw: st.DrawFn, *, new: bool = False, least: int = 0) -> list[PlainRow]:
    """Rows as they were read, or as this tick has just written them."""
    found = []
    for _ in range(draw(st.integers(least, 4))):
        chosen = draw(st.lists(ids, min_size=1, unique=True))
        letters = "." if new else "".join(Letter)
        size = len(chosen)
        found.append(
            PlainRow(
                records=tuple((number, draw(prints), draw(moments)) for number in chosen),
                letters=draw(st.text(letters, min_size=size, max_size=size)),
                is_void=False if new else draw(st.booleans()),
            )
        )
    return found


def segment(age: float, facts: Facts) -> Segment:
    """Return a segment of the index."""
    known = sorted(facts.items())
    entries = Entries(
        ids=words([number for number, _ in known]),
        fingerprints=words([fact.fingerprint for _, fact in known]),
        modified=words([fact.modified for _, fact in known]),
        entered=np.array([fact.entered_on for _, fact in known], dtype=np.uint16),
        kept=np.array([VOID * fact.is_void for _, fact in known], dtype=np.uint16),
    )
    return Segment(info=SegmentInfo(name="s", count=len(known), age=age), entries=entries)


def packed(row: PlainRow) -> bytes:
    """Return the records of a row as it stores them."""
    return pack_records(
        Record(id_hash=number, fingerprint=fingerprint, modified=modified)
        for number, fingerprint, modified in row.records
    )


def known_of(index: list[tuple[float, Facts]], read: list[PlainRow]) -> Known:
    """Return what a tick knows after it has read index and rows."""
    records = row_records(
        b"".join(map(packed, read)),
        letters="".join(row.letters for row in read),
        counts=[len(row.records) for row in read],
        void=[row.is_void for row in read],
    )
    table = row_table([("run", str(number)) for number in range(len(read))], records)
    return Known([segment(age, facts) for age, facts in index], table)


def chunk(number: int, row: PlainRow) -> Chunk:
    """Return a new row as a chunk."""
    return Chunk(
        run_id="run",
        key=str(number),
        sequence=number,
        epoch=1,
        count=len(row.records),
        records=packed(row),
    )


def check(known: Known, expected: Facts, all_rows: list[PlainRow]) -> None:
    """Compare everything that can be asked."""
    found = known.find(ASKED)
    assert found == {at: expected[i] for at, i in enumerate(ASKED) if i in expected}
    for number in (*IDS, UNKNOWN):
        assert list(known.places(number)) == open_places(all_rows, number)


def expected_of(index: list[tuple[float, Facts]], read: list[PlainRow]) -> Facts:
    """Return what index and rows know."""
    facts: Facts = {}
    for _, one in index:
        facts = merged(facts, one)
    in_rows: Facts = {}
    for number in IDS:
        mine = [found[number] for row in read if number in (found := facts_of(row))]
        if mine:
            newest = max(enumerate(mine), key=lambda pair: (pair[1].modified, pair[0]))[1]
            version = (newest.fingerprint, newest.modified)
            equal = [f for f in mine if (f.fingerprint, f.modified) == version]
            in_rows[number] = replace(newest, is_void=all(f.is_void for f in equal))
    return merged(facts, in_rows)


@given(index=segments(), read=rows())
def test_the_newest_version_of_all_places_is_known(
    index: list[tuple[float, Facts]], read: list[PlainRow]
) -> None:
    """Index and rows together: whatever is newest, where it may still be sent from, how long ago.

    A version in the index is not on its way; one in a row is recent, whatever its letter.
    """
    check(known_of(index, read), expected_of(index, read), read)


@given(index=segments(), read=rows(), added=st.lists(rows(new=True, least=1), max_size=6))
def test_what_a_tick_writes_is_known_at_once(
    index: list[tuple[float, Facts]], read: list[PlainRow], added: list[list[PlainRow]]
) -> None:
    """However many batches of rows it writes: the later ones win, and all of them can be struck."""
    known, expected, all_rows = known_of(index, read), expected_of(index, read), list(read)
    numbers = count(len(read))
    for batch in added:
        known.add_chunks([chunk(next(numbers), row) for row in batch])
        all_rows += batch
        for row in batch:
            expected = merged(expected, facts_of(row))
        check(known, expected, all_rows)


def test_what_waits_for_its_chunk_counts_most_until_its_row_is_written() -> None:
    """It is known from when it was judged; from then on the row knows it, and what came since."""
    known = known_of([(10_000.0, {1: KnownVersion(5, 9, entered_on=3)})], [])
    waiting = KnownVersion(6, 9, is_on_its_way=True)
    known.remember(1, waiting)
    assert known.find([1, 2]) == {0: waiting}
    assert list(known.places(1)) == []
    known.add_chunks([chunk(0, PlainRow(((2, 0, 0),), "."))])
    assert known.find([1]) == {0: waiting}
    known.add_chunks([chunk(1, PlainRow(((1, 6, 9),), "."))])
    assert known.find([1]) == {0: KnownVersion(6, 9, is_on_its_way=True, is_recent=True)}
    assert list(known.places(1)) == [Place(run_id="run", key="1", index=0, fingerprint=6)]


def test_a_newer_version_that_waits_is_not_forgotten_when_an_older_one_has_its_row() -> None:
    """One page may list both: the first begins its chunk, the second waits for the next one."""
    known = known_of([], [])
    newer = KnownVersion(6, 10, is_on_its_way=True)
    known.remember(1, KnownVersion(5, 9, is_on_its_way=True))
    known.remember(1, newer)
    known.add_chunks([chunk(0, PlainRow(((1, 5, 9),), "."))])
    assert known.find([1]) == {0: newer}
    known.add_chunks([chunk(1, PlainRow(((1, 6, 10),), "."))])
    assert known.find([1]) == {0: newer}


def test_nothing_is_known_of_nothing() -> None:
    """An empty ledger knows no id, and a page may be empty."""
    known = known_of([], [])
    assert known.find([]) == known.find([1, 2]) == {}
    assert list(known.places(1)) == []


def test_many_batches_stay_few_tables() -> None:
    """A look-up goes through a logarithm of them, not through every page of a large feed."""
    known = known_of([], [])
    for number in range(300):
        known.add_chunks([chunk(number, PlainRow(((number, 0, 0),), "."))])
    assert len(known._tables) < 12
    assert [fact.fingerprint for fact in known.find(list(range(300))).values()] == [0] * 300
