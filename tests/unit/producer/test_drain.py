"""Pages to messages: what is held at once, in which order things are written, what is kept."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from common.backoff import Backoff
from common.delivery import LONGEST_DELIVERY
from common.envelope import decode_envelope
from common.errors import (
    ConflictError,
    GapError,
    LeaseLostError,
    OutOfTimeError,
    UnavailableError,
)
from common.ledger import open_ledger
from common.ledger.chunks import Chunk, voiding
from common.ledger.rejections import INVALID
from common.ledger.runs import Head, Run
from common.ledger.slots import Slots
from common.ledger.states import ChunkState, RunState
from common.ledger.versions import SegmentInfo
from producer.drain import MAX_INVALID_KEPT, DrainConfig, Sender, drain_pages
from producer.entries import no_entries, row_records, row_table
from producer.index import Segment
from producer.indicators import Filters
from producer.known import Known
from producer.lumen import Page
from producer.versions import Policy
from tests.fakes.clock import FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables
from tests.patience import PATIENCE
from tests.unit.producer.samples import indicator, raw_indicator

RUN = "20260101T000000-0badcafe"
NEWER = "2026-03-01T00:00:00.000Z"


def nothing_known() -> Known:
    """Return the knowledge of a tick that begins with an empty ledger."""
    segment = Segment(info=SegmentInfo(name="s", count=0, age=0.0), entries=no_entries())
    return Known([segment], row_table([], row_records(b"", letters="", counts=[], void=[])))


@dataclass
class Bench:
    """One run's head and what it drains into; `log` has fetches, messages and writes in order."""

    clock: FakeClock = field(default_factory=FakeClock)
    queue: FakeQueue = field(default_factory=FakeQueue)
    known: Known = field(default_factory=nothing_known)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tables = FakeTables(self.clock.monotonic)
        self.ledger = open_ledger(self.tables)
        run = Run(
            run_id=RUN,
            state=RunState.RUNNING,
            started_at=self.clock.now(),
            updated_at=self.clock.now(),
        )
        self.head = self.head_of(self.ledger.runs.create(run))
        self.tables.before = lambda table, operation: self.log.append(f"{table} {operation}")
        self.queue.before = lambda _text: self.log.append("message")

    def head_of(self, run: Run, *, tick: str = "mine") -> Head:
        """Return the head of a run as a tick holds it."""
        return Head(self.ledger.runs, run, tick=tick, clock=self.clock)

    @property
    def rows(self) -> list[Chunk]:
        """Every chunk that has a row."""
        return list(self.ledger.chunks.all())

    def drain(
        self,
        fetch: Callable[[str | None], Page],
        *,
        first: Page | None = None,
        keep_going: Callable[[], None] = lambda: None,
        give_up_at: float | None = None,
        **config: Any,
    ) -> None:
        """Drain what `fetch` gives."""
        values: dict[str, Any] = {"chunk_size": 2, "destination": "here"}
        drain_pages(
            self.head,
            first,
            fetch=fetch,
            sender=Sender(
                queue=self.queue,
                ledger=self.ledger,
                slots=Slots(self.tables, clock=self.clock, requests_per_minute=60.0),
                backoff=Backoff(tries=3),
                clock=self.clock,
                rng=random.Random(0),  # noqa: S311 - a fixed seed
            ),
            config=DrainConfig(filters=Filters(threshold=0), **(values | config)),
            known=self.known,
            policy=Policy(today=20_000),
            ledger_id="0badcafe0badcafe",
            keep_going=keep_going,
            give_up_at=give_up_at,
        )


def page(number: int, *, of: int, objects: int = 2) -> Page:
    """Return page `number` of a feed of `of` pages; its token is its number."""
    following = str(number + 1) if number + 1 < of else None
    return Page(
        objects=[raw_indicator(number * objects + index) for index in range(objects)],
        next_token=following,
    )


def test_no_more_than_two_pages_are_held() -> None:
    """Page k + 2 is not asked for before page k is on the queue and its checkpoint written."""
    bench = Bench()

    def fetch(token: str | None) -> Page:
        bench.log.append(f"fetch {token or 0}")
        return page(int(token or 0), of=12)

    bench.drain(fetch)
    stored = [at for at, entry in enumerate(bench.log) if entry == "chunks replace"]
    for number in range(10):
        assert bench.log.index(f"fetch {number + 2}") > stored[number]


