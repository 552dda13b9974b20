"""Folding: what settled rows leave behind, whatever is void, open or of another destination."""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from common.errors import LeaseLostError, OutOfTimeError
from common.ledger import Ledger, open_ledger
from common.ledger.chunks import Chunk, insertion, voiding
from common.ledger.runs import Checkpoint, Counts, Cursor, Folded, Run
from common.ledger.samples import OF_A_RUN, of_run, samples_of
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import Row
from common.ledger.versions import ENTRY_BYTES, VOID
from common.reconciliation import reconcile
from common.records import Record, pack_records
from producer.entries import Keeping, unpack_entries
from producer.fold import FoldConfig, Survey, counted, survey
from producer.index import VersionIndex
from producer.versions import KnownVersion
from tests.fakes.clock import FakeClock
from tests.fakes.crash import Crash
from tests.fakes.tables import FakeTables
from tests.unit.producer.sync_world import FailAt

HERE, THERE = "here|sentinel", "there|sentinel"
TODAY = 20_454


@dataclass
class Books:
    """A ledger with its version index, and ways to fill and fold it."""

    clock: FakeClock = field(default_factory=FakeClock)
    ticks: "count[int]" = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.tables = FakeTables(self.clock.monotonic)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.tables)

    @property
    def rows(self) -> list[Chunk]:
        """Every chunk that has a row."""
        return list(self.ledger.chunks.all())

    def run(self, number: int, state: RunState = RunState.COMPLETE) -> Run:
        """Make a run; a greater number is later."""
        now = self.clock.now()
        return self.ledger.runs.create(
            Run(
                run_id=f"202601{number + 1:02}T000000-0badcafe",
                state=state,
                started_at=now,
                updated_at=now,
                cursor=Cursor(sequence=999),
            )
        )

    def chunk(
        self,
        run: Run,
        sequence: int,
        versions: Sequence[tuple[int, int, int]],
        outcome: str = "uploaded",
        *,
        void: bool = False,
        destination: str = HERE,
        epoch: int = 1,
    ) -> Chunk:
        """Write a chunk of (id, fingerprint, modified) each, and what became of it."""
        made = Chunk(
            run_id=run.run_id,
            key=f"{sequence:06d}-{epoch}",
            sequence=sequence,
            epoch=epoch,
            count=len(versions),
            destination=destination,
            records=pack_records(
                Record(id_hash=i, fingerprint=f, modified=m) for i, f, m in versions
            ),
            enqueued_at=self.clock.now(),
        )
        runs, chunks = self.ledger.runs, self.ledger.chunks
        head = runs.get(run.run_id)
        assert head is not None
        counts = head.counts
        if not void:
            counts += Counts(fetched=len(versions), enqueued=len(versions))
        runs.save(head, rows=[insertion(made)], counts=counts)
        if outcome != "queued":
            self.settle(made, outcome)
        if void:
            head = runs.get(run.run_id)
            assert head is not None
            runs.save(head, rows=[voiding(made)])
        found = chunks.get(made.run_id, made.key)
        assert found is not None
        return found

    def settle(self, chunk: Chunk, outcome: str) -> None:
        """Write an outcome: a word, or a letter for each record."""
        now, chunks = self.clock.now(), self.ledger.chunks
        found = chunks.get(chunk.run_id, chunk.key)
        assert found is not None
        match outcome:
            case "uploaded":
                sample = samples_of(
                    (
                        {"id": f"indicator--{chunk.key}-{record.id_hash}", "modified": f"{now}"}
                        for record in found.unpacked()
                    ),
                    at=now,
                )
                chunks.record_uploaded(
                    found, sent=found.to_send, rejected=(), at=now, sample=sample
                )
            case "poisoned":
                chunks.record_poisoned(found.run_id, found.key, at=now, reason="why")
            case "discarded":
                chunks.record_poisoned(found.run_id, found.key, at=now, reason="why")
                found = chunks.get(chunk.run_id, chunk.key)
                assert found is not None
                assert chunks.move(found, ChunkState.DISCARDED, at=now)
            case letters:
                struck = [i for i, letter in enumerate(letters) if letter == "S"]
                refused = [i for i, letter in enumerate(letters) if letter == "R"]
                sent = [i for i, letter in enumerate(letters) if letter in "AR"]
                assert chunks.strike(found.run_id, found.key, struck)
                found = chunks.get(chunk.run_id, chunk.key)
                assert found is not None
                if sent:
                    chunks.record_uploaded(found, sent=sent, rejected=refused, at=now)

    def survey(
        self,
        *,
        destination: str = HERE,
        keep_going: Callable[[], None] = lambda: None,
        today: int = TODAY,
        known_max: int = 10**6,
    ) -> Survey:
        """Fold what can be folded, as one tick does."""
        ledger = self.ledger
        return survey(
            runs=ledger.runs,
            chunks=ledger.chunks,
            index=VersionIndex(self.tables),
            config=FoldConfig(destination=destination, keeping=Keeping(), known_max=known_max),
            tick=f"tick-{next(self.ticks)}",
            today=today,
            keep_going=keep_going,
        )

    def index(self, destination: str = HERE) -> dict[int, tuple[int, int, bool]]:
        """Return what the index of a destination holds: fingerprint, modified, the bit."""
        index = VersionIndex(FakeTablesCopy(self.tables))
        found: dict[int, tuple[int, int, bool]] = {}
        for segment in index.load(index.fence(destination, tick="look"), today=TODAY):
            entries = segment.entries
            for at in range(len(entries)):
                found[int(entries.ids[at])] = (
                    int(entries.fingerprints[at]),
                    int(entries.modified[at]),
                    bool(entries.kept[at] & VOID),
                )
        return found

    def samples(self) -> dict[str, set[str]]:
        """Return the ids in the sample of each run: of its rows, then of its head."""
        ledger = self.ledger
        rows = list(ledger.chunks.samples())
        return {
            run.run_id: {
                one.id
                for one in of_run(run.sample, *(some for of, some in rows if of == run.run_id))
            }
            for run in ledger.runs.latest(99)
        }

    def balanced(self) -> bool:
        """Return whether the books of every run balance."""
        ledger = self.ledger
        runs = list(ledger.runs.latest(99))
        return all(reconcile(run, ledger.chunks.outcomes(run.run_id)).balanced for run in runs)


