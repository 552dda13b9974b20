"""Deferral: the copy, its delay, and that it needs nothing but the queue."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from common.envelope import (
    MAX_ENVELOPE_BYTES,
    Attempt,
    chunk_id_of,
    decode_envelope,
    encode_envelope,
    pack_body,
)
from common.errors import CredentialError, UnavailableError
from common.ledger.states import ChunkState
from consumer.deferral import (
    ATTEMPT_CAP,
    OPERATOR_CAP,
    Defer,
    defer_for_operator,
    defer_message,
    growing,
)
from consumer.pacing import ComeBack
from tests.unit.consumer.samples import FIRST_DELAY, Bench, envelope, row_of

DEFER = Defer(reason="why", seconds=100.0, counts=True)


@pytest.mark.parametrize("cap", [OPERATOR_CAP, ATTEMPT_CAP])
def test_delays_double_from_the_first_to_the_cap(cap: int) -> None:
    """Any number of failures has a delay, also one that no power of two can hold."""
    assert [growing(n, cap=cap) for n in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert growing(1000, cap=cap) == growing(10**9, cap=cap) == cap


@pytest.mark.parametrize(("deferrals", "units"), [(0, 1.0), (1, 2.0), (4, 15.0), (500, 15.0)])
def test_waiting_for_an_operator_counts_nothing(deferrals: int, units: float) -> None:
    """The delay grows with every deferral so far, of whatever kind."""
    assert defer_for_operator(envelope(deferrals=deferrals), "why") == Defer(
        reason="why", units=units, counts=False
    )


@pytest.mark.parametrize("units", [1.0, 15.0, 60.0])
def test_a_delay_is_a_multiple_of_the_operators_first(units: float) -> None:
    """DEFERRAL_DELAY sets the pace of everything but what a service asked for itself."""
    bench = Bench()
    bench.deferrer.defer(envelope(), Defer(reason="why", units=units))
    _, delay = bench.take()
    assert units * FIRST_DELAY <= delay <= 1.2 * units * FIRST_DELAY


def test_a_postponed_copy_has_not_failed() -> None:
    """It waits for its new slot; history, attempts and the ledger know nothing of it."""
    bench, sent = Bench(), envelope(attempt=2, deferrals=3)
    bench.enqueue(sent)
    bench.deferrer.postpone(sent, ComeBack(slot=1e9, delay=7.0))
    copy, delay = bench.take()
    assert (copy.slot, delay, copy.postponed) == (1e9, 7.0, 1)
    assert (copy.attempt, copy.deferrals, copy.history) == (2, 3, ())
    assert copy.body == sent.body
    assert bench.row(sent) == row_of(sent)


@pytest.mark.parametrize("counts", [True, False])
def test_the_copy_is_the_message_with_one_more_failure(counts: bool) -> None:
    """Time and reason are in its history; the body is untouched."""
    bench, sent = Bench(), envelope(attempt=2, deferrals=3)
    bench.clock.advance(61)
    bench.deferrer.defer(sent, Defer(reason="why", seconds=5.0, counts=counts))
    copy, _ = bench.take()
    assert (copy.body, copy.run_id, copy.sequence) == (sent.body, sent.run_id, sent.sequence)
    assert (copy.attempt, copy.deferrals) == (2 + counts, 4)
    assert copy.history == (Attempt(at="2026-01-01T00:01:01+00:00", reason="why"),)


def test_copies_do_not_come_back_together() -> None:
    """Up to a fifth is added to each delay at random, and nothing is taken off."""
    bench = Bench()
    deferrer = bench.deferrer
    for _ in range(50):
        deferrer.defer(envelope(), DEFER)
    delays = [sent.delay for sent in bench.queue.sent]
    assert all(100.0 <= delay <= 120.0 for delay in delays)
    assert len(set(delays)) > 40


def test_the_copy_is_enqueued_before_the_reason_is_noted() -> None:
    """So that what the ledger says of the chunk is true."""
    bench = Bench()
    order: list[str] = []
    bench.queue.before = lambda _text: order.append("copy")
    bench.tables.before = lambda table, _operation: order.append(table)
    bench.deferrer.defer(envelope(), DEFER)
    assert order == ["copy", "chunks"]


@pytest.mark.parametrize("error", [UnavailableError("x"), CredentialError("x")])
def test_the_ledger_is_not_needed(error: Exception) -> None:
    """The copy carries the reason too."""
    bench = Bench()

    def before(_table: str, _operation: str) -> None:
        raise error

    bench.tables.before = before
    bench.deferrer.defer(envelope(), DEFER)
    assert decode_envelope(bench.queue.sent[0].text).history[0].reason == "why"


def test_a_copy_that_cannot_be_sent_is_raised() -> None:
    """The host still has the message, and the ledger says nothing else."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)

    def before(_text: str) -> None:
        raise UnavailableError("queue is down")

    bench.queue.before = before
    with pytest.raises(UnavailableError):
        bench.deferrer.defer(sent, DEFER)
    assert bench.row(sent) == row_of(sent)


