"""Sync runs that know what was sent: only what changed goes out, and nothing is held back."""

import math
import random
from contextlib import suppress
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.delivery import LONGEST_DELIVERY
from common.errors import UnavailableError
from common.ledger.chunks import Chunk
from common.ledger.runs import Run
from common.ledger.states import ChunkState, RunState
from common.queues import MAX_BACKLOG
from producer.indicators import Indicator, canonical_json
from tests.fakes.crash import Crash
from tests.unit.producer.samples import EVERYTHING, judge, raw_indicator
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import RATE, TICK, FailAt, World

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


def give_up(found: World, *, discarding: bool) -> None:
    """Let everything on the queue be given up, and discarded by an operator or not."""
    for envelope in found.envelopes:
        found.ledger.chunks.record_poisoned(
            envelope.run_id, envelope.key, at=found.clock.now(), reason="why"
        )
    found.queue.sent.clear()
    for chunk in found.chunks if discarding else []:
        if chunk.state is ChunkState.POISONED:
            assert found.ledger.chunks.move(chunk, ChunkState.DISCARDED, at=found.clock.now())


@pytest.mark.parametrize("discarding", [False, True])
def test_what_was_given_up_is_known(*, discarding: bool) -> None:
    """Neither a poisoned nor a discarded version is sent again by itself: a newer one is."""
    found = world(FEED[:100])
    tick(found)
    give_up(found, discarding=discarding)
    for _ in range(3):
        assert tick(found).counts.unchanged == 100
    found.lumen.pages = pages_of(newer(FEED[:30]) + FEED[30:100])
    assert tick(found).counts.enqueued == 30
    assert found.consume() == listed_ids(FEED[:30])
    assert [fate.poisoned for fate in found.fates() if fate.enqueued == 100] == (
        [100] if discarding else [70]
    )
    assert [fate.struck for fate in found.fates() if fate.enqueued == 100] == (
        [0] if discarding else [30]
    )


def newer(feed: list[dict[str, Any]], **changes: object) -> list[dict[str, Any]]:
    """Return a later version of every indicator."""
    return [{**record, "modified": "2026-03-01T00:00:00.000Z", **changes} for record in feed]


def rows_of(found: World, run: Run) -> list[Chunk]:
    """Return the chunk rows of a run."""
    return [chunk for chunk in found.chunks if chunk.run_id == run.run_id]


@pytest.mark.parametrize(
    "change", [{"confidence": 1}, {"revoked": True}], ids=["downgrade", "revocation"]
)
@pytest.mark.parametrize("state", ["in the index", "in a row", "on its way"])
def test_a_correction_reaches_sentinel_though_it_is_listed_once(
    change: dict[str, object], state: str
) -> None:
    """A drop in confidence and a revocation are sent as they are, wherever the version is known."""
    found = world(FEED[:200])
    tick(found)
    if state != "on its way":
        found.consume()
    if state == "in the index":
        tick(found)
        assert found.chunks == []
    found.lumen.pages = pages_of(newer(FEED[:10], **change))
    run = tick(found)
    assert (run.counts.enqueued, run.counts.corrections) == (10, 10)
    found.lumen.pages = []
    tick(found)
    sent = found.consume()
    assert [number for number in sent if number in listed_ids(FEED[:10])] == listed_ids(FEED[:10])
    assert all(fate.balanced and fate.pending == 0 for fate in found.fates())


def test_what_was_never_sent_needs_no_correction() -> None:
    """Of an unknown indicator a low or revoked version is filtered, however often it is listed."""
    low = [{**record, "confidence": 1} for record in FEED[:10]]
    revoked = [{**record, "revoked": True} for record in FEED[10:20]]
    found = world(low + revoked)
    for _ in range(2):
        run = tick(found)
        assert (run.counts.filtered, run.counts.enqueued) == (20, 0)
    assert found.queue.sent == []


def test_a_newer_version_strikes_the_one_on_its_way() -> None:
    """The older one is struck in its row and not sent; the newer one is, after the delay."""
    found = world(FEED[:100])
    first = tick(found)
    found.lumen.pages = pages_of(newer(FEED[:30]))
    second = tick(found)
    (old,) = rows_of(found, first)
    assert old.letters == "S" * 30 + "." * 70
    delays = [sent.delay for sent in found.queue.sent[1:]]
    assert min(delays) >= LONGEST_DELIVERY
    assert sorted(found.consume()) == sorted(listed_ids(FEED[:100]))
    fates = {run.run_id: fate for run, fate in zip(found.runs, found.fates(), strict=True)}
    assert (fates[first.run_id].struck, fates[first.run_id].accepted) == (30, 70)
    assert fates[second.run_id].accepted == 30


