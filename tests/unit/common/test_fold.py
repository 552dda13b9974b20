"""Folding: what finished chunks leave behind, whatever mix there is and wherever it is cut off."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain, count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.envelope import Envelope, chunk_id_of
from common.errors import OutOfTimeError
from common.fingerprints import id_hash, pack
from common.ledger import Ledger, open_ledger
from common.ledger.fold import Fold, chunks_in_flight, fold_chunks
from common.ledger.runs import Counts, Cursor, Run
from common.ledger.states import ChunkState, RunState
from ops.reconciliation import Reconciliation, reconcile
from tests.fakes.clock import START
from tests.fakes.tables import FakeTables

LIFETIME = timedelta(days=7)


class Crash(BaseException):
    """The process ends here."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A chunk as the test made it."""

    envelope: Envelope
    state: ChunkState
    rejected: int = 0

    @property
    def fingerprints(self) -> set[int]:
        return set(self.envelope.fingerprints)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A chunk to make; `twin`: the state of a second one of its sequence, if there is one."""

    size: int
    state: ChunkState
    rejected: int = 0
    twin: ChunkState | None = None


@dataclass
class Books:
    """A ledger and what was put into it."""

    tables: FakeTables = field(default_factory=FakeTables)
    sent: list[Sent] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.tables)

    def add_run(self, number: int, shapes: list[Shape], *, checkpoint: int) -> None:
        """Add a run with these chunks, of which so many lie before its checkpoint."""
        enqueued = sum(shape.size for shape in shapes[:checkpoint])
        run = self.ledger.runs.create(
            Run(
                run_id=f"2026010{number + 1}T000000-0badcafe",
                state=RunState.GAP,
                started_at=START,
                updated_at=START,
                cursor=Cursor(sequence=checkpoint),
                counts=Counts(fetched=enqueued + 5, filtered=3, unchanged=2, enqueued=enqueued),
            )
        )
        for sequence, shape in enumerate(shapes):
            self._add_chunk(run.run_id, sequence, shape, shape.state)
            if shape.twin is not None:
                self._add_chunk(run.run_id, sequence, shape, shape.twin)

    def _add_chunk(self, run_id: str, sequence: int, shape: Shape, state: ChunkState) -> None:
        prints = tuple(next(self.numbers) * 2**40 for _ in range(shape.size))
        body = repr(prints).encode()
        envelope = Envelope(
            run_id=run_id,
            chunk_id=chunk_id_of(body),
            sequence=sequence,
            count=shape.size,
            body=body,
            fingerprints=prints,
        )
        rejected = min(shape.rejected, shape.size) if state is ChunkState.UPLOADED else 0
        found = Sent(envelope=envelope, state=state, rejected=rejected)
        self.ledger.chunks.record_enqueued([envelope], at=START)
        self.write_outcome(found)
        self.sent.append(found)

    def write_outcome(self, sent: Sent) -> None:
        """Write what became of a chunk, as the consumer and the operator do."""
        chunks, envelope = self.ledger.chunks, sent.envelope
        match sent.state:
            case ChunkState.UPLOADED:
                accepted = envelope.count - sent.rejected
                chunks.record_uploaded(
                    envelope, accepted=accepted, rejected=sent.rejected, at=START
                )
            case ChunkState.POISONED:
                chunks.record_poisoned(envelope, at=START, reason="why")
            case ChunkState.DISCARDED:
                chunks.record_poisoned(envelope, at=START, reason="why")
                row = chunks.get(envelope.run_id, envelope.key)
                assert row is not None
                assert chunks.move(row, ChunkState.DISCARDED, at=START)
            case ChunkState.QUEUED:
                pass

    def fold(
        self,
        *,
        run_id: str = "20260108T000000-0badcafe",
        keep_going: Callable[[], None] = lambda: None,
        queues_are_empty: bool = False,
        is_full: bool = False,
    ) -> Fold:
        """Fold once, at the start of a run that has no row yet."""
        found = self.ledger
        return fold_chunks(
            run_id=run_id,
            is_full=is_full,
            runs=found.runs,
            chunks=found.chunks,
            known=found.known,
            at=START,
            queues_are_empty=queues_are_empty,
            keep_going=keep_going,
        )

    def fold_killed_at(self, at: int) -> None:
        """Fold until operation number `at` of the ledger, where the process ends."""
        numbers = count()

        def before(_table: str, _operation: str) -> None:
            if next(numbers) >= at:
                raise Crash

        self.tables.before = before
        try:
            self.fold()
        except Crash:
            pass
        finally:
            self.tables.before = lambda _table, _operation: None

    def fates(self) -> list[Reconciliation]:
        """Return the fate of every run's indicators; each must be balanced."""
        chunks = self.ledger.chunks
        found = [reconcile(run, chunks.of_run(run.run_id)) for run in self.ledger.runs.latest(99)]
        assert all(fate.balanced for fate in found), found
        return found

    def known(self) -> set[int]:
        """Return every known fingerprint."""
        return set(chain(*self.ledger.known.load(as_of=START, lifetime=LIFETIME)))

    def of(self, *states: ChunkState) -> set[int]:
        """Return the fingerprints of the chunks in these states."""
        return {p for sent in self.sent if sent.state in states for p in sent.fingerprints}


