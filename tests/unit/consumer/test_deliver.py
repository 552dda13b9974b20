"""One delivery: the decision as a table, and what is written down for each outcome."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.envelope import (
    MAX_COUNT,
    MAX_HISTORY,
    Attempt,
    Envelope,
    chunk_id_of,
    decode_envelope,
    encode_envelope,
)
from common.errors import (
    CredentialError,
    PipelineError,
    ThrottledError,
    UnavailableError,
)
from common.ledger.acceptance import WAITS_FOR_PROOF
from common.ledger.poison import UNKNOWN_RUN, PoisonedBy
from common.ledger.rejections import RejectedBy
from common.ledger.states import ChunkState
from consumer.deferral import ATTEMPT_CAP, OPERATOR_CAP, Defer
from consumer.outcomes import (
    DRIFT_LIMIT,
    UNAVAILABLE_LIMIT,
    Done,
    GiveUp,
    Outcome,
    Split,
    decide,
    split_indexes,
)
from consumer.receipts import rejections_of
from consumer.sentinel import (
    Answer,
    Drift,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    Refused,
    Throttled,
    Unavailable,
    Uploaded,
)
from tests.fakes.clock import START
from tests.unit.consumer.samples import (
    FIRST_DELAY,
    RATE,
    Bench,
    envelope,
    row_of,
)

ANSWERS: dict[str, Answer] = {
    "uploaded": Uploaded(),
    "refused": Refused(reason="why"),
    "refresh": RefreshToken(reason="why"),
    "operator": OperatorNeeded(reason="why"),
    "throttled": Throttled(reason="why", wait=7.0),
    "unavailable": Unavailable(reason="why"),
    "drift": Drift(reason="why"),
}

LIMITS = {"unavailable": UNAVAILABLE_LIMIT, "drift": DRIFT_LIMIT}
"""Failures that count after which a message is given up."""


ALL = (0, 1, 2)


class Crash(BaseException):
    """The process ends here."""


NAMING_ONE = Refused(reason="why", named=(RecordError(index=1, messages=("bad",)),))
NAMING_ALL = Refused(
    reason="why", named=tuple(RecordError(index=index, messages=("bad",)) for index in ALL)
)
WAITS = Defer(reason=WAITS_FOR_PROOF, units=4.0)
LATER = Defer(reason="why", units=4.0)
BY_SEVEN = Defer(reason="why", seconds=7.0)

TABLE: list[tuple[Answer, bool, Outcome, Outcome]] = [
    (Uploaded(), False, Done(sent=ALL), Done(sent=(1,))),
    (Uploaded(), True, Done(sent=ALL), Done(sent=(1,))),
    (Refused(reason="why"), False, WAITS, WAITS),
    (
        Refused(reason="why"),
        True,
        Split(parts=((0,), (1, 2))),
        Done(sent=(1,), rejected=(RecordError(index=1, messages=("why",)),)),
    ),
    (NAMING_ONE, False, WAITS, WAITS),
    (NAMING_ONE, True, Split(parts=((0, 2), (1,))), Done(sent=(1,), rejected=NAMING_ONE.named)),
    (NAMING_ALL, False, WAITS, WAITS),
    (NAMING_ALL, True, Split(parts=((0,), (1, 2))), Done(sent=(1,), rejected=NAMING_ONE.named)),
    (RefreshToken(reason="why"), False, LATER, LATER),
    (RefreshToken(reason="why"), True, LATER, LATER),
    (OperatorNeeded(reason="why"), False, LATER, LATER),
    (OperatorNeeded(reason="why"), True, LATER, LATER),
    (Throttled(reason="why", wait=7.0), False, BY_SEVEN, BY_SEVEN),
    (Throttled(reason="why", wait=7.0), True, BY_SEVEN, BY_SEVEN),
    (Unavailable(reason="why"), False, LATER, LATER),
    (Unavailable(reason="why"), True, replace(LATER, counts=True), replace(LATER, counts=True)),
    (Drift(reason="why"), False, LATER, LATER),
    (Drift(reason="why"), True, replace(LATER, counts=True), replace(LATER, counts=True)),
]
"""Answer, whether Sentinel has accepted something since, what follows for many and for one."""


@pytest.mark.parametrize(("answer", "accepted_since", "many", "one"), TABLE)
def test_what_follows_from_an_answer(
    answer: Answer, accepted_since: bool, many: Outcome, one: Outcome
) -> None:
    """The one table: answer, many or one, and whether something was accepted since."""
    sent = envelope(deferrals=2, attempt=2)
    assert decide(answer, sent, sent=ALL, accepted_since=accepted_since) == many
    if isinstance(answer, Refused):  # of one record it names that one or none
        answer = replace(answer, named=NAMING_ONE.named if answer.named else ())
    alone = replace(sent, count=1, part=(1,))
    assert decide(answer, alone, sent=(1,), accepted_since=accepted_since) == one


@pytest.mark.parametrize("sent", [ALL, (1,)], ids=["many", "one"])
@pytest.mark.parametrize("attempt", range(30))
@pytest.mark.parametrize("name", ANSWERS)
def test_only_failures_that_count_use_a_message_up(
    name: str, attempt: int, sent: tuple[int, ...]
) -> None:
    """The tenth server error, the fourth answer without a name; of nothing else any number."""
    tired = envelope(attempt=attempt, deferrals=attempt)
    limit = LIMITS.get(name)
    outcome = decide(ANSWERS[name], tired, sent=sent, accepted_since=True)
    if limit is None:
        assert not isinstance(outcome, GiveUp)
    elif attempt + 1 < limit:
        units = min(2.0**attempt, ATTEMPT_CAP)
        assert outcome == Defer(reason="why", units=units, counts=True)
    else:
        assert isinstance(outcome, GiveUp)
        assert outcome.reason == f"why; given up after {attempt + 1} failures that count"
    waiting = decide(ANSWERS[name], tired, sent=sent, accepted_since=False)
    assert isinstance(waiting, Done if name == "uploaded" else Defer)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("operator", 1.0, OPERATOR_CAP), ("refresh", 1.0, OPERATOR_CAP), ("drift", 1.0, 4.0)],
)
def test_delays_grow_from_the_first_to_their_cap(name: str, first: float, last: float) -> None:
    """Doubling, never shrinking."""
    delays = []
    for failures in range(DRIFT_LIMIT - 1 if name == "drift" else 10):
        sent = envelope(attempt=failures, deferrals=failures)
        outcome = decide(ANSWERS[name], sent, sent=ALL, accepted_since=True)
        assert isinstance(outcome, Defer)
        delays.append(outcome.units)
    assert (delays[0], delays[-1]) == (first, last)
    assert all(later == min(2 * earlier, last) for earlier, later in pairwise(delays))


def test_trouble_is_borne_for_hours_before_a_chunk_is_given_up() -> None:
    """The failures that count last more than four hours together."""
    total = 0.0
    for attempt in range(100):
        tired = envelope(attempt=attempt)
        outcome = decide(ANSWERS["unavailable"], tired, sent=ALL, accepted_since=True)
        if not isinstance(outcome, Defer):
            break
        total += outcome.units * FIRST_DELAY
    assert 4 * 3600 <= total <= 12 * 3600


@pytest.mark.parametrize("deferrals", [0, 1, 50, 500, 10**6])
@pytest.mark.parametrize("accepted_since", [False, True])
@pytest.mark.parametrize("name", ["throttled", "operator", "refresh"])
def test_what_is_not_the_messages_fault_never_poisons_it(
    name: str, deferrals: int, accepted_since: bool
) -> None:
    """However often it was deferred, and whatever else it has been through."""
    tired = envelope(deferrals=deferrals, attempt=min(deferrals, 9))
    outcome = decide(ANSWERS[name], tired, sent=ALL, accepted_since=accepted_since)
    assert isinstance(outcome, Defer)
    assert not outcome.counts
    assert outcome.units <= OPERATOR_CAP


@given(
    sent=st.sets(st.integers(0, 99), min_size=2).map(sorted).map(tuple),
    data=st.data(),
)
def test_a_split_carries_each_record_once_and_none_twice(
    sent: tuple[int, ...], data: st.DataObject
) -> None:
    """Two parts, each smaller than the whole and in order; what was named stays together."""
    named = set(data.draw(st.lists(st.sampled_from(sent))))
    parts = split_indexes(sent, named)
    assert len(parts) == 2
    assert sorted(index for part in parts for index in part) == list(sent)
    assert all(part and list(part) == sorted(part) for part in parts)
    if 0 < len(named) < len(sent):
        assert set(parts[1]) == named
    else:
        assert abs(len(parts[0]) - len(parts[1])) <= 1


@pytest.mark.parametrize(
    ("rejected", "stray", "accepted"),
    [(0, 0, 3), (1, 0, 2), (2, 0, 1), (0, 1, 2), (1, 1, 1), (0, 2, 1)],
)
def test_accepted_and_rejected_add_up_to_the_chunk(
    rejected: int, stray: int, accepted: int
) -> None:
    """A stray error counts as a rejected record: what is not known to be accepted is not."""
    errors = tuple(RecordError(index=index, messages=()) for index in range(rejected))
    strays = tuple(RecordError(index=100 + index, messages=()) for index in range(stray))
    answer = Uploaded(rejected=errors, stray=strays)
    outcome = decide(answer, envelope(), sent=ALL, accepted_since=True)
    assert outcome == Done(sent=ALL, rejected=errors, stray=strays)
    assert outcome.accepted == accepted


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


def serve(
    bench: Bench, sent: Envelope, deliveries: int, *, between: Callable[[], None] = lambda: None
) -> int:
    """Deliver a message and its copies; return how many deliveries until nothing is queued.

    `between` is called before each delivery. One that only moved to a later slot is not counted.
    """
    between()
    bench.deliver(sent)
    delivery = 1
    while bench.queue.sent and delivery < deliveries:
        copy, delay = bench.take()
        bench.clock.advance(delay)
        between()
        bench.deliver(copy)
        delivery += copy.slot is None
    return delivery


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


def test_what_can_neither_be_decoded_nor_kept_stays_with_the_host() -> None:
    """There is no envelope to defer, so the host delivers it again."""
    bench = Bench()
    bench.tables.before = failing("poison")
    with pytest.raises(UnavailableError):
        bench.deliver("no JSON")


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