def test_what_waits_for_another_workspace_is_sent_to_this_one_when_it_is_listed_again() -> None:
    """Once, and the other one may still answer; a newer version strikes both."""
    found = world(FEED[:20])
    first = tick(found, destination="before")
    second = tick(found)
    assert (second.counts.enqueued, second.counts.unchanged) == (20, 0)
    assert tick(found).counts.unchanged == 20
    assert [row.letters for row in rows_of(found, first)] == [""]
    found.lumen.pages = pages_of(newer(FEED[:5]))
    tick(found)
    for run in (first, second):
        assert [row.letters for row in rows_of(found, run)] == ["S" * 5 + "." * 15]


@pytest.mark.parametrize("arrange", ["before", "after"])
def test_a_tick_that_dies_for_another_workspace_loses_nothing_there(arrange: str) -> None:
    """Killed at each operation of the ledger in turn; the earlier rows stay as they were."""

    def prepared() -> World:
        found = world(FEED[:20])
        tick(found, destination="before")
        found.queue.sent.clear()
        return found

    rehearsal, counting = prepared(), FailAt(Crash)
    setattr(rehearsal.tables, arrange, counting)
    tick(rehearsal)
    assert counting.calls > 10
    for at in range(counting.calls):
        found = prepared()
        setattr(found.tables, arrange, FailAt(Crash, at, lasting=True))
        with suppress(Crash):
            found.tick(chunk_size=100)
        setattr(found.tables, arrange, lambda _table, _operation: None)
        found.clock.advance(TICK)
        found.tick(chunk_size=100)
        found.clock.advance(TICK)
        found.tick(chunk_size=100)
        here = [row for row in found.chunks if row.destination != "before" and not row.void]
        assert sum(len(row.to_send) for row in here) == 20, at


def test_an_older_version_is_not_sent_wherever_the_newer_one_is() -> None:
    """On its way, in a settled row, in the index: it is counted as older."""
    found = world(newer(FEED[:50]))
    tick(found)
    found.lumen.pages = pages_of(FEED[:50])
    assert tick(found).counts.older == 50
    found.consume()
    assert tick(found).counts.older == 50
    assert found.chunks == []
    assert tick(found).counts.older == 50
    assert found.queue.sent == []


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_two_versions_in_one_query_leave_the_newer_one(order: str) -> None:
    """In both orders, across pages, and listed again and again: it is what Sentinel holds last."""
    both = FEED[:80] + newer(FEED[:80])
    found = world(both if order == "rising" else both[::-1])
    run = tick(found)
    assert run.counts.enqueued == (160 if order == "rising" else 80)
    assert len(found.sendable_ids) == 80
    bodies = [
        record
        for envelope in found.envelopes
        for record in orjson.loads(envelope.body)
        if record["modified"].startswith("2026-03")
    ]
    found.settle()
    assert len(bodies) == 80
    for _ in range(3):
        again = tick(found)
        assert (again.counts.enqueued, again.counts.older + again.counts.unchanged) == (0, 160)


def test_a_change_of_what_was_settled_long_ago_leaves_without_the_delay() -> None:
    """No request with an older version can be about to leave, so it takes the next slot."""
    found = world(FEED[:50])
    tick(found)
    found.consume()
    tick(found)
    found.lumen.pages = pages_of(newer(FEED[:50]))
    assert tick(found).counts.enqueued == 50
    (sent,) = found.queue.sent
    assert sent.delay < LONGEST_DELIVERY


def test_a_change_of_what_was_entered_just_now_waits() -> None:
    """Its row is gone, but a request with the older version may still be under way."""
    found = world(FEED[:50])
    tick(found)
    found.consume()
    found.lumen.pages = []
    assert found.tick() is not None
    assert found.chunks == []
    found.clock.advance(LONGEST_DELIVERY - 10)
    found.lumen.pages = pages_of(newer(FEED[:50]))
    assert tick(found).counts.enqueued == 50
    (sent,) = found.queue.sent
    assert sent.delay >= LONGEST_DELIVERY


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_full_run_sends_everything_that_is_not_on_its_way(*, interrupted: bool) -> None:
    """Settled rows are no reason to leave it out; everything is asked for."""
    found = world()
    tick(found)
    found.consume()
    found.ledger.control.request_full(at=found.clock.now())
    if interrupted:
        assert found.tick(chunk_size=100, max_pages=1) is not None
        found.clock.advance(TICK)
    assert tick(found).full
    assert found.consume() == listed_ids(FEED)
    assert found.ledger.control.full_request() is None
    assert tick(found).counts.enqueued == 0