def test_the_next_page_is_fetched_while_this_one_is_enqueued() -> None:
    """The first message of page k does not have to wait for, nor delays, the fetch of k + 1."""
    bench = Bench()
    fetched = [threading.Event() for _ in range(4)]
    overlapped: list[bool] = []

    def fetch(token: str | None) -> Page:
        fetched[int(token or 0)].set()
        return page(int(token or 0), of=4)

    def before(_text: str) -> None:
        overlapped.append(fetched[min(len(overlapped) + 1, 3)].wait(PATIENCE))

    bench.queue.before = before
    bench.drain(fetch)
    assert overlapped == [True] * 4


def test_rows_are_written_before_messages_and_messages_before_the_checkpoint() -> None:
    """Rows with the head, slots, messages, checkpoint: dying between any two loses nothing."""
    bench = Bench()
    bench.drain(lambda token: page(int(token or 0), of=2, objects=4))
    rows, sent = "chunks transact", ["message", "message", "chunks replace"]
    assert [entry for entry in bench.log if entry != "rejections merge_all"] == [
        *(rows, "control get", "control insert", *sent),
        *(rows, "control get", "control replace", *sent),
        "chunks replace",
    ]


def test_a_row_is_struck_between_the_new_row_and_its_message() -> None:
    """Row, strike, message, checkpoint: no version waits for another, and none is sent twice."""
    bench = Bench()
    bench.drain(lambda _token: Page(objects=[raw_indicator(0), raw_indicator(1)], next_token=None))
    old = bench.rows[0]
    bench.log.clear()
    bench.head = bench.head_of(bench.head.run)
    again = [raw_indicator(1, modified=NEWER), raw_indicator(2)]
    bench.drain(lambda _token: Page(objects=[None, None, *again], next_token=None))
    assert [entry for entry in bench.log if entry != "rejections merge_all"] == [
        "chunks transact",
        "chunks get",
        "chunks replace",
        "message",
        "chunks replace",
        "chunks replace",
    ]
    struck = bench.ledger.chunks.get(RUN, old.key)
    assert struck is not None
    assert (struck.letters, struck.state) == (".S", ChunkState.QUEUED)


def test_the_row_of_a_chunk_is_there_when_its_message_is() -> None:
    """Whoever reads a message finds the row, with every record of it and the destination."""
    bench = Bench()
    seen: list[Chunk | None] = []

    def before(text: str) -> None:
        envelope = decode_envelope(text)
        seen.append(bench.ledger.chunks.get(envelope.run_id, envelope.key))

    bench.queue.before = before
    bench.drain(lambda token: page(int(token or 0), of=3))
    assert [(row.count, row.destination, row.epoch) for row in seen if row is not None] == [
        (2, "here", 1)
    ] * 3
    found = [record.fingerprint for row in seen if row is not None for record in row.unpacked()]
    assert sorted(found) == sorted(indicator(number).fingerprint for number in range(6))


def test_two_versions_in_one_page_are_two_chunks_and_the_older_is_struck() -> None:
    """In whatever batch they are written: nothing that is replaced may still be sent."""
    bench = Bench()
    versions = [
        raw_indicator(0),
        raw_indicator(1),
        raw_indicator(0, name="second"),
        raw_indicator(0, modified=NEWER),
        raw_indicator(2),
    ]
    bench.drain(lambda _token: Page(objects=versions, next_token=None), chunk_size=100)
    assert [(row.count, row.each) for row in bench.rows] == [(2, "S."), (1, "S"), (2, "..")]
    assert [row.state for row in bench.rows] == [
        ChunkState.QUEUED,
        ChunkState.STRUCK,
        ChunkState.QUEUED,
    ]


def test_a_newest_version_that_waits_is_not_struck_by_one_between() -> None:
    """Listed in the order old, newest, between: the newest is the one that stays."""
    bench = Bench()
    pages = [
        [raw_indicator(0), raw_indicator(0, modified=NEWER)],
        [raw_indicator(0, modified="2026-02-01T00:00:00Z"), raw_indicator(1)],
    ]

    def fetch(token: str | None) -> Page:
        number = int(token or 0)
        return Page(objects=pages[number], next_token=str(number + 1) if number == 0 else None)

    bench.drain(fetch, chunk_size=100)
    assert [row.each for row in bench.rows] == ["S", ".."]
    assert bench.head.run.counts.older == 1