class FakeTablesCopy(FakeTables):
    """A copy of tables as they stand: looking at it changes nothing of them."""

    def __init__(self, tables: FakeTables) -> None:
        super().__init__(tables.monotonic)
        for name, table in tables._tables.items():
            mine = self.table(name)
            mine._rows = dict(table._rows)
            mine._written = dict(table._written)


def test_settled_rows_of_a_closed_run_become_entries_and_go() -> None:
    """What is known stays known, and their counts stay in the run's head."""
    books = Books()
    run = books.run(0)
    books.chunk(run, 0, [(1, 11, 5), (2, 22, 6)])
    books.chunk(run, 1, [(3, 33, 7), (4, 44, 8), (5, 55, 9)], "ARS")
    books.chunk(run, 2, [(6, 66, 0)], "discarded")
    found = books.survey()
    assert found.folded == 3
    assert books.rows == []
    assert books.index() == {
        1: (11, 5, False),
        2: (22, 6, False),
        3: (33, 7, False),
        4: (44, 8, False),
        5: (55, 9, False),
        6: (66, 0, False),
    }
    head = books.ledger.runs.get(run.run_id)
    assert head is not None
    assert head.folded == Folded(accepted=3, rejected=1, struck=1, discarded=1)
    assert books.balanced()
    assert found.known.find([1, 7]) == {0: KnownVersion(11, 5, is_recent=True)}


