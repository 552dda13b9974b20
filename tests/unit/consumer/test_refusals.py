"""What stands in the way of everybody: problems, outages and throttling, as delivered."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from common.envelope import Envelope, chunk_id_of, decode_envelope, encode_envelope
from common.errors import UnavailableError
from common.ledger.acceptance import ENOUGH_RAISES, Acceptance
from common.ledger.problems import STANDS_FOR, ProblemKind
from common.ledger.states import ChunkState
from consumer.deferral import defer_for_operator, longest_wait
from consumer.outcomes import (
    MANY_REFUSALS,
    ONE_WAITS,
    REFUSING_EVERYTHING,
    THROTTLED_FOR,
)
from consumer.sentinel import (
    THROTTLED,
    Answer,
    Drift,
    OperatorNeeded,
    Refused,
    Throttled,
    Unavailable,
)
from tests.unit.consumer.samples import Bench, PickySentinel, envelope, named_in_200


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


# An outage, or a bad release.


def chunks(number: int, *, count: int = 4) -> list[Envelope]:
    """Return envelopes of so many chunks of one run."""
    return [replace(envelope(count=count), sequence=sequence) for sequence in range(number)]


def refusing() -> Answer:
    """Refuse whatever it is."""
    return Refused(reason="Sentinel refused the request (400)")


def refuse_by(status: int, sentinel: PickySentinel) -> Callable[[], Answer]:
    """Return what refuses everything by this status: a 200 does so by naming every record."""
    return (
        refusing if status == 400 else lambda: named_in_200(range(sentinel.asked), sentinel.asked)
    )


@pytest.mark.parametrize("status", [400, 200])
def test_that_sentinel_refuses_everything_is_said_after_many_refusals_in_a_row(
    status: int,
) -> None:
    """Not after fewer, as a quiet feed may have a bad record; the first success closes it."""
    bench, sentinel = bench_with(())
    sentinel.before = refuse_by(status, sentinel)
    for number, sent in enumerate(chunks(MANY_REFUSALS, count=1), start=1):
        bench.deliver(sent)
        assert (ProblemKind.REFUSING in bench.open_problems) is (number == MANY_REFUSALS)
    assert bench.open_problems[ProblemKind.REFUSING].what == REFUSING_EVERYTHING
    assert bench.problems.last_success() is None
    sentinel.before = lambda: None
    serve_copies(bench)
    assert bench.open_problems == {}


def test_refusals_with_a_success_between_are_not_in_a_row() -> None:
    """However many bad records there are, Sentinel does not refuse everything."""
    bench, _ = bench_with({0})
    for number, bad in enumerate(chunks(2 * MANY_REFUSALS, count=1)):
        bench.deliver(bad)
        if number % (MANY_REFUSALS - 1) == MANY_REFUSALS - 2:
            body = b'[{"id":"indicator--7"}]'
            bench.deliver(
                replace(bad, sequence=900 + number, body=body, chunk_id=chunk_id_of(body))
            )
    assert bench.open_problems == {}


def test_an_outage_of_days_gives_no_chunk_up_and_leaves_one_problem() -> None:
    """Nobody's chunks pass, so no attempt counts; the first success closes the problem."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: Unavailable(reason="Sentinel is unavailable (503)")
    sent = chunks(3)
    serve(bench, *sent, deliveries=1500)
    assert bench.poison == []
    assert bench.clock.elapsed > 3 * 86_400
    assert set(bench.open_problems) == {ProblemKind.UNAVAILABLE}
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
        (Unavailable(reason="503"), ProblemKind.UNAVAILABLE),
        (OperatorNeeded(reason="403: give the role"), ProblemKind.ACCESS),
    ],
)
def test_a_problem_is_raised_with_its_remedy_and_closed_by_the_first_success(
    answer: Answer, kind: ProblemKind
) -> None:
    """The ledger says what stands in the way for as long as it does."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: answer
    serve(bench, *chunks(2), deliveries=3)
    assert bench.open_problems[kind].what == getattr(answer, "reason", "")
    bench.deliver(replace(envelope(count=1), sequence=8))
    assert kind in bench.open_problems
    sentinel.before = lambda: None
    bench.clock.advance(60)
    bench.deliver(replace(envelope(count=2), sequence=9))
    assert bench.open_problems == {}


@pytest.mark.parametrize("answer", [Unavailable(reason="500"), Drift(reason="418")])
def test_one_message_that_fails_is_no_outage(answer: Answer) -> None:
    """In a quiet feed only it is told of; the second message that fails is an outage."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: answer
    first, second, third = chunks(3)
    serve(bench, first, deliveries=5)
    (problem,) = bench.open_problems.values()
    assert (problem.kind, problem.subject) == (ProblemKind.FAILING, first.name)
    assert first.name in problem.what
    sentinel.before = lambda: None
    bench.others_pass()
    bench.deliver(second)
    assert bench.open_problems == {}
    sentinel.before = lambda: answer
    kind = ProblemKind.DRIFT if isinstance(answer, Drift) else ProblemKind.UNAVAILABLE
    bench.deliver(third)
    assert kind not in bench.open_problems
    bench.deliver(first)
    assert kind in bench.open_problems


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


