"""The version index over tables in memory and on Azurite: commit and fence, merging, sweep."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LeaseLostError, UnavailableError
from common.ledger.tables import Row, Tables, Value
from common.ledger.versions import ENTRIES_A_ROW, LAST_DAY, TABLE, VOID, Manifest
from producer.entries import Entries, words
from producer.index import Segment, VersionIndex, plan_merge, shortened
from tests.fakes.tables import FakeTables

HERE, THERE = "0badcafe|https://sentinel.example", "another|https://sentinel.example"
TODAY = 20_000


@pytest.fixture
def index(tables: Tables) -> VersionIndex:
    """An index of which nothing is stored yet."""
    return VersionIndex(tables)


def entries(
    *ids: int, fingerprint: int = 7, kept: int = TODAY + 90, entered: int = TODAY, modified: int = 1
) -> Entries:
    """Entries of these ids, which are in order."""
    count = len(ids)
    return Entries(
        ids=words(ids),
        fingerprints=np.full(count, fingerprint, dtype=np.uint64),
        modified=np.full(count, modified, dtype=np.uint64),
        entered=np.full(count, entered, dtype=np.uint16),
        kept=np.full(count, kept, dtype=np.uint16),
    )


def known(segments: list[Segment]) -> dict[int, int]:
    """Return fingerprint by id, later segments over earlier ones."""
    return {
        number: fingerprint
        for segment in segments
        for number, fingerprint in zip(
            segment.entries.ids.tolist(), segment.entries.fingerprints.tolist(), strict=True
        )
    }


def add(
    index: VersionIndex, manifest: Manifest, made: Entries, *, limit: int = 10**6
) -> tuple[Manifest, list[Segment], int]:
    """Enter entries under a manifest."""
    before = index.load(manifest, today=TODAY)
    return index.add(manifest, before, made, today=TODAY, limit=limit)


def stored(index: VersionIndex, destination: str = HERE) -> dict[int, int]:
    """Return what another tick reads."""
    return known(index.load(index.fence(destination, tick="look"), today=TODAY))


def test_an_index_begins_empty(index: VersionIndex) -> None:
    """Nothing is known, nothing is stored but the manifest that the fence has made."""
    assert index.destinations() == ([], 0)
    assert index.segment_names() == set()
    manifest = index.fence(HERE, tick="1")
    assert (manifest.segments, manifest.tick) == ((), "1")
    assert index.load(manifest, today=TODAY) == []
    assert index.destinations() == ([HERE], 0)


def test_what_is_entered_is_there_for_every_tick_behind_it(index: VersionIndex) -> None:
    """The answer says what the manifest now lists, and so does the storage."""
    manifest, segments, dropped = add(index, index.fence(HERE, tick="1"), entries(1, 5, 2**64 - 1))
    assert (known(segments), dropped) == ({1: 7, 5: 7, 2**64 - 1: 7}, 0)
    assert [info.count for info in manifest.segments] == [3]
    assert stored(index) == known(segments)
    assert index.segment_names() == {manifest.segments[0].name}


def test_entering_nothing_writes_nothing(index: VersionIndex) -> None:
    """The manifest stays as the fence has left it."""
    manifest = index.fence(HERE, tick="1")
    assert add(index, manifest, entries()) == (manifest, [], 0)
    add(index, manifest, entries(1))  # its ETag still holds


def test_several_commits_of_one_tick(index: VersionIndex) -> None:
    """Each goes on from the manifest that the one before has returned."""
    manifest, segments, _ = add(index, index.fence(HERE, tick="1"), entries(0, fingerprint=0))
    for number in range(1, 5):
        manifest, segments, _ = add(index, manifest, entries(number, fingerprint=number))
    assert stored(index) == known(segments) == {number: number for number in range(5)}


def test_a_tick_that_was_overtaken_commits_nothing(index: VersionIndex) -> None:
    """Its segments are written and no manifest names them: they are swept away later."""
    add(index, index.fence(HERE, tick="0"), entries(1, fingerprint=1))
    stale = index.fence(HERE, tick="1")
    current = index.fence(HERE, tick="2")
    with pytest.raises(LeaseLostError, match="version index"):
        add(index, stale, entries(1, 2, fingerprint=9))
    assert stored(index) == {1: 1}
    assert len(index.segment_names()) == 2
    with pytest.raises(LeaseLostError):
        add(index, current, entries(3))  # `stored` has fenced it off


def test_a_fence_holds_however_many_ticks_have_passed(index: VersionIndex) -> None:
    """Also where nothing was entered since, so that the lists are the same."""
    stale = index.fence(HERE, tick="1")
    for number in range(3):
        index.fence(HERE, tick=str(number + 2))
    with pytest.raises(LeaseLostError):
        add(index, stale, entries(1))


def test_two_ticks_that_begin_at_once(tables: Tables) -> None:
    """The first index of a destination is made by one of them; the other one stops."""
    index, other = VersionIndex(tables), VersionIndex(tables)
    real = tables.table(TABLE)

    class Late:
        def table(self, _name: str) -> "Late":
            return self

        def get(self, partition: str, key: str) -> Row | None:
            found = real.get(partition, key)
            if found is None:
                other.fence(HERE, tick="other")
            return found

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    with pytest.raises(LeaseLostError):
        VersionIndex(Late()).fence(HERE, tick="mine")  # type: ignore[arg-type]
    assert index.destinations() == ([HERE], 0)


def test_each_destination_has_an_index_of_its_own(index: VersionIndex) -> None:
    """Correcting a typing error and going back forgets nothing."""
    mine = index.fence(HERE, tick="1")
    theirs = index.fence(THERE, tick="1")
    add(index, mine, entries(1, 2, fingerprint=1))
    add(index, theirs, entries(2, 3, fingerprint=2))
    assert index.destinations() == ([HERE, THERE], 0)
    assert stored(index, HERE) == {1: 1, 2: 1}
    assert stored(index, THERE) == {2: 2, 3: 2}
    assert len(index.segment_names()) == 2


@pytest.mark.parametrize("name", ["w|https://a.example/x?y=1#z", "w\\x", "", "it's"])
def test_any_destination_can_have_an_index(index: VersionIndex, name: str) -> None:
    """Letters that no table key may have are no trouble; its name comes back as it is."""
    add(index, index.fence(name, tick="1"), entries(1))
    assert index.destinations() == ([name], 0)
    assert stored(index, name) == {1: 7}


def test_newer_versions_replace_older_ones(index: VersionIndex) -> None:
    """In one segment once they are merged; across segments the later one counts."""
    manifest, *_ = add(index, index.fence(HERE, tick="1"), entries(*range(100), fingerprint=1))
    manifest, segments, _ = add(index, manifest, entries(5, fingerprint=2, modified=2))
    assert [len(segment.entries) for segment in segments] == [100, 1]
    assert known(segments)[5] == 2
    manifest, segments, _ = add(index, manifest, entries(*range(80), fingerprint=3, modified=3))
    assert [len(segment.entries) for segment in segments] == [100]
    assert known(segments) == {number: 3 if number < 80 else 1 for number in range(100)}
    assert stored(index) == known(segments)


def test_a_segment_is_as_young_as_its_last_entry(tables: Tables) -> None:
    """By the storage's clock; one that was merged is new again, the others grow older."""
    seconds = 0.0
    if isinstance(tables, FakeTables):
        tables.monotonic = lambda: seconds
    index = VersionIndex(tables)
    manifest, segments, _ = add(index, index.fence(HERE, tick="1"), entries(*range(100)))
    assert [segment.info.age for segment in segments] == [0.0]
    seconds = 50.0
    manifest = index.fence(HERE, tick="2")
    assert 0 <= manifest.segments[0].age <= 60
    if isinstance(tables, FakeTables):
        assert manifest.segments[0].age == 50
        seconds = 170.0
        manifest, *_ = add(index, index.fence(HERE, tick="3"), entries(1))
        assert [info.age for info in manifest.segments] == [170, 0]
        seconds = 171.0
        manifest, *_ = add(index, index.fence(HERE, tick="4"), entries(*range(90)))
        assert [info.age for info in manifest.segments] == [0]