def test_an_indicator_that_is_listed_twice_is_sent_once() -> None:
    """In one query, over page borders."""
    found = world(FEED[:100] + FEED[:10])
    run = tick(found)
    assert (run.counts.enqueued, run.counts.unchanged) == (100, 10)
    assert found.consume() == listed_ids(FEED[:100])


@pytest.mark.parametrize("late", [False, True], ids=["in rows", "in its index"])
def test_what_another_destination_has_is_sent_to_this_one(*, late: bool) -> None:
    """At once, though it may be listed only once; and going back to the first forgets nothing."""
    found = world(FEED[:100])
    tick(found, destination="another|sentinel")
    for chunk in found.chunks:
        found.ledger.chunks.record_uploaded(
            chunk, sent=range(100), rejected=(), at=found.clock.now()
        )
    found.queue.sent.clear()
    if late:
        tick(found, destination="another|sentinel")
    assert tick(found).counts.enqueued == 100
    assert found.consume() == listed_ids(FEED[:100])
    assert tick(found).counts.unchanged == 100
    assert tick(found, destination="another|sentinel").counts.unchanged == 100
    assert found.queue.sent == []


def test_what_sentinel_rejected_is_sent_again_only_once_it_changed() -> None:
    """Its answer is known too: the same record would be refused the same way."""
    found = world(FEED[:10])
    tick(found)
    found.consume(rejected=3)
    assert tick(found).counts.unchanged == 10
    mended = newer(FEED[:3])
    found.lumen.pages = pages_of(mended + FEED[3:10])
    tick(found)
    assert found.consume() == listed_ids(FEED[:3])


def test_what_was_accepted_then_refused_then_revoked_is_revoked() -> None:
    """Sentinel holds the version before the refused one, so the revocation must reach it."""
    found = world(FEED[:10])
    tick(found)
    found.consume()
    found.lumen.pages = pages_of(newer(FEED[:10]))
    tick(found)
    found.consume(rejected=3)
    revoked = [{**r, "modified": "2026-05-01T00:00:00Z", "revoked": True} for r in FEED[:3]]
    found.lumen.pages = pages_of(revoked)
    run = tick(found)
    assert (run.counts.enqueued, run.counts.corrections) == (3, 3)
    assert found.consume() == listed_ids(FEED[:3])
    assert tick(found).counts.unchanged == 3


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


def test_nothing_is_sent_again_by_itself() -> None:
    """Sentinel republishes what it holds: a re-send every week would be for nothing."""
    found = world(FEED[:100])
    tick(found)
    found.consume()
    for _ in range(60):
        assert tick(found).counts.enqueued == 0
        found.clock.advance(86_400)


@pytest.mark.parametrize("after", [1, 7, 400])
def test_what_is_to_be_refreshed_is_sent_again_after_so_many_days(after: int) -> None:
    """Counted from the day on which it was entered in the index, once for each time."""
    found = world(FEED[:100])
    found.clock.elapsed = 23 * 3600.0
    options = {"reupload_after_days": after, "known_for_days": 1000}
    tick(found, **options)
    found.consume()
    for _ in range(2):
        assert tick(found, **options).counts.enqueued == 0
    found.clock.advance((after - 1) * 86_400)
    assert tick(found, **options).counts.enqueued == 0
    found.clock.advance(86_400)
    assert tick(found, **options).counts.enqueued == 100
    found.consume()
    for _ in range(3):
        assert tick(found, **options).counts.enqueued == 0


def test_what_is_forgotten_is_sent_again_and_no_more() -> None:
    """Known for as long as the settings say; a repeated upload is all that forgetting costs."""
    found = world([{**record, "valid_until": "2026-01-02T00:00:00Z"} for record in FEED[:100]])
    tick(found, known_for_days=3)
    found.consume()
    tick(found, known_for_days=3)
    found.clock.advance(8 * 86_400)
    assert tick(found, known_for_days=3).counts.unchanged == 100
    found.clock.advance(86_400)
    assert tick(found, known_for_days=3).counts.enqueued == 100
