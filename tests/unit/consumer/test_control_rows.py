"""Control rows that are damaged, or that a wrong clock wrote: they cost no indicator and no day."""

from dataclasses import replace
from datetime import timedelta

import pytest

from common.ledger.problems import ProblemKind
from common.ledger.slots import Slots
from common.ledger.states import ChunkState
from common.ledger.tables import Row, Value
from common.queues import MAX_DELAY
from consumer.sentinel import Throttled
from tests.fakes.clock import FakeClock
from tests.unit.consumer.samples import Bench, envelope

DAMAGED: dict[str, tuple[str, dict[str, Value]]] = {
    "a number that is a text": ("acceptance", {"number": "7"}),
    "numbers of other types": ("acceptance", {"number": 2.5, "split": "x"}),
    "a slot that is a text": ("send-slots", {"next_free": "soon", "next_spare": 3}),
    "a slot row without slots": ("send-slots", {"other": 1}),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_control_row_stops_no_delivery(case: str) -> None:
    """It counts as absent: the request is sent once, and its receipt is written."""
    bench, (key, data) = Bench(), DAMAGED[case]
    bench.tables.table("control").merge(Row(partition="control", key=key, data=data))
    sent = replace(envelope(), failed=0)
    bench.enqueue(sent)
    bench.deliver(sent)
    assert len(bench.sentinel.posted) == 1
    assert bench.row(sent).state is ChunkState.UPLOADED


def test_a_damaged_time_of_success_counts_as_none() -> None:
    """The second 429 asks for it: the problem is raised, the message waits."""
    bench, sent = Bench(), envelope()
    row = Row(partition="success", key="last-success", data={"at": "yesterday"})
    bench.tables.table("control").merge(row)
    bench.enqueue(sent)
    bench.answer(Throttled(reason="429", wait=400.0))
    bench.deliver(sent)
    assert set(bench.open_problems) == {ProblemKind.THROTTLED}
    assert len(bench.queue.sent) == 1


def test_a_slot_of_a_clock_that_was_wrong_is_not_waited_for() -> None:
    """A month ahead: messages come back after the queue's longest delay at most."""
    bench, ahead = Bench(), FakeClock()
    ahead.advance(timedelta(days=30).total_seconds())
    Slots(bench.tables, clock=ahead, requests_per_minute=95).reserve(1)
    bench.deliver(envelope())
    (back,) = bench.queue.sent
    assert back.delay <= MAX_DELAY