def test_entries_that_have_ended_are_dropped(index: VersionIndex) -> None:
    """From what is looked up at once, from the storage when their segment is merged."""
    manifest, *_ = add(index, index.fence(HERE, tick="1"), entries(1, 2, kept=TODAY + 1))
    manifest, *_ = add(index, manifest, entries(3, kept=(TODAY + 5) | VOID))
    later = index.load(manifest, today=TODAY + 2)
    assert known(later) == {3: 7}
    manifest, segments, _ = index.add(
        manifest, later, entries(4, kept=TODAY + 99), today=TODAY + 2, limit=10**6
    )
    assert known(segments) == {3: 7, 4: 7}
    assert sum(info.count for info in manifest.segments) == 2


@pytest.mark.parametrize(
    "count", [1, 2_299, 2_300, 2_301, ENTRIES_A_ROW, ENTRIES_A_ROW + 1, 60_000]
)
def test_a_segment_of_any_size_comes_back_whole(index: VersionIndex, count: int) -> None:
    """Over pieces and rows: every bit of every field."""
    rng = np.random.default_rng(count)
    made = Entries(
        ids=np.sort(rng.integers(0, 2**64, count, dtype=np.uint64)),
        fingerprints=rng.integers(0, 2**64, count, dtype=np.uint64),
        modified=rng.integers(0, 2**48, count, dtype=np.uint64),
        entered=rng.integers(0, LAST_DAY, count, dtype=np.uint16),
        kept=rng.integers(0, 2**16, count, dtype=np.uint16) | np.uint16(TODAY),
    )
    add(index, index.fence(HERE, tick="1"), made)
    (found,) = index.load(index.fence(HERE, tick="2"), today=0)
    assert found.entries.pack() == made.pack()
    assert found.info.count == count


