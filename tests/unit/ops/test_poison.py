"""Replay and discard: nothing is lost, nothing is done twice, and everything is said."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from common.envelope import decode_envelope
from common.errors import UnavailableError
from common.ledger.fold import Fold, fold_chunks
from common.ledger.poison import PoisonState
from common.ledger.runs import Counts, Cursor, Run
from common.ledger.states import ChunkState
from ops.poison import Result, Selection, discard, find, replay
from ops.reconciliation import Reconciliation, reconcile
from tests.unit.ops.samples import RUN, Bench, chunk

ALL = Selection(all_kept=True)
A_DAY = timedelta(days=1)


def _replay(bench: Bench, selection: Selection = ALL, *, dry_run: bool = False) -> list[Result]:
    tools = bench.toolbox
    handled = replay(
        find(tools.ledger, selection),
        ledger=tools.ledger,
        queue=tools.queue,
        slots=tools.slots,
        clock=tools.clock,
        dry_run=dry_run,
    )
    return [item.result for item in handled]


def _discard(bench: Bench, selection: Selection = ALL, *, dry_run: bool = False) -> list[Result]:
    tools = bench.toolbox
    handled = discard(
        find(tools.ledger, selection), ledger=tools.ledger, clock=tools.clock, dry_run=dry_run
    )
    return [item.result for item in handled]


def _state(bench: Bench, sequence: int = 0) -> ChunkState:
    found = bench.toolbox.ledger.chunks.get(RUN, chunk(sequence).key)
    assert found is not None
    return found.state


def test_a_replayed_message_is_on_the_queue_and_its_chunk_is_pending() -> None:
    """The whole chunk is enqueued again with its attempts forgotten, at a slot of its own."""
    bench = Bench()
    bench.poison()
    assert _replay(bench) == [Result.REPLAYED]
    (sent,) = bench.queue.sent
    copy = decode_envelope(sent.text)
    assert (copy.body, copy.attempt, copy.slot is not None) == (chunk().body, 0, True)
    assert not copy.is_first_delivery
    assert _state(bench) is ChunkState.QUEUED


def test_a_second_replay_does_nothing_and_says_so() -> None:
    """Replaying is idempotent: by name it answers that it was done, by `all` it finds nothing."""
    bench = Bench()
    record = bench.poison()
    _replay(bench)
    assert _replay(bench, Selection(names=(record.name,))) == [Result.ALREADY_REPLAYED]
    assert _replay(bench) == []
    assert len(bench.queue.sent) == 1


def test_a_replay_is_paced() -> None:
    """Messages leave a slot apart: a large replay is no burst."""
    bench = Bench()
    for sequence in range(5):
        bench.poison(sequence)
    _replay(bench)
    assert [round(sent.delay) for sent in bench.queue.sent] == [0, 1, 2, 3, 4]


def test_a_dry_run_changes_nothing() -> None:
    """`dry_run` says what would be done, and neither queue nor ledger change."""
    bench = Bench()
    bench.poison()
    assert _replay(bench, dry_run=True) == [Result.WOULD_REPLAY]
    assert _discard(bench, dry_run=True) == [Result.WOULD_DISCARD]
    assert not bench.queue.sent
    assert _state(bench) is ChunkState.POISONED
    assert [record.state for record in bench.toolbox.ledger.poison.all()] == [PoisonState.KEPT]


def test_a_chunk_that_was_uploaded_meanwhile_is_not_sent() -> None:
    """When another copy got through, replaying only says so."""
    bench = Bench()
    bench.poison()
    bench.toolbox.ledger.chunks.record_uploaded(
        chunk(), accepted=2, rejected=0, at=bench.clock.now()
    )
    assert _replay(bench) == [Result.ALREADY_UPLOADED]
    assert not bench.queue.sent
    assert _state(bench) is ChunkState.UPLOADED


def test_what_cannot_be_decoded_cannot_be_replayed_but_discarded() -> None:
    """Rubbish is never put back on the queue; it stays until it is discarded."""
    bench = Bench()
    bench.rubbish()
    assert _replay(bench) == [Result.UNDECODABLE]
    assert not bench.queue.sent
    assert _discard(bench) == [Result.DISCARDED]
    assert _discard(bench) == []


def test_a_message_given_up_again_while_it_is_replayed_stays_kept() -> None:
    """The consumer gives the replayed copy up before the record is marked: it is not forgotten."""
    bench = Bench()
    bench.poison()

    def give_up_again(_text: str) -> None:
        bench.queue.before = lambda _: None
        bench.poison(reason="again")

    bench.queue.before = give_up_again
    assert _replay(bench) == [Result.GIVEN_UP_AGAIN]
    (record,) = bench.toolbox.ledger.poison.all()
    assert (record.state, record.reason) == (PoisonState.KEPT, "again")
    assert _state(bench) is ChunkState.POISONED


def test_a_message_uploaded_while_it_is_replayed_stays_uploaded() -> None:
    """An outcome that comes between sending and marking is not overwritten."""
    bench = Bench()
    bench.poison()

    def upload(table: str, operation: str) -> None:
        if (table, operation) == ("poison", "replace"):
            bench.tables.before = lambda _table, _operation: None
            bench.toolbox.ledger.chunks.record_uploaded(
                chunk(), accepted=2, rejected=0, at=bench.clock.now()
            )

    bench.tables.before = upload
    assert _replay(bench) == [Result.REPLAYED]
    assert _state(bench) is ChunkState.UPLOADED


def _die_at(bench: Bench, step: int) -> None:
    """Let the `step`th write or send from now on fail; all reads and the others succeed."""
    steps = 0

    def fail(*_what: str) -> None:
        nonlocal steps
        if _what[1:] in {("get",), ("query",)}:
            return
        steps += 1
        if steps == step:
            raise UnavailableError("storage is away")

    bench.tables.before = fail
    bench.queue.before = fail


def _live_on(bench: Bench) -> None:
    bench.tables.before = lambda _table, _operation: None
    bench.queue.before = lambda _text: None


@pytest.mark.parametrize("step", range(1, 6))
def test_a_replay_that_dies_is_completed_by_another(step: int) -> None:
    """Slot, row, message, record: whichever write fails, the message is kept until all is done."""
    bench = Bench()
    bench.poison()
    _die_at(bench, step)
    try:
        _replay(bench)
    except UnavailableError:
        _live_on(bench)
        (record,) = bench.toolbox.ledger.poison.all()
        assert record.state is PoisonState.KEPT
        assert _replay(bench) == [Result.REPLAYED]
    else:
        assert step == 5, "four writes were to fail"
    assert bench.queue.sent
    assert _state(bench) is ChunkState.QUEUED


@pytest.mark.parametrize("step", range(1, 4))
def test_a_discard_that_dies_is_completed_by_another(step: int) -> None:
    """Row, record: a record that is discarded never leaves a row that looks as if on its way."""
    bench = Bench()
    bench.poison()
    _die_at(bench, step)
    try:
        _discard(bench)
    except UnavailableError:
        _live_on(bench)
        (record,) = bench.toolbox.ledger.poison.all()
        assert record.state is PoisonState.KEPT
        _fold(bench)
        assert _discard(bench) == [Result.DISCARDED]
    else:
        assert step == 3, "two writes were to fail"
    _live_on(bench)
    assert not list(_fold(bench).in_flight.fingerprints), "a new run sends them again"


def _fold(bench: Bench, *, queues_are_empty: bool = False) -> Fold:
    ledger = bench.toolbox.ledger
    return fold_chunks(
        run_id="20260101T010000-0badcafe",
        is_full=False,
        runs=ledger.runs,
        chunks=ledger.chunks,
        known=ledger.known,
        at=bench.clock.now(),
        queues_are_empty=queues_are_empty,
        keep_going=lambda: None,
    )


def _before(bench: Bench, table: str, operation: str, act: Callable[[], object]) -> None:
    """Let `act` happen once, before the next such operation."""

    def hook(*what: str) -> None:
        if what == (table, operation):
            _live_on(bench)
            act()

    bench.tables.before = hook


def _sent_run(bench: Bench) -> Run:
    """A run with one chunk, which was given up."""
    run = bench.run()
    run = bench.toolbox.ledger.runs.save(
        run, cursor=Cursor(sequence=1), counts=Counts(fetched=2, enqueued=2)
    )
    bench.poison()
    return run


def _fate(bench: Bench) -> Reconciliation:
    ledger = bench.toolbox.ledger
    (run,) = ledger.runs.latest(9)
    return reconcile(run, ledger.chunks.of_run(run.run_id))


@pytest.mark.parametrize("table", ["chunks", "control", "poison"])
def test_a_fold_that_saw_an_empty_queue_during_a_replay_loses_nothing(table: str) -> None:
    """At worst the chunk is sent twice: the new run takes it for missing, and the copy arrives."""
    bench = Bench()
    _sent_run(bench)
    _before(bench, table, "replace", lambda: _fold(bench, queues_are_empty=True))
    bench.toolbox.slots.reserve(1)
    assert _replay(bench) == [Result.REPLAYED]
    assert len(bench.queue.sent) == 1
    assert _fate(bench).balanced
    bench.toolbox.ledger.chunks.record_uploaded(
        chunk(), accepted=2, rejected=0, at=bench.clock.now()
    )
    assert _fate(bench).balanced
    _fold(bench)
    fate = _fate(bench)
    assert fate.balanced
    assert fate.accepted + fate.poisoned == 2, "counted once"
    assert any(bench.toolbox.ledger.known.load(as_of=bench.clock.now(), lifetime=A_DAY))


def test_a_deferred_copy_does_not_keep_its_chunk_from_being_pending() -> None:
    """The consumer defers the copy before the replay is over: the row says queued all the same."""
    bench = Bench()
    bench.poison()

    def defer() -> None:
        copy = decode_envelope(bench.queue.sent[0].text)
        bench.toolbox.ledger.chunks.record_deferred(copy, at=bench.clock.now(), reason="503")

    _before(bench, "poison", "replace", defer)
    assert _replay(bench) == [Result.REPLAYED]
    assert _state(bench) is ChunkState.QUEUED


def test_a_message_given_up_again_before_it_is_replayed_is_read_anew() -> None:
    """The row changes before it is moved: the replay begins again with what is there now."""
    bench = Bench()
    bench.poison()
    _before(bench, "chunks", "replace", lambda: bench.poison(reason="again"))
    assert _replay(bench) == [Result.REPLAYED]
    (record,) = bench.toolbox.ledger.poison.all()
    assert (record.state, record.reason) == (PoisonState.REPLAYED, "again")
    assert (_state(bench), len(bench.queue.sent)) == (ChunkState.QUEUED, 1)


def test_a_chunk_that_changes_while_it_is_discarded_is_discarded() -> None:
    """A late deferral touches the row first; the record is not settled over a poisoned row."""
    bench = Bench()
    bench.poison()

    def defer() -> None:
        bench.toolbox.ledger.chunks.record_deferred(chunk(), at=bench.clock.now(), reason="503")

    _before(bench, "chunks", "replace", defer)
    assert _discard(bench) == [Result.DISCARDED]
    assert _state(bench) is ChunkState.DISCARDED


def test_discarding_what_is_uploaded_says_so() -> None:
    """A late delivery got through: the record is settled, and nothing was given up."""
    bench = Bench()
    bench.poison()
    bench.toolbox.ledger.chunks.record_uploaded(
        chunk(), accepted=2, rejected=0, at=bench.clock.now()
    )
    assert _discard(bench) == [Result.ALREADY_UPLOADED]
    assert _state(bench) is ChunkState.UPLOADED
    assert _discard(bench) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [(_replay, Result.ALREADY_REPLAYED), (_discard, Result.ALREADY_DISCARDED)],
)
def test_two_operators_at_once_are_told_of_each_other(
    other: Callable[[Bench], list[Result]], said: Result
) -> None:
    """Who comes second, with a list from before, finds the record settled and does nothing."""
    bench = Bench()
    bench.poison()
    tools = bench.toolbox
    stale = find(tools.ledger, ALL)
    other(bench)
    sent = len(bench.queue.sent)
    handled = replay(
        stale, ledger=tools.ledger, queue=tools.queue, slots=tools.slots, clock=tools.clock
    )
    assert [item.result for item in handled] == [said]
    assert len(bench.queue.sent) == sent


def test_a_record_that_somebody_removed_is_said() -> None:
    """A row that is gone between listing and replaying stops nothing."""
    bench = Bench()
    record = bench.poison()
    found = find(bench.toolbox.ledger, ALL)
    bench.tables.table("poison").delete(record.run_id, record.poison_id)
    tools = bench.toolbox
    handled = discard(found, ledger=tools.ledger, clock=tools.clock)
    assert [item.result for item in handled] == [Result.GONE]


def test_a_long_replay_reserves_its_slots_in_bulk() -> None:
    """A hundred slots in one go: the slot row is written once for them, and none is left over."""
    bench = Bench()
    for sequence in range(150):
        bench.poison(sequence)
    writes = 0

    def count(table: str, operation: str) -> None:
        nonlocal writes
        writes += table == "control" and operation in {"insert", "replace"}

    bench.tables.before = count
    _replay(bench)
    assert writes == 2
    assert [round(sent.delay) for sent in bench.queue.sent] == list(range(150))
    assert bench.toolbox.slots.next_free() == bench.clock.now() + timedelta(seconds=150)


def test_a_replay_that_sends_nothing_takes_no_slot() -> None:
    """Slots are for what is sent: rubbish, dry runs and what is uploaded leave the row alone."""
    bench = Bench()
    bench.rubbish()
    bench.poison()
    _replay(bench, dry_run=True)
    bench.toolbox.ledger.chunks.record_uploaded(
        chunk(), accepted=2, rejected=0, at=bench.clock.now()
    )
    _replay(bench)
    assert bench.toolbox.slots.next_free() is None


def test_a_discarded_chunk_is_neither_pending_nor_replayable() -> None:
    """Discarding is for good: the chunk row says so, and a replay by name refuses."""
    bench = Bench()
    record = bench.poison()
    assert _discard(bench) == [Result.DISCARDED]
    assert _state(bench) is ChunkState.DISCARDED
    assert _replay(bench, Selection(names=(record.poison_id,))) == [Result.ALREADY_DISCARDED]


def test_records_are_chosen_by_name_reason_or_all() -> None:
    """A selection picks exactly what it names; text in the reason is found in any case."""
    bench = Bench()
    first = bench.poison(0, reason="Sentinel is unavailable (503)")
    bench.poison(1, reason="too many refused records")
    ledger = bench.toolbox.ledger
    assert [r.name for r in find(ledger, Selection(names=(first.name,)))] == [first.name]
    assert [r.name for r in find(ledger, Selection(reason="UNAVAILABLE"))] == [first.name]
    assert len(find(ledger, ALL)) == 2
    assert find(ledger, Selection()) == []