def test_what_was_replaced_waits_until_no_request_is_in_its_way() -> None:
    """Its message is invisible for the longest delivery, without a slot; the others leave."""
    bench = Bench()
    known = [raw_indicator(number) for number in range(4)]
    bench.drain(lambda _token: Page(objects=known, next_token=None))
    bench.queue.sent.clear()
    bench.head = bench.head_of(bench.head.run)
    newer = [raw_indicator(number, modified=NEWER) for number in range(4)]
    fresh = [raw_indicator(number) for number in range(10, 14)]
    bench.drain(lambda _token: Page(objects=[*known, *newer, *fresh], next_token=None))
    sent = {decode_envelope(found.text).sequence: found for found in bench.queue.sent}
    slots = [decode_envelope(sent[number].text).slot for number in sorted(sent)]
    assert [slot is None for slot in slots] == [True, True, False, False]
    assert [sent[number].delay for number in (2, 3)] == [LONGEST_DELIVERY, LONGEST_DELIVERY + 1.0]
    assert max(sent[number].delay for number in (4, 5)) < LONGEST_DELIVERY


def test_a_tick_that_was_overtaken_fails_at_the_storage() -> None:
    """At whichever call another tick takes the run over: it ends there, at its next write.

    That is before each write of rows, each strike, each message and each checkpoint in turn. What
    it still puts on the queue is of rows that the other one has made void, and no row of it comes
    behind that.
    """
    versions = [*map(raw_indicator, range(4)), *(newer(number) for number in (0, 1, 2, 3))]

    def fetch(token: str | None) -> Page:
        number = int(token or 0)
        following = str(number + 1) if number < 3 else None
        return Page(objects=versions[2 * number :][:2], next_token=following)

    calls = 0

    def overtaken_at(at: int) -> Bench:
        nonlocal calls
        bench, calls = Bench(), 0

        def call(*_: str) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                take_over(bench)

        bench.tables.before = bench.queue.before = call
        if at < 0:
            bench.drain(fetch)
        else:
            with pytest.raises(LeaseLostError, match="this one stops"):
                bench.drain(fetch)
        return bench

    overtaken_at(-1)
    assert calls > 20
    for at in range(calls):
        bench = overtaken_at(at)
        run = bench.ledger.runs.get(RUN)
        assert run is not None
        assert (run.tick, run.epoch) == ("theirs", 2), at
        assert all(row.void == (row.sequence >= run.sequence) for row in bench.rows), at


def take_over(bench: Bench) -> None:
    """Raise the epoch of the run and void what lies beyond its checkpoint, as another tick does."""
    hooks = bench.tables.before, bench.queue.before
    bench.tables.before = lambda _table, _operation: None
    run = bench.ledger.runs.get(RUN)
    assert run is not None
    theirs = bench.head_of(run, tick="theirs")
    theirs.save(epoch=run.epoch + 1)
    for chunk in bench.ledger.chunks.beyond(RUN, run.sequence):
        theirs.save(rows=[voiding(chunk)])
    bench.tables.before, bench.queue.before = hooks


def newer(number: int) -> dict[str, Any]:
    """Return a newer version of an indicator."""
    return raw_indicator(number, modified=NEWER)


def test_each_message_is_sent_for_a_slot_of_its_own() -> None:
    """It is invisible until the slot in its envelope, and no two slots are closer than agreed."""
    bench = Bench()
    bench.drain(lambda token: page(int(token or 0), of=3, objects=4))
    start = bench.clock.now().timestamp()
    sent = [(decode_envelope(found.text), found.delay) for found in bench.queue.sent]
    slots = {envelope.sequence: envelope.slot for envelope, _ in sent}
    assert slots == {number: start + number for number in range(6)}
    assert all(envelope.slot == start + delay for envelope, delay in sent)