@pytest.mark.parametrize(
    ("outcome", "state", "stays"),
    [
        ("uploaded", RunState.COMPLETE, False),
        ("uploaded", RunState.GAP, False),
        ("uploaded", RunState.FAILED, False),
        ("uploaded", RunState.RUNNING, True),
        ("uploaded", RunState.INTERRUPTED, True),
        ("SS", RunState.COMPLETE, False),
        ("discarded", RunState.COMPLETE, False),
        ("queued", RunState.COMPLETE, True),
        ("poisoned", RunState.COMPLETE, True),
        ("A.", RunState.COMPLETE, True),
        ("S.", RunState.GAP, True),
    ],
)
@pytest.mark.parametrize("void", [False, True])
def test_what_is_not_over_stays(*, outcome: str, state: RunState, stays: bool, void: bool) -> None:
    """A row of which something may still be sent, and every row of a run that goes on."""
    books = Books()
    run = books.run(0, state)
    books.chunk(run, 0, [(1, 11, 5), (2, 22, 6)], outcome, void=void)
    books.survey()
    stays = stays and not (void and state in (RunState.COMPLETE, RunState.GAP))
    assert len(books.rows) == stays
    assert (books.index() == {}) is stays
    assert books.balanced()


def test_void_without_an_answer_is_told_by_a_bit_and_not_in_the_books() -> None:
    """`A` and `R` are answers, though the row is void; `S` and no letter are not."""
    books = Books()
    run = books.run(0)
    books.chunk(run, 0, [(1, 11, 5), (2, 22, 6), (3, 33, 7), (4, 44, 8)], "ARS.", void=True)
    assert books.survey().folded == 1
    assert {i: is_void for i, (_, _, is_void) in books.index().items()} == {
        1: False,
        2: False,
        3: True,
        4: True,
    }
    head = books.ledger.runs.get(run.run_id)
    assert head is not None
    assert head.folded == Folded()
    assert books.balanced()


def test_the_bit_goes_when_the_same_version_is_answered() -> None:
    """Void in one epoch, taken in the next one: whichever is folded first."""
    for first, second in ((True, False), (False, True)):
        books = Books()
        for number, void in enumerate((first, second)):
            run = books.run(number)
            books.chunk(run, 0, [(1, 11, 5)], "queued" if void else "uploaded", void=void)
            books.survey()
        assert books.index() == {1: (11, 5, False)}


def test_a_row_waits_for_every_earlier_row_that_shares_an_indicator() -> None:
    """Later rows win, so none is folded before; what shares nothing with them goes at once."""
    books = Books()
    run = books.run(0)
    first = books.chunk(run, 0, [(1, 11, 5), (2, 22, 5)], "queued")
    books.chunk(run, 1, [(2, 23, 5), (3, 33, 5)])
    books.chunk(run, 2, [(3, 34, 5)])
    books.chunk(run, 3, [(9, 99, 5)])
    later = books.run(1)
    books.chunk(later, 0, [(3, 35, 5)])
    assert books.survey().folded == 1
    assert books.index() == {9: (99, 5, False)}
    books.settle(first, "uploaded")
    assert books.survey().folded == 4
    assert books.index()[2] == (23, 5, False)
    assert books.index()[3] == (35, 5, False)


def test_later_rows_are_later_by_run_epoch_and_place() -> None:
    """Of equal `modified` the version of the last row is the newest, whatever the key says."""
    books = Books()
    run = books.run(0)
    books.chunk(run, 5, [(1, 15, 5)], epoch=1)
    books.chunk(run, 2, [(1, 12, 5)], epoch=2)
    assert books.survey().folded == 2
    assert books.index() == {1: (12, 5, False)}


