"""Pacing: who may send now, who waits, who comes back, and that the limit holds for all."""

import heapq
from bisect import bisect_left
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import UnavailableError
from common.ledger.slots import Slots
from common.queues import MAX_DELAY
from consumer.pacing import EARLY_BEFORE, LATE_AFTER, MAX_WAIT, ComeBack, Go, Pacer
from tests.fakes.clock import START, FakeClock
from tests.fakes.tables import FakeTables

RATE = 95.0
INTERVAL = 60.0 / RATE
LIMIT = 100
"""Requests that the service takes in any sliding minute."""


def slots_of(tables: FakeTables, clock: FakeClock) -> Slots:
    """Return the slots as one instance sees them."""
    return Slots(tables, clock=clock, requests_per_minute=RATE)


class Instance:
    """A pacer with its clock, over tables that others may share."""

    def __init__(self, tables: FakeTables | None = None, *, at: float = 0.0) -> None:
        self.clock = FakeClock()
        self.clock.elapsed = at
        self.tables = tables or FakeTables()
        self.slots = slots_of(self.tables, self.clock)
        self.pacer = Pacer(self.slots, clock=self.clock)

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()


@pytest.mark.parametrize("lateness", [-EARLY_BEFORE, -120.0, -1.0, 0.0, 1.0, LATE_AFTER])
def test_a_message_on_time_goes_and_touches_nothing(lateness: float) -> None:
    """Early is on time too, as clocks differ; the common case costs no storage operation."""
    found = Instance()
    operations: list[str] = []
    found.tables.before = lambda _table, operation: operations.append(operation)
    assert isinstance(found.pacer.permit(found.now - lateness), Go)
    assert operations == []
    assert found.clock.sleeps == []


@pytest.mark.parametrize("early", [EARLY_BEFORE + 1, 86_400.0, MAX_DELAY * 2.0])
def test_a_message_that_the_queue_could_not_hide_long_enough_comes_back(early: float) -> None:
    """Its slot is more than the longest delay away: it keeps the slot and waits for the rest."""
    found = Instance()
    slot = found.now + early
    operations: list[str] = []
    found.tables.before = lambda _table, operation: operations.append(operation)
    assert found.pacer.permit(slot) == ComeBack(slot=slot, delay=early)
    assert operations == []
    found.clock.advance(early)
    assert isinstance(found.pacer.permit(slot), Go)


def test_a_slot_to_come_back_for_is_taken_however_near() -> None:
    """It is reserved for whoever comes back, and nobody waits for it here."""
    found = Instance()
    now = found.now
    assert found.pacer.come_back() == ComeBack(slot=now, delay=0.0)
    second = found.pacer.come_back()
    assert (second.slot - now, second.delay) == pytest.approx((INTERVAL, INTERVAL), abs=1e-5)
    assert found.clock.sleeps == []


@pytest.mark.parametrize("slot", [None, -LATE_AFTER - 0.001, -3600.0])
def test_a_late_message_takes_another_slot(slot: float | None) -> None:
    """The one it was sent for is lost; a free one at this moment lets it go at once."""
    found = Instance(at=7200.0)
    assert isinstance(found.pacer.permit(None if slot is None else found.now + slot), Go)
    assert found.slots.next_free() == found.clock.now() + timedelta(seconds=INTERVAL)
    assert sum(found.clock.sleeps) == 0


def test_a_near_slot_is_waited_for() -> None:
    """Up to two seconds, to the moment of the slot and not less."""
    found = Instance()
    found.slots.push(found.clock.now() + timedelta(seconds=MAX_WAIT))
    assert isinstance(found.pacer.next_permit(), Go)
    assert found.clock.elapsed == MAX_WAIT


def test_a_far_slot_is_come_back_for() -> None:
    """The slot stays reserved: the message is told when it is, and nobody waits."""
    found = Instance()
    found.slots.push(found.clock.now() + timedelta(seconds=60))
    answer = found.pacer.permit(None)
    assert answer == ComeBack(slot=found.now + 60, delay=60.0)
    assert found.clock.sleeps == []
    found.clock.advance(60)
    assert isinstance(answer, ComeBack)
    assert isinstance(found.pacer.permit(answer.slot), Go)


@pytest.mark.parametrize("ahead", [None, -60.0, 0.0, 1.0, MAX_WAIT])
def test_a_near_slot_is_taken_for_a_request_that_nobody_comes_back_for(
    ahead: float | None,
) -> None:
    """It is waited for and used; also the first of all, and one that is long free."""
    found = Instance(at=3600.0)
    if ahead is not None:
        found.slots.push(found.clock.now() + timedelta(seconds=ahead))
    slot = found.clock.now() + timedelta(seconds=max(ahead or 0.0, 0.0))
    assert isinstance(found.pacer.near_permit(), Go)
    assert found.clock.now() == slot
    assert found.slots.next_free() == slot + timedelta(seconds=INTERVAL)


