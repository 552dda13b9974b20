"""The poison keeper: whatever the host gives up is kept whole, and its content cannot break it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.envelope import (
    MAX_COUNT,
    MAX_ENVELOPE_BYTES,
    Attempt,
    chunk_id_of,
    decode_envelope,
    encode_envelope,
)
from common.errors import CredentialError, ThrottledError, UnavailableError
from common.ledger.partitions import partition_of
from common.ledger.poison import UNKNOWN_RUN, PoisonedBy, PoisonState
from common.ledger.states import ChunkState
from common.ledger.tables import Row
from common.settings import MAX_OBJECTS_PER_REQUEST
from consumer.poison import HOST_GAVE_UP, KEEP_AGAIN_AFTER, MAX_PUT_BACK, handle_poison
from consumer.split import part_of
from tests.fakes.queue import FakeQueue, Sent
from tests.unit.consumer.samples import Bench, envelope, row_of

FIELDS = tuple(json.loads(encode_envelope(envelope())))


def handle(bench: Bench, text: str) -> list[Sent]:
    """Handle one message of the poison queue; return what went back to that queue."""
    poison_queue = FakeQueue()
    poison_queue.before = bench.queue.before
    handle_poison(text, keeper=bench.keeper, queue=poison_queue, upload_queue=bench.queue)
    return poison_queue.sent


def put_back_often(text: str) -> str:
    """Return the message as the host gives it up for the last time."""
    return json.dumps({**json.loads(text), "put_back": MAX_PUT_BACK}, separators=(",", ":"))


@given(text=st.text(st.characters()))
def test_any_text_is_kept_whole(text: str) -> None:
    """Lone surrogates, controls, nothing at all: one row with every character of it."""
    bench = Bench()
    bench.keeper.keep_from_host(text)
    (record,) = bench.poison
    assert (record.run_id, record.message) == (UNKNOWN_RUN, text)
    assert record.poisoned_by is PoisonedBy.HOST
    assert record.reason


@given(
    name=st.sampled_from(FIELDS),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
)
def test_an_envelope_with_any_one_field_replaced_is_kept_whole(name: str, value: object) -> None:
    """Decoded or raw, the message is in the ledger as it was on the queue, or goes back there.

    The ledger is another one than the envelope names, so that a message without a row is kept.
    """
    bench = Bench()
    bench.name_ledger("another")
    fields = {**json.loads(encode_envelope(envelope())), "put_back": MAX_PUT_BACK}
    text = json.dumps({**fields, name: value})
    waits = [sent.text for sent in handle(bench, text)]
    again = [json.loads(sent.text) for sent in bench.queue.sent]
    kept = [record.message for record in bench.poison]
    assert kept + waits == ([] if again else [text])
    assert not waits or name == "version"
    assert not again or name == "put_back"


@pytest.mark.parametrize("size", [0, 60 * 1024, MAX_ENVELOPE_BYTES, 3 * MAX_ENVELOPE_BYTES])
def test_a_message_of_any_size_is_kept_whole(size: int) -> None:
    """Also one that a single table property could not hold."""
    bench = Bench()
    text = "é" * (size // 2)
    bench.keeper.keep_from_host(text)
    assert bench.poison[0].message == text


@pytest.mark.parametrize("count", [3, MAX_OBJECTS_PER_REQUEST])
@pytest.mark.parametrize("record", ["0", '{"id":"indicator--1"}'])
def test_an_envelope_with_thousands_of_records_in_its_body_is_kept_whole(
    record: str, count: int
) -> None:
    """Whatever its count claims: the message is kept, and never put back."""
    bench = Bench()
    body = f"[{','.join([record] * 9000)}]".encode()
    sent = replace(envelope(count=count), chunk_id=chunk_id_of(body), body=body)
    bench.enqueue(sent)
    text = put_back_often(encode_envelope(sent))
    assert handle(bench, text) == []
    assert bench.queue.sent == []
    (kept,) = bench.poison
    assert kept.message == text
    assert bench.row(sent).state is ChunkState.POISONED


@pytest.mark.parametrize("count", [0, 2, 4, 101, 9000])
def test_an_envelope_that_counts_other_than_its_fingerprints_is_read_by_nobody_else(
    count: int,
) -> None:
    """It is damaged, so that its row is not marked: the message is kept as it is, under no run."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    text = json.dumps({**json.loads(encode_envelope(sent)), "count": count})
    assert handle(bench, text) == []
    (kept,) = bench.poison
    assert (kept.run_id, kept.message) == (UNKNOWN_RUN, text)
    assert bench.row(sent) == row_of(sent)


@pytest.mark.parametrize("version", [2, 99])
def test_an_envelope_of_a_later_release_is_put_back_and_not_kept(version: int) -> None:
    """It waits on the upload queue for the release that can read it, however long that takes."""
    bench = Bench()
    text = json.dumps({**json.loads(encode_envelope(envelope())), "version": version})
    assert handle(bench, text) == []
    assert bench.poison == []
    (sent,) = bench.queue.sent
    assert (sent.text, sent.delay) == (text, KEEP_AGAIN_AFTER)


