"""Chunks that Sentinel refuses as a whole: the search as delivered, and when nothing is proven."""

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from itertools import count as count_from

import pytest

from common.clock import CLOCK_SKEW
from common.envelope import Envelope, chunk_id_of, decode_envelope, encode_envelope
from common.errors import UnavailableError
from common.ledger.poison import PoisonedBy
from common.ledger.problems import STANDS_FOR, Kind, Moment, Problems
from common.ledger.rejections import RejectedBy
from common.ledger.states import ChunkState
from consumer.deferral import defer_for_operator, longest_wait
from consumer.deliver import LONGEST_SEARCH
from consumer.isolation import REQUEST_BUDGET
from consumer.outcomes import REFUSING_EVERYTHING, THROTTLED_FOR, WAITS_FOR_PROOF
from consumer.pacing import MAX_WAIT
from consumer.refusals import MANY_REFUSALS, SEARCH_EVERY
from consumer.sentinel import (
    THROTTLED,
    Answer,
    Isolate,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    Throttled,
    Unavailable,
)
from tests.unit.consumer.samples import Bench, PickySentinel, envelope, named_in_200


class Crash(BaseException):
    """The process ends here."""


def ids(indexes: Collection[int]) -> frozenset[str]:
    """Return the ids of these records of a chunk."""
    return frozenset(f"indicator--{index}" for index in indexes)


def bench_with(bad: Collection[int]) -> tuple[Bench, PickySentinel]:
    """Return a bench whose Sentinel refuses these records."""
    sentinel = PickySentinel(bad=ids(bad))
    return Bench(sentinel=sentinel), sentinel


def serve(bench: Bench, *sent: Envelope, deliveries: int = 1000) -> int:
    """Deliver messages and their copies, each in its time; return how many deliveries it took."""
    bench.enqueue(*sent)
    waiting = [(bench.clock.elapsed, encode_envelope(message)) for message in sent]
    for delivery in range(deliveries):
        waiting += [(bench.clock.elapsed + item.delay, item.text) for item in bench.queue.sent]
        bench.queue.sent.clear()
        if not waiting:
            return delivery
        waiting.sort()
        due, text = waiting.pop(0)
        bench.clock.advance(max(0.0, due - bench.clock.elapsed))
        bench.deliver(text)
    for due, text in waiting:
        bench.queue.send(text, delay=due - bench.clock.elapsed)
    return deliveries


def assert_found(
    bench: Bench, sent: Envelope, bad: Collection[int], *, said: str = "Sentinel refused"
) -> None:
    """Check the books of a chunk that was searched: every good record in, each bad one kept.

    `said` is how the reason of each begins.
    """
    assert bench.sentinel.accepted == ids(set(range(sent.count)) - set(bad))
    chunk = bench.row(sent)
    assert (chunk.state, chunk.accepted, chunk.rejected) == (
        ChunkState.UPLOADED,
        sent.count - len(bad),
        len(bad),
    )
    kept = list(bench.ledger.rejections.of_run(sent.run_id))
    objects = json.loads(sent.body)
    assert {item.indicator_id for item in kept} == ids(bad)
    for item in kept:
        index = int(item.position.rpartition("-")[2])
        assert json.loads(item.content) == objects[index]
        assert item.rejected_by is RejectedBy.SENTINEL
        assert item.reason.startswith(said)
    assert bench.queue.sent == []
    assert bench.poison == []


@pytest.mark.parametrize(
    "bad",
    [{0}, {50}, {99}, {0, 1}, {0, 99}, {49, 50}, {0, 1, 2, 3}, {7, 31, 50, 98}, {96, 97, 98, 99}],
    ids=str,
)
def test_a_bad_record_costs_itself_and_no_neighbour(bad: set[int]) -> None:
    """Wherever it stands, also at the head of the only chunk there is."""
    bench, _ = bench_with(bad)
    sent = envelope(count=100)
    serve(bench, sent)
    assert_found(bench, sent, bad)