def test_the_reason_is_noted_on_the_row_and_never_makes_one() -> None:
    """A row that was folded away is settled: a late deferral must not bring it back."""
    bench, sent = Bench(), envelope(deferrals=4)
    bench.deferrer.defer(sent, DEFER)
    assert bench.chunk(sent) is None
    bench.enqueue(sent)
    bench.deferrer.defer(sent, DEFER)
    assert bench.row(sent) == replace(row_of(sent), deferrals=5, reason="why")


def test_an_outcome_recorded_meanwhile_stays() -> None:
    """A late deferral of a chunk that another delivery uploaded does not undo it."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    bench.settle(sent, accepted=range(3))
    bench.deferrer.defer(sent, DEFER)
    chunk = bench.row(sent)
    assert (chunk.state, chunk.accepted) == (ChunkState.UPLOADED, 3)


def full_message(*, free: int) -> dict[str, Any]:
    """Return a message with a story that leaves hardly more bytes free than said."""
    noise = random.Random(0).randbytes(MAX_ENVELOPE_BYTES)  # noqa: S311 - a fixed seed
    fields = json.loads(encode_envelope(envelope(count=3)))
    times = [f"2026-01-01T00:00:{second:02d}+00:00" for second in range(12)]
    fields |= {"history": [[time, "x" * 60] for time in times], "trace": "t" * 55}
    fields |= {"part": [7, 8, 99], "failed": 2**30}
    room = MAX_ENVELOPE_BYTES - free - len(json.dumps(fields, separators=(",", ":")))
    body = noise[: (room + len(fields["body"])) // 4 * 3 - 20]
    return {**fields, "chunk": chunk_id_of(body), "body": pack_body(body)}


@pytest.mark.parametrize("free", [0, 100, 300, 600, 1000, 4096])
def test_an_envelope_that_has_no_room_for_its_story_is_deferred_without_it(
    free: int,
) -> None:
    """Its records are kept whole, for ever, with the latest failure and what it is a part of."""
    bench = Bench()
    sent = decode_envelope(json.dumps(full_message(free=free)))
    for number in range(30):
        bench.deferrer.defer(sent, Defer(reason=f"{number}: " + "why" * 90, counts=True))
        copy, _ = bench.take()
        assert (copy.body, copy.attempt, copy.count) == (sent.body, number + 1, 3)
        assert copy.history[-1].reason.startswith(f"{number}: ")
        assert (copy.part, copy.failed) == ((7, 8, 99), 2**30)
        bench.deferrer.postpone(copy, ComeBack(slot=1e9 + 1 / 3, delay=1.0))
        sent, _ = bench.take()


@pytest.mark.parametrize("text", ['{"version": 99}', '{"version": 2, "run": 7}'])
def test_a_message_of_a_later_release_goes_back_as_it_is(text: str) -> None:
    """Every character of it, after the first delay; nothing is counted or noted."""
    bench = Bench()
    before = dict(bench.tables.table("chunks")._rows)
    defer_message(text, "why", deferrer=bench.deferrer)
    (sent,) = bench.queue.sent
    assert (sent.text, sent.delay) == (text, FIRST_DELAY)
    assert bench.tables.table("chunks")._rows == before


def test_a_history_without_end_still_fits() -> None:
    """The longest reasons for ever: the first and the latest are kept, in bounded space."""
    bench, sent = Bench(), envelope(count=100)
    for number in range(40):
        reason = f"{number}: " + "\U0001f600" * 500
        bench.deferrer.defer(sent, Defer(reason=reason, seconds=1.0))
        sent, _ = bench.take()
    assert sent.history[0].reason.startswith("0: ")
    assert sent.history[-1].reason.startswith("39: ")
