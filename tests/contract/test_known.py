"""Known indicators and send slots, on tables in memory and on those of Azurite."""

import random
import threading
import tracemalloc
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from common.fingerprints import SPACE, KnownSet
from common.ledger.known import SEGMENT_SIZE, TABLE, Known, expired_below
from common.ledger.slots import Slots
from common.ledger.tables import Tables
from tests.fakes.clock import START, FakeClock
from tests.fakes.tables import FakeTables

LIFETIME = timedelta(days=7)
HALF = LIFETIME / 2
MILLION = 1_000_000


def random_prints(number: int, *, seed: int = 0) -> "array[int]":
    """Return so many fingerprints, as even as a hash makes them."""
    return array("Q", random.Random(seed).randbytes(8 * number))  # noqa: S311 - a fixed seed


def loaded(tables: Tables, age: timedelta = timedelta(0)) -> "array[int]":
    """Return what is known so long after the start."""
    found = array("Q")
    for run in Known(tables).load(as_of=START + age, lifetime=LIFETIME):
        assert list(run) == sorted(run)
        found.extend(run)
    return found


def rows(tables: Tables) -> int:
    """Return how many segments there are."""
    return sum(1 for _ in tables.table(TABLE).query())


# Known indicators


@pytest.mark.parametrize("number", [0, 1, 2, 7_500, 7_501])
def test_what_is_added_is_known(tables: Tables, number: int) -> None:
    """Every fingerprint comes back, the smallest and the largest too, and no other."""
    prints = random_prints(number)[: max(0, number - 2)] + array("Q", [0, SPACE - 1])[:number]
    Known(tables).add(prints, at=START)
    assert sorted(loaded(tables)) == sorted(prints)


def test_before_anything_was_added_nothing_is_known(tables: Tables) -> None:
    """A first run finds an empty set."""
    assert len(loaded(tables)) == 0


def test_adding_twice_is_harmless(tables: Tables) -> None:
    """A fold that is repeated after a crash changes nothing of what is known."""
    prints = random_prints(50)
    Known(tables).add(prints, at=START)
    Known(tables).add(prints, at=START + timedelta(hours=1))
    assert set(loaded(tables)) == set(prints)
    assert rows(tables) == 1


def test_a_segment_is_filled_before_there_is_a_new_one(tables: Tables) -> None:
    """Small runs all day share a row; what does not fit begins the next."""
    prints = random_prints(SEGMENT_SIZE + 100)
    start = 0
    for size in (10, SEGMENT_SIZE - 20, 5, 5, 100):
        assert rows(tables) == (start > 0)
        Known(tables).add(prints[start : start + size], at=START + timedelta(minutes=start % 60))
        start += size
    assert start == len(prints)
    assert rows(tables) == 2
    assert sorted(loaded(tables)) == sorted(prints)


def test_each_day_has_its_own_segments(tables: Tables) -> None:
    """So that they expire in their own time."""
    for day in range(3):
        Known(tables).add(random_prints(10, seed=day), at=START + timedelta(days=day))
    assert rows(tables) == 3
    assert len(loaded(tables)) == 30


def test_segments_that_expired_as_a_whole_are_removed(tables: Tables) -> None:
    """Loading leaves no row behind that nobody will ever need."""
    for day in (0, 3, 6):
        Known(tables).add(random_prints(10, seed=day), at=START + timedelta(days=day))
    assert set(random_prints(10, seed=6)) <= set(loaded(tables, LIFETIME))
    assert rows(tables) == 2
    assert len(loaded(tables, 2 * LIFETIME)) == 0
    assert rows(tables) == 0


def test_expiry_is_by_the_day_and_monotone(tables: Tables) -> None:
    """All of them for half the lifetime, none after it, ever fewer in between."""
    prints = random_prints(1000)
    Known(tables).add(prints, at=START + timedelta(hours=23))
    assert len(loaded(tables, HALF)) == 1000
    alive = [set(loaded(tables, HALF + share * HALF / 8)) for share in range(1, 8)]
    assert all(later < earlier for earlier, later in pairwise(alive))
    assert len(loaded(tables, LIFETIME)) == 0


def test_what_was_known_at_a_moment_stays_so(tables: Tables) -> None:
    """A run resumed days later asks as of its start, and sees what it saw, and what came since."""
    prints = random_prints(1000)
    Known(tables).add(prints, at=START)
    began = timedelta(days=5)
    seen = sorted(loaded(tables, began))
    Known(tables).add(random_prints(10, seed=1), at=START + timedelta(days=6))
    again = sorted(loaded(tables, began))
    assert again == sorted({*seen, *random_prints(10, seed=1)})


@pytest.mark.parametrize("days", [1, 2, 7, 13])
def test_a_lifetime_is_between_half_and_all_of_what_is_set(days: int) -> None:
    """Whatever the fingerprint and the setting; on its first day none expires."""
    lifetime = timedelta(days=days)
    bounds = [expired_below(lifetime * hundredth / 100, lifetime) for hundredth in range(201)]
    assert bounds == sorted(bounds)
    assert all(bound == 0 for bound in bounds[:51])
    assert all(bound == SPACE for bound in bounds[100:])
    assert expired_below(timedelta(hours=23, minutes=59), lifetime) == 0
    assert expired_below(timedelta(days=-3), lifetime) == 0


