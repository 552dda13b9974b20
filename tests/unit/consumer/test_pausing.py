"""A pause at the consumer: messages wait, nothing counts, nothing is sent."""

from datetime import timedelta

import pytest

from common.envelope import encode_envelope
from common.errors import UnavailableError
from common.ledger.control import Pause
from consumer.deferral import OPERATOR_CAP
from consumer.pausing import LOOK_EVERY, PauseWatch
from tests.fakes.clock import START
from tests.unit.consumer.samples import FIRST_DELAY, Bench, envelope

CAP = OPERATOR_CAP * FIRST_DELAY


def pause(bench: Bench, seconds: float) -> None:
    """Pause the feed for so many seconds from now."""
    now = bench.clock.now()
    until = now + timedelta(seconds=seconds)
    bench.ledger.control.pause(Pause(since=now, until=until, by="ann"))


@pytest.mark.parametrize(("seconds", "expected"), [(CAP / 3, CAP / 3), (10 * CAP, CAP)])
def test_a_message_waits_for_the_end_of_a_pause(seconds: float, expected: float) -> None:
    """Not longer than after any deferral, as the pause may be ended by hand; nothing is noted."""
    bench = Bench()
    sent = envelope()
    bench.enqueue(sent)
    before = bench.row(sent).etag
    pause(bench, seconds)
    bench.deliver(sent)
    copy, delay = bench.take()
    assert expected <= delay <= 1.2 * expected
    assert (copy.attempt, copy.deferrals, copy.history) == (sent.attempt, 0, ())
    assert (copy.slot, copy.postponed) == (None, sent.postponed + 1)
    assert copy.due == pytest.approx(START.timestamp() + delay)
    assert bench.sentinel.posted == []
    assert bench.row(sent).etag == before


def test_after_the_pause_the_message_is_sent() -> None:
    """With a send slot of its own, as if nothing had been."""
    bench = Bench()
    sent = envelope()
    pause(bench, 60)
    bench.deliver(sent)
    copy, delay = bench.take()
    bench.clock.advance(delay)
    bench.deliver(encode_envelope(copy))
    assert len(bench.sentinel.posted) == 1
    assert bench.row(sent).is_settled


def test_the_pause_is_read_every_few_seconds() -> None:
    """A read for each message would cost an operation each; it begins and ends a little later."""
    bench = Bench()
    watch = PauseWatch(bench.ledger.control, clock=bench.clock)
    assert watch.current() is None
    pause(bench, LOOK_EVERY + 5)
    assert watch.current() is None
    bench.clock.advance(LOOK_EVERY)
    assert watch.current() is not None
    bench.clock.advance(5)  # its end needs no read
    assert watch.current() is None


def test_a_read_that_hangs_holds_nobody_up() -> None:
    """The others go by what is known; the first read of an instance is waited for by all."""
    bench = Bench()
    watch = PauseWatch(bench.ledger.control, clock=bench.clock)
    seen: list[bool] = []
    reads: list[str] = []

    def another(table: str, operation: str) -> None:
        reads.append(table)
        if len(reads) == 2:
            seen.append(watch.current() is not None)

    pause(bench, 3600)
    bench.tables.before = another
    assert watch.current() is not None
    bench.clock.advance(LOOK_EVERY)
    assert watch.current() is not None
    assert (seen, reads) == ([True], ["control", "control"])


def test_a_pause_that_cannot_be_read_is_trouble_with_storage() -> None:
    """The message is deferred, uncounted: whether it may be sent is not known."""
    bench = Bench()
    sent = envelope()
    bench.enqueue(sent)

    def away(table: str, operation: str) -> None:
        if (table, operation) == ("control", "get"):
            raise UnavailableError("table control cannot be reached")

    bench.tables.before = away
    bench.deliver(encode_envelope(sent))
    copy, _ = bench.take()
    assert (copy.attempt, copy.deferrals, bench.sentinel.posted) == (sent.attempt, 1, [])
