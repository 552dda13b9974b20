"""Sync runs that know what was sent: only what changed goes out, and nothing is held back."""

import math
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import GapError, PipelineError, UnavailableError
from common.ledger.runs import Run
from common.ledger.states import ChunkState, RunState
from common.queues import MAX_BACKLOG
from consumer.receipts import ids_of as packed_ids
from producer.indicators import Indicator, canonical_json, judge
from tests.unit.producer.samples import EVERYTHING, raw_indicator
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import RATE, REUPLOAD_AFTER, TICK, Crash, FailAt, World

FEED = [raw_indicator(number) for number in range(500)]


def pages_of(feed: list[dict[str, Any]], *, size: int = 70) -> list[list[object]]:
    """Return a feed as pages."""
    return [list(feed[start : start + size]) for start in range(0, len(feed), size)]


def world(feed: list[dict[str, Any]] | None = None) -> World:
    """Return a world whose Lumen lists these indicators."""
    return World(lumen=ScriptedLumen(pages=pages_of(FEED if feed is None else feed)))


def tick(found: World, **options: Any) -> Run:
    """Run a tick that must end as a complete run, in chunks of a hundred."""
    run = found.tick(**{"chunk_size": 100, **options})
    assert run is not None
    assert run.state is RunState.COMPLETE, run.reason
    found.clock.advance(TICK)
    assert all(fate.balanced for fate in found.fates())
    return run


def listed_ids(feed: list[dict[str, Any]]) -> list[str]:
    """Return the ids of a feed."""
    return [record["id"] for record in feed]


def test_a_feed_that_did_not_change_is_not_sent_again() -> None:
    """What the first run enqueued is unchanged to the second, and to the third."""
    found = world()
    first = tick(found)
    assert found.consume() == listed_ids(FEED)
    for _ in range(2):
        again = tick(found)
        assert found.queue.sent == []
        assert again.counts.unchanged == first.counts.enqueued == len(FEED)
        assert again.counts.enqueued == 0


@pytest.mark.parametrize("changed", [1, 5, 99, 100, 101, 250])
def test_exactly_what_changed_is_sent_in_as_few_chunks_as_it_takes(changed: int) -> None:
    """Spread over the feed or not, changed indicators fill chunks of a hundred."""
    found = world()
    tick(found)
    found.consume()
    chosen = set(random.Random(changed).sample(range(len(FEED)), changed))  # noqa: S311 - fixed
    feed = [
        {**record, "modified": "2026-03-01T00:00:00.000Z"} if number in chosen else record
        for number, record in enumerate(FEED)
    ]
    found.lumen.pages = pages_of(feed)
    run = tick(found)
    assert len(found.queue.sent) == math.ceil(changed / 100)
    assert found.consume() == [listed_ids(FEED)[number] for number in sorted(chosen)]
    assert (run.counts.enqueued, run.counts.unchanged) == (changed, len(FEED) - changed)


def test_what_is_still_on_the_queue_is_not_sent_twice() -> None:
    """A chunk in flight counts as known, before and after its upload."""
    found = world()
    tick(found)
    assert tick(found).counts.unchanged == len(FEED)
    assert found.consume() == listed_ids(FEED)
    assert tick(found).counts.unchanged == len(FEED)
    assert found.queue.sent == []


def poison_one(found: World) -> list[str]:
    """Give the first chunk on the queue up and upload the others; return its indicators' ids."""
    first = found.envelopes[0]
    found.ledger.chunks.record_poisoned(first, at=found.clock.now(), reason="why")
    found.queue.sent.pop(0)
    found.consume()
    return [record["id"] for record in orjson.loads(first.body)]