@pytest.mark.parametrize("name", ["count", "attempt", "deferrals"])
def test_an_envelope_that_counts_as_far_as_it_may_is_kept(name: str) -> None:
    """One more than it counts is a number that the ledger takes; further it is not decoded."""
    for value in (MAX_COUNT - 1, MAX_COUNT, 2**63):
        bench = Bench()
        bench.enqueue(envelope())
        fields = {**json.loads(encode_envelope(envelope())), name: value}
        fields["put_back"] = MAX_PUT_BACK
        assert handle(bench, json.dumps(fields)) == []
        assert bench.queue.sent == []
        assert len(bench.poison) == 1


def test_an_envelope_is_kept_with_its_past() -> None:
    """Count, attempts and history come from it; its chunk's row says poisoned."""
    history = (Attempt(at="2025-12-31T00:00:00+00:00", reason="503"),)
    bench, sent = Bench(), envelope(attempt=4, deferrals=9, history=history)
    bench.enqueue(sent)
    bench.keeper.keep_from_host(encode_envelope(sent))
    (record,) = bench.poison
    assert (record.run_id, record.poison_id) == (sent.run_id, sent.key)
    assert (record.count, record.attempts, record.history) == (3, 4, history)
    assert (record.reason, record.message) == (HOST_GAVE_UP, encode_envelope(sent))
    chunk = bench.row(sent)
    assert (chunk.state, chunk.reason) == (ChunkState.POISONED, HOST_GAVE_UP)


@pytest.mark.parametrize("settled", ["uploaded", "struck", "void", "gone"])
def test_a_settled_chunk_needs_nothing(settled: str) -> None:
    """The host gave up a repeated delivery of what is not to be sent any more."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    match settled:
        case "uploaded":
            bench.settle(sent, accepted=range(3))
        case "struck":
            bench.ledger.chunks.strike(sent.run_id, sent.key, range(3))
        case "void":
            bench.void(sent)
        case "gone":
            bench.remove_row(sent)
    row = bench.chunk(sent)
    bench.keeper.keep_from_host(encode_envelope(sent))
    assert bench.poison == []
    assert bench.chunk(sent) == row


@pytest.mark.parametrize("ledger_id", ["another", ""])
def test_a_message_of_a_lost_ledger_is_kept_and_makes_no_row(ledger_id: str) -> None:
    """It has no row to mark; it can be replayed all the same."""
    bench, sent = Bench(), replace(envelope(), ledger_id=ledger_id)
    bench.keeper.keep_from_host(encode_envelope(sent))
    (kept,) = bench.poison
    assert (kept.run_id, kept.poison_id) == (sent.run_id, sent.key)
    assert bench.chunk(sent) is None


def test_only_what_could_still_be_sent_is_poisoned() -> None:
    """What was accepted, refused or struck before stays so, letter by letter."""
    bench, sent = Bench(), envelope(count=5)
    bench.enqueue(sent)
    bench.ledger.chunks.strike(sent.run_id, sent.key, {0})
    bench.settle(sent, accepted=(1,), rejected=(2,))
    bench.keeper.keep_from_host(encode_envelope(sent))
    row = bench.row(sent)
    assert (row.letters, row.state) == ("SARPP", ChunkState.POISONED)


@pytest.mark.parametrize("text", [encode_envelope(envelope()), "no JSON"])
def test_kept_twice_is_one_row(text: str) -> None:
    """It has the first and the last time that the message was given up."""
    bench = Bench()
    bench.enqueue(envelope())
    bench.keeper.keep_from_host(text)
    bench.clock.advance(600)
    bench.keeper.keep_from_host(text)
    (record,) = bench.poison
    assert (record.last_at - record.first_at).total_seconds() == 600


@pytest.mark.parametrize("table", ["poison", "chunks"])
def test_only_an_unreachable_ledger_raises_and_then_nothing_is_half_done(table: str) -> None:
    """The host delivers the message again, and the second time it is kept."""
    bench, sent = Bench(), envelope()

    def before(name: str, operation: str) -> None:
        if name == table and operation != "get":
            raise UnavailableError("ledger is down")

    bench.enqueue(sent)
    bench.tables.before = before
    with pytest.raises(UnavailableError):
        bench.keeper.keep_from_host(encode_envelope(sent))
    bench.tables.before = lambda _table, _operation: None
    bench.keeper.keep_from_host(encode_envelope(sent))
    assert len(bench.poison) == 1
    chunk = bench.row(sent)
    assert chunk.state is ChunkState.POISONED


def test_the_message_is_kept_before_its_chunk_is_marked() -> None:
    """A chunk that says poisoned has its message in the ledger."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    writes: list[str] = []

    def before(table: str, operation: str) -> None:
        if operation not in {"get", "query"}:
            writes.append(table)

    bench.tables.before = before
    bench.keeper.keep_from_host(encode_envelope(sent))
    assert writes == ["poison", "chunks"]