def serve_copies(bench: Bench, *, deliveries: int = 1000) -> int:
    """Deliver what is on the queue, and its copies."""
    copies = [decode_envelope(item.text) for item in bench.queue.sent]
    bench.clock.advance(max((item.delay for item in bench.queue.sent), default=0.0))
    bench.queue.sent.clear()
    return serve(bench, *copies, deliveries=deliveries)


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
    assert set(bench.open_problems) == {ProblemKind.ACCESS}
    bench.clock.advance(STANDS_FOR.total_seconds() + 1)
    assert bench.open_problems == {}
    assert [problem.kind for problem in bench.problems.ended()] == [ProblemKind.ACCESS]


@pytest.mark.parametrize("times", [2, 4, 2 * MANY_REFUSALS])
def test_a_quiet_feed_with_one_bad_record_is_not_down(times: int) -> None:
    """Nothing else is ever accepted: one record waits for proof, and nothing more is said."""
    bench, _ = bench_with({0})
    sent = envelope(count=1)
    serve(bench, sent, deliveries=times)
    assert len(bench.queue.sent) == 1
    assert set(bench.open_problems) == {ProblemKind.UNPROVEN}
    problem = bench.open_problems[ProblemKind.UNPROVEN]
    assert problem.subject == sent.name
    assert problem.what == ONE_WAITS
    bench.others_pass()
    assert bench.open_problems == {}


def test_a_record_that_waited_for_proof_waits_no_more_once_it_is_rejected() -> None:
    """What proved it was sent before it was said to wait, so that it did not end this itself."""
    bench, _ = bench_with({0})
    serve(bench, envelope(count=1), deliveries=2)
    assert set(bench.open_problems) == {ProblemKind.UNPROVEN}
    acceptance = Acceptance(bench.tables, clock=bench.clock)
    for _ in range(ENOUGH_RAISES):
        acceptance.accepted(acceptance.read())
    assert set(bench.open_problems) == {ProblemKind.UNPROVEN}
    copy, delay = bench.take()
    bench.clock.advance(delay)
    bench.deliver(copy)
    assert [kept.indicator_id for kept in bench.ledger.rejections.of_run(envelope().run_id)]
    assert bench.open_problems == {}


def test_a_server_error_and_a_refusal_do_not_prove_each_other() -> None:
    """The first refusal of a record never counts, whatever failed before and passed since."""
    bench, sentinel = bench_with({0})
    sent = envelope(count=1)
    sentinel.before = lambda: Unavailable(reason="503")
    bench.deliver(sent)
    sentinel.before = lambda: None
    acceptance = Acceptance(bench.tables, clock=bench.clock)
    for rejections in (0, 1):
        for _ in range(ENOUGH_RAISES):
            acceptance.accepted(acceptance.read())
        copy, delay = bench.take()
        bench.clock.advance(delay)
        bench.deliver(copy)
        assert len(list(bench.ledger.rejections.of_run(sent.run_id))) == rejections
    assert bench.queue.sent == []


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
            assert (ProblemKind.THROTTLED in bench.open_problems) is is_long
    assert "SENTINEL_REQUESTS_PER_MINUTE" in bench.open_problems[ProblemKind.THROTTLED].what
    assert bench.poison == []
    sentinel.before = lambda: None
    serve_copies(bench)
    assert bench.open_problems == {}


def test_throttling_is_a_problem_though_each_chunk_meets_it_once() -> None:
    """Behind a long backlog none comes back for a second 429 in time."""
    bench, sentinel = bench_with(())
    sentinel.before = throttled
    for sent in chunks(6):
        assert ProblemKind.THROTTLED not in bench.open_problems
        bench.deliver(sent)
        bench.clock.advance(THROTTLED_FOR.total_seconds() / 5 + 1)
    assert ProblemKind.THROTTLED in bench.open_problems
    bench.deliver(sent)
    sentinel.before = lambda: None
    serve_copies(bench)
    sentinel.before = throttled
    bench.clock.advance(3 * 3600)
    bench.deliver(replace(envelope(), sequence=99))
    assert bench.open_problems == {}  # a new one, however long ago the first was


def test_an_hour_without_a_try_is_a_problem_at_once_and_until_it_is_over() -> None:
    """Nothing leaves, so nothing would raise it again."""
    bench, sentinel = bench_with(())
    sentinel.before = lambda: Throttled(reason=THROTTLED, wait=3600.0)
    bench.deliver(envelope())
    bench.clock.advance(3600)
    assert set(bench.open_problems) == {ProblemKind.THROTTLED}


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
    assert ProblemKind.THROTTLED not in bench.open_problems


def test_the_problem_of_a_failing_message_lasts_until_its_next_try() -> None:
    """Also when that is an hour away: it keeps its beginning, and leaves no trace meanwhile."""
    bench = Bench()
    problems = bench.problems
    bench.answer(Unavailable(reason="Sentinel is unavailable (500)"))
    bench.others_pass()
    bench.clock.advance(60)
    bench.deliver(replace(envelope(attempt=7, deferrals=9), failed=0))
    again, delay = bench.take()
    (problem,) = problems.open()
    bench.clock.advance(delay)
    assert problems.open() == [problem]
    bench.deliver(again)
    assert [one.since for one in problems.open()] == [problem.since]
    assert problems.ended() == []