def test_what_is_known_is_not_sent() -> None:
    """It is counted as unchanged, and chunks fill with what is left."""
    bench = Bench()
    bench.drain(lambda token: page(0, of=1, objects=4))
    bench.queue.sent.clear()
    bench.head = bench.head_of(bench.head.run)
    before = bench.head.run.counts
    listed = [raw_indicator(number) for number in (9, 9, 9, 9, 0, 5, 3, 6)]
    bench.drain(lambda _token: Page(objects=listed, next_token=None))
    counts = bench.head.run.counts
    assert counts.unchanged - before.unchanged == 2
    (sent,) = bench.queue.sent
    assert decode_envelope(sent.text).fingerprints == tuple(
        indicator(number).fingerprint for number in (5, 6)
    )


def test_a_checkpoint_is_not_written_when_a_message_cannot_be() -> None:
    """After the retries the error ends the run, and the cursor stays before that chunk."""
    bench = Bench()

    def before(_text: str) -> None:
        if len(bench.queue.sent) >= 2:
            raise UnavailableError("queue is down")

    bench.queue.before = before
    with pytest.raises(UnavailableError):
        bench.drain(lambda token: page(int(token or 0), of=9))
    run = bench.ledger.runs.get(bench.head.run.run_id)
    assert run is not None
    assert run.cursor is not None
    assert (run.cursor.page, run.cursor.sequence, run.counts.enqueued) == (2, 2, 4)
    assert len(bench.clock.sleeps) >= 2


def test_a_short_outage_of_the_queue_is_waited_out() -> None:
    """Sending is tried again before the run is interrupted."""
    bench = Bench()
    failures = iter([True, True])

    def before(_text: str) -> None:
        if next(failures, False):
            raise UnavailableError("queue is down")

    bench.queue.before = before
    bench.drain(lambda token: page(0, of=1))
    assert len(bench.queue.sent) == 1
    assert len(bench.clock.sleeps) == 2


def test_the_first_page_at_hand_is_not_fetched() -> None:
    """A page that came with the query's answer is used as it is."""
    bench = Bench()
    asked = []

    def fetch(token: str | None) -> Page:
        asked.append(token)
        return page(int(token or 0), of=3)

    bench.drain(fetch, first=page(0, of=3))
    assert asked == ["1", "2"]
    assert len(bench.queue.sent) == 3


def test_what_stops_between_pages_stops_at_a_checkpoint() -> None:
    """What was stored before is counted, what was only fetched is not."""
    bench = Bench()
    rounds = iter(range(10))

    def keep_going() -> None:
        if next(rounds) == 1:
            raise OutOfTimeError("no time")

    with pytest.raises(OutOfTimeError):
        bench.drain(lambda token: page(int(token or 0), of=9), keep_going=keep_going)
    assert bench.head.run.counts.fetched == 4
    assert bench.head.run.cursor is not None
    assert (bench.head.run.cursor.token, bench.head.run.cursor.offset) == ("2", 0)


def test_a_feed_of_exactly_max_pages_is_complete() -> None:
    """The limit is on pages, and reaching the end with the last of them is no interruption."""
    bench = Bench()
    bench.drain(lambda token: page(int(token or 0), of=3), max_pages=3)
    assert bench.head.run.counts.enqueued == 6


def test_a_feed_that_is_wrong_as_a_whole_does_not_become_a_million_rows() -> None:
    """Every invalid record is counted; the first thousand of a tick are kept."""
    bench = Bench()
    objects: list[object] = [{"n": number} for number in range(MAX_INVALID_KEPT + 5)]
    pages = [
        Page(objects=objects[:600], next_token="1"),
        Page(objects=objects[600:], next_token=None),
    ]
    bench.drain(lambda token: pages[int(token or 0)])
    assert bench.head.run.counts.invalid == MAX_INVALID_KEPT + 5
    assert len(list(bench.ledger.rejections.of_run(INVALID))) == MAX_INVALID_KEPT


def test_the_limit_of_pages_ends_the_tick_behind_what_it_read() -> None:
    """What waited is sent in a short chunk; the page behind it is not even asked for."""
    bench = Bench()
    asked = []

    def fetch(token: str | None) -> Page:
        asked.append(token)
        return page(int(token or 0), of=9, objects=3)

    with pytest.raises(OutOfTimeError, match=r"MAX_PAGES \(2\); the next tick goes on"):
        bench.drain(fetch, max_pages=2, chunk_size=100)
    assert asked == [None, "1"]
    cursor = bench.head.run.cursor
    assert cursor is not None
    assert (cursor.token, cursor.offset, cursor.page) == ("2", 0, 2)
    assert [decode_envelope(sent.text).count for sent in bench.queue.sent] == [6]