def test_an_upload_at_the_same_moment_wins() -> None:
    """Recorded between the look at the row and the write: what Sentinel has is not poisoned."""
    bench, sent = Bench(), envelope()
    uploaded: list[bool] = []

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace") and not uploaded:
            uploaded.append(True)
            bench.settle(sent, accepted=range(3))

    bench.enqueue(sent)
    bench.tables.before = before
    bench.keeper.keep_from_host(encode_envelope(sent))
    chunk = bench.row(sent)
    assert (chunk.state, chunk.accepted) == (ChunkState.UPLOADED, 3)


def test_a_discard_between_the_two_writes_is_followed() -> None:
    """The operator found the chunk queued and settled the record; it must not stay poisoned."""
    bench, sent = Bench(), envelope()
    discarded: list[bool] = []

    def before(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "replace") and not discarded:
            (record,) = bench.ledger.poison.all()
            discarded.append(True)
            assert bench.ledger.poison.settle(record, PoisonState.DISCARDED, at=bench.clock.now())

    bench.enqueue(sent)
    bench.tables.before = before
    bench.keeper.keep_from_host(encode_envelope(sent))
    assert discarded
    assert bench.row(sent).state is ChunkState.DISCARDED


@pytest.mark.parametrize("text", [put_back_often(encode_envelope(envelope())), "no JSON"])
@pytest.mark.parametrize("error", [UnavailableError, ThrottledError, CredentialError])
def test_while_the_ledger_is_out_of_reach_a_copy_waits(text: str, error: type[Exception]) -> None:
    """On the poison queue, for its time, so that the host's own tries are not needed."""
    bench = Bench()

    def before(_table: str, _operation: str) -> None:
        raise error("ledger")

    bench.tables.before = before
    assert handle(bench, text) == [Sent(text=text, delay=KEEP_AGAIN_AFTER)]
    assert bench.queue.sent == []


def test_a_message_that_is_kept_is_not_put_back() -> None:
    """The poison queue empties itself."""
    bench = Bench()
    assert handle(bench, "no JSON") == []
    assert len(bench.poison) == 1
    assert bench.queue.sent == []


def test_what_the_host_gave_up_is_put_back_three_times() -> None:
    """Each time counted, without its old slot, without a row; then it is kept, and says so."""
    bench, text = Bench(), encode_envelope(envelope(attempt=2, deferrals=4))
    bench.enqueue(envelope())
    for count in range(1, MAX_PUT_BACK + 1):
        assert handle(bench, text) == []
        (sent,) = bench.queue.sent
        bench.queue.sent.clear()
        again = decode_envelope(sent.text)
        assert again == replace(decode_envelope(text), put_back=count, slot=None)
        assert sent.delay == 0
        assert bench.poison == []
        text = sent.text
    assert handle(bench, text) == []
    assert bench.queue.sent == []
    (record,) = bench.poison
    assert (record.message, record.reason) == (text, f"{HOST_GAVE_UP}, 4 times over")


@pytest.mark.parametrize("ledger_is_there", [True, False])
def test_putting_back_needs_no_ledger(ledger_is_there: bool) -> None:
    """The upload queue alone is asked: what ends hosts is often the ledger's own outage."""
    bench = Bench()

    def before(_table: str, _operation: str) -> None:
        if not ledger_is_there:
            raise UnavailableError("ledger")

    bench.tables.before = before
    assert handle(bench, encode_envelope(replace(envelope(), slot=5.0))) == []
    assert len(bench.queue.sent) == 1


def test_what_was_put_back_and_is_uploaded_is_not_sent_again() -> None:
    """The upload was written down, only its message was not deleted."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    bench.settle(sent, accepted=range(3))
    handle(bench, encode_envelope(sent))
    (again,) = bench.queue.sent
    bench.deliver(again.text)
    assert bench.sentinel.posted == []
    assert bench.poison == []


def test_a_message_that_can_go_nowhere_stays_with_the_host() -> None:
    """Raising is what keeps it from being acknowledged."""
    bench = Bench()

    def before(*_: str) -> None:
        raise UnavailableError("storage")

    bench.tables.before = bench.queue.before = before
    for text in ("no JSON", encode_envelope(envelope())):
        with pytest.raises(UnavailableError):
            handle(bench, text)


@pytest.mark.parametrize("part", [None, (0, 1)])
def test_a_message_whose_row_is_damaged_is_not_settled(part: tuple[int, ...] | None) -> None:
    """Whole or a part: kept with its content, and tried again until the row can be read."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    bench.tables.table("chunks").merge(
        Row(partition=partition_of(sent.run_id), key=sent.key, data={"count": "three"})
    )
    given_up = sent if part is None else part_of(sent, part)
    text = put_back_often(encode_envelope(given_up))
    assert [again.text for again in handle(bench, text)] == [text]
    (record,) = bench.poison
    assert (record.poison_id, record.message) == (given_up.message_key, text)