shapes = st.builds(
    Shape,
    size=st.integers(1, 4),
    state=st.sampled_from(ChunkState),
    rejected=st.integers(0, 4),
    twin=st.none() | st.sampled_from(ChunkState),
)


@st.composite
def books(draw: st.DrawFn) -> Books:
    """Return a ledger of up to three runs, each cut off at some checkpoint."""
    made = Books()
    for number in range(draw(st.integers(1, 3))):
        found = draw(st.lists(shapes, max_size=5))
        made.add_run(number, found, checkpoint=draw(st.integers(0, len(found))))
    return made


@given(found=books(), at=st.integers(0, 25))
def test_folding_keeps_the_books_wherever_it_is_cut_off(found: Books, at: int) -> None:
    """Before, half-way, after: each run's numbers are the same and balanced, nothing is forgotten.

    What Sentinel answered for is known, what is unfinished is in flight, what was discarded is
    neither; and folding once more finds nothing.
    """
    before = found.fates()
    found.fold_killed_at(at)
    assert found.fates() == before
    fold = found.fold()
    assert found.fates() == before
    in_flight = set(fold.in_flight.fingerprints)
    assert found.of(ChunkState.UPLOADED) <= found.known() | in_flight
    assert found.of(ChunkState.QUEUED, ChunkState.POISONED) <= in_flight
    assert found.known() <= found.of(ChunkState.UPLOADED)
    assert not in_flight & found.of(ChunkState.DISCARDED)
    again = found.fold()
    assert (again.folded, sorted(again.in_flight.fingerprints)) == (
        0,
        sorted(fold.in_flight.fingerprints),
    )
    assert found.fates() == before


@given(found=books())
def test_what_is_not_finished_keeps_its_row(found: Books) -> None:
    """A poisoned chunk waits for the operator, a queued one for its upload."""
    found.fold()
    left = {chunk.key for chunk in found.ledger.chunks.all()}
    unfinished = {ChunkState.QUEUED, ChunkState.POISONED}
    assert {s.envelope.key for s in found.sent if s.state in unfinished} <= left


@given(found=books(), data=st.data())
def test_a_late_copy_of_a_folded_chunk_is_not_counted_again(
    found: Books, data: st.DataObject
) -> None:
    """A repeated delivery writes its row anew: the numbers stay, and the row is folded away."""
    before = found.fates()
    found.fold()
    left = {chunk.key for chunk in found.ledger.chunks.all()}
    gone = [s for s in found.sent if s.envelope.key not in left]
    late = data.draw(st.lists(st.sampled_from(gone), unique_by=id)) if gone else []
    for sent in late:
        accepted = sent.envelope.count - sent.rejected
        found.ledger.chunks.record_uploaded(
            sent.envelope, accepted=accepted, rejected=sent.rejected, at=START
        )
    assert found.fates() == before
    found.fold()
    assert found.fates() == before
    assert {chunk.key for chunk in found.ledger.chunks.all()} == left


