"""Slots: spare ones, and the turns of an instance's threads while storage does not answer."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UnavailableError
from common.ledger import slots as slots_module
from common.ledger.slots import SPARE_AT_MOST, SPARE_EVERY, Slots
from tests.fakes.clock import START, FakeClock
from tests.fakes.tables import FakeTables
from tests.patience import PATIENCE


def test_a_silent_table_keeps_only_one_thread_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others give up their turn with a reason to defer, and take one when it answers again."""
    monkeypatch.setattr(slots_module, "TURN_WITHIN", 0.01)
    tables, asked, answers = FakeTables(), Event(), Event()
    slots = Slots(tables, clock=FakeClock(), requests_per_minute=60.0)

    def stay_silent(_table: str, _operation: str) -> None:
        asked.set()
        assert answers.wait(PATIENCE)

    tables.before = stay_silent
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slots.reserve, 1)
        assert asked.wait(PATIENCE)
        for act in (lambda: slots.reserve(1), lambda: slots.push(START)):
            with pytest.raises(UnavailableError, match="slots does not answer"):
                act()
        assert not first.done()
        answers.set()
        assert first.result().first == START
    assert slots.reserve(1).first > START


def test_a_turn_that_fails_is_handed_on() -> None:
    """An error of the table does not keep the row for ever."""
    tables = FakeTables()
    slots = Slots(tables, clock=FakeClock(), requests_per_minute=60.0)

    def fail(_table: str, _operation: str) -> None:
        raise UnavailableError("storage")

    tables.before = fail
    with pytest.raises(UnavailableError, match="storage"):
        slots.reserve(1)
    tables.before = lambda _table, _operation: None
    assert slots.reserve(1).first == START


RATES = st.sampled_from([0.5, 1.0, 10.0, 60.0, 95.0, 1000.0])


@given(
    rate=RATES,
    steps=st.lists(st.tuples(st.integers(0, 60), st.floats(0.0, 40.0)), min_size=1, max_size=20),
)
def test_no_two_slots_are_nearer_than_the_interval(
    rate: float, steps: list[tuple[int, float]]
) -> None:
    """Ordinary ones (so many of them) and soon ones (0), whoever reserves what and when."""
    clock = FakeClock()
    slots = Slots(FakeTables(), clock=clock, requests_per_minute=rate)
    times: list[datetime] = []
    for count, later in steps:
        reserved = slots.reserve(count) if count else slots.reserve_soon()
        assert reserved.first >= clock.now() - timedelta(milliseconds=1)
        times += reserved.times
        clock.advance(later)
    times.sort()
    apart = slots.interval - timedelta(milliseconds=2)
    assert all(later - earlier >= apart for earlier, later in pairwise(times))


@pytest.mark.parametrize("rate", [20.0, 60.0, 95.0, 1000.0])
def test_a_soon_slot_does_not_lie_behind_a_backlog(rate: float) -> None:
    """Behind a day of ordinary ones, there is one in half a minute, and one more each time."""
    clock = FakeClock()
    slots = Slots(FakeTables(), clock=clock, requests_per_minute=rate)
    slots.reserve(round(rate * 60))
    period = max(SPARE_EVERY, SPARE_AT_MOST * 60 / rate)
    for number in range(1, 20):
        soon = (slots.reserve_soon().first - START).total_seconds()
        assert soon <= number * period + 1


def test_spare_slots_cost_a_small_share() -> None:
    """One in 48 at the default rate: an hour of ordinary slots takes a minute more."""
    slots = Slots(FakeTables(), clock=FakeClock(), requests_per_minute=95.0)
    last = slots.reserve(95 * 60).times[-1]
    assert 3600 < (last - START).total_seconds() < 3600 * 48 / 47 + 2


def test_a_soon_slot_is_an_ordinary_one_where_that_is_sooner() -> None:
    """An idle pipeline keeps nobody waiting."""
    clock = FakeClock()
    slots = Slots(FakeTables(), clock=clock, requests_per_minute=60.0)
    assert slots.reserve_soon().first == START
    assert slots.reserve_soon().first == START + slots.interval
    assert slots.reserve(1).first == START + 2 * slots.interval


def test_a_throttling_moves_spare_slots_too() -> None:
    """Nothing leaves before the time that Sentinel named."""
    slots = Slots(FakeTables(), clock=FakeClock(), requests_per_minute=60.0)
    slots.reserve(1000)
    until = START + timedelta(seconds=100)
    slots.push(until)
    assert slots.reserve_soon().first >= until