def test_the_sweep_takes_segments_whole(index: VersionIndex, tables: Tables) -> None:
    """All rows of those that are named, and nothing else; again, and nothing happens."""
    manifest, *_ = add(index, index.fence(HERE, tick="1"), entries(*range(60_000)))
    (gone,) = index.segment_names()
    manifest, *_ = add(index, manifest, entries(*range(50_000), modified=2))
    (kept,) = index.segment_names() - {gone}
    for _ in range(2):
        index.sweep([gone, "never-there"])
        assert index.segment_names() == {kept}
        assert {row.partition for row in tables.table(TABLE).query()} == {kept, "manifest"}
    assert len(stored(index)) == 60_000


def test_a_sweep_that_died_is_finished_by_the_next_one(index: VersionIndex, tables: Tables) -> None:
    """Also what a tick that stalled has added behind it: a segment is known by any of its rows."""
    index._store("orphan", entries(*range(60_000)))
    table = tables.table(TABLE)
    first, *_ = table.query("orphan")
    table.delete(first.partition, first.key)
    assert index.segment_names() == {"orphan"}
    index.sweep(index.segment_names())
    assert list(table.query("orphan")) == []
    assert index.segment_names() == set()


def test_a_full_index_drops_those_that_end_first(index: VersionIndex) -> None:
    """All segments are merged for it, but not again before a twentieth has come."""
    manifest = index.fence(HERE, tick="1")
    old = [entries(n, kept=TODAY + 1000 - n, entered=TODAY - 2) for n in range(90)]
    for made in old:
        manifest, _, dropped = add(index, manifest, made, limit=100)
        assert dropped == 0
    manifest, segments, dropped = add(index, manifest, entries(*range(1000, 1020)), limit=100)
    assert dropped == 10
    assert set(known(segments)) == {*range(80), *range(1000, 1020)}
    assert stored(index) == known(segments)
    manifest = index.fence(HERE, tick="2")
    for number in range(5):
        manifest, segments, dropped = add(index, manifest, entries(2000 + number), limit=100)
        assert (segments[0].info.count, dropped) == (100, 0)
    manifest, segments, dropped = add(index, manifest, entries(3000), limit=100)
    assert ([segment.info.count for segment in segments], dropped) == ([100], 6)