def test_an_answer_is_entered_where_it_was_given_and_the_rest_everywhere() -> None:
    """A version that another workspace took is unknown to this one; a discarded one is not."""
    books = Books()
    run = books.run(0)
    books.chunk(run, 0, [(1, 11, 5), (2, 22, 5), (3, 33, 5)], "ARS", destination=THERE)
    books.chunk(run, 1, [(4, 44, 5)], "discarded", destination=THERE)
    books.chunk(run, 2, [(5, 55, 5)], destination=HERE)
    found = books.survey()
    assert found.folded == 3
    assert sorted(books.index(HERE)) == [3, 4, 5]
    assert sorted(books.index(THERE)) == [1, 2, 3, 4]


def test_every_index_there_is_learns_what_ended_without_an_answer() -> None:
    """Also one of a destination that no row names any more."""
    books = Books()
    books.survey(destination=THERE)
    run = books.run(0)
    books.chunk(run, 0, [(1, 11, 5)], "discarded")
    books.survey(destination=HERE)
    assert books.index(HERE) == books.index(THERE) == {1: (11, 5, False)}


@pytest.mark.parametrize("open_before", [False, True], ids=["folded", "held back"])
def test_what_only_another_destination_answered_is_unknown_here(*, open_before: bool) -> None:
    """In its row as in the index: it may be listed once, and this workspace has none of it."""
    books = Books()
    run = books.run(0)
    if open_before:
        books.chunk(run, 0, [(5, 55, 4)], "queued", destination=THERE)
    books.chunk(run, 1, [(1, 11, 5), (2, 22, 5), (3, 33, 5), (5, 56, 5)], "ARSA", destination=THERE)
    for _ in range(2):
        found = books.survey(destination=HERE).known.find([1, 2, 3, 5])
        assert {at: version.fingerprint for at, version in found.items()} == (
            {2: 33, 3: 55} if open_before else {2: 33}
        )
    at_home = books.survey(destination=THERE).known.find([1, 2, 3, 5])
    assert [version.fingerprint for version in at_home.values()] == [11, 22, 33, 56]


@pytest.mark.parametrize("outcome", ["queued", "P"])
def test_what_waits_for_another_destination_is_as_good_as_void_here(outcome: str) -> None:
    """An answer may come to it, from there only; until then a newer version can strike it."""
    books = Books()
    run = books.run(0)
    books.chunk(run, 0, [(1, 11, 5)], outcome, destination=THERE)
    here, there = (books.survey(destination=name).known for name in (HERE, THERE))
    assert here.find([1]) == {0: KnownVersion(11, 5, is_void=True, is_recent=True)}
    assert there.find([1]) == {0: KnownVersion(11, 5, is_on_its_way=True, is_recent=True)}
    assert [place.key for place in here.places(1)] == ["000000-1"]
    books.chunk(run, 1, [(1, 11, 5)], "queued", destination=HERE)
    found = books.survey(destination=HERE).known
    assert found.find([1]) == {0: KnownVersion(11, 5, is_on_its_way=True, is_recent=True)}


def test_nothing_is_swept_while_a_manifest_is_damaged() -> None:
    """Its segments are listed where nobody can read it: restored, its index is whole again."""
    books = Books()
    books.chunk(books.run(0), 0, [(1, 11, 5)], destination=THERE)
    books.survey(destination=THERE)
    table = books.tables.table("versions")
    (manifest,) = table.query("manifest")
    table.merge(Row(partition="manifest", key=manifest.key, data={"segments": b"[[1"}))
    VersionIndex(books.tables)._store("orphan", unpack_entries(bytes(ENTRY_BYTES)))
    books.survey(destination=HERE)
    table.merge(Row(partition="manifest", key=manifest.key, data=manifest.data))
    assert books.index(THERE) == {1: (11, 5, False)}
    books.survey(destination=HERE)
    assert books.index(THERE) == {1: (11, 5, False)}
    assert all_segments(books) == segments_in_use(books)


