"""Replay and discard: nothing is lost, nothing is done twice, and everything is said."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from common.envelope import decode_envelope
from common.errors import UnavailableError
from common.ledger.poison import PoisonState
from common.ledger.states import ChunkState, state_of
from common.ledger.tables import Row
from ops.poison import Result, Selection, discard, find
from ops.poison import replay as replay_poison
from tests.unit.ops.samples import RUN, Bench, chunk

ALL = Selection(all_kept=True)


def _replay(bench: Bench, selection: Selection = ALL, *, dry_run: bool = False) -> list[Result]:
    tools = bench.toolbox
    handled = replay_poison(
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
    return bench.row(sequence).state


def test_a_replayed_message_is_on_the_queue_and_its_chunk_is_pending() -> None:
    """The whole chunk is enqueued again with its attempts forgotten, at a slot of its own."""
    bench = Bench()
    bench.poison()
    assert _replay(bench) == [Result.REPLAYED]
    (sent,) = bench.queue.sent
    copy = decode_envelope(sent.text)
    assert (copy.body, copy.attempt, copy.slot is not None) == (chunk().body, 0, True)
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
    bench.upload()
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
        if (table, operation) == ("poison", "transact"):
            bench.tables.before = lambda _table, _operation: None
            bench.upload()

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


@pytest.mark.parametrize("step", range(1, 7))
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
        is_done = step > 4  # behind slot, row, message and claim only the record's move is left
        assert record.state is (PoisonState.REPLAYED if is_done else PoisonState.KEPT)
        assert is_done or _replay(bench) == [Result.REPLAYED]
    else:
        pytest.fail("six writes were to fail")
    assert bench.toolbox.ledger.poison.count_kept() == 0
    assert bench.queue.sent
    assert _state(bench) is ChunkState.QUEUED


@pytest.mark.parametrize("step", range(1, 6))
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
        is_done = step > 3  # behind claim, row and mark only the record's move is left
        assert record.state is (PoisonState.DISCARDED if is_done else PoisonState.KEPT)
        assert is_done or _discard(bench) == [Result.DISCARDED]
    else:
        pytest.fail("four writes were to fail")
    _live_on(bench)
    assert (_state(bench), bench.row().to_send) == (ChunkState.DISCARDED, ())


def _before(bench: Bench, table: str, operation: str, act: Callable[[], object]) -> None:
    """Let `act` happen once, before the next such operation."""

    def hook(*what: str) -> None:
        if what == (table, operation):
            _live_on(bench)
            act()

    bench.tables.before = hook


@pytest.mark.parametrize(
    ("letters", "to_send", "result"),
    [
        ("PP", (0, 1), Result.REPLAYED),
        ("SP", (1,), Result.REPLAYED),
        ("PA", (0,), Result.REPLAYED),
        ("SS", (), Result.SUPERSEDED),
        ("SA", (), Result.ALREADY_UPLOADED),
        ("RS", (), Result.ALREADY_UPLOADED),
        ("DS", (), Result.ALREADY_DISCARDED),
    ],
)
def test_a_replay_leaves_out_what_was_struck(
    letters: str, to_send: tuple[int, ...], result: Result
) -> None:
    """Letters that are final stay; where nothing else is left, no message is sent."""
    for dry_run in (True, False):
        bench = Bench()
        bench.poison()
        bench.set_row(letters=letters, state=state_of(letters).value)
        expected = Result.WOULD_REPLAY if dry_run and to_send else result
        assert _replay(bench, dry_run=dry_run) == [expected]
        assert len(bench.queue.sent) == (0 if dry_run or not to_send else 1)
        assert bench.row().to_send == to_send
        (record,) = bench.toolbox.ledger.poison.all()
        assert (record.state is PoisonState.KEPT) is dry_run
        if not dry_run:
            assert bench.row().letters == letters.replace("P", ".")


def test_a_chunk_that_is_void_is_superseded() -> None:
    """Its page was read again: nothing is sent, and the record is settled."""
    bench = Bench()
    bench.poison()
    bench.void()
    assert _replay(bench) == [Result.SUPERSEDED]
    assert not bench.queue.sent
    assert _replay(bench) == []


def test_a_strike_before_the_row_is_moved_is_seen() -> None:
    """The row changes between reading and moving it: the replay begins again with what is there."""
    bench = Bench()
    record = bench.poison()
    chunks = bench.toolbox.ledger.chunks
    _before(bench, "chunks", "replace", lambda: chunks.strike(RUN, record.poison_id, {0, 1}))
    assert _replay(bench) == [Result.SUPERSEDED]
    assert not bench.queue.sent
    assert bench.row().letters == "SS"


@pytest.mark.parametrize("ledger_id", ["00c0ffee00c0ffee", "another"])
def test_without_a_row_a_replay_says_whether_anything_would_be_sent(ledger_id: str) -> None:
    """In its own ledger it is settled, and a consumer would drop it; else it is sent as it is."""
    bench = Bench()
    bench.poison()
    bench.remove_row()
    row = Row(partition="ledger", key="id", data={"ledger_id": ledger_id})
    bench.tables.table("chunks").merge(row)
    is_lost = ledger_id == "another"
    assert _replay(bench) == [Result.REPLAYED if is_lost else Result.ALREADY_SETTLED]
    assert len(bench.queue.sent) == is_lost
    assert _replay(bench) == []


def test_a_message_of_a_later_release_is_left_for_it() -> None:
    """After a rollback it can be neither read nor sent: it stays kept, and the others go on."""
    bench = Bench()
    bench.poison(0)
    bench.poison(1)
    found = bench.toolbox.ledger.poison.get(RUN, chunk(0).key)
    assert found is not None
    message = json.dumps({**json.loads(found.message), "version": 2})
    bench.toolbox.ledger.poison.keep(replace(found, message=message))
    assert sorted(_replay(bench)) == sorted([Result.LATER_RELEASE, Result.REPLAYED])
    (sent,) = bench.queue.sent
    assert decode_envelope(sent.text).sequence == 1
    kept = bench.toolbox.ledger.poison.get(RUN, chunk(0).key)
    assert kept is not None
    assert kept.state is PoisonState.KEPT


def test_a_deferred_copy_does_not_keep_its_chunk_from_being_pending() -> None:
    """The consumer defers the copy before the replay is over: the row says queued all the same."""
    bench = Bench()
    bench.poison()

    def defer() -> None:
        copy = decode_envelope(bench.queue.sent[0].text)
        bench.toolbox.ledger.chunks.record_deferred(copy, at=bench.clock.now(), reason="503")

    _before(bench, "poison", "transact", defer)
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


@pytest.mark.parametrize("table", ["chunks", "poison"])
@pytest.mark.parametrize("call", range(1, 4))
def test_a_replay_in_the_middle_of_a_discard_leaves_one_of_the_two(table: str, call: int) -> None:
    """Record and row tell the same: replayed and sent, or discarded and not."""
    bench = Bench()
    bench.poison()
    calls = 0

    def replay_now(name: str, _operation: str) -> None:
        nonlocal calls
        calls += name == table
        if name == table and calls == call:
            bench.tables.before = lambda _table, _operation: None
            _replay(bench)

    entries = find(bench.toolbox.ledger, ALL)
    bench.tables.before = replay_now
    tools = bench.toolbox
    (handled,) = discard(entries, ledger=tools.ledger, clock=tools.clock)
    (record,) = tools.ledger.poison.all()
    told = {
        Result.ALREADY_REPLAYED: (PoisonState.REPLAYED, ChunkState.QUEUED),
        Result.DISCARDED: (PoisonState.DISCARDED, ChunkState.DISCARDED),
    }
    assert (record.state, _state(bench)) == told[handled.result]
    assert len(bench.queue.sent) == (handled.result is Result.ALREADY_REPLAYED)


def test_discarding_what_is_uploaded_says_so() -> None:
    """A late delivery got through: the record is settled, and nothing was given up."""
    bench = Bench()
    bench.poison()
    bench.upload()
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
    handled = replay_poison(
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
    ordinary = [second for second in range(155) if second % 30 != 15]  # the others are spare
    assert [round(sent.delay) for sent in bench.queue.sent] == ordinary
    assert bench.toolbox.slots.next_free() == bench.clock.now() + timedelta(seconds=155)


def test_a_replay_that_sends_nothing_takes_no_slot() -> None:
    """Slots are for what is sent: rubbish, dry runs and what is uploaded leave the row alone."""
    bench = Bench()
    bench.rubbish()
    bench.poison()
    _replay(bench, dry_run=True)
    bench.upload()
    _replay(bench)
    assert bench.toolbox.slots.next_free() is None


def test_a_discarded_chunk_is_neither_pending_nor_replayable() -> None:
    """Discarding is for good: the chunk row says so, and a replay by name refuses."""
    bench = Bench()
    record = bench.poison()
    assert _discard(bench) == [Result.DISCARDED]
    assert _state(bench) is ChunkState.DISCARDED
    assert _replay(bench, Selection(names=(record.name,))) == [Result.ALREADY_DISCARDED]


def test_records_are_chosen_by_name_reason_or_all() -> None:
    """A selection picks exactly what it names; text in the reason is found in any case."""
    bench = Bench()
    first = bench.poison(0, reason="Sentinel is unavailable (503)")
    bench.poison(1, reason="too many refused records")
    ledger = bench.toolbox.ledger
    assert [r.name for r in find(ledger, Selection(names=(first.name,)))] == [first.name]
    assert find(ledger, Selection(names=(first.poison_id,))) == []  # another run may have it, too
    assert [r.name for r in find(ledger, Selection(reason="UNAVAILABLE"))] == [first.name]
    assert len(find(ledger, ALL)) == 2
    assert find(ledger, Selection()) == []
