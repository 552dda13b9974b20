"""Lost chunks: declared only when no message can be found, and only what waits of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from common.envelope import encode_envelope
from common.ledger.chunks import Fate
from common.ledger.states import ChunkState
from common.queues import MAX_PEEKED
from ops.lost import LOST_AFTER, Handled, Result, candidates, declare_lost, look_for_messages
from tests.unit.ops.samples import RUN, Bench, chunk

LONG = LOST_AFTER.total_seconds() + 1


def lost(bench: Bench, *names: str, dry_run: bool = False) -> list[Handled]:
    """Declare chunks lost, or all that wait."""
    tools = bench.toolbox
    return list(
        declare_lost(
            names or candidates(tools.ledger),
            ledger=tools.ledger,
            traces=look_for_messages(tools.ledger, (tools.queue, tools.poison_queue)),
            at=bench.clock.now(),
            by="ann",
            note="somebody cleared the queue",
            dry_run=dry_run,
        )
    )


def cleared(*, seconds: float = LONG) -> Bench:
    """Return a bench with one chunk, of which the message was cleared so long ago."""
    bench = Bench()
    bench.write_row(0)
    bench.clock.advance(seconds)
    return bench


def test_a_chunk_without_a_message_is_declared_lost() -> None:
    """A dry run first; then its indicators count as discarded, by whom and why; then none waits."""
    bench = cleared()
    name = chunk().name
    assert lost(bench, dry_run=True) == [
        Handled(name=name, indicators=2, result=Result.WOULD_BE_LOST)
    ]
    assert bench.row().state is ChunkState.QUEUED
    assert lost(bench) == [Handled(name=name, indicators=2, result=Result.LOST)]
    row = bench.row()
    assert (row.state, row.fate) == (ChunkState.DISCARDED, Fate(discarded=2))
    assert row.reason == "declared lost by ann: somebody cleared the queue"
    assert lost(bench) == []
    (again,) = lost(bench, name)
    assert again.result is Result.NOTHING_WAITS


@pytest.mark.parametrize("seconds", [0.0, LONG - 2, LONG])
def test_a_row_has_to_be_older_than_a_message_may_be_invisible(seconds: float) -> None:
    """Its age is that of the last write, by the storage's clock: a deferral starts it again."""
    bench = cleared(seconds=LONG)
    copy = chunk().deferred(at="", reason="503", counts=False)
    bench.toolbox.ledger.chunks.record_deferred(copy, at=bench.clock.now(), reason="503")
    bench.clock.advance(seconds)
    (handled,) = lost(bench)
    assert handled.result is (Result.LOST if seconds == LONG else Result.TOO_YOUNG)


@pytest.mark.parametrize("queue", ["queue", "poison_queue"])
def test_a_visible_message_is_found(queue: str) -> None:
    """On either queue; messages of other chunks, and what cannot be read, are none of it."""
    bench = cleared()
    sends_to = getattr(bench, queue)
    sends_to.send("rubbish")
    sends_to.send(encode_envelope(chunk(1)))
    (handled,) = lost(bench, dry_run=True)
    assert handled.result is Result.WOULD_BE_LOST
    sends_to.send(encode_envelope(chunk()))
    (handled,) = lost(bench)
    assert handled.result is Result.HAS_MESSAGE
    assert bench.row().fate.pending == 2


def test_too_many_visible_messages_are_no_proof() -> None:
    """No more than 32 can be looked at: one of the others may be it."""
    bench = cleared()
    for _ in range(MAX_PEEKED):
        bench.queue.send(encode_envelope(chunk(1)))
    (handled,) = lost(bench)
    assert handled.result is Result.CANNOT_TELL


@pytest.mark.parametrize("queue", ["queue", "poison_queue"])
def test_an_invisible_message_may_be_the_one(queue: str) -> None:
    """The consumer may be delivering it at this moment, after a week of being off."""
    bench = cleared()
    getattr(bench, queue).send(encode_envelope(chunk(1)), delay=60)
    (handled,) = lost(bench)
    assert handled.result is Result.CANNOT_TELL
    bench.clock.advance(60)
    (handled,) = lost(bench)
    assert handled.result is Result.LOST


@pytest.mark.parametrize("way", ["given up by the host", "put back"])
def test_a_message_that_moves_between_the_queues_is_found(way: str) -> None:
    """Whichever queue is looked at first."""
    bench = cleared()
    source, target = bench.poison_queue, bench.queue
    if way == "given up by the host":
        source, target = target, source
    source.send(encode_envelope(chunk()), delay=0.001)  # it is in somebody's hands

    def move() -> None:
        if source.sent:
            source.sent.clear()
            target.send(encode_envelope(chunk()))

    source.before_peek = move if way == "put back" else source.before_peek
    target.before_peek = move if way != "put back" else target.before_peek
    (handled,) = lost(bench)
    assert handled.result in {Result.HAS_MESSAGE, Result.CANNOT_TELL}
    assert bench.row().fate.pending == 2


@pytest.mark.parametrize("part", ["", "-0123456789ab"])
def test_what_is_kept_as_poison_is_not_lost(part: str) -> None:
    """The keeper died before it marked the chunk: the message, or a part of it, is there."""
    bench = Bench()
    record = bench.poison()
    table = bench.tables.table("poison")
    row = table.get(RUN, record.poison_id)
    assert row is not None
    table.delete(RUN, record.poison_id)
    table.merge(replace(row, key=f"{record.poison_id}{part}"))
    bench.set_row(state="queued")
    bench.clock.advance(LONG)
    (handled,) = lost(bench)
    assert handled.result is Result.KEPT_AS_POISON


def test_only_what_waits_of_a_chunk_is_lost() -> None:
    """What was accepted, struck or given up before stays what it is."""
    bench = Bench()
    bench.write_row(0, count=5)
    bench.set_row(letters="ASP..")
    bench.clock.advance(LONG)
    (handled,) = lost(bench)
    assert (handled.indicators, handled.result) == (2, Result.LOST)
    assert bench.row().letters == "ASPDD"


@pytest.mark.parametrize("state", ["uploaded", "void", "of a later release", "gone"])
def test_what_does_not_wait_is_no_candidate(state: str) -> None:
    """And, named, it is left alone."""
    bench = cleared(seconds=0)
    match state:
        case "uploaded":
            bench.upload()
        case "void":
            bench.void()
        case "gone":
            bench.remove_row()
        case _:
            bench.set_row(state="sent-twice")
    bench.clock.advance(LONG)
    assert candidates(bench.toolbox.ledger) == []
    (handled,) = lost(bench, chunk().name)
    assert handled.result is (Result.GONE if state == "gone" else Result.NOTHING_WAITS)


def test_an_answer_that_comes_at_the_same_moment_wins() -> None:
    """The row is written between the look and the write: it is looked at again."""
    bench = cleared()

    def answer(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace"):
            bench.tables.before = lambda _table, _operation: None
            bench.upload()

    bench.tables.before = answer
    (handled,) = lost(bench)
    assert handled.result is Result.NOTHING_WAITS
    assert bench.row().state is ChunkState.UPLOADED


def test_the_limit_is_that_of_the_queue() -> None:
    """Seven days (docs/contracts.md)."""
    assert timedelta(days=7) == LOST_AFTER


def test_a_message_of_a_later_release_may_be_of_any_chunk() -> None:
    """After a rollback it waits on the queue unread: no chunk is declared lost beside it."""
    bench = cleared()
    bench.queue.send('{"version": 2, "where": "it cannot be read here"}')
    (handled,) = lost(bench)
    assert handled.result is Result.CANNOT_TELL
    assert bench.row().state is ChunkState.QUEUED
