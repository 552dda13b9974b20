"""A delivery whose ledger or queue fails, or whose process dies: the chunk stays safe."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from common.envelope import (
    MAX_COUNT,
    Envelope,
    chunk_id_of,
    decode_envelope,
)
from common.errors import (
    CredentialError,
    PipelineError,
    ThrottledError,
    UnavailableError,
)
from common.ledger.states import ChunkState
from consumer.sentinel import (
    Answer,
    RecordError,
    Refused,
    Unavailable,
    Uploaded,
)
from tests.fakes.clock import START
from tests.fakes.crash import Crash
from tests.unit.consumer.samples import (
    ANSWERS,
    Bench,
    envelope,
    row_of,
    serve,
)


def failing(table: str, *operations: str) -> Callable[[str, str], None]:
    """Return a hook that makes these operations of a table fail."""

    def before(name: str, operation: str) -> None:
        if name == table and (not operations or operation in operations):
            raise UnavailableError(f"table {table} is unavailable")

    return before


REJECTING = Uploaded(rejected=(RecordError(index=0, messages=("bad",)),))


@pytest.mark.parametrize(
    ("answer", "table"),
    [
        (Uploaded(), "chunks"),
        (REJECTING, "rejections"),
        (REJECTING, "chunks"),
        (ANSWERS["refused"], "rejections"),
        (ANSWERS["refused"], "chunks"),
    ],
)
@pytest.mark.parametrize("error", [UnavailableError, CredentialError, ThrottledError])
def test_an_outcome_that_cannot_be_written_is_deferred(
    answer: Answer, table: str, error: type[PipelineError]
) -> None:
    """The queue has the chunk, nothing counts against it, and a later delivery writes it."""
    bench, sent = Bench(), replace(envelope(count=1), failed=0)
    bench.answer(answer)

    def before(name: str, _operation: str) -> None:
        if name == table:
            raise error("storage")

    bench.clock.advance(1)
    bench.others_pass()

    bench.tables.before = before
    bench.clock.advance(60)
    bench.deliver(sent)
    copy, _ = bench.take()
    assert (copy.attempt, copy.deferrals, copy.body) == (0, 1, sent.body)
    bench.repair()

    def others_pass() -> None:
        bench.clock.advance(1)
        bench.others_pass()

    serve(bench, copy, 3, between=others_pass)
    chunk = bench.row(sent)
    assert chunk.state is not ChunkState.QUEUED
    assert bench.queue.sent == []


def test_an_envelope_that_counts_as_far_as_it_may_is_deferred_once_more() -> None:
    """The ledger takes the number; the copy counts too far and is kept as it is."""
    bench = Bench()
    bench.answer(Unavailable(reason="503"))
    bench.deliver(envelope(deferrals=MAX_COUNT - 1))
    sent = bench.queue.sent.pop()
    bench.deliver(sent.text)
    assert [record.message for record in bench.poison] == [sent.text]


def test_an_envelope_that_counts_as_far_as_it_may_is_given_up() -> None:
    """One attempt more is a number that the ledger takes."""
    bench = Bench()
    bench.answer(Refused(reason="400"))
    body = b'[{"id":"indicator--0"}]'
    sent = replace(envelope(attempt=MAX_COUNT - 1), body=body, chunk_id=chunk_id_of(body))
    bench.deliver(sent)
    assert [record.attempts for record in bench.poison] == [MAX_COUNT]
    assert bench.queue.sent == []


def test_a_deferral_needs_no_ledger() -> None:
    """With the ledger gone the copy is enqueued all the same."""
    bench = Bench()
    bench.answer(ANSWERS["operator"])
    bench.tables.before = failing("chunks")
    bench.deliver(envelope())
    assert bench.take()[0].deferrals == 1


@pytest.mark.parametrize("answer", [ANSWERS["operator"], Uploaded(), ANSWERS["refused"]])
def test_with_nowhere_to_write_the_host_keeps_the_message(answer: Answer) -> None:
    """Neither ledger nor queue: raising is what keeps the delivery from being acknowledged."""
    bench = Bench()
    bench.answer(answer)
    bench.tables.before = failing("chunks")

    def before(_text: str) -> None:
        raise UnavailableError("queue is down")

    bench.queue.before = before
    with pytest.raises(UnavailableError, match="queue"):
        bench.deliver(envelope())


def test_a_delivery_whose_row_cannot_be_read_waits() -> None:
    """Without a look no request leaves, and nothing counts against the chunk."""
    bench, sent = Bench(), envelope()
    bench.tables.before = failing("chunks", "get")
    bench.deliver(sent)
    assert bench.sentinel.posted == []
    copy, _ = bench.take()
    assert (copy.attempt, copy.deferrals, copy.body) == (0, 1, sent.body)
    bench.repair()
    bench.deliver(copy)
    assert bench.row(sent).state is ChunkState.UPLOADED


def test_what_can_neither_be_decoded_nor_kept_stays_with_the_host() -> None:
    """There is no envelope to defer, so the host delivers it again."""
    bench = Bench()
    bench.tables.before = failing("poison")
    with pytest.raises(UnavailableError):
        bench.deliver("no JSON")


@pytest.mark.parametrize("error", [ZeroDivisionError(), Crash()], ids=repr)
def test_a_bug_is_raised_for_the_host_to_count(error: BaseException) -> None:
    """An unforeseen error is neither swallowed nor taken for an outcome."""
    bench, sent = Bench(), envelope()
    bench.answer(error)
    with pytest.raises(type(error)):
        bench.deliver(sent)
    assert bench.queue.sent == []
    assert bench.row(sent) == row_of(sent)


@pytest.mark.parametrize(
    "answer", [*(a for name, a in ANSWERS.items() if name != "refused"), REJECTING], ids=repr
)
def test_a_process_killed_at_any_write_leaves_the_chunk_safe(answer: Answer) -> None:
    """Before each operation in turn: delivered again, the chunk comes to the same outcome."""

    def deliver_killed_at(at: int, sent: Envelope) -> tuple[Bench, int]:
        bench, calls = Bench(), []
        bench.enqueue(sent)
        bench.answer(answer)

        def before(*_: object) -> None:
            calls.append(1)
            if len(calls) > at:
                raise Crash

        bench.tables.before = bench.queue.before = before
        try:
            bench.deliver(sent)
        except Crash:
            bench.repair()
            bench.restart()
            bench.deliver(sent)
        if bench.queue.sent and decode_envelope(bench.queue.sent[-1].text).slot is not None:
            postponed = bench.queue.sent.pop()  # the crash came after the slots were moved
            bench.clock.advance(postponed.delay)
            bench.deliver(postponed.text)
        return bench, len(calls)

    sent = envelope()
    expected, total = deliver_killed_at(10**9, sent)
    assert total >= 1
    for at in range(total):
        bench, _ = deliver_killed_at(at, sent)
        assert bench.chunk(sent) == expected.chunk(sent)
        assert len(bench.poison) == len(expected.poison)
        assert bool(bench.queue.sent) == bool(expected.queue.sent)


def test_where_storage_is_in_the_way_of_a_second_request_the_first_answer_counts() -> None:
    """The slots cannot be read: Sentinel's server error is the outcome, and the problem."""
    bench = Bench()
    bench.answer(ANSWERS["unavailable"])
    sent = replace(envelope(), slot=START.timestamp())
    bench.enqueue(sent)
    posted = bench.sentinel.posted
    fails = failing("control", "get")
    bench.tables.before = lambda table, operation: fails(table, operation) if posted else None
    bench.deliver(sent)
    assert len(posted) == 1
    copy, _ = bench.take()
    assert (copy.deferrals, copy.failed, copy.history[-1].reason) == (1, None, "why")