def test_what_was_folded_is_known_to_the_tick_that_folded_it() -> None:
    """In its own index, and as recent: a request with it may have left a moment ago."""
    books = Books()
    run = books.run(0)
    books.chunk(run, 0, [(1, 11, 5)], "discarded")
    books.chunk(run, 1, [(2, 22, 5)], "queued")
    known = books.survey().known
    assert known.find([1, 2]) == {
        0: KnownVersion(11, 5, is_recent=True),
        1: KnownVersion(22, 5, is_on_its_way=True, is_recent=True),
    }
    assert [place.key for place in known.places(2)] == ["000001-1"]
    assert list(known.places(1)) == []


@pytest.mark.parametrize("late", ["answer", "strike"])
def test_a_row_that_changes_while_it_is_folded_stays(late: str) -> None:
    """Its removal fails with the counts of its run; the next tick reads it again."""
    books = Books()
    run = books.run(0)
    chunk = books.chunk(run, 0, [(1, 11, 5)], "S" if late == "answer" else "discarded")
    other = books.chunk(run, 1, [(2, 22, 5)])
    done = False

    def before(table: str, operation: str) -> None:
        nonlocal done
        if (table, operation) == ("chunks", "transact") and not done:
            done = True
            found = books.ledger.chunks.get(chunk.run_id, chunk.key)
            assert found is not None
            books.ledger.chunks.record_uploaded(found, sent=[0], rejected=(), at=books.clock.now())

    books.tables.before = before
    assert books.survey().folded == 0
    books.tables.before = lambda _table, _operation: None
    assert {row.key for row in books.rows} == {chunk.key, other.key}
    assert books.balanced()
    assert books.survey().folded == 2
    assert books.balanced()
    head = books.ledger.runs.get(run.run_id)
    assert head is not None
    assert head.folded == Folded(accepted=2)


def test_the_sample_of_a_run_is_the_same_before_and_after_its_rows_are_folded() -> None:
    """It moves into the head with the counts; a damaged one stops no fold."""
    books = Books()
    run = books.run(0)
    for sequence in range(2 * OF_A_RUN):
        books.chunk(run, sequence, [(3 * sequence + n, 1, 1) for n in range(3)])
    before = books.samples()
    assert len(before[run.run_id]) == OF_A_RUN
    books.survey()
    assert books.rows == []
    head = books.ledger.runs.get(run.run_id)
    assert head is not None
    assert {one.id for one in head.sample} == before[run.run_id]
    odd = books.chunk(run, 99, [(999, 1, 1)])
    assert odd.row is not None
    books.tables.table("chunks").merge(replace(odd.row, data={"sample": b"\xff{"}))
    books.survey()
    assert books.rows == []
    assert books.samples() == before


def filled() -> Books:
    """Return books with several runs, destinations and outcomes, and an index with history."""
    books = Books()
    rng = random.Random(0)  # noqa: S311 - a fixed seed
    for number in range(3):
        run = books.run(number, RunState.GAP if number == 1 else RunState.COMPLETE)
        for sequence in range(4):
            ids = rng.sample(range(8), 3)
            versions = [(i, 100 * number + sequence, number) for i in ids]
            books.chunk(
                run,
                sequence,
                versions,
                rng.choice(["uploaded", "uploaded", "discarded", "ARS", "queued", "SSS"]),
                void=rng.random() < 0.2,
                destination=rng.choice([HERE, HERE, THERE]),
            )
        if number == 0:
            books.survey()
    return books


@pytest.mark.parametrize("when", ["before", "after"])
def test_dying_anywhere_and_folding_again_is_folding_once(when: str) -> None:
    """Killed at each operation in turn: rows, index and books end as if nothing had happened."""
    whole, counting = filled(), FailAt(Crash)
    setattr(whole.tables, when, counting)
    whole.survey()
    setattr(whole.tables, when, lambda _table, _operation: None)
    assert counting.calls > 15
    for at in range(counting.calls):
        books = filled()
        setattr(books.tables, when, FailAt(Crash, at))
        with pytest.raises(Crash):
            books.survey()
        setattr(books.tables, when, lambda _table, _operation: None)
        assert books.balanced(), at
        books.survey()
        assert books.balanced(), at
        assert [row.key for row in books.rows] == [row.key for row in whole.rows], at
        assert books.index(HERE) == whole.index(HERE), at
        assert books.index(THERE) == whole.index(THERE), at
        assert books.samples() == whole.samples() == filled().samples(), at
        books.survey()
        assert segments_in_use(books) == all_segments(books), at