@pytest.mark.parametrize("damage", ["missing", "cut", "of another type"])
def test_a_damaged_row_costs_its_entries_only(
    index: VersionIndex, tables: Tables, damage: str
) -> None:
    """They are counted, and the others are known."""
    add(index, index.fence(HERE, tick="1"), entries(*range(ENTRIES_A_ROW + 10)))
    (name,) = index.segment_names()
    table = tables.table(TABLE)
    if damage == "missing":
        table.delete(name, "00000")
    else:
        data: dict[str, Value] = {"entries_0": b"abc" if damage == "cut" else "abc"}
        table.merge(Row(partition=name, key="00000", data=data))
    (found,) = index.load(index.fence(HERE, tick="2"), today=TODAY)
    assert (len(found.entries), found.missing) == (10, ENTRIES_A_ROW)


@pytest.mark.parametrize(
    "damage",
    [
        {"segments": b"[[1"},
        {"segments": "[]"},
        {"segments": b"7"},
        {"segments": b'[["name", 5]]'},
        {"segments": b'[["name", "5", 0.0]]'},
        {"segments": b'[["name", -5, 0.0]]'},
        {"segments": b'[["name", 5, null]]'},
        {"segments": b"[[5, 5, 0.0]]"},
        {"step": "one"},
        {"tick": 1},
    ],
    ids=str,
)
def test_a_damaged_manifest_is_said_and_never_replaced(
    index: VersionIndex, tables: Tables, damage: dict[str, Value]
) -> None:
    """An empty index in its place would forget everything: an operator restores it, or removes it.

    Other destinations are not concerned.
    """
    add(index, index.fence(HERE, tick="1"), entries(1))
    add(index, index.fence(THERE, tick="1"), entries(2))
    table = tables.table(TABLE)
    manifests = list(table.query("manifest"))
    (whole,) = [row for row in manifests if row.data["destination"] == HERE]
    table.merge(Row(partition=whole.partition, key=whole.key, data=damage))
    with pytest.raises(UnavailableError, match="restore the row"):
        index.fence(HERE, tick="2")
    assert index.destinations() == ([THERE], 1)
    assert stored(index, THERE) == {2: 7}
    table.merge(Row(partition=whole.partition, key=whole.key, data=whole.data))
    assert stored(index) == {1: 7}


@pytest.mark.parametrize("days_ago", [0, 1])
def test_what_may_be_younger_than_a_day_is_never_dropped(days_ago: int) -> None:
    """However full the index is; days are of the calendar, so yesterday may be a minute ago."""
    made = entries(*range(50), entered=TODAY - days_ago)
    kept, dropped = shortened(made, limit=10, today=TODAY)
    assert (len(kept), dropped) == (50, 0)


@given(counts=st.lists(st.integers(1, 10**6), max_size=20), added=st.integers(1, 10**6))
def test_each_segment_is_twice_as_large_as_all_behind_it(counts: list[int], added: int) -> None:
    """So there are as many as the index has doublings; only the latest ones are merged."""
    merging = plan_merge(counts, added)
    assert 0 <= merging <= len(counts)
    together = added + sum(counts[len(counts) - merging :])
    kept = counts[: len(counts) - merging]
    assert not kept or kept[-1] >= 2 * together


def test_an_index_that_grows_has_few_segments_and_is_seldom_rewritten() -> None:
    """A thousand folds of any size: no more than twenty segments, and each entry a few times."""
    rng = random.Random(0)  # noqa: S311 - a fixed seed
    counts: list[int] = []
    entered = written = 0
    for _ in range(1000):
        added = rng.choice([1, 10, 1000, 20_000])
        merging = plan_merge(counts, added)
        together = added + sum(counts[len(counts) - merging :])
        counts = [*counts[: len(counts) - merging], together]
        entered, written = entered + added, written + together
        assert len(counts) <= 20
    assert written < 12 * entered