@pytest.mark.parametrize("bad", [{0}, {3, 77}, {0, 1, 2, 3}], ids=str)
def test_a_search_obeys_the_request_budget_of_the_identity(bad: set[int]) -> None:
    """Every request of it has a send slot of its own: the slots taken are the requests made."""
    bench, sentinel = bench_with(bad)
    serve(bench, envelope(count=100))
    assert bench.clock.elapsed >= (sentinel.requests - 1) * 60.0 / 95.0 - 0.001


def once_at(at: int, answer: Answer) -> Callable[[], Answer | None]:
    """Return what gives this answer to request number `at`, and none to the others."""
    numbers = count_from()
    return lambda: answer if next(numbers) == at else None


INTERRUPTIONS: dict[str, Answer] = {
    "an outage": Unavailable(reason="503"),
    "a throttling": Throttled(reason="429", wait=30.0),
    "a lost role": OperatorNeeded(reason="403"),
}


def assert_none_in_vain(sentinel: PickySentinel) -> None:
    """Assert that no group was refused twice, but records alone before anything was accepted."""
    for ids, times in sentinel.refused.items():
        assert times <= (2 if len(ids) == 1 else 1), ids


@pytest.mark.parametrize("answer", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interrupted_search_goes_on_where_it_was(answer: Answer) -> None:
    """At each request in turn: the copy carries the search, and no group is sent in vain twice."""
    bad = {0, 41, 42}
    bench, sentinel = bench_with(bad)
    serve(bench, envelope(count=100))
    for at in range(sentinel.requests):
        bench, found = bench_with(bad)
        found.before = once_at(at, answer)
        sent = envelope(count=100)
        serve(bench, sent)
        assert_found(bench, sent, bad)
        assert_none_in_vain(found)
        assert found.requests == sentinel.requests + 1


def test_a_search_that_must_wait_for_slots_goes_on_where_it_was() -> None:
    """Others take the slots between any two of its requests: each time it comes back later."""
    bad = {5, 60}
    bench, sentinel = bench_with(bad)

    def take_slots() -> None:
        bench.pacer._slots.reserve(20)

    sentinel.before = take_slots
    sent = envelope(count=100)
    deliveries = serve(bench, sent)
    assert_found(bench, sent, bad)
    assert deliveries >= sentinel.requests
    assert_none_in_vain(sentinel)


def test_a_search_past_its_budget_keeps_the_whole_chunk() -> None:
    """A chunk that is bad through and through, while others pass, is poison with every record."""
    bench, sentinel = bench_with(range(0, 100, 2))
    sent = envelope(count=100)
    serve(bench, sent)
    (record,) = bench.poison
    assert record.poisoned_by is PoisonedBy.CONSUMER
    assert "refused records" in record.reason
    assert decode_envelope(record.message).body == sent.body
    assert REQUEST_BUDGET <= sentinel.requests <= REQUEST_BUDGET + 1  # one more as a probe
    chunk = bench.row(sent)
    assert chunk.state is ChunkState.POISONED
    assert bench.queue.sent == []


def test_records_that_a_refusal_names_are_not_searched_for() -> None:
    """The rest of the chunk goes out at once, without them."""
    bench, sentinel = bench_with(())
    named = tuple(RecordError(index=index, messages=("Sentinel refused it",)) for index in (2, 9))
    answers = iter([Isolate(reason="400", refused=named)])
    sentinel.before = lambda: next(answers, None)
    sent = envelope(count=100)
    serve(bench, sent)
    assert_found(bench, sent, {2, 9})
    assert sentinel.requests == 2


@pytest.mark.parametrize("damage", [{}, {"groups": 1}, {"since": float("inf")}, {"since": 1e300}])
def test_a_damaged_search_is_begun_anew(damage: dict[str, object]) -> None:
    """What travels in the envelope may be lost: the chunk is not."""
    bench, _ = bench_with({4})
    sent = replace(envelope(count=10), isolation=damage)
    serve(bench, sent)
    assert_found(bench, sent, {4})


# Where everything is refused, no record is at fault.


def chunks(number: int, *, count: int = 4) -> list[Envelope]:
    """Return envelopes of so many chunks of one run."""
    return [replace(envelope(count=count), sequence=sequence) for sequence in range(number)]


def refusing() -> Answer:
    """Refuse whatever it is."""
    return Isolate(reason="Sentinel refused the request (400)")


def refuse_by(status: int, sentinel: PickySentinel) -> Callable[[], Answer]:
    """Return what refuses everything by this status: a 200 does so by naming every record."""
    return (
        refusing if status == 400 else lambda: named_in_200(range(sentinel.asked), sentinel.asked)
    )


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("status", [400, 200])
def test_a_bad_release_rejects_nothing_and_mends_itself(status: int, count: int) -> None:
    """Many chunks for hours: none is given up, one problem is open; then all are accepted."""
    bench, sentinel = bench_with(())
    sentinel.before = refuse_by(status, sentinel)
    sent = chunks(30, count=count)
    serve(bench, *sent, deliveries=300)
    assert len(bench.queue.sent) == len(sent)
    assert bench.poison == []
    assert list(bench.ledger.rejections.of_run(sent[0].run_id)) == []
    assert bench.problems.last_success() is None
    assert Kind.REFUSING in bench.open_problems.keys() <= {Kind.REFUSING, Kind.UNPROVEN}
    problem = bench.open_problems[Kind.REFUSING]
    assert problem.what == REFUSING_EVERYTHING
    sentinel.before = lambda: None
    copies = [decode_envelope(item.text) for item in bench.queue.sent]
    bench.queue.sent.clear()
    serve(bench, *copies)
    for envelope_sent in sent:
        chunk = bench.row(envelope_sent)
        assert (chunk.state, chunk.accepted) == (ChunkState.UPLOADED, count)
    assert bench.open_problems == {}


def test_a_bad_release_is_noticed_to_be_over_though_every_chunk_has_a_bad_record() -> None:
    """A search is tried once a minute even then: its good records are what tells."""
    bench, sentinel = bench_with({0})
    sentinel.before = refusing
    sent = chunks(30)
    serve(bench, *sent, deliveries=150)
    assert not sentinel.accepted
    sentinel.before = lambda: None
    copies = [decode_envelope(item.text) for item in bench.queue.sent]
    bench.queue.sent.clear()
    serve(bench, *copies)
    for envelope_sent in sent:
        chunk = bench.row(envelope_sent)
        assert (chunk.state, chunk.accepted, chunk.rejected) == (ChunkState.UPLOADED, 3, 1)
    assert bench.open_problems == {}


@pytest.mark.parametrize("status", [400, 200])
def test_while_everything_is_refused_a_chunk_costs_one_request(status: int) -> None:
    """After so many refusals in a row no more than one search begins in a minute."""
    bench, sentinel = bench_with(())
    sentinel.before = refuse_by(status, sentinel)
    for sent in chunks(40):
        bench.deliver(sent)
        bench.clock.advance(1)
    before = sentinel.requests
    assert before >= MANY_REFUSALS
    for sent in chunks(40)[: int(SEARCH_EVERY) // 2]:
        bench.deliver(sent)
    assert sentinel.requests - before <= SEARCH_EVERY // 2 + 12


@pytest.mark.parametrize("names", [False, True])
def test_a_lone_record_is_rejected_only_once_others_pass(names: bool) -> None:
    """The only record of the only chunk proves nothing, however often it is refused."""
    bench, sentinel = bench_with({0})
    sentinel.names = names
    sent = envelope(count=1)
    assert serve(bench, sent, deliveries=50) == 50
    (copy,) = bench.queue.sent
    assert bench.poison == []
    assert list(bench.ledger.rejections.of_run(sent.run_id)) == []
    bench.queue.sent.clear()
    bench.clock.advance(copy.delay)
    bench.others_pass()
    bench.deliver(copy.text)
    assert_found(bench, sent, {0}, said="bad 0" if names else "Sentinel refused")


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_a_chunk_of_bad_records_only_is_rejected_whole_once_others_pass(count: int) -> None:
    """A 200 names them all: it is sent twice, as a chunk that passes lies between, and kept."""
    bench, sentinel = bench_with(range(count))
    sentinel.names = True
    sent = envelope(count=count)
    bench.deliver(sent)
    copy, delay = bench.take()
    bench.clock.advance(delay / 2)
    bench.others_pass()
    bench.clock.advance(delay / 2)
    bench.deliver(copy)
    assert_found(bench, sent, range(count), said="bad ")
    assert sentinel.requests == 2


def test_what_a_200_says_of_a_record_in_a_search_is_kept() -> None:
    """The chunk is refused by a 400; records sent alone then, by a 200 that names them."""
    bench, sentinel = bench_with({2, 3})
    sentinel.before = once_at(0, refusing())
    sentinel.names = True
    sent = envelope(count=4)
    serve(bench, sent)
    assert_found(bench, sent, {2, 3}, said="bad 0")
    assert sentinel.requests == 5  # with the probe


def test_chunks_of_bad_records_only_come_to_their_end_among_others() -> None:
    """More than an instance takes for the end of the world; one good chunk in 15 minutes."""
    bench, sentinel = bench_with(range(4))
    sentinel.names = True
    sent = chunks(30)
    serve(bench, *sent, deliveries=100)
    assert len(bench.queue.sent) == len(sent)
    body = b'[{"id":"indicator--99"}]'
    good = replace(envelope(count=1), body=body, chunk_id=chunk_id_of(body))
    for number in range(8):
        bench.deliver(replace(good, sequence=100 + number))
        serve_copies(bench, deliveries=60)
        bench.clock.advance(900)
    assert bench.queue.sent == []
    assert bench.poison == []
    for one in sent:
        chunk = bench.row(one)
        assert (chunk.state, chunk.rejected) == (ChunkState.UPLOADED, 4)
    assert sentinel.accepted == {"indicator--99"}


def test_what_others_had_accepted_before_proves_nothing() -> None:
    """Only a success after the refusal shows that the record is at fault."""
    bench, _ = bench_with({0})
    bench.others_pass()
    bench.clock.advance(60)
    serve(bench, envelope(count=1), deliveries=5)
    assert len(bench.queue.sent) == 1
    assert list(bench.ledger.rejections.of_run(envelope().run_id)) == []


def test_an_outage_of_days_gives_no_chunk_up_and_leaves_one_problem() -> None:
    """Nobody's chunks pass, so no attempt counts; the first success closes the problem."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: Unavailable(reason="Sentinel is unavailable (503)")
    sent = chunks(3)
    serve(bench, *sent, deliveries=1500)
    assert bench.poison == []
    assert bench.clock.elapsed > 3 * 86_400
    assert set(bench.open_problems) == {Kind.UNAVAILABLE}
    assert all(decode_envelope(item.text).attempt == 0 for item in bench.queue.sent)
    sentinel.before = lambda: None
    copies = [decode_envelope(item.text) for item in bench.queue.sent]
    bench.queue.sent.clear()
    serve(bench, *copies)
    assert bench.open_problems == {}
    assert all(bench.row(one).accepted == 4 for one in sent)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Unavailable(reason="503"), Kind.UNAVAILABLE),
        (OperatorNeeded(reason="403: give the role"), Kind.ACCESS),
    ],
)
def test_a_problem_is_raised_with_its_remedy_and_closed_by_the_first_success(
    answer: Answer, kind: Kind
) -> None:
    """The ledger says what stands in the way for as long as it does."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: answer
    serve(bench, envelope(), deliveries=3)
    assert bench.open_problems[kind].what == getattr(answer, "reason", "")
    bench.deliver(replace(envelope(count=1), sequence=8))
    assert kind in bench.open_problems
    sentinel.before = lambda: None
    bench.clock.advance(60)
    bench.deliver(replace(envelope(count=2), sequence=9))
    assert bench.open_problems == {}


def test_a_throttled_chunk_holds_all_others_back() -> None:
    """Until the time that Sentinel named nothing leaves, and every message comes after it."""
    bench, sentinel = bench_with(())
    answers = iter([Throttled(reason="429", wait=40.0)])
    sentinel.before = lambda: next(answers, None)
    first, second = chunks(2)
    bench.deliver(replace(first, slot=bench.clock.now().timestamp()))
    bench.deliver(replace(second, slot=bench.clock.now().timestamp()))
    assert sentinel.requests == 1
    assert all(item.delay >= 40.0 for item in bench.queue.sent)
    (deferred, postponed) = (decode_envelope(item.text) for item in bench.queue.sent)
    assert (deferred.deferrals, deferred.slot) == (1, None)
    assert (postponed.deferrals, postponed.slot) == (0, bench.clock.now().timestamp() + 40.0)


# What proves that a record is at fault.


def test_what_was_under_way_when_a_bad_release_began_proves_nothing() -> None:
    """A request sent before the refusal, whose success is noted after it, rejects no record."""
    bench, sentinel = bench_with(())
    under_way = bench.problems.moment()
    bench.clock.advance(1)

    def refuse_and_note() -> Answer:
        bench.clock.advance(1)
        bench.problems.note_success(under_way)
        return refusing()

    sentinel.before = refuse_and_note
    sent = envelope(count=3)
    serve(bench, sent, deliveries=20)
    assert list(bench.ledger.rejections.of_run(sent.run_id)) == []
    assert bench.poison == []
    assert len(bench.queue.sent) == 1


@pytest.mark.parametrize("first", [None, Unavailable(reason="503"), RefreshToken(reason="401")])
def test_a_success_is_noted_with_the_time_it_was_sent(first: Answer | None) -> None:
    """Of the request that was accepted, be it the second one; not when its answer came."""
    bench, sentinel = bench_with(())
    sent_at = []
    answers = iter([first] if first else [])

    def answer_late() -> Answer | None:
        sent_at.append(bench.clock.now())
        bench.clock.advance(8)
        return next(answers, None)

    sentinel.before = answer_late
    bench.deliver(envelope())
    assert len(sent_at) == (2 if first else 1)
    assert bench.problems.last_success() == sent_at[-1]


@pytest.mark.parametrize("ahead", [CLOCK_SKEW, CLOCK_SKEW / 3])
def test_the_clock_of_another_instance_proves_nothing_before_its_time(ahead: float) -> None:
    """A success sent before the refusal, by a clock that is minutes ahead, rejects no record."""
    bench, _ = bench_with({0})
    ahead_of_us = Moment(at=bench.clock.now() + timedelta(seconds=ahead), by="another")
    bench.clock.advance(1)
    sent = envelope(count=1)
    bench.deliver(sent)
    bench.problems.note_success(ahead_of_us)
    serve_copies(bench, deliveries=20)
    assert list(bench.ledger.rejections.of_run(sent.run_id)) == []
    assert len(bench.queue.sent) == 1


def test_others_on_other_instances_prove_it_in_the_end() -> None:
    """Once the delays are longer than clocks may differ, their successes count."""
    bench, sentinel = bench_with({0})

    def others_pass() -> None:
        Problems(bench.tables, clock=bench.clock, instance="another").note_success(
            Moment(at=bench.clock.now(), by="another")
        )

    sentinel.before = others_pass
    sent = envelope(count=1)
    assert serve(bench, sent, deliveries=10) < 10
    assert_found(bench, sent, {0})


@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize("bad", [(), {0}, {6, 7}, {0, 3, 5}], ids=str)
def test_a_bad_release_in_the_middle_of_a_search_rejects_and_poisons_nothing(
    bad: Collection[int], status: int
) -> None:
    """From each request on in turn, for hours: then exactly the bad records are rejected."""
    for works in range(1, 24):
        bench, sentinel = bench_with(bad or {2})
        numbers = count_from()
        refuse = refuse_by(status, sentinel)
        sentinel.before = lambda: None if next(numbers) < works else refuse()  # noqa: B023 - at once
        sent = envelope(count=8)
        serve(bench, sent, deliveries=20)
        sentinel.before = lambda: None
        serve_copies(bench)
        assert_found(bench, sent, bad or {2})


def test_more_bad_records_side_by_side_than_few_are_found_in_the_only_chunk() -> None:
    """A record that was accepted goes out again between them: nobody else is needed as proof."""
    bad = set(range(40, 64))
    bench, sentinel = bench_with(bad)
    sent = envelope(count=100)
    serve(bench, sent)
    assert_found(bench, sent, bad)
    assert sentinel.requests < REQUEST_BUDGET


def serve_copies(bench: Bench, *, deliveries: int = 1000) -> int:
    """Deliver what is on the queue, and its copies."""
    copies = [decode_envelope(item.text) for item in bench.queue.sent]
    bench.clock.advance(max((item.delay for item in bench.queue.sent), default=0.0))
    bench.queue.sent.clear()
    return serve(bench, *copies, deliveries=deliveries)


# One delivery is short, however long a search is.


def test_a_slow_search_is_put_back_on_the_queue_in_time() -> None:
    """Each delivery ends soon after its limit, with what it found; no group is sent twice."""
    bad = set(range(0, 100, 12))
    bench, sentinel = bench_with(bad)
    slow = 8.0
    sentinel.before = lambda: bench.clock.advance(slow)
    sent = envelope(count=100)
    bench.deliver(sent)
    longest, deliveries = bench.clock.elapsed, 1
    while bench.queue.sent:
        copy, delay = bench.take()
        bench.clock.advance(delay)
        began = bench.clock.elapsed
        bench.deliver(copy)
        longest = max(longest, bench.clock.elapsed - began)
        deliveries += 1
    assert_found(bench, sent, bad)
    assert longest <= LONGEST_SEARCH + slow + MAX_WAIT
    assert deliveries >= 5
    assert_none_in_vain(sentinel)


@pytest.mark.parametrize(
    "isolation", [None, {"groups": [[[2], 0, 0]], "accepted": 2, "rejected": [], "requests": 2}]
)
@pytest.mark.parametrize("records", [0, 2, 5, 9000])
def test_a_refused_chunk_whose_body_holds_other_records_is_kept(
    records: int, isolation: dict[str, object] | None
) -> None:
    """Its records cannot be searched: poison with that reason, and no error for the host to count.

    It claims more records than it has, or fewer.
    """
    bench = Bench()
    bench.answer(Isolate(reason="Sentinel refused the request (400)"))
    body = f"[{','.join(['0'] * records)}]".encode()
    sent = replace(envelope(), chunk_id=chunk_id_of(body), body=body, isolation=isolation)
    bench.deliver(sent)
    (record,) = bench.poison
    assert "does not hold the records" in record.reason
    assert record.message == encode_envelope(sent)
    assert bench.queue.sent == []
    assert bench.row(sent).state is ChunkState.POISONED


# A problem that is not met again ends by itself.


@pytest.mark.parametrize("state", [ChunkState.QUEUED, ChunkState.UPLOADED])
def test_a_problem_ends_though_its_chunk_never_comes_back(state: ChunkState) -> None:
    """The host gave the message up, or a copy was uploaded: nothing waits for Sentinel."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: OperatorNeeded(reason="403")
    bench.deliver(envelope())
    copy = bench.queue.sent.pop()
    if state is ChunkState.UPLOADED:
        bench.settle(envelope(), accepted=range(3))
    bench.keeper.keep_from_host(copy.text)
    assert len(bench.poison) == (0 if state is ChunkState.UPLOADED else 1)
    assert set(bench.open_problems) == {Kind.ACCESS}
    bench.clock.advance(STANDS_FOR.total_seconds() + 1)
    assert bench.open_problems == {}
    assert [problem.kind for problem in bench.problems.ended()] == [Kind.ACCESS]


@pytest.mark.parametrize("times", [2, 4])
def test_a_quiet_feed_with_one_bad_record_is_not_down(times: int) -> None:
    """Nothing else is ever accepted: one record waits for proof, and nothing more is said."""
    bench, _ = bench_with({0})
    sent = envelope(count=1)
    serve(bench, sent, deliveries=times)
    assert len(bench.queue.sent) == 1
    assert set(bench.open_problems) == {Kind.UNPROVEN}
    problem = bench.open_problems[Kind.UNPROVEN]
    assert problem.subject == sent.name
    assert problem.what == WAITS_FOR_PROOF
    bench.others_pass()
    assert bench.open_problems == {}


@pytest.mark.parametrize("delay", [1.0, 60.0, 3600.0])
def test_a_problem_counts_for_longer_than_any_wait_for_an_operator(delay: float) -> None:
    """However `DEFERRAL_DELAY` is set, a chunk that waits raises it again in time."""
    waits = [defer_for_operator(envelope(deferrals=n), "403").units * delay for n in range(20)]
    assert max(waits) * 1.2 < longest_wait(delay).total_seconds() < max(waits) * 1.2 + 180


def fail_in(table: str) -> Callable[[str, str], None]:
    """Return a hook that makes every operation of a table fail."""

    def before(name: str, _operation: str) -> None:
        if name == table:
            raise UnavailableError("storage")

    return before


# Throttling that does not end.


def throttled() -> Answer:
    """Refuse for now."""
    return Throttled(reason=THROTTLED, wait=60.0)


def test_throttling_that_goes_on_is_a_problem_that_the_first_success_closes() -> None:
    """After minutes with nothing accepted, and not before; its remedy is told."""
    bench, sentinel = bench_with(())
    sentinel.before = throttled
    bench.deliver(envelope())
    while bench.clock.elapsed < 20 * 60:
        copy, delay = bench.take()
        bench.clock.advance(delay)
        bench.deliver(copy)
        is_long = bench.clock.elapsed >= THROTTLED_FOR.total_seconds()
        if copy.slot is None or is_long is False:
            assert (Kind.THROTTLED in bench.open_problems) is is_long
    assert "SENTINEL_REQUESTS_PER_MINUTE" in bench.open_problems[Kind.THROTTLED].what
    assert bench.poison == []
    sentinel.before = lambda: None
    serve_copies(bench)
    assert bench.open_problems == {}


def test_throttling_between_successes_is_no_problem() -> None:
    """One chunk is throttled for an hour while others pass."""
    bench, sentinel = bench_with(())
    sentinel.before = throttled
    bench.deliver(envelope())
    while bench.clock.elapsed < 3600:
        copy, delay = bench.take()
        bench.clock.advance(delay)
        bench.others_pass()
        bench.deliver(copy)
        assert bench.open_problems == {}


def test_a_single_429_after_other_trouble_is_no_problem() -> None:
    """A chunk that waited for hours for something else may be throttled once."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: OperatorNeeded(reason="403")
    serve(bench, envelope(), deliveries=10)
    sentinel.before = throttled
    serve_copies(bench, deliveries=1)
    assert Kind.THROTTLED not in bench.open_problems


# Nothing is lost by a search, whatever breaks.


def fail_from(at: int, error: Callable[[], BaseException], *, lasting: bool) -> Callable[..., None]:
    """Return a hook that raises at its call number `at`, or from there on."""
    numbers = count_from()

    def hook(*_: object) -> None:
        number = next(numbers)
        if number == at or (lasting and number > at):
            raise error()

    return hook


@pytest.mark.parametrize("lasting", [False, True], ids=["one call", "an outage"])
@pytest.mark.parametrize(
    "error", [lambda: UnavailableError("storage"), Crash], ids=["fails", "kills"]
)
def test_a_search_loses_nothing_whatever_breaks_wherever(
    error: Callable[[], BaseException], lasting: bool
) -> None:
    """At each operation of ledger and queue in turn: the message is kept and comes to its end."""
    bad = {0, 5}
    sent = envelope(count=8)

    def broken_at(at: int) -> tuple[Bench, bool]:
        bench, _ = bench_with(bad)
        bench.tables.before = bench.queue.before = fail_from(at, error, lasting=lasting)
        try:
            bench.deliver(sent)
        except (UnavailableError, Crash):
            bench.repair()
            bench.restart()
            bench.deliver(sent)
        bench.repair()
        done = bench.chunk(sent)
        finished = done is not None and done.state is ChunkState.UPLOADED
        assert finished or bench.queue.sent
        return bench, finished

    for at in range(60):
        bench, finished = broken_at(at)
        if not finished:
            serve(bench)
        assert_found(bench, sent, bad)
