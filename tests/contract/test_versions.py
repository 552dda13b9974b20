"""The look-up of one id in the version index, over tables in memory and on Azurite."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from common.ledger.tables import Row, Tables, Value
from common.ledger.versions import ENTRIES_A_ROW, LAST_DAY, TABLE, VOID, Versions, time_of
from producer.entries import Entries, words
from producer.index import VersionIndex
from tests.fakes.tables import FakeTables

HERE, THERE = "0badcafe|https://sentinel.example", "another|https://sentinel.example"
TODAY = 20_000
DAY = date(1970, 1, 1) + timedelta(days=TODAY)


def enter(
    tables: Tables,
    ids: list[int],
    *,
    to: str = HERE,
    modified: int = 1000,
    entered: int = TODAY,
    kept: int = TODAY + 90,
) -> VersionIndex:
    """Enter versions of these ids, which are in order, as a fold does."""
    index, count = VersionIndex(tables), len(ids)
    manifest = index.fence(to, tick="1")
    known = index.load(manifest, today=0)
    made = Entries(
        ids=words(ids),
        fingerprints=np.full(count, 7, dtype=np.uint64),
        modified=np.full(count, modified, dtype=np.uint64),
        entered=np.full(count, entered, dtype=np.uint16),
        kept=np.full(count, kept, dtype=np.uint16),
    )
    index.add(manifest, known, made, today=TODAY, limit=10**6)
    return index


def test_an_empty_index_knows_nothing(tables: Tables) -> None:
    """Also before its table is there."""
    assert Versions(tables).find(5, today=DAY) == ([], True)


def test_a_known_id_comes_with_its_times(tables: Tables) -> None:
    """When it was modified, entered and until when it is kept; the bit beside that."""
    enter(tables, [4, 5, 6], kept=(TODAY + 90) | VOID)
    found, is_whole = Versions(tables).find(5, today=DAY)
    (entry,) = found
    assert is_whole
    assert entry.destination == HERE
    assert entry.modified == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (entry.entered_on, entry.kept_until) == (DAY, DAY + timedelta(days=90))
    assert entry.is_unanswered


def test_the_newest_version_over_all_segments_counts(tables: Tables) -> None:
    """A later segment wins a tie, and not against a newer version."""
    enter(tables, list(range(100)), modified=2000)
    enter(tables, [7], modified=1000)
    enter(tables, [8], modified=2000, entered=TODAY + 1)
    versions = Versions(tables)
    seven, eight = (versions.find(number, today=DAY)[0][0] for number in (7, 8))
    assert seven.modified == time_of(2000)
    assert eight.entered_on == DAY + timedelta(days=1)


def test_each_destination_answers(tables: Tables) -> None:
    """What one workspace knows, another does not."""
    enter(tables, [1, 2])
    enter(tables, [2, 3], to=THERE)
    versions = Versions(tables)
    assert [e.destination for e in versions.find(1, today=DAY)[0]] == [HERE]
    assert {e.destination for e in versions.find(2, today=DAY)[0]} == {HERE, THERE}


def test_what_has_ended_is_not_known(tables: Tables) -> None:
    """The producer takes it for unknown, too."""
    enter(tables, [1], kept=TODAY)
    assert len(Versions(tables).find(1, today=DAY)[0]) == 1
    assert Versions(tables).find(1, today=DAY + timedelta(days=1))[0] == []


@pytest.mark.parametrize("spread", ["even", "crowded"])
def test_every_id_of_many_rows_is_found_in_few_reads(spread: str) -> None:
    """Hashes lie evenly, so the row is guessed; where they do not, it still ends, and finds."""
    count = 3 * ENTRIES_A_ROW + 5
    step = 2**64 // count if spread == "even" else 2
    ids = [number * step + 1 for number in range(count)]
    tables = FakeTables()
    enter(tables, ids)
    reads = 0

    def count_reads(_table: str, operation: str) -> None:
        nonlocal reads
        reads += operation == "get"

    tables.before = count_reads
    versions = Versions(tables)
    places = [0, 1, ENTRIES_A_ROW - 1, ENTRIES_A_ROW, count // 2, count - 1]
    for place in places:
        assert len(versions.find(ids[place], today=DAY)[0]) == 1
    even = reads
    for place in places[:-1]:
        assert versions.find(ids[place] + 1, today=DAY) == ([], True)
    assert versions.find(2**64 - 1, today=DAY) == ([], True)
    assert versions.find(0, today=DAY) == ([], True)
    if spread == "even":
        assert even <= 2 * len(places)


@pytest.mark.parametrize("damage", ["missing", "cut", "of another type"])
def test_a_damaged_row_is_said(tables: Tables, damage: str) -> None:
    """Nothing is known of it, and the answer does not claim to be whole."""
    index = enter(tables, [1, 2, 3])
    (name,) = index.segment_names()
    table = tables.table(TABLE)
    if damage == "missing":
        table.delete(name, "00000")
    else:
        data: dict[str, Value] = {"entries_0": b"abc" if damage == "cut" else "abc"}
        table.merge(Row(partition=name, key="00000", data=data))
    assert Versions(tables).find(2, today=DAY) == ([], False)


def test_a_damaged_manifest_is_said(tables: Tables) -> None:
    """The index of another destination still answers."""
    enter(tables, [1])
    enter(tables, [1], to=THERE)
    table = tables.table(TABLE)
    first, *_ = table.query("manifest")
    table.merge(Row(partition="manifest", key=first.key, data={"segments": "[]"}))
    found, is_whole = Versions(tables).find(1, today=DAY)
    assert (len(found), is_whole) == (1, False)


@pytest.mark.parametrize(
    ("modified", "time"),
    [(0, None), (2**48 - 1, None), (1, datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC))],
)
def test_a_time_that_is_none(modified: int, time: datetime | None) -> None:
    """0 stands for none, and 48 bits reach further than the calendar of Python."""
    assert time_of(modified) == time
    assert LAST_DAY < VOID
