"""Notes of what is sent where: few writes, and an age by the storage's clock."""

from datetime import timedelta

from common.ledger.sends import NOTE_EVERY, QUIET_AFTER, Sends
from tests.fakes.clock import FakeClock
from tests.fakes.tables import FakeTables

HERE, THERE = "sentinel.example/here", "sentinel.example/there"


def test_a_note_stands_for_half_a_minute_of_requests() -> None:
    """One write an instance and destination in that time, and another after it."""
    clock = FakeClock()
    tables = FakeTables(monotonic=clock.monotonic)
    writes: list[str] = []
    tables.before = lambda _table, operation: writes.append(operation)
    sends = Sends(tables, clock=clock)
    for _ in range(20):
        sends.note(HERE)
        sends.note(THERE)
        clock.advance(NOTE_EVERY / 10)
    assert writes == ["merge"] * 4


def test_the_age_is_that_of_the_latest_note_of_any_instance() -> None:
    """None where nothing was ever sent; each destination has an age of its own."""
    clock = FakeClock()
    tables = FakeTables(monotonic=clock.monotonic)
    first, second = Sends(tables, clock=clock), Sends(tables, clock=clock)
    assert first.age(HERE) is None
    first.note(HERE)
    clock.advance(10)
    second.note(HERE)
    clock.advance(7)
    assert first.age(HERE) == second.age(HERE) == timedelta(seconds=7)
    assert first.age(THERE) is None


def test_a_request_that_a_note_stands_for_is_over_when_all_is_quiet() -> None:
    """The note, half a minute in which it counts, and the longest delivery."""
    assert NOTE_EVERY + 120 <= QUIET_AFTER