def test_what_was_given_up_waits_for_the_operator() -> None:
    """A poisoned chunk is not sent again by itself; once it is discarded, it is."""
    found = world()
    tick(found)
    given_up = poison_one(found)
    assert tick(found).counts.unchanged == len(FEED)
    (row,) = [c for c in found.ledger.chunks.all() if c.state is ChunkState.POISONED]
    assert found.ledger.chunks.move(row, ChunkState.DISCARDED, at=found.clock.now())
    assert tick(found).counts.enqueued == 100
    assert sorted(found.consume()) == sorted(given_up)


def test_a_newer_version_is_sent_again_when_an_older_one_was_uploaded_after_it() -> None:
    """Once, and nothing else: neither what did not change nor what was not in the late chunk."""
    found = world(FEED[:250])
    tick(found)
    newer = [{**record, "revoked": False} for record in FEED[:30]]
    found.lumen.pages = pages_of(newer + FEED[30:250])
    run = tick(found)
    assert run.counts.enqueued == 30
    found.consume(of_run=run.run_id)
    found.consume(late=True)
    assert tick(found).counts.enqueued == 30
    assert found.consume() == listed_ids(FEED[:30])
    assert tick(found).counts.enqueued == 0


def test_a_late_upload_is_not_forgotten_by_a_run_that_fails() -> None:
    """Whichever run is the first to be complete sends the newer versions again."""
    found = world(FEED[:100])
    tick(found)
    found.lumen.pages = pages_of([{**record, "revoked": False} for record in FEED[:100]])
    found.consume(of_run=tick(found).run_id)
    found.consume(late=True)
    found.lumen.before = FailAt(lambda: GapError("gone"), lasting=True, at=1)
    failed = found.tick(chunk_size=100)
    assert failed is not None
    assert failed.state is RunState.GAP
    found.repair()
    assert tick(found).counts.enqueued == 100
    assert found.consume() == listed_ids(FEED[:100])
    assert tick(found).counts.enqueued == 0


def give_up(found: World, *, discarding: bool = True) -> None:
    """Let everything on the queue be given up, parts of it uploaded, and discarded."""
    for envelope in found.envelopes:
        found.ledger.chunks.record_poisoned(
            envelope, at=found.clock.now(), reason="why", late_ids=packed_ids(envelope)
        )
    found.queue.sent.clear()
    if discarding:
        discard_poison(found)


def discard_poison(found: World) -> None:
    """Discard what was given up, as an operator does."""
    for chunk in list(found.ledger.chunks.all()):
        if chunk.state is ChunkState.POISONED:
            assert found.ledger.chunks.move(chunk, ChunkState.DISCARDED, at=found.clock.now())