def all_segments(books: Books) -> set[str]:
    """Return the names of all segments that are stored."""
    return VersionIndex(books.tables).segment_names()


def segments_in_use(books: Books) -> set[str]:
    """Return the names of the segments that manifests list."""
    index = VersionIndex(FakeTablesCopy(books.tables))
    return {
        info.name
        for destination in index.destinations()[0]
        for info in index.fence(destination, tick="look").segments
    }


def test_a_stalled_fold_has_no_effect() -> None:
    """At whichever call another tick folds meanwhile: index, rows and books are that one's.

    The stalled one ends at the fence, or finds its rows gone; it never puts an old version back.
    """
    calls = 0

    def stalled_at(at: int) -> Books:
        nonlocal calls
        books, calls = filled(), 0

        def stall(*_: str) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                hook, books.tables.before = books.tables.before, lambda _table, _operation: None
                books.survey()
                newest = books.run(9)
                books.chunk(newest, 0, [(i, 999, 9) for i in range(8)])
                for row in books.rows:
                    if not row.is_settled:
                        books.settle(row, "uploaded")
                books.survey()
                books.tables.before = hook

        books.tables.before = stall
        if at < 0:
            books.survey()
        else:
            with suppress(LeaseLostError):
                books.survey()
        books.tables.before = lambda _table, _operation: None
        return books

    stalled_at(-1)
    total = calls
    assert total > 15
    for at in range(total):
        books = stalled_at(at)
        assert books.balanced(), at
        books.survey()
        assert books.rows == [], at
        assert {version[0] for version in books.index().values()} == {999}, at
        assert books.balanced(), at


def test_time_that_is_up_ends_a_fold_between_its_steps() -> None:
    """What was done stays done, and the next tick goes on."""
    for at in range(5):
        books = filled()
        with pytest.raises(OutOfTimeError):
            books.survey(keep_going=FailAt(lambda: OutOfTimeError("no time"), at))
        assert books.balanced()
        whole = filled()
        for each in (books, whole):
            each.survey()
        assert books.balanced()
        assert [row.key for row in books.rows] == [row.key for row in whole.rows]
        assert books.index(HERE) == whole.index(HERE)


def test_a_full_index_forgets_what_ends_first_and_says_how_many() -> None:
    """None of today."""
    books = Books()
    for number in range(3):
        run = books.run(number)
        books.chunk(run, 0, [(100 * number + i, 1, 1) for i in range(100)])
        found = books.survey(today=TODAY + number, known_max=220)
        assert found.dropped == (0 if number < 2 else 80)
    kept = books.index()
    assert len(kept) == 220
    assert set(range(200, 300)) <= set(kept)


def test_what_is_counted_of_rows() -> None:
    """Accepted, rejected, struck, discarded; void rows leave nothing in the books."""
    books = Books()
    run = books.run(0)
    rows = [
        books.chunk(run, 0, [(1, 1, 1), (2, 1, 1), (3, 1, 1)], "ARS"),
        books.chunk(run, 1, [(4, 1, 1)], "discarded"),
        books.chunk(run, 2, [(5, 1, 1), (6, 1, 1)], "AA", void=True),
    ]
    assert counted(rows) == Folded(accepted=1, rejected=1, struck=1, discarded=1)
    assert counted([]) == Folded()
    assert run.checkpoint == Checkpoint(cursor=Cursor(sequence=999))