@given(found=books())
def test_a_resumed_run_sees_what_was_in_flight_when_it_began(found: Books) -> None:
    """Uploaded in the meantime or not: the same fingerprints, less those it enqueued itself."""
    began = set(found.fold().in_flight.fingerprints)
    for sent in found.sent:
        if sent.state is ChunkState.QUEUED:
            found.ledger.chunks.record_uploaded(
                sent.envelope, accepted=sent.envelope.count, rejected=0, at=START
            )
    assert _resumed(found, "another") == began
    mine = found.ledger.runs.latest(1)
    run_id = next(mine).run_id
    own = {p for s in found.sent if s.envelope.run_id == run_id for p in s.fingerprints}
    assert _resumed(found, run_id) == began - own


def _resumed(found: Books, run_id: str) -> set[int]:
    return set(chunks_in_flight(found.ledger.chunks, run_id=run_id, is_full=False).fingerprints)


def test_chunks_behind_the_checkpoint_stay_in_the_books() -> None:
    """A run that died between its rows and its checkpoint, and was closed, balances when folded."""
    found = Books()
    uploaded = Shape(size=4, state=ChunkState.UPLOADED, rejected=1)
    found.add_run(0, [uploaded] * 3, checkpoint=1)
    before = found.fates()
    found.fold()
    assert found.fates() == before
    (run,) = found.ledger.runs.latest(9)
    assert (run.counts.enqueued, run.folded.accepted, run.folded.rejected) == (12, 9, 3)


def test_chunks_of_a_run_without_a_row_stay_in_flight() -> None:
    """There is nothing to count them in, so nothing is removed."""
    found = Books()
    found.add_run(0, [Shape(size=2, state=ChunkState.UPLOADED)], checkpoint=1)
    stranger = found.sent[0].envelope
    other = Envelope(
        **{
            name: getattr(stranger, name)
            for name in ("chunk_id", "sequence", "count", "body", "fingerprints")
        },
        run_id="20260109T000000-0badcafe",
    )
    found.ledger.chunks.record_uploaded(other, accepted=2, rejected=0, at=START)
    fold = found.fold()
    assert fold.folded == 1
    assert fold.in_flight.fingerprints == array("Q", stranger.fingerprints)
    assert [chunk.run_id for chunk in found.ledger.chunks.all()] == [other.run_id]


def test_folding_stops_between_two_runs_when_time_is_up() -> None:
    """What was folded stays folded; the rest is for the next run."""
    found = Books()
    for number in range(3):
        found.add_run(number, [Shape(size=2, state=ChunkState.UPLOADED)], checkpoint=1)
    before = found.fates()
    rounds = count()

    def keep_going() -> None:
        if next(rounds) == 1:
            raise OutOfTimeError("no time")

    with pytest.raises(OutOfTimeError):
        found.fold(keep_going=keep_going)
    assert len(list(found.ledger.chunks.all())) == 1
    assert found.fates() == before
    assert found.fold().folded == 1
    assert found.fates() == before


def test_a_queued_chunk_whose_message_is_gone_is_discarded() -> None:
    """With both queues empty nothing can be on its way: the chunk is not in flight any more."""
    found = Books()
    shapes = [Shape(size=2, state=ChunkState.QUEUED), Shape(size=3, state=ChunkState.UPLOADED)]
    found.add_run(0, shapes, checkpoint=2)
    fold = found.fold(queues_are_empty=True)
    assert fold.missing == 1
    assert not fold.in_flight.fingerprints
    (run,) = found.ledger.runs.latest(9)
    fate = reconcile(run, found.ledger.chunks.of_run(run.run_id))
    assert (fate.balanced, fate.pending, fate.accepted, fate.poisoned) == (True, 0, 3, 2)


