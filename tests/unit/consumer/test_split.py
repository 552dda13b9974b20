"""Splits as delivered: bad records are found exactly, and an outage costs none.

Properties over random traffic: any order, doubles, crashes, requests that overlap, instances that
know nothing of each other.
"""

import json
from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envelope import Envelope, chunk_id_of, decode_envelope, encode_envelope
from common.errors import UnavailableError
from common.ledger.acceptance import RAISE_EVERY, WAITS_FOR_PROOF, Acceptance
from common.ledger.chunks import Fate
from common.ledger.poison import PoisonState
from common.ledger.slots import Slots
from common.ledger.states import ChunkState, Letter
from consumer.deliver import NOT_THE_RECORDS
from consumer.sentinel import Drift, Refused, Unavailable, Uploaded
from consumer.split import part_of
from ops.poison import Result, Selection, discard, find, replay
from tests.fakes.clock import START
from tests.fakes.crash import Crash
from tests.unit.consumer.samples import Bench, envelope
from tests.unit.consumer.traffic import (
    Traffic,
    WatchedSentinel,
    ids_of,
    numbered,
    seeded,
)

FORMS = ("400", "400 named", "200 named")


def settle(traffic: Traffic, *, deliveries: int = 20_000) -> int:
    """Deliver until nothing waits, while others are accepted; return how many deliveries."""
    for delivery in range(deliveries):
        if not traffic.waiting:
            return delivery
        traffic.accept_other()
        traffic.deliver_next()
    raise AssertionError(f"{len(traffic.waiting)} messages still wait")


def assert_found(traffic: Traffic, count: int, bad: Collection[int]) -> None:
    """Check that each bad record is rejected with its content, and every other one accepted."""
    assert traffic.rejected == ids_of(bad)
    assert ids_of(set(range(count)) - set(bad)) <= traffic.sentinel.accepted
    assert not traffic.sentinel.accepted & ids_of(bad)
    assert traffic.bench.poison == []
    for chunk in traffic.bench.ledger.chunks.all():
        assert chunk.is_settled
        if chunk.sequence < 100 and chunk.letters:
            first = chunk.sequence * count
            letters = "".join("R" if first + at in bad else "A" for at in range(chunk.count))
            assert chunk.letters == letters


@given(
    bad=st.sets(st.integers(0, 99), min_size=1),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25)
def test_any_bad_records_are_found_exactly(bad: set[int], form: str, seed: int) -> None:
    """In any order of deliveries, with doubles, crashes and failing storage."""
    rng = seeded(seed)
    sentinel = WatchedSentinel(bad=ids_of(bad), form=form)
    traffic = Traffic(rng, sentinel, crashes=rng.choice([0.0, 0.1, 0.3]), overlap=0.2)
    traffic.put(numbered(0, count=100, first=0))
    for _ in range(150):
        if traffic.waiting:
            traffic.deliver_any()
        if rng.random() < 0.5:
            traffic.accept_other()
    traffic.crashes = 0.0
    settle(traffic)
    assert_found(traffic, 100, bad)
    if form != "200 named":
        assert traffic.unproven() == set()


@pytest.mark.parametrize("bad", [{0}, {99}, {49, 50}, {7, 31, 50, 98}, set(range(100))], ids=len)
@pytest.mark.parametrize("form", FORMS)
def test_a_chunk_with_bad_records_harms_no_other_chunk(bad: set[int], form: str) -> None:
    """Also one of bad records only: each is rejected, and its neighbours' chunks go out whole."""
    traffic = Traffic(seeded(0), WatchedSentinel(bad=ids_of(bad), form=form))
    traffic.put(*(numbered(number, count=100, first=100 * number) for number in range(5)))
    settle(traffic)
    assert_found(traffic, 100, bad)
    assert ids_of(range(100, 500)) <= traffic.sentinel.accepted
    others = [request.ids for request in traffic.sentinel.requests if len(request.ids) == 100]
    assert len(set(others[1:])) == len(others[1:])  # none of the others was sent twice


