"""Replay and discard: nothing is lost, nothing is done twice, and everything is said."""

import pytest

from common.envelope import decode_envelope
from common.errors import UnavailableError
from common.ledger.poison import PoisonState
from common.ledger.states import ChunkState
from ops.poison import Result, Selection, discard, find, replay
from tests.unit.ops.samples import RUN, Bench, chunk

ALL = Selection(all_kept=True)


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


@pytest.mark.parametrize("failing", range(1, 10))
def test_a_replay_that_dies_loses_nothing(failing: int) -> None:
    """Whatever write fails, the message is kept or on the queue, and a second replay completes."""
    bench = Bench()
    bench.poison()
    calls = 0

    def fail(_table: str, _operation: str) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise UnavailableError("storage is away")

    bench.tables.before = fail
    try:
        _replay(bench)
    except UnavailableError:
        bench.tables.before = lambda _table, _operation: None
        (record,) = bench.toolbox.ledger.poison.all()
        assert record.state is PoisonState.KEPT or bench.queue.sent
        _replay(bench)
    assert bench.queue.sent


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