def late_ids(envelope: Envelope) -> bytes:
    """Return the ids of a chunk as the consumer writes them: here each is its version's half."""
    return pack(id_hash(str(version // 2)) for version in envelope.fingerprints)


@given(found=books(), data=st.data())
def test_a_late_upload_is_doubted_by_every_run_until_one_has_looked(
    found: Books, data: st.DataObject
) -> None:
    """Other versions of its indicators are not known; its own are, and the books balance."""
    uploaded = [s for s in found.sent if s.state is ChunkState.UPLOADED]
    late = data.draw(st.lists(st.sampled_from(uploaded), unique_by=id)) if uploaded else []
    for sent in late:
        accepted = sent.envelope.count - sent.rejected
        found.ledger.chunks.record_uploaded(
            sent.envelope,
            accepted=accepted,
            rejected=sent.rejected,
            at=START,
            late_ids=late_ids(sent.envelope),
        )
    before = found.fates()
    versions = {version for sent in late for version in sent.fingerprints}
    keys = {sent.envelope.key for sent in late}

    for number, (state, fetched) in enumerate(
        [
            (RunState.INTERRUPTED, 7),
            (RunState.GAP, 7),
            (RunState.COMPLETE, 0),
            (RunState.COMPLETE, 7),
        ]
    ):
        run_id = f"20260109T0{number}0000-0badcafe"
        flight = found.fold(run_id=run_id).in_flight
        assert found.fates() == before
        assert versions <= set(flight.fingerprints)
        assert not any(flight.doubts.concern(str(v // 2), v) for v in versions)
        assert all(flight.doubts.concern(str(v // 2), v + 1) for v in versions)
        again = chunks_in_flight(found.ledger.chunks, run_id=run_id, is_full=False).doubts
        assert all(again.concern(str(v // 2), v + 1) for v in versions)
        assert keys <= {chunk.key for chunk in found.ledger.chunks.all()}
        found.ledger.runs.create(
            Run(
                run_id=run_id,
                state=state,
                started_at=START,
                updated_at=START,
                counts=Counts(fetched=fetched, filtered=fetched),
            )
        )
        before = found.fates()
    fold = found.fold()
    assert not any(fold.in_flight.doubts.concern(str(v // 2), v + 1) for v in versions)
    assert versions <= found.known() | set(fold.in_flight.fingerprints)
    assert found.fates() == before


def test_what_comes_late_a_second_time_is_doubted_again() -> None:
    """The run that looked at it was complete before: the next one looks again."""
    found = Books()
    found.add_run(0, [Shape(size=2, state=ChunkState.UPLOADED)], checkpoint=1)
    (sent,) = found.sent
    first, second = "20260109T010000-0badcafe", "20260109T020000-0badcafe"

    def upload_late() -> None:
        found.ledger.chunks.record_uploaded(
            sent.envelope, accepted=2, rejected=0, at=START, late_ids=late_ids(sent.envelope)
        )

    upload_late()
    found.fold(run_id=first)
    found.ledger.runs.create(
        Run(
            run_id=first,
            state=RunState.COMPLETE,
            started_at=START,
            updated_at=START,
            counts=Counts(fetched=1, filtered=1),
        )
    )
    upload_late()
    version = sent.envelope.fingerprints[0]
    late = found.fold(run_id=second).in_flight.doubts
    assert late.concern(str(version // 2), version + 1)
    assert (
        chunks_in_flight(found.ledger.chunks, run_id=first, is_full=False).doubts.concern("0", 0)
        is False
    )


def _complete(found: Books, run_id: str) -> None:
    found.ledger.runs.create(
        Run(
            run_id=run_id,
            state=RunState.COMPLETE,
            started_at=START,
            updated_at=START,
            counts=Counts(fetched=1, filtered=1),
        )
    )


def test_a_chunk_discarded_while_a_run_looks_is_looked_at_by_the_next() -> None:
    """The run has judged pages already, while the chunk was on its way."""
    found = Books()
    found.add_run(0, [Shape(size=2, state=ChunkState.POISONED)], checkpoint=1)
    (sent,) = found.sent
    first, second = "20260109T010000-0badcafe", "20260109T020000-0badcafe"
    found.ledger.chunks.record_poisoned(
        sent.envelope, at=START, reason="why", late_ids=late_ids(sent.envelope)
    )
    found.fold(run_id=first)
    (chunk,) = found.ledger.chunks.all()
    assert chunk.seen_by == first
    assert found.ledger.chunks.move(chunk, ChunkState.DISCARDED, at=START)
    _complete(found, first)
    version = sent.envelope.fingerprints[0]
    assert found.fold(run_id=second).in_flight.doubts.concern(str(version // 2), version)
    _complete(found, second)
    assert found.fold().folded == 1


def test_a_chunk_discarded_between_look_and_mark_is_looked_at_by_the_next() -> None:
    """The mark comes after the operator's move, and is of the state before it."""
    found = Books()
    found.add_run(0, [Shape(size=2, state=ChunkState.POISONED)], checkpoint=1)
    (sent,) = found.sent
    found.ledger.chunks.record_poisoned(
        sent.envelope, at=START, reason="why", late_ids=late_ids(sent.envelope)
    )
    first, second = "20260109T010000-0badcafe", "20260109T020000-0badcafe"
    (as_read,) = found.ledger.chunks.all()
    assert found.ledger.chunks.move(as_read, ChunkState.DISCARDED, at=START)
    found.ledger.chunks.record_seen([as_read], run_id=first)
    _complete(found, first)
    version = sent.envelope.fingerprints[0]
    assert found.fold(run_id=second).in_flight.doubts.concern(str(version // 2), version)


def test_a_chunk_discarded_before_it_is_recorded_as_given_up_keeps_its_ids() -> None:
    """The operator was faster than the consumer's second write: parts may be at Sentinel."""
    found = Books()
    found.add_run(0, [Shape(size=2, state=ChunkState.DISCARDED)], checkpoint=1)
    (sent,) = found.sent
    found.ledger.chunks.record_poisoned(
        sent.envelope, at=START, reason="why", late_ids=late_ids(sent.envelope)
    )
    (chunk,) = found.ledger.chunks.all()
    assert chunk.state is ChunkState.DISCARDED
    version = sent.envelope.fingerprints[0]
    assert found.fold().in_flight.doubts.concern(str(version // 2), version + 1)


def test_a_full_run_sends_what_was_uploaded_but_is_held() -> None:
    """A chunk that is not folded because another one of its sequence number is doubted."""
    found = Books()
    found.add_run(0, [Shape(size=2, state=ChunkState.UPLOADED)], checkpoint=1)
    (sent,) = found.sent
    twin = replace(sent.envelope, chunk_id="f" * 32, fingerprints=(901, 902))
    found.ledger.chunks.record_uploaded(
        twin, accepted=2, rejected=0, at=START, late_ids=late_ids(twin)
    )
    both = {*sent.envelope.fingerprints, 901, 902}
    assert set(found.fold().in_flight.fingerprints) == both
    full = "20260109T010000-0badcafe"
    assert not found.fold(is_full=True, run_id=full).in_flight.fingerprints
    again = chunks_in_flight(found.ledger.chunks, run_id=full, is_full=True)
    assert not again.fingerprints


def test_a_long_marking_keeps_the_lease() -> None:
    """Between every thousand rows there is a look whether the run may go on."""
    found = Books()
    found.add_run(0, [Shape(size=1, state=ChunkState.DISCARDED)] * 2001, checkpoint=2001)
    looks: list[None] = []
    found.fold(keep_going=lambda: looks.append(None))
    assert len(looks) == 4  # three times within the run, once behind it


def test_a_late_chunk_without_fingerprints_hides_every_version() -> None:
    """A message of version 1 does not say which versions it carries."""
    found = Books()
    found.add_run(0, [Shape(size=2, state=ChunkState.UPLOADED)], checkpoint=1)
    (sent,) = found.sent
    bare = replace(sent.envelope, fingerprints=())
    found.ledger.chunks.record_uploaded(
        bare, accepted=2, rejected=0, at=START, late_ids=late_ids(sent.envelope)
    )
    version = sent.envelope.fingerprints[0]
    late = found.fold().in_flight.doubts
    assert late.concern(str(version // 2), version)
    assert not late.concern("another", version)
