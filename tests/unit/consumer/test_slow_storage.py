"""Storage that answers slowly: no request leaves on a permit that has grown old meanwhile."""

from dataclasses import replace

import pytest

from consumer.pacing import LATE_AFTER
from consumer.sentinel import Answer
from tests.unit.consumer.samples import RATE, Bench, envelope

INTERVAL = 60.0 / RATE
HANGS_AT = 160.0


def sending_times(hang: float) -> list[float]:
    """Return when 100 messages on time send; the looks of `hang` s end at one moment.

    Each on an instance of its own with a clock of its own, over the tables that all share.
    """
    sent: list[float] = []
    tables = Bench().tables
    for number in range(100):
        bench = Bench(tables=tables)
        bench.clock.advance(HANGS_AT - 10.0 + number * INTERVAL)
        clock, upload = bench.clock, bench.sentinel.upload

        def slow(table: str, _operation: str, bench: Bench = bench) -> None:
            if table == "chunks" and HANGS_AT <= bench.clock.elapsed < HANGS_AT + hang:
                bench.clock.elapsed = HANGS_AT + hang

        def noted(
            objects: bytes, *, count: int, token: str, bench: Bench = bench, upload: object = upload
        ) -> Answer:
            sent.append(bench.clock.elapsed)
            answer: Answer = upload(objects, count=count, token=token)  # type: ignore[operator]
            return answer

        bench.sentinel.upload = noted
        message = replace(envelope(), sequence=number, slot=clock.now().timestamp())
        bench.enqueue(message)
        tables.before = slow
        bench.deliver(message)
        tables.before = lambda _table, _operation: None
    return sorted(sent)


@pytest.mark.parametrize("hang", [0.0, 3.0, 10.0, 14.0])
def test_what_slow_storage_held_back_does_not_leave_together(hang: float) -> None:
    """The requests of three seconds at most leave at one moment, whatever had to wait."""
    sent = sending_times(hang)
    at_once = max(sum(at == other for other in sent) for at in sent)
    assert at_once <= LATE_AFTER / INTERVAL + 2