def be_busy(traffic: Traffic, *, until: int) -> None:
    """Let messages be delivered and others arrive, until so many requests were sent."""
    while traffic.sentinel.sent < until:
        if traffic.waiting and traffic.rng.random() < 0.8:
            traffic.deliver_any()
        else:
            traffic.accept_other()


@given(
    bad=st.sets(st.integers(0, 39), max_size=6),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**16),
    begins=st.integers(0, 60),
    lasts=st.integers(1, 200),
)
@settings(max_examples=30)
def test_an_outage_rejects_nothing(
    bad: set[int], form: str, seed: int, begins: int, lasts: int
) -> None:
    """Whenever it begins and however long it lasts, with answers under way, doubles and crashes.

    Nothing is given up, no good record is rejected, and nothing is split but one chunk a minute.
    """
    outage = range(begins, begins + lasts)
    sentinel = WatchedSentinel(bad=ids_of(bad), form=form, outages=[outage])
    traffic = Traffic(seeded(seed), sentinel, crashes=0.05, overlap=0.5)
    traffic.put(*(numbered(number, count=8, first=8 * number) for number in range(5)))
    be_busy(traffic, until=begins)
    began = traffic.bench.clock.elapsed
    be_busy(traffic, until=outage.stop)
    parts = [at for at in traffic.parts if at > began]
    ended = traffic.bench.clock.elapsed
    assert len(parts) <= 2 * (2 + (ended - began) // 60)
    traffic.crashes = 0.0
    settle(traffic)
    assert traffic.rejected == ids_of(bad)
    assert traffic.bench.poison == []
    assert ids_of(set(range(40)) - bad) <= sentinel.accepted


@given(
    bad=st.sets(st.integers(0, 39), max_size=6),
    seed=st.integers(0, 2**16),
    breaks=st.lists(st.integers(1, 80), min_size=4, max_size=12),
    form=st.sampled_from(["400", "400 named"]),
)
@settings(max_examples=30)
def test_only_outages_that_hit_one_record_alone_can_reject_it(
    bad: set[int], seed: int, breaks: list[int], form: str
) -> None:
    """Outage after outage: what is rejected was refused alone twice, with an acceptance between."""
    ends = [sum(breaks[: at + 1]) for at in range(len(breaks))]
    outages = [range(begins, ends) for begins, ends in zip(ends[::2], ends[1::2], strict=False)]
    sentinel = WatchedSentinel(bad=ids_of(bad), form=form, outages=outages)
    traffic = Traffic(seeded(seed), sentinel, crashes=0.05, overlap=0.5)
    traffic.put(*(numbered(number, count=8, first=8 * number) for number in range(5)))
    be_busy(traffic, until=ends[-1])
    traffic.crashes = 0.0
    settle(traffic)
    assert traffic.unproven() == set()
    assert ids_of(bad) <= traffic.rejected
    assert traffic.bench.poison == []
    assert ids_of(range(40)) <= sentinel.accepted | traffic.rejected


def test_one_bad_record_behind_an_hour_of_backlog_is_found_within_15_minutes() -> None:
    """Its parts take spare slots, and the rate is that of the slots."""
    sentinel = WatchedSentinel(bad=ids_of({61}))
    traffic = Traffic(seeded(0), sentinel)
    reserved = traffic.bench.pacer._slots.reserve(60 * 95)
    assert (reserved.slot(60 * 95 - 1) - reserved.first).total_seconds() >= 3600
    traffic.put(numbered(0, count=100, first=0))
    _, text = traffic.waiting.pop()
    first = replace(decode_envelope(text), slot=reserved.first.timestamp())
    traffic.waiting.append((0.0, encode_envelope(first)))
    while traffic.waiting:
        traffic.accept_other()
        traffic.deliver_next()
    assert_found(traffic, 100, {61})
    assert traffic.bench.clock.elapsed <= 15 * 60


# One split, step by step.


def test_the_parts_of_a_refused_chunk_are_messages_of_their_own() -> None:
    """Each carries its records, exactly as they were; the row has a letter for each record."""
    bench, sent = Bench(), envelope(count=5)
    bench.answer(Refused(reason="400"))
    bench.deliver(sent)
    parts = [decode_envelope(item.text) for item in bench.queue.sent]
    assert [part.part for part in parts] == [(0, 1), (2, 3, 4)]
    objects = json.loads(sent.body)
    assert [json.loads(part.body) for part in parts] == [objects[:2], objects[2:]]
    assert [part.fingerprints for part in parts] == [(0, 1), (2, 3, 4)]
    assert {part.key for part in parts} == {sent.key}
    assert len({part.message_key for part in parts} | {sent.message_key}) == 3
    assert all(part.slot is not None for part in parts)
    assert bench.row(sent).letters == "....."


def _refuse_without_grant(bench: Bench, message: Envelope | str) -> None:
    """Deliver a message that is refused while others have used every grant."""
    while Acceptance(bench.tables, clock=bench.clock).may_split():
        pass
    bench.answer(Refused(reason="400"))
    bench.deliver(message)


def test_a_chunk_that_is_refused_twice_while_others_pass_needs_no_grant() -> None:
    """Else chunks with bad records would be split one after the other, however many there are."""
    bench, sent = Bench(), envelope(count=4)
    _refuse_without_grant(bench, sent)
    for passed in (False, True):
        copy, delay = bench.take()
        bench.clock.advance(delay)
        if passed:
            bench.others_pass()
        _refuse_without_grant(bench, encode_envelope(copy))
        assert bench.row(sent).letters == ("...." if passed else "")
    assert [decode_envelope(item.text).part for item in bench.queue.sent] == [(0, 1), (2, 3)]


def test_the_last_record_of_many_is_not_rejected_for_what_they_were_refused_for() -> None:
    """It goes into a message of its own, whose first refusal counts as little as any other."""
    bench, sent = Bench(), envelope(count=2)
    _refuse_without_grant(bench, sent)
    bench.ledger.chunks.record_split(bench.row(sent), [(0,), (1,)])
    bench.settle(sent, accepted=(0,))
    for part, letters in ((None, "A."), ((1,), "A."), ((1,), "AR")):
        bench.others_pass()
        copy, delay = bench.take()
        assert copy.part == part
        bench.clock.advance(delay)
        _refuse_without_grant(bench, encode_envelope(copy))
        assert bench.row(sent).letters == letters
    assert bench.queue.sent == []


@pytest.mark.parametrize("error", [Crash, UnavailableError])
def test_a_split_that_dies_halfway_loses_no_record(error: type[BaseException]) -> None:
    """At each call in turn: delivered again it is split or sent again; doubles come to an end."""
    for at in range(12):
        sentinel = WatchedSentinel(bad=ids_of({3}))
        traffic = Traffic(seeded(at), sentinel)
        traffic.put(numbered(0, count=4, first=0))
        (text,) = (text for _, text in traffic.waiting)
        bench = traffic.bench
        bench.tables.before = bench.queue.before = traffic._fail_at(at, error)
        if not traffic._deliver(text):
            traffic.waiting.append((0.0, text))
        traffic.waiting.pop(0)
        settle(traffic)
        assert_found(traffic, 4, {3})


def test_doubles_of_parts_end_when_their_records_have_letters() -> None:
    """The chunk is delivered once more after its parts: nothing of it is sent again."""
    traffic = Traffic(seeded(0), WatchedSentinel(bad=ids_of({1})))
    sent = numbered(0, count=4, first=0)
    traffic.put(sent, sent)
    parts = [part_of(sent, (0, 1)), part_of(sent, (2, 3))]
    settle(traffic)
    requests = traffic.sentinel.sent
    for message in (sent, *parts):
        traffic.bench.deliver(message)
    assert traffic.sentinel.sent == requests
    assert traffic.bench.queue.sent == []
    assert_found(traffic, 4, {1})


def test_while_everything_is_refused_one_chunk_a_minute_is_split() -> None:
    """Of the whole app: whichever instance is first; the others defer."""
    sentinel = WatchedSentinel(outages=[range(10**6)])
    traffic = Traffic(seeded(0), sentinel, instances=3)
    traffic.put(*(numbered(number, count=4, first=4 * number) for number in range(30)))
    while traffic.bench.clock.elapsed < 3600:
        traffic.deliver_next()
    splits = traffic.parts[::2]
    assert 20 <= len(splits) <= 61
    assert all(later - earlier >= 59.9 for earlier, later in pairwise(splits))
    assert traffic.rejected == set()


@pytest.mark.parametrize("name", ["unavailable", "drift"])
def test_a_part_that_is_given_up_is_kept_under_a_key_of_its_own(name: str) -> None:
    """Its records have the letter P, the others wait on; a replay sends the part once more."""
    bench, sent = Bench(), envelope(count=4)
    bench.enqueue(sent)
    bench.ledger.chunks.record_split(bench.row(sent), [(0, 3), (1, 2)])
    part = part_of(sent, (1, 2))
    bench.answer(Unavailable(reason="503") if name == "unavailable" else Drift(reason="odd"))
    bench.deliver(part)
    while bench.queue.sent:
        bench.others_pass()
        copy, delay = bench.take()
        bench.clock.advance(delay)
        bench.deliver(copy)
    (kept,) = bench.poison
    assert (kept.poison_id, kept.count) == (part.message_key, 2)
    assert bench.row(sent).letters == ".PP."
    assert bench.row(sent).fate == Fate(pending=2, poisoned=2)
    slots = bench.pacer._slots
    entries = find(bench.ledger, Selection(all_kept=True))
    results = replay(
        entries, ledger=bench.ledger, queue=bench.queue, slots=slots, clock=bench.clock
    )
    assert [handled.result for handled in results] == [Result.REPLAYED]
    assert bench.row(sent).letters == "...."
    bench.answer(Uploaded())
    copy, delay = bench.take()
    bench.clock.advance(delay)
    bench.deliver(copy)
    assert bench.row(sent).letters == ".AA."


def test_a_part_that_is_discarded_leaves_the_others_alone() -> None:
    """Only its own records are given up for good."""
    bench, sent = Bench(), envelope(count=4)
    bench.enqueue(sent)
    bench.ledger.chunks.record_split(bench.row(sent), [(0, 3), (1, 2)])
    part = part_of(sent, (0, 3))
    bench.keeper.keep_from_host(encode_envelope(replace(part, put_back=3)))
    assert bench.row(sent).letters == "P..P"
    entries = find(bench.ledger, Selection(all_kept=True))
    results = discard(entries, ledger=bench.ledger, clock=bench.clock)
    assert [handled.result for handled in results] == [Result.DISCARDED]
    assert bench.row(sent).letters == "D..D"
    assert bench.poison[0].state is PoisonState.DISCARDED


def _given_up_after_its_split(count: int = 4) -> tuple[Bench, Envelope, list[str]]:
    """A chunk that was split, then given up by the host: its sender died before it acknowledged.

    Returns the texts of its parts, too.
    """
    bench, sent = Bench(), envelope(count=count)
    bench.answer(Refused(reason="400"))
    bench.deliver(sent)
    parts = [item.text for item in bench.queue.sent]
    bench.queue.sent.clear()
    bench.keeper.keep_from_host(encode_envelope(sent))
    return bench, sent, parts


def _by_operator(bench: Bench, act: str, *, dry_run: bool = False) -> list[Result]:
    """Discard or replay everything that is kept."""
    entries = find(bench.ledger, Selection(all_kept=True))
    slots = Slots(bench.tables, clock=bench.clock, requests_per_minute=60)
    handled = (
        discard(entries, ledger=bench.ledger, clock=bench.clock, dry_run=dry_run)
        if act == "discard"
        else replay(
            entries,
            ledger=bench.ledger,
            queue=bench.queue,
            slots=slots,
            clock=bench.clock,
            dry_run=dry_run,
        )
    )
    return [one.result for one in handled]


def test_the_parts_of_a_chunk_outlive_the_discard_of_its_message() -> None:
    """The record is closed, and says so; each part is sent as if nothing had been."""
    bench, sent, parts = _given_up_after_its_split()
    assert bench.row(sent).letters == "...."
    assert [record.count for record in bench.poison] == [4]
    assert _by_operator(bench, "discard", dry_run=True) == [Result.WOULD_CLOSE]
    assert _by_operator(bench, "discard") == [Result.CLOSED]
    assert bench.poison[0].state is PoisonState.DISCARDED
    assert bench.row(sent).letters == "...."
    bench.answer(Uploaded())
    for text, letters in zip(parts, ("AA..", "AAAA"), strict=True):
        bench.deliver(text)
        assert bench.row(sent).letters == letters


def test_a_replay_of_a_message_that_was_split_sends_all_that_is_open() -> None:
    """Also what a part was given up with, whose record stays; doubles end with their letters."""
    bench, sent, parts = _given_up_after_its_split()
    bench.keeper.keep_from_host(parts[1])
    assert bench.row(sent).letters == "..PP"
    (whole,) = (record for record in bench.poison if record.count == 4)
    entries = find(bench.ledger, Selection(names=(whole.name,)))
    slots = Slots(bench.tables, clock=bench.clock, requests_per_minute=60)
    (handled,) = replay(
        entries, ledger=bench.ledger, queue=bench.queue, slots=slots, clock=bench.clock
    )
    assert handled.result is Result.REPLAYED
    assert bench.row(sent).letters == "..PP"
    copy, _ = bench.take()
    assert copy.part is None
    bench.answer(Uploaded())
    bench.deliver(copy)
    assert bench.row(sent).letters == "AAAA"
    posted = len(bench.sentinel.posted)
    for text in parts:
        bench.deliver(text)
    assert len(bench.sentinel.posted) == posted
    assert _by_operator(bench, "replay") == [Result.ALREADY_UPLOADED]
    assert bench.queue.sent == []


def test_a_part_that_was_split_again_answers_for_nothing() -> None:
    """Given up and discarded, it leaves its own parts alone, as the whole chunk does."""
    bench, sent, parts = _given_up_after_its_split(count=8)
    bench.answer(Refused(reason="400"))
    bench.others_pass()
    bench.deliver(parts[0])
    smaller = [item.text for item in bench.queue.sent]
    bench.queue.sent.clear()
    assert [decode_envelope(text).part for text in smaller] == [(0, 1), (2, 3)]
    bench.keeper.keep_from_host(parts[0])
    bench.keeper.keep_from_host(smaller[1])
    bench.keeper.keep_from_host(parts[1])
    assert bench.row(sent).letters == "..PPPPPP"
    assert sorted(_by_operator(bench, "discard")) == sorted(
        [*[Result.CLOSED] * 2, *[Result.DISCARDED] * 2]
    )
    assert bench.row(sent).letters == "..DDDDDD"
    bench.answer(Uploaded())
    bench.deliver(smaller[0])
    assert bench.row(sent).letters == "AADDDDDD"


@pytest.mark.parametrize("act", ["discard", "replay"])
@pytest.mark.parametrize("error", [Crash, UnavailableError])
def test_a_split_that_dies_halfway_and_is_given_up_leaves_what_can_be_closed(
    error: type[BaseException], act: str
) -> None:
    """At each call in turn: what is sent arrives, and the rest can be declared lost, or replayed.

    The first delivery ends halfway, the host gives its message up, an operator sees to it.
    """
    for at in range(14):
        traffic = Traffic(seeded(at), WatchedSentinel(bad=ids_of({3})))
        traffic.put(sent := numbered(0, count=4, first=0))
        ((_, text),) = traffic.waiting
        traffic.waiting.clear()
        bench = traffic.bench
        bench.tables.before = bench.queue.before = traffic._fail_at(at, error)
        traffic._deliver(text)
        bench.keeper.keep_from_host(text)
        was_split = bool(bench.row(sent).letters.strip("P"))
        (result,) = _by_operator(bench, act)
        if act == "replay":
            assert result is Result.REPLAYED
            traffic.waiting += [(0.0, item.text) for item in bench.queue.sent]
            bench.queue.sent.clear()
        else:
            assert result is (Result.CLOSED if was_split else Result.DISCARDED)
        alive = {i for _, each in traffic.waiting for i in decode_envelope(each).indexes}
        settle(traffic)
        expected = ["R" if i == 3 else "A" for i in range(4)]
        without = "." if was_split else "D"
        letters = "".join(
            expected[i] if i in alive and (was_split or act == "replay") else without
            for i in range(4)
        )
        assert bench.row(sent).each == letters
        if Letter.PENDING in letters:
            assert bench.ledger.chunks.declare_lost(bench.row(sent), at=START, reason="cleared")
        assert bench.row(sent).is_settled


def test_a_part_that_was_uploaded_meanwhile_is_no_poison() -> None:
    """The row does not take the letter, so what was kept is settled."""
    bench, sent = Bench(), envelope(count=4)
    bench.enqueue(sent)
    bench.ledger.chunks.record_split(bench.row(sent), [(0, 3), (1, 2)])
    part = part_of(sent, (0, 3))

    def after(table: str, operation: str) -> None:
        if (table, operation) == ("poison", "merge"):
            bench.settle(sent, accepted=(0, 3))

    bench.tables.after = after
    bench.keeper.keep_from_host(encode_envelope(part))
    assert bench.row(sent).letters == "A..A"
    assert bench.poison[0].state is PoisonState.REPLAYED


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"no JSON", b"[1,2,3,4]"])
def test_a_refused_chunk_whose_body_holds_other_records_is_kept(body: bytes) -> None:
    """It cannot be split: poison with that reason, and nothing of what Sentinel said."""
    bench = Bench()
    bench.answer(Refused(reason="Sentinel refused the request (400): its own words"))
    sent = replace(envelope(count=3), chunk_id=chunk_id_of(body), body=body)
    bench.deliver(sent)
    (record,) = bench.poison
    assert record.reason == NOT_THE_RECORDS
    assert record.message == encode_envelope(sent)
    assert bench.queue.sent == []
    assert bench.row(sent).state is ChunkState.POISONED


