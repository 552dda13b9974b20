"""One delivery: the decision as a table, and what is written down for each outcome."""

import json
from dataclasses import replace

import pytest

from common.envelope import (
    MAX_HISTORY,
    Attempt,
    decode_envelope,
    encode_envelope,
)
from common.errors import (
    CredentialError,
    ThrottledError,
    UnavailableError,
)
from common.ledger.poison import UNKNOWN_RUN, PoisonedBy
from common.ledger.rejections import RejectedBy
from common.ledger.states import ChunkState
from consumer.outcomes import (
    UNAVAILABLE_LIMIT,
    Done,
)
from consumer.receipts import rejections_of
from consumer.sentinel import (
    RecordError,
    RefreshToken,
    Uploaded,
)
from tests.fakes.clock import START
from tests.unit.consumer.samples import (
    ANSWERS,
    LIMITS,
    RATE,
    Bench,
    envelope,
    serve,
)


def test_an_upload_is_recorded() -> None:
    """The exact bytes go out once, and the chunk's row has the receipt."""
    bench, sent = Bench(), envelope()
    bench.deliver(sent)
    assert bench.sentinel.posted == [(sent.body, 3, "token-1")]
    chunk = bench.row(sent)
    assert (chunk.state, chunk.accepted, chunk.rejected) == (ChunkState.UPLOADED, 3, 0)
    assert (chunk.sequence, chunk.count) == (7, 3)
    assert bench.queue.sent == []


def test_rejected_records_are_kept_with_what_is_known_of_them() -> None:
    """Id, pattern, messages and content; they are written before the row says uploaded."""
    bench, sent = Bench(), replace(envelope(), slot=START.timestamp())
    writes: list[str] = []
    bench.tables.before = lambda table, operation: writes.append(f"{table} {operation}")
    bench.answer(
        Uploaded(
            rejected=(RecordError(index=1, messages=("bad", "worse")),),
            stray=(RecordError(index=-1, messages=()),),
        )
    )
    bench.deliver(sent)
    assert [write for write in writes if not write.startswith("control")] == [
        "chunks get",
        "rejections merge_all",
        "chunks replace",
    ]
    known, stray = bench.ledger.rejections.of_run(sent.run_id)
    assert (known.indicator_id, known.pattern) == ("indicator--1", "[x = '1']")
    assert (known.reason, known.rejected_by) == ("bad; worse", RejectedBy.SENTINEL)
    assert json.loads(known.content) == json.loads(sent.body)[1]
    assert (stray.indicator_id, stray.content, stray.reason) == ("", b"", "no reason given")
    chunk = bench.row(sent)
    assert (chunk.accepted, chunk.rejected) == (1, 2)


def test_rejections_of_records_that_are_no_objects_are_made_all_the_same() -> None:
    """The body is not trusted to hold what its count says."""
    sent = replace(envelope(count=1), count=5)
    done = Done(
        sent=(0, 1, 2, 3, 4), rejected=tuple(RecordError(index=i, messages=()) for i in (0, 4))
    )
    first, second = rejections_of(done, sent, at=START)
    assert first.indicator_id == "indicator--0"
    assert (second.indicator_id, second.content) == ("", b"")


def test_a_refused_token_is_refreshed_exactly_once() -> None:
    """The second answer decides, be it good or the same again."""
    bench = Bench()
    bench.answer(RefreshToken(reason="401"), Uploaded())
    bench.deliver(envelope())
    assert bench.tokens.asked == ["token", "refresh token-1"]
    assert [token for _, _, token in bench.sentinel.posted] == ["token-1", "token-2"]
    assert bench.queue.sent == []

    bench = Bench()
    bench.answer(RefreshToken(reason="401"))
    bench.deliver(envelope())
    assert bench.tokens.asked == ["token", "refresh token-1"]
    copy, delay = bench.take()
    assert (copy.attempt, copy.deferrals) == (0, 1)
    assert 60.0 <= delay <= 72.0


@pytest.mark.parametrize("name", ["unavailable", "refresh"])
def test_a_failed_request_takes_no_slot_from_a_long_queue(name: str) -> None:
    """The slots stand as they did: what waits behind it is not put off by what is not sent."""
    bench = Bench()
    bench.answer(ANSWERS[name])
    taken = bench.pacer._slots.reserve(2000)
    free = bench.pacer._slots.next_free()
    for number in range(3):
        slot = taken.slot(number)
        bench.clock.advance((slot - bench.clock.now()).total_seconds())
        bench.deliver(replace(envelope(), slot=slot.timestamp()))
    assert bench.pacer._slots.next_free() == free
    assert len(bench.sentinel.posted) == 3


@pytest.mark.parametrize("name", ["unavailable", "refresh"])
def test_a_failed_request_is_made_once_more_where_a_slot_is_near(name: str) -> None:
    """It waits for the slot, which is its own."""
    bench = Bench()
    bench.answer(ANSWERS[name], Uploaded())
    slot = bench.pacer._slots.reserve(3).first
    bench.deliver(replace(envelope(), slot=slot.timestamp()))
    assert len(bench.sentinel.posted) == 2
    assert bench.clock.elapsed == pytest.approx(3 * 60.0 / RATE)
    assert bench.queue.sent == []


