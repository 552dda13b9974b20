"""What is stuck on the poison queue comes back to the upload queue by one command."""

from dataclasses import replace

import pytest

from common.envelope import decode_envelope, encode_envelope
from common.errors import UnavailableError
from common.health import Verdict, judge_health
from common.view import SILENT_AFTER
from ops.cli.ending import BAD_NEWS, GOOD, WRONG
from ops.rescue import PATIENCE, Rescued, rescue
from tests.unit.ops.cli.program import directly
from tests.unit.ops.samples import Bench, chunk


def stuck(bench: Bench, count: int = 4) -> list[str]:
    """Put messages on the poison queue."""
    texts = [encode_envelope(chunk(number)) for number in range(count)]
    for text in texts:
        bench.poison_queue.send(text)
    return texts


def test_the_status_names_the_command() -> None:
    """For as long as something is there."""
    bench = Bench()
    bench.run()
    stuck(bench)
    (finding,) = judge_health(bench.toolbox.view(runs=1)).findings
    assert "not kept yet: 4" in finding
    assert "`poison rescue`" in finding
    assert directly(bench.toolbox, "poison", "rescue").status == GOOD
    assert judge_health(bench.toolbox.view(runs=1)).findings == ()


def test_one_command_brings_all_of_them_back() -> None:
    """More than storage gives at a time; each is the chunk that it was, without its old slot."""
    bench = Bench()
    stuck(bench, 70)
    done = directly(bench.toolbox, "poison", "rescue", "--json")
    assert (done.status, done.json) == (GOOD, {"count": 70, "left": 0})
    sent = [decode_envelope(message.text) for message in bench.queue.sent]
    assert [envelope.sequence for envelope in sent] == list(range(70))
    assert {envelope.slot for envelope in sent} == {None}
    assert bench.poison_queue.depth() == 0
    assert directly(bench.toolbox, "poison", "rescue").status == GOOD
    assert len(bench.queue.sent) == 70


@pytest.mark.parametrize("text", ["rubbish", "", '{"version": 2, "run": 7}'])
def test_what_cannot_be_read_comes_back_as_it_is(text: str) -> None:
    """The consumer keeps it, or puts it back for a later release."""
    bench = Bench()
    bench.poison_queue.send(text)
    assert directly(bench.toolbox, "poison", "rescue").status == GOOD
    assert [message.text for message in bench.queue.sent] == [text]


def test_messages_that_the_host_hides_are_waited_for() -> None:
    """They come to light one after the other, and each is taken when it does."""
    bench = Bench()
    stuck(bench, 3)
    bench.poison_queue.hidden = {0, 1, 2}
    show_at = {100.0: 0, 300.0: 2, 590.0: 1}
    began = bench.clock.monotonic()

    def sleep(seconds: float) -> None:
        bench.clock.advance(seconds)
        for moment, place in list(show_at.items()):
            if bench.clock.monotonic() - began >= moment:
                bench.poison_queue.hidden.discard(place)
                del show_at[moment]

    bench.clock.sleep = sleep  # type: ignore[method-assign]
    done = rescue(
        bench.poison_queue, upload_queue=bench.queue, clock=bench.clock, patience=PATIENCE
    )
    assert done == Rescued(count=3, left=0)
    assert [decode_envelope(m.text).sequence for m in bench.queue.sent] == [0, 2, 1]
    assert bench.clock.monotonic() - began < 600


@pytest.mark.parametrize("options", [(), ("--no-wait",)])
def test_what_stays_hidden_is_bad_news(options: tuple[str, ...]) -> None:
    """After eleven minutes, or at once; the same command again goes on."""
    bench = Bench()
    stuck(bench, 2)
    bench.poison_queue.hidden = {1}
    began = bench.clock.monotonic()
    done = directly(bench.toolbox, "poison", "rescue", *options)
    assert (done.status, "1 messages brought back" in done.out) == (BAD_NEWS, True)
    assert (bench.clock.monotonic() - began >= PATIENCE) is not bool(options)
    bench.poison_queue.hidden = set()
    assert directly(bench.toolbox, "poison", "rescue").status == GOOD
    assert len(bench.queue.sent) == 2


def test_a_rescue_that_dies_loses_nothing() -> None:
    """The copy is sent before the message is removed."""
    bench = Bench()
    texts = stuck(bench, 3)

    def fail(text: str) -> None:
        if decode_envelope(text).sequence == 1:
            raise UnavailableError("storage is away")

    bench.queue.before = fail
    done = rescue(bench.poison_queue, upload_queue=bench.queue, clock=bench.clock, patience=0.0)
    assert done == Rescued(count=1, left=1)
    bench.poison_queue.hidden = set()
    again = directly(bench.toolbox, "poison", "rescue")
    assert (again.status, "storage is away" in again.err) == (WRONG, True)
    assert bench.poison_queue.depth() == 2
    bench.queue.before = lambda _text: None
    bench.poison_queue.hidden = set()  # what was taken comes to light again
    assert directly(bench.toolbox, "poison", "rescue").status == GOOD
    found = {decode_envelope(message.text).sequence for message in bench.queue.sent}
    assert found == {decode_envelope(text).sequence for text in texts}


def test_a_rescued_message_says_on_when_it_was_due() -> None:
    """So the status sees that nothing delivers it."""
    bench = Bench()
    bench.run()
    due = bench.clock.now()
    bench.poison_queue.send(encode_envelope(replace(chunk(), slot=due.timestamp())))
    assert directly(bench.toolbox, "poison", "rescue").status == GOOD
    bench.clock.advance(SILENT_AFTER.total_seconds() + 1)
    view = bench.toolbox.view(runs=1)
    assert view.oldest_due == due
    assert judge_health(view).verdict is Verdict.DOWN


def test_a_rescue_ends_in_time_and_says_what_is_left() -> None:
    """Also in the midst of what it has taken: that comes to light again, for the next call."""
    bench = Bench()
    stuck(bench, 70)
    bench.queue.before = lambda _text: bench.clock.advance(1.0)
    done = rescue(
        bench.poison_queue, upload_queue=bench.queue, clock=bench.clock, patience=18.0, within=18.0
    )
    assert done.count == 18
    assert done.left == 70 - done.count
    assert len(bench.queue.sent) == done.count