def test_a_first_load_does_not_come_back_as_a_wave() -> None:
    """Of a million fingerprints of one day, hour by hour about the same share expires."""
    prints = array("Q", sorted(random_prints(MILLION)))
    hours = int(HALF / timedelta(hours=1))
    expired = [
        bisect_left(prints, expired_below(HALF + timedelta(hours=hour), LIFETIME))
        for hour in range(hours)
    ]
    expired.append(MILLION)
    an_hour = MILLION / hours
    each_hour = [later - earlier for earlier, later in pairwise(expired)]
    assert 0.9 * an_hour < min(each_hour) <= max(each_hour) < 1.1 * an_hour


def test_a_million_known_indicators_take_little_room() -> None:
    """Fewer than twenty rows, and less than 100 MB while a run begins."""
    tables = FakeTables()
    Known(tables).add(random_prints(MILLION), at=START)
    assert rows(tables) < 20
    wanted = random_prints(3)
    tracemalloc.start()
    try:
        known = KnownSet(loaded(tables))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20
    assert len(known) == MILLION
    assert all(fingerprint in known for fingerprint in wanted)
    assert 5 not in known


def test_full_segments_fit_in_a_row(tables: Tables) -> None:
    """Full rows are within what the service takes."""
    prints = random_prints(2 * SEGMENT_SIZE)
    Known(tables).add(prints, at=START)
    assert rows(tables) == 2
    assert sorted(loaded(tables)) == sorted(prints)


# Send slots


class OtherClock(FakeClock):
    """A clock that is off by some seconds."""

    def __init__(self, off: float, reference: FakeClock) -> None:
        super().__init__()
        self._off = timedelta(seconds=off)
        self._reference = reference

    def now(self) -> datetime:
        return self._reference.now() + self._off


def slots_of(tables: Tables, clock: FakeClock, *, rate: float = 60.0) -> Slots:
    """Return the slots as one instance sees them."""
    return Slots(tables, clock=clock, requests_per_minute=rate)


def assert_apart(times: Iterable[datetime], interval: timedelta) -> None:
    """Check that no two slots are closer than agreed."""
    assert all(later - earlier >= interval for earlier, later in pairwise(sorted(times)))


@pytest.mark.parametrize("rate", [60.0, 95.0, 0.1, 100_000.0])
def test_slots_are_spaced_as_agreed_and_never_in_the_past(tables: Tables, rate: float) -> None:
    """To the microsecond, over any number of reservations; unused time is not made up for."""
    clock = FakeClock()
    slots = slots_of(tables, clock, rate=rate)
    interval = timedelta(seconds=60 / rate)
    first = slots.reserve(3)
    assert first.first == clock.now()
    assert [first.slot(number) for number in range(3)] == [
        clock.now() + interval * number for number in range(3)
    ]
    second = slots.reserve(1)
    assert second.first == clock.now() + 3 * interval
    assert slots.next_free() == clock.now() + 4 * interval
    clock.advance(10 * interval.total_seconds() + 5)
    assert slots.reserve(1).first == clock.now()


def test_a_push_moves_every_slot_behind_it(tables: Tables) -> None:
    """Nothing reserved after it lies before it; one into the past changes nothing."""
    clock = FakeClock()
    slots = slots_of(tables, clock)
    slots.push(clock.now() + timedelta(seconds=30))
    assert slots.reserve(2).first == clock.now() + timedelta(seconds=30)
    slots.push(clock.now())
    assert slots.reserve(1).first == clock.now() + timedelta(seconds=32)


def test_before_the_first_reservation_no_slot_is_named(tables: Tables) -> None:
    """Looking makes no row."""
    assert slots_of(tables, FakeClock()).next_free() is None


def test_instances_whose_clocks_differ_do_not_overlap(tables: Tables) -> None:
    """One is minutes ahead, one behind: the row decides, not the clocks."""
    reference = FakeClock()
    offsets = (0.0, 180.0, -300.0)
    instances = [slots_of(tables, OtherClock(off, reference)) for off in offsets]
    taken: list[datetime] = []
    for step in range(12):
        found = instances[step % 3].reserve(1 + step % 2)
        taken += [found.slot(number) for number in range(found.count)]
        reference.advance(step)
    assert_apart(taken, timedelta(seconds=1))


def test_instances_at_the_same_moment_do_not_overlap(tables: Tables) -> None:
    """Threads of several instances: every slot belongs to one of them."""
    clock = FakeClock()
    taken: list[datetime] = []
    lock = threading.Lock()

    def work(slots: Slots) -> None:
        for size in (1, 3, 2, 1):
            found = slots.reserve(size)
            with lock:
                taken.extend(found.slot(number) for number in range(size))

    shared = slots_of(tables, clock)
    instances = [shared, shared, slots_of(tables, clock), slots_of(tables, clock)]
    threads = [threading.Thread(target=work, args=(slots,)) for slots in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 28
    assert_apart(taken, timedelta(seconds=1))
    assert max(taken) == clock.now() + timedelta(seconds=27)


@pytest.mark.parametrize("first", [True, False], ids=["no row yet", "a row"])
@pytest.mark.parametrize("operation", ["get", "insert", "replace"])
def test_a_race_between_two_reservations_is_tried_again(operation: str, first: bool) -> None:
    """Another instance reserves between read and write: both get slots of their own."""
    tables, clock = FakeTables(), FakeClock()
    mine, other = slots_of(tables, clock), slots_of(tables, clock)
    taken = [] if first else [other.reserve(1).first]

    def before(_table: str, found: str) -> None:
        if found == operation:
            tables.before = lambda _table, _operation: None
            taken.append(other.reserve(1).first)

    tables.before = before
    taken.append(mine.reserve(1).first)
    assert len(set(taken)) == len(taken) >= 1
    assert_apart(taken, timedelta(seconds=1))
