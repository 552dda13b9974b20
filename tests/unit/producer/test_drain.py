"""Pages to messages: what is held at once, in which order things are written, what is kept."""

import random
import threading
from collections.abc import Callable, Container
from dataclasses import dataclass, field

import pytest

from common.backoff import Backoff
from common.envelope import decode_envelope
from common.errors import ConflictError, LeaseLostError, OutOfTimeError, UnavailableError
from common.fingerprints import Doubts, KnownVersions
from common.ledger import open_ledger
from common.ledger.rejections import INVALID
from common.ledger.runs import Run, RunRow
from common.ledger.slots import Slots
from common.ledger.states import RunState
from producer.drain import MAX_INVALID_KEPT, DrainConfig, Sender, drain_pages
from producer.indicators import Filters
from producer.lumen import Page
from tests.fakes.clock import FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables
from tests.unit.producer.samples import indicator, raw_indicator


@dataclass
class Bench:
    """One run's row and what it drains into; `log` has fetches, messages and writes in order."""

    clock: FakeClock = field(default_factory=FakeClock)
    tables: FakeTables = field(default_factory=FakeTables)
    queue: FakeQueue = field(default_factory=FakeQueue)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = open_ledger(self.tables)
        run = Run(
            run_id="20260101T000000-0badcafe",
            state=RunState.RUNNING,
            started_at=self.clock.now(),
            updated_at=self.clock.now(),
        )
        self.row = RunRow(self.ledger.runs, self.ledger.runs.create(run), self.clock)
        self.tables.before = lambda table, operation: self.log.append(f"{table} {operation}")
        self.queue.before = lambda _text: self.log.append("message")

    def drain(
        self,
        fetch: Callable[[str | None], Page],
        *,
        first: Page | None = None,
        config: DrainConfig | None = None,
        known: Container[int] = (),
        keep_going: Callable[[], None] = lambda: None,
        give_up_at: float | None = None,
    ) -> None:
        """Drain what `fetch` gives."""
        drain_pages(
            self.row,
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
            config=config or DrainConfig(filters=Filters(threshold=0), chunk_size=2),
            known=KnownVersions(known, Doubts()),
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
    stored = [at for at, entry in enumerate(bench.log) if entry == "runs replace"]
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
        overlapped.append(fetched[min(len(overlapped) + 1, 3)].wait(10))

    bench.queue.before = before
    bench.drain(fetch)
    assert overlapped == [True] * 4


def test_messages_are_written_before_rows_and_rows_before_the_checkpoint() -> None:
    """Slots, messages, rows, checkpoint: dying between any two repeats work and loses none."""
    bench = Bench()
    bench.drain(lambda token: page(int(token or 0), of=2, objects=4))
    written = ["message", "message", "chunks merge_all", "runs replace"]
    assert [entry for entry in bench.log if entry != "rejections merge_all"] == [
        *("control get", "control insert", *written),
        *("control get", "control replace", *written),
        "runs replace",
    ]


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
    known = {indicator(number).fingerprint for number in (0, 2, 3, 5)}
    bench.drain(lambda token: page(int(token or 0), of=3), known=known)
    counts = bench.row.run.counts
    assert (counts.fetched, counts.unchanged, counts.enqueued) == (6, 4, 2)
    (sent,) = bench.queue.sent
    assert decode_envelope(sent.text).fingerprints == tuple(
        indicator(number).fingerprint for number in (1, 4)
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
    run = bench.ledger.runs.get(bench.row.run.run_id)
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
    assert bench.row.run.counts.fetched == 4
    assert bench.row.run.cursor is not None
    assert (bench.row.run.cursor.token, bench.row.run.cursor.offset) == ("2", 0)


def test_a_feed_of_exactly_max_pages_is_complete() -> None:
    """The limit is on pages, and reaching the end with the last of them is no interruption."""
    bench = Bench()
    config = DrainConfig(filters=Filters(threshold=0), chunk_size=2, max_pages=3)
    bench.drain(lambda token: page(int(token or 0), of=3), config=config)
    assert bench.row.run.counts.enqueued == 6


def test_a_page_that_is_wrong_as_a_whole_does_not_become_a_million_rows() -> None:
    """Every invalid record is counted; the first thousand of a page are kept."""
    bench = Bench()
    objects: list[object] = [{"n": number} for number in range(MAX_INVALID_KEPT + 5)]
    bench.drain(lambda _token: Page(objects=objects, next_token=None))
    assert bench.row.run.counts.invalid == MAX_INVALID_KEPT + 5
    assert len(list(bench.ledger.rejections.of_run(INVALID))) == MAX_INVALID_KEPT


def test_draining_from_a_cursor_within_a_page_skips_what_was_dealt_with() -> None:
    """The offset counts the objects of the page, not the indicators."""
    bench = Bench()
    objects = [None, raw_indicator(1), raw_indicator(2), None, raw_indicator(3)]
    with pytest.raises(LeaseLostError):
        bench.drain(lambda _token: Page(objects=objects, next_token="1"), keep_going=_lose_lease)
    cursor = bench.row.run.cursor
    assert cursor is not None
    assert (cursor.token, cursor.offset, bench.row.run.counts.fetched) == (None, 4, 4)
    bench.drain(lambda token: Page(objects=objects, next_token=None))
    assert bench.row.run.counts.fetched == 5
    assert bench.row.run.counts.enqueued == 3


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
        bench.drain(fetch, config=DrainConfig(filters=Filters(threshold=0), chunk_size=100))
    (sent,) = bench.queue.sent
    assert decode_envelope(sent.text).count == 6
    assert bench.row.run.cursor is not None
    assert (bench.row.run.cursor.token, bench.row.run.cursor.offset) == ("2", 0)


def test_a_conflict_that_is_no_lost_lease_stops_like_anything_else() -> None:
    """Nobody else goes on with this run: what was read is sent."""
    bench = Bench()

    def keep_going() -> None:
        raise ConflictError("a row kept changing")

    with pytest.raises(ConflictError, match="kept changing"):
        bench.drain(
            lambda token: page(int(token or 0), of=9),
            config=DrainConfig(filters=Filters(threshold=0), chunk_size=100),
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