def newer(feed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a later version of every indicator."""
    return [{**record, "revoked": False} for record in feed]


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("when", ["before", "during"])
def test_an_old_version_that_was_discarded_does_not_stay(*, interrupted: bool, when: str) -> None:
    """Parts of it were uploaded over the newer one: a run in two ticks decides as one in one."""
    feed = FEED[:200]
    found = world(feed)
    tick(found)
    old = found.envelopes[:]
    found.lumen.pages = pages_of(newer(feed))
    found.consume(of_run=tick(found).run_id)
    assert found.envelopes == old
    give_up(found, discarding=when == "before")
    if interrupted:
        first = found.tick(chunk_size=100, max_pages=1)
        assert first is not None
        assert first.state is RunState.INTERRUPTED
        found.clock.advance(TICK)
    if when == "during" and interrupted:
        discard_poison(found)
    tick(found)
    discard_poison(found)
    for _ in range(2):
        tick(found)
    assert set(found.consume()) == set(listed_ids(feed))
    tick(found)
    assert tick(found).counts.enqueued == 0


def test_a_repair_that_was_discarded_is_made_again() -> None:
    """The newest version was uploaded before, and replaced since: known, and yet sent."""
    feed = FEED[:100]
    found = world(feed)
    tick(found)
    found.lumen.pages = pages_of(newer(feed))
    found.consume(of_run=tick(found).run_id)
    found.consume(late=True)
    assert tick(found).counts.enqueued == 100
    give_up(found)
    assert tick(found).counts.enqueued == 100
    assert found.consume() == listed_ids(feed)
    assert [tick(found).counts.enqueued for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("how", ["discarded", "queue cleared"])
def test_what_a_full_run_sent_in_vain_is_sent_again(how: str) -> None:
    """It is known from before; but Sentinel has lost it, or nobody would have asked."""
    feed = FEED[:200]
    found = world(feed)
    tick(found)
    found.consume()
    tick(found)
    found.ledger.control.request_full(at=found.clock.now())
    assert tick(found).counts.enqueued == 200
    if how == "discarded":
        give_up(found)
    else:
        found.queue.sent.clear()
    assert tick(found).counts.enqueued == 200
    assert found.consume() == listed_ids(feed)
    assert [tick(found).counts.enqueued for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_full_run_sends_what_was_uploaded_late(*, interrupted: bool) -> None:
    """Its rows are still there, for the doubt; but everything is asked for."""
    found = world()
    tick(found)
    found.consume(late=True)
    found.ledger.control.request_full(at=found.clock.now())
    if interrupted:
        assert found.tick(chunk_size=100, max_pages=1) is not None
        found.clock.advance(TICK)
    assert tick(found).full
    assert found.consume() == listed_ids(FEED)
    assert found.ledger.control.full_request() is None
    assert tick(found).counts.enqueued == 0


@pytest.mark.parametrize("late", [False, True])
def test_an_indicator_that_is_listed_twice_is_sent_once(*, late: bool) -> None:
    """Twice the same version came late: that is no doubt."""
    found = world(FEED[:50] + FEED[:10])
    tick(found)
    found.consume(late=late)
    for _ in range(4):
        assert tick(found).counts.enqueued == 0


def test_an_instance_that_stalled_does_no_harm_by_marking_rows_late() -> None:
    """Another one took over and removed the rows: what is left of them is no chunk."""
    found = world(FEED[:100])
    tick(found)
    found.consume(late=True)
    chunks = list(found.ledger.chunks.all())
    tick(found)
    tick(found)
    assert list(found.ledger.chunks.all()) == []
    found.ledger.chunks.record_seen(chunks, run_id="20260101T000000-0badcafe")
    assert list(found.ledger.chunks.all()) == []
    assert list(found.ledger.chunks.of_run(chunks[0].run_id)) == []
    assert list(found.ledger.chunks.outcomes()) == []
    assert found.ledger.chunks.get(chunks[0].run_id, chunks[0].key) is None
    assert tick(found).counts.unchanged == 100


def test_what_sentinel_rejected_is_sent_again_only_once_it_changed() -> None:
    """Its answer is known too: the same record would be refused the same way."""
    found = world(FEED[:10])
    tick(found)
    found.consume(rejected=3)
    assert tick(found).counts.unchanged == 10
    mended = [{**record, "revoked": False} for record in FEED[:3]]
    found.lumen.pages = pages_of(mended + FEED[3:10])
    tick(found)
    assert found.consume() == listed_ids(FEED[:3])


def shuffled(record: Any, rng: random.Random) -> Any:
    """Return a record with its keys in another order, at every depth."""
    if isinstance(record, list):
        return [shuffled(item, rng) for item in record]
    if not isinstance(record, dict):
        return record
    names = list(record)
    rng.shuffle(names)
    return {name: shuffled(record[name], rng) for name in names}


@pytest.mark.parametrize("confidence", ["80", 80.0, " 80", "80.0", "+80", 80.9])
def test_how_the_source_writes_a_record_does_not_matter(confidence: object) -> None:
    """Neither key order nor the form of the confidence makes an indicator a changed one."""
    found = world()
    tick(found)
    found.consume()
    rng = random.Random(0)  # noqa: S311 - a fixed seed
    feed = [shuffled({**record, "confidence": confidence}, rng) for record in FEED]
    found.lumen.pages = pages_of(feed)
    assert tick(found).counts.unchanged == len(FEED)
    assert found.queue.sent == []


numbers = st.integers(-(2**53), 2**53)
extras = st.recursive(
    numbers | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def as_floats(value: Any) -> Any:
    """Return a value with every integer as a float."""
    match value:
        case bool():
            return value
        case int():
            return float(value)
        case list():
            return [as_floats(item) for item in value]
        case dict():
            return {name: as_floats(item) for name, item in value.items()}
        case _:
            return value


@given(extra=extras)
def test_a_whole_number_has_one_form(extra: Any) -> None:
    """1 and 1.0 make one fingerprint, at every depth, and numbers keep their value."""
    plain = judge(raw_indicator(1, x_extra=extra), EVERYTHING)
    floats = judge(raw_indicator(1, x_extra=as_floats(extra)), EVERYTHING)
    assert isinstance(plain, Indicator)
    assert plain == floats
    assert orjson.loads(plain.body)["x_extra"] == extra
    assert canonical_json(orjson.loads(plain.body)) == plain.body


def test_a_full_run_sends_everything_once() -> None:
    """On an operator's request what is known is sent again, less what is still in flight."""
    found = world()
    tick(found)
    found.consume()
    found.ledger.control.request_full(at=found.clock.now())
    run = tick(found)
    assert run.full
    assert found.consume() == listed_ids(FEED)
    assert not tick(found).full
    assert found.queue.sent == []


def test_a_full_run_does_not_send_what_is_on_its_way() -> None:
    """It would only be the same message twice."""
    found = world()
    tick(found)
    found.ledger.control.request_full(at=found.clock.now())
    assert tick(found).counts.unchanged == len(FEED)


@pytest.mark.parametrize("arrange", ["before", "after"])
def test_a_request_for_a_full_run_is_kept_until_one_is_complete(arrange: str) -> None:
    """Killed at each operation of the ledger in turn: everything is sent again in the end."""

    def prepared() -> World:
        found = world(FEED[:20])
        tick(found)
        found.consume()
        found.ledger.control.request_full(at=found.clock.now())
        return found

    def arm(found: World, fault: FailAt) -> None:
        if arrange == "before":
            found.tables.before = fault
        else:
            found.tables.after = fault

    rehearsal, counting = prepared(), FailAt(Crash)
    arm(rehearsal, counting)
    tick(rehearsal)
    assert counting.calls > 10
    for at in range(counting.calls):
        found = prepared()
        arm(found, FailAt(Crash, at, lasting=True))
        with suppress(Crash):
            found.tick(chunk_size=100)
        found.repair()
        found.clock.advance(TICK)
        for _ in range(3):
            tick(found)
        assert set(found.consume()) == set(listed_ids(FEED[:20])), at
        assert found.ledger.control.full_request() is None


def test_a_full_run_that_cannot_begin_is_asked_for_still() -> None:
    """While Lumen is out of reach the request stands."""
    found = world()
    tick(found)
    found.consume()
    found.ledger.control.request_full(at=found.clock.now())

    def before(_call: str, _argument: str) -> None:
        raise UnavailableError("Lumen is down")

    found.lumen.before = before
    run = found.tick()
    assert run is not None
    assert run.state is RunState.FAILED
    assert found.ledger.control.full_request() is not None
    found.repair()
    found.clock.advance(TICK)
    assert tick(found).full
    assert found.consume() == listed_ids(FEED)


def test_no_new_query_starts_while_the_queue_is_too_long() -> None:
    """The run fails with the reason, and Lumen is not asked."""
    found = world()
    most = int(MAX_BACKLOG / timedelta(minutes=1) * RATE)
    for _ in range(most + 1):
        found.queue.send("message")
    run = found.tick()
    assert run is not None
    assert run.state is RunState.FAILED
    assert "no new query" in run.reason
    assert found.lumen.calls == []
    found.queue.sent.pop()
    found.clock.advance(TICK)
    again = found.tick()
    assert again is not None
    assert again.state is RunState.COMPLETE


def test_an_unfinished_run_is_finished_however_long_the_queue_is() -> None:
    """What Lumen has computed already may be forgotten by tomorrow."""
    found = world()
    found.tick(max_pages=2)
    for _ in range(int(MAX_BACKLOG / timedelta(minutes=1) * RATE) + 1):
        found.queue.send("message")
    found.clock.advance(TICK)
    run = found.tick()
    assert run is not None
    assert (run.state, run.resumed) == (RunState.COMPLETE, 1)


def test_nothing_is_sent_again_on_the_day_it_was_sent() -> None:
    """However short the lifetime, and though it is counted from midnight."""
    found = world()
    found.clock.elapsed = 23 * 3600.0
    tick(found, reupload_after=timedelta(days=1))
    found.consume()
    for _ in range(2):
        assert tick(found, reupload_after=timedelta(days=1)).counts.enqueued == 0
    found.clock.advance(86_400)
    assert tick(found, reupload_after=timedelta(days=1)).counts.enqueued == len(FEED)


def test_an_indicator_is_sent_again_before_analytic_rules_forget_it() -> None:
    """Within `REUPLOAD_AFTER_DAYS` everything is sent a second time, and never all at once."""
    found = world()
    tick(found)
    found.consume()
    tick(found)
    found.clock.elapsed = REUPLOAD_AFTER.total_seconds() / 2 - 1
    sent: list[str] = []
    most = 0
    while found.clock.elapsed <= REUPLOAD_AFTER.total_seconds() + 6 * 3600 + TICK:
        tick(found)
        again = found.consume()
        most = max(most, len(again))
        sent += again
        found.clock.advance(6 * 3600)
    assert set(sent) == set(listed_ids(FEED))
    assert most <= len(FEED) / 4


@pytest.mark.parametrize("expiring", [False, True], ids=["at once", "days later"])
@pytest.mark.parametrize(
    "fault", [Crash, lambda: UnavailableError("storage")], ids=["killed", "failing"]
)
def test_a_run_resumed_with_much_known_makes_the_same_chunks(
    fault: Callable[[], BaseException], expiring: bool
) -> None:
    """Broken at each operation in turn: the same ids as without, though much expires meanwhile.

    Between crash and resumption other chunks are uploaded, too; nothing of it may change what
    the resumed run decides.
    """
    feed = FEED[:60]
    age = REUPLOAD_AFTER.total_seconds() * 0.7
    pause = 20 * 3600.0 if expiring else TICK

    def prepared() -> World:
        found = world(feed[:40])
        tick(found)
        found.consume()
        tick(found)
        found.clock.elapsed = age
        found.lumen.pages = pages_of(feed[:50], size=9)
        tick(found, chunk_size=4)
        found.lumen.pages = pages_of(feed, size=9)
        return found

    def keys(found: World, run: Run) -> set[str]:
        return {e.key for e in found.envelopes if e.run_id == run.run_id}

    rehearsal, counting = prepared(), FailAt(Crash)
    rehearsal.tables.before = rehearsal.queue.before = counting
    expected = keys(rehearsal, tick(rehearsal, chunk_size=4))
    assert len(expected) > 2
    for at in range(counting.calls):
        found = prepared()
        in_flight = found.envelopes
        found.tables.before = found.queue.before = FailAt(fault, at, lasting=True)
        with suppress(Crash, PipelineError):
            found.tick(chunk_size=4)
        found.repair()
        for envelope in in_flight:
            found.ledger.chunks.record_uploaded(
                envelope, accepted=envelope.count, rejected=0, at=found.clock.now()
            )
        found.clock.advance(pause)
        run = tick(found, chunk_size=4)
        if run.started_at == rehearsal.runs[0].started_at:
            assert keys(found, run) == expected, at
        found.consume()
        assert all(fate.balanced and fate.pending == 0 for fate in found.fates())