@pytest.mark.parametrize("when", ["token", "refresh"])
@pytest.mark.parametrize(
    "error",
    [
        CredentialError("no token: CLIENT_SECRET has expired"),
        UnavailableError("no token: Entra is unavailable"),
        ThrottledError("no token: slow down"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_a_token_a_chunk_waits_and_nothing_counts(when: str, error: Exception) -> None:
    """Nothing was tried at Sentinel; the reason is on the copy and in the row."""
    bench, sent = Bench(), envelope()
    bench.answer(RefreshToken(reason="401"))

    def before(what: str) -> None:
        if what == when:
            raise error

    bench.tokens.before = before
    bench.deliver(sent)
    copy, _ = bench.take()
    assert (copy.attempt, copy.deferrals) == (0, 1)
    assert copy.history[-1].reason == str(error)
    chunk = bench.row(sent)
    assert (chunk.state, chunk.reason, chunk.deferrals) == (ChunkState.QUEUED, str(error), 1)


@pytest.mark.parametrize("name", ["operator", "throttled", "unavailable", "drift"])
def test_a_deferred_chunk_is_on_the_queue_whole(name: str) -> None:
    """The copy is the envelope with one more failure in its history."""
    bench, sent = Bench(), envelope()
    bench.answer(ANSWERS[name])
    bench.deliver(sent)
    copy, delay = bench.take()
    assert (copy.body, copy.chunk_id, copy.fingerprints) == (
        sent.body,
        sent.chunk_id,
        sent.fingerprints,
    )
    assert copy.history == (Attempt(at="2026-01-01T00:00:00+00:00", reason="why"),)
    assert (copy.attempt, copy.deferrals) == (0, 1)
    assert delay >= 7.0


@pytest.mark.parametrize(("name", "limit"), LIMITS.items())
def test_a_chunk_that_only_fails_is_given_up_with_its_history(name: str, limit: int) -> None:
    """While others pass: the first and the latest of its attempts are kept with their times.

    The very first failure does not count: nothing is known yet of how others fare.
    """
    bench, sent = Bench(), envelope()
    bench.answer(ANSWERS[name])
    assert serve(bench, sent, 100, between=bench.others_pass) == limit + 1
    (record,) = bench.poison
    assert record.attempts == limit
    assert len(record.history) == min(limit + 1, MAX_HISTORY)
    assert record.history[0].at == "2026-01-01T00:00:00+00:00"
    assert [item.at for item in record.history] == sorted({item.at for item in record.history})
    assert f"given up after {limit} failures that count" in record.reason
    kept = decode_envelope(record.message)
    assert (kept.body, kept.attempt) == (sent.body, limit - 1)
    posts = 2 if name == "unavailable" else 1  # a server error is tried once more at once
    assert len(bench.sentinel.posted) == posts * (limit + 1)


@pytest.mark.parametrize("name", ["throttled", "operator", "refresh", "unavailable", "drift"])
def test_a_chunk_is_never_poisoned_for_what_is_not_its_fault(name: str) -> None:
    """Five hundred deferrals later it is still on the queue, with room for its history.

    An outage of five days is one of these: nobody's chunks pass.
    """
    bench, sent = Bench(), envelope(count=100)
    bench.answer(ANSWERS[name])
    assert serve(bench, sent, 500) == 500
    assert bench.poison == []
    copy, delay = bench.take()
    assert (copy.attempt, copy.deferrals) == (0, 500)
    assert len(copy.history) == MAX_HISTORY
    bench.answer(Uploaded())
    bench.clock.advance(delay)
    bench.deliver(copy)
    chunk = bench.row(sent)
    assert chunk.state is ChunkState.UPLOADED


def test_only_attempts_that_count_use_a_chunk_up() -> None:
    """A long outage of our own making between two server errors changes nothing."""
    bench, sent = Bench(), envelope()
    names = ("unavailable", "unavailable", "throttled", "operator", "throttled")
    bench.answer(*([ANSWERS[name] for name in names] * 30))
    assert serve(bench, sent, 200, between=bench.others_pass) == 4 * UNAVAILABLE_LIMIT + 1
    assert bench.poison[0].attempts == UNAVAILABLE_LIMIT


def test_an_ordinary_delivery_costs_one_look_and_one_write() -> None:
    """The row is read right before the request and replaced by its ETag after it."""
    bench = Bench()
    bench.deliver(envelope(count=1))
    sent = replace(envelope(), sequence=8, slot=bench.clock.now().timestamp())
    bench.enqueue(sent)
    operations: list[str] = []
    bench.tables.before = lambda table, operation: operations.append(f"{table} {operation}")
    bench.deliver(sent)
    assert operations == ["chunks get", "chunks replace"]


@pytest.mark.parametrize("text", ["", "no JSON", "{}", '{"version": 0}', "\u2028\x00é"])
def test_what_cannot_be_decoded_is_kept_raw(text: str) -> None:
    """No upload is tried and the message is acknowledged; its row has every character."""
    bench = Bench()
    bench.deliver(text)
    (record,) = bench.poison
    assert (record.run_id, record.message, record.count) == (UNKNOWN_RUN, text, 0)
    assert record.poisoned_by is PoisonedBy.CONSUMER
    assert record.reason
    assert bench.sentinel.posted == []
    assert bench.queue.sent == []


def test_a_damaged_body_is_not_uploaded() -> None:
    """The chunk id is the hash of the body: what does not match is kept, not posted."""
    bench, sent = Bench(), envelope()
    fields = json.loads(encode_envelope(sent))
    other = json.loads(encode_envelope(envelope(count=4)))
    bench.deliver(json.dumps({**fields, "body": other["body"]}))
    assert bench.sentinel.posted == []
    assert "damaged" in bench.poison[0].reason


def test_a_chunk_that_is_twice_on_the_queue_is_uploaded_once() -> None:
    """A crash between copy and acknowledgement leaves two messages; the later one is a no-op."""
    bench, sent = Bench(), envelope()
    bench.answer(ANSWERS["throttled"], Uploaded())
    bench.deliver(sent)
    copy, delay = bench.take()
    bench.clock.advance(delay)
    bench.deliver(copy)
    bench.deliver(copy)
    bench.deliver(sent)
    assert len(bench.sentinel.posted) == 2
    assert bench.queue.sent == []