@pytest.mark.parametrize("back_to", [0, 1, 2])
def test_a_circle_ends_the_run_behind_its_last_page(back_to: int) -> None:
    """That page is stored, nothing is fetched behind it, and what waited is sent."""
    bench = Bench()
    asked = []

    def fetch(token: str | None) -> Page:
        number = int(token or 0)
        asked.append(number)
        following = str(back_to or 1) if number == 2 else str(number + 1)
        return Page(objects=page(number, of=9, objects=3).objects, next_token=following)

    with pytest.raises(GapError, match="repeats a token"):
        bench.drain(fetch, chunk_size=100)
    assert asked == [0, 1, 2]
    assert bench.head.run.counts.enqueued == 9
    assert [decode_envelope(sent.text).count for sent in bench.queue.sent] == [9]


def test_draining_from_a_cursor_within_a_page_skips_what_was_dealt_with() -> None:
    """The offset counts the objects of the page, not the indicators."""
    bench = Bench()
    objects = [None, raw_indicator(1), raw_indicator(2), None, raw_indicator(3)]
    with pytest.raises(LeaseLostError):
        bench.drain(lambda _token: Page(objects=objects, next_token="1"), keep_going=_lose_lease)
    cursor = bench.head.run.cursor
    assert cursor is not None
    assert (cursor.token, cursor.offset, bench.head.run.counts.fetched) == (None, 4, 4)
    bench.known = nothing_known()
    bench.drain(lambda token: Page(objects=objects, next_token=None))
    assert bench.head.run.counts.fetched == 5
    assert bench.head.run.counts.enqueued == 3


def _lose_lease() -> None:
    raise LeaseLostError("another instance goes on")


def test_what_was_read_is_sent_when_the_next_page_does_not_come() -> None:
    """A chunk that is not full yet goes out short, and the cursor stands behind it."""
    bench = Bench()

    def fetch(token: str | None) -> Page:
        if token == "2":
            raise UnavailableError("down")
        return page(int(token or 0), of=9, objects=3)

    with pytest.raises(UnavailableError, match="down"):
        bench.drain(fetch, chunk_size=100)
    (sent,) = bench.queue.sent
    assert decode_envelope(sent.text).count == 6
    assert bench.head.run.cursor is not None
    assert (bench.head.run.cursor.token, bench.head.run.cursor.offset) == ("2", 0)


def test_a_conflict_that_is_no_lost_lease_stops_like_anything_else() -> None:
    """Nobody else goes on with this run: what was read is sent."""
    bench = Bench()

    def keep_going() -> None:
        raise ConflictError("a row kept changing")

    with pytest.raises(ConflictError, match="kept changing"):
        bench.drain(
            lambda token: page(int(token or 0), of=9),
            chunk_size=100,
            keep_going=keep_going,
        )
    (sent,) = bench.queue.sent
    assert decode_envelope(sent.text).count == 2


def test_nothing_is_sent_after_a_write_that_failed() -> None:
    """What waits stays with the cursor: an outage of the queue is not met a second time."""
    bench = Bench()
    failing = FailFrom(2, bench)
    bench.queue.before = failing
    with pytest.raises(UnavailableError):
        bench.drain(lambda token: page(int(token or 0), of=9, objects=3))
    assert failing.failures == 3  # the tries of one message


def test_a_queue_that_is_down_does_not_outlast_the_tick() -> None:
    """A wait for the next try that would end after the deadline is not begun."""
    bench = Bench()
    bench.queue.before = FailFrom(0, bench)
    with pytest.raises(OutOfTimeError, match="queue is down"):
        bench.drain(
            lambda token: page(int(token or 0), of=9), give_up_at=bench.clock.monotonic() + 0.4
        )
    assert bench.clock.sleeps == []


@dataclass
class FailFrom:
    """Takes `passing` messages, then fails."""

    passing: int
    bench: Bench
    failures: int = 0

    def __call__(self, _text: str) -> None:
        if len(self.bench.queue.sent) >= self.passing:
            self.failures += 1
            raise UnavailableError("queue is down")
