"""Slots: the turns of an instance's threads at the row, while storage does not answer."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from common.errors import UnavailableError
from common.ledger import slots as slots_module
from common.ledger.slots import Slots
from tests.fakes.clock import START, FakeClock
from tests.fakes.tables import FakeTables


def test_a_silent_table_keeps_only_one_thread_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others give up their turn with a reason to defer, and take one when it answers again."""
    monkeypatch.setattr(slots_module, "TURN_WITHIN", 0.01)
    tables, asked, answers = FakeTables(), Event(), Event()
    slots = Slots(tables, clock=FakeClock(), requests_per_minute=60.0)

    def stay_silent(_table: str, _operation: str) -> None:
        asked.set()
        assert answers.wait(60)

    tables.before = stay_silent
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slots.reserve, 1)
        assert asked.wait(60)
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