@pytest.mark.parametrize("ahead", [MAX_WAIT + 0.001, 60.0, 86_400.0])
def test_a_far_slot_is_left_to_others(ahead: float) -> None:
    """The row stands as it did, however often it is looked at, and nobody waits."""
    found = Instance()
    found.slots.push(found.clock.now() + timedelta(seconds=ahead))
    free = found.slots.next_free()
    for _ in range(3):
        assert found.pacer.near_permit() is None
    assert found.slots.next_free() == free
    assert found.clock.sleeps == []


def test_no_slot_is_near_while_nothing_may_be_sent() -> None:
    """Told to wait, but the slots could not be moved: a free one is left where it is."""
    found = Instance()
    found.slots.reserve(1)
    free = found.slots.next_free()

    def before(_table: str, _operation: str) -> None:
        raise UnavailableError("storage")

    found.tables.before = before
    with pytest.raises(UnavailableError):
        found.pacer.throttled(60.0)
    found.tables.before = lambda _table, _operation: None
    assert found.pacer.near_permit() is None
    assert found.slots.next_free() == free


def test_a_near_slot_that_another_takes_is_not_used_twice() -> None:
    """Between the look and the reservation others reserve: the permit is that of what is left."""
    found = Instance()
    others = slots_of(found.tables, found.clock)
    found.slots.push(found.clock.now())

    def before(_table: str, operation: str) -> None:
        if operation == "replace":
            found.tables.before = lambda _table, _operation: None
            others.reserve(10)

    found.tables.before = before
    assert found.pacer.near_permit() is None
    assert found.clock.sleeps == []


@pytest.mark.parametrize("ledger", ["works", "fails at first"])
@pytest.mark.parametrize("wait", [5.0, 60.0])
def test_after_a_throttling_nothing_goes_until_then(wait: float, ledger: str) -> None:
    """Neither on time nor late, though the ledger could not be told at once."""
    found = Instance()
    slot = found.now
    if ledger == "fails at first":

        def before(_table: str, _operation: str) -> None:
            raise UnavailableError("storage")

        found.tables.before = before
        with pytest.raises(UnavailableError):
            found.pacer.throttled(wait)
        found.tables.before = lambda _table, _operation: None
    else:
        found.pacer.throttled(wait)
    until = found.now + wait
    for answer in (found.pacer.permit(slot), found.pacer.permit(None), found.pacer.next_permit()):
        assert isinstance(answer, ComeBack)
        assert answer.slot >= until
    found.clock.advance(wait)
    assert isinstance(found.pacer.permit(until), Go)


def test_a_throttling_moves_the_slots_of_every_instance() -> None:
    """Another instance takes no slot before the time that this one was told."""
    found = Instance()
    found.pacer.throttled(30.0)
    other = Instance(found.tables).pacer.permit(None)
    assert other == ComeBack(slot=found.now + 30, delay=30.0)


def test_a_shorter_throttling_does_not_shorten_a_longer_one() -> None:
    """The longest of what was asked for counts."""
    found = Instance()
    found.pacer.throttled(60.0)
    found.pacer.throttled(1.0)
    answer = found.pacer.permit(found.now)
    assert isinstance(answer, ComeBack)
    assert answer.delay >= 60.0


def busiest_minute(times: list[float]) -> int:
    """Return the most requests in any sliding minute."""
    times = sorted(times)
    return max(at + 1 - bisect_left(times, time - 60.0 + 1e-6) for at, time in enumerate(times))


def early_ones_late(chunks: int) -> list[float]:
    """Return the lateness that is worst: the first messages all come as late as they may."""
    return [max(0.0, LATE_AFTER - number * INTERVAL) for number in range(chunks)]


@example(lateness=early_ones_late(200), chunks=200)
@given(
    lateness=st.lists(
        st.floats(0.0, LATE_AFTER) | st.just(0.0) | st.just(LATE_AFTER) | st.floats(0.0, 30.0),
        min_size=20,
        max_size=60,
    ),
    chunks=st.integers(1, 400),
)
def test_the_limit_of_the_service_holds_whoever_sends(lateness: list[float], chunks: int) -> None:
    """However late messages come, each to an instance of its own: 100 in any minute at most."""
    tables = FakeTables()
    reserved = slots_of(tables, FakeClock()).reserve(chunks)
    delays = iter(lateness * (1 + 4 * chunks // len(lateness)))
    waiting = [
        ((reserved.slot(number) - START).total_seconds() + next(delays), number)
        for number in range(chunks)
    ]
    slots = {number: reserved.slot(number).timestamp() for number in range(chunks)}
    heapq.heapify(waiting)
    sent: list[float] = []
    while waiting:
        time, number = heapq.heappop(waiting)
        instance = Instance(tables, at=time)
        match instance.pacer.permit(slots[number]):
            case ComeBack(slot=slot, delay=delay):
                slots[number] = slot
                late = min(next(delays, 0.0), LATE_AFTER)
                heapq.heappush(waiting, (time + delay + late, number))
            case _:
                sent.append(instance.clock.elapsed)
    assert len(sent) == chunks
    assert busiest_minute(sent) <= LIMIT