def test_a_lone_record_is_rejected_only_once_others_pass() -> None:
    """The only record of the only chunk proves nothing, however often it is refused."""
    sentinel = WatchedSentinel(bad=ids_of({0}))
    traffic = Traffic(seeded(0), sentinel)
    traffic.put(numbered(0, count=1, first=0))
    for _ in range(50):
        traffic.deliver_next()
    assert traffic.rejected == set()
    assert next(traffic.bench.ledger.chunks.all()).reason == WAITS_FOR_PROOF
    for _ in range(2):
        traffic.accept_other()
        traffic.bench.clock.advance(RAISE_EVERY)
    traffic.deliver_next()
    assert_found(traffic, 1, {0})


def test_what_sentinel_says_of_a_record_is_kept_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its words are with the rejection; a log line has ids and counts."""
    bench, sent = Bench(), envelope(count=1)
    bench.answer(Refused(reason="Sentinel refused the request (400): the pattern [x = '0'] is bad"))
    bench.deliver(sent)
    bench.others_pass()
    copy, delay = bench.take()
    bench.clock.advance(delay)
    bench.deliver(copy)
    (kept,) = bench.ledger.rejections.of_run(sent.run_id)
    assert "[x = '0']" in kept.reason
    assert bench.row(sent).fate == Fate(rejected=1)
    assert "[x = '0']" not in caplog.text
