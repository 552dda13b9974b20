"""Pause, resume, sync now: what the status says, and what an operator may ask for."""

from datetime import datetime, timedelta

import pytest

from common.health import Cause, Verdict, judge_health
from common.ledger.control import MAX_PAUSE
from common.ledger.problems import ProblemKind
from common.ledger.states import RunState
from common.queues import SYNC_MESSAGE
from common.view import SILENT_AFTER
from ops.decisions import Decision
from ops.pause import pause, resume
from ops.status import describe
from ops.sync import TakenBack, request_sync, take_back
from tests.fakes.clock import START
from tests.unit.ops.cli.program import directly
from tests.unit.ops.samples import Bench

ANN = Decision(by="ann", note="a repair")
HOUR = timedelta(hours=1)


def paused(bench: Bench, span: timedelta = HOUR) -> None:
    """Pause the feed for a while."""
    now = bench.clock.now()
    pause(bench.toolbox.ledger, until=now + span, now=now, decision=ANN)


@pytest.mark.parametrize("late", [0.0, 7200.0], ids=["fresh", "after a missing run"])
def test_a_paused_feed_is_paused_and_not_down(late: float) -> None:
    """Whatever else is wrong comes behind it; what the pause explains is not wrong."""
    bench = Bench()
    bench.run()
    bench.enqueue(0)
    bench.clock.advance(late)
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "give the role")
    paused(bench)
    view = bench.toolbox.view(runs=5)
    diagnosis = judge_health(view)
    assert diagnosis.verdict is Verdict.PAUSED
    assert [reason.code for reason in diagnosis.reasons] == [Cause.PAUSED, ProblemKind.ACCESS]
    told = "paused until 01 Jan"
    assert told in diagnosis.findings[0]
    assert "by ann: a repair" in diagnosis.findings[0]
    assert told in " ".join(directly(bench.toolbox, "status").out.split())
    report = describe(view)
    assert (report["health"], report["paused_by"]) == ("paused", "ann: a repair")
    assert report["paused_until"] == (bench.clock.now() + HOUR).isoformat()
    assert report["drain_minutes"] is None


def test_a_feed_has_time_to_come_back_after_a_pause() -> None:
    """No run is missing before `stale_after` has passed since its end, and no upload either."""
    bench = Bench()
    bench.run()
    bench.enqueue(0)
    paused(bench, MAX_PAUSE)
    bench.clock.advance(MAX_PAUSE.total_seconds())
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.HEALTHY
    bench.clock.advance(SILENT_AFTER.total_seconds() + 1)
    codes = [reason.code for reason in judge_health(bench.toolbox.view(runs=5)).reasons]
    assert codes == [Cause.SILENCE]
    bench.clock.advance(bench.toolbox.stale_after.total_seconds())
    codes = [reason.code for reason in judge_health(bench.toolbox.view(runs=5)).reasons]
    assert codes == [Cause.NO_COMPLETE_RUN, Cause.SILENCE]


def test_a_feed_that_never_ran_is_paused_and_then_down() -> None:
    """A pause before the first run is no success."""
    bench = Bench()
    paused(bench)
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.PAUSED
    bench.clock.advance(86_400)
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.DOWN


@pytest.mark.parametrize(
    ("span", "fault"),
    [
        (timedelta(0), "has passed"),
        (-HOUR, "has passed"),
        (MAX_PAUSE + timedelta(seconds=1), "within 7 days"),
    ],
    ids=["now", "earlier", "too long"],
)
def test_a_pause_ends_in_the_next_days(span: timedelta, fault: str) -> None:
    """Any other time is refused, and nothing is paused."""
    bench = Bench()
    with pytest.raises(ValueError, match=fault):
        paused(bench, span)
    assert bench.toolbox.ledger.control.last_pause() is None


def test_resume_ends_a_pause_once() -> None:
    """The second time there is none to end."""
    bench = Bench()
    bench.run()
    paused(bench)
    ledger, now = bench.toolbox.ledger, bench.clock.now()
    assert (resume(ledger, now=now), resume(ledger, now=now)) == (True, False)
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.HEALTHY


@pytest.mark.parametrize("full", [False, True])
def test_a_request_shows_until_it_is_served_or_taken_back(full: bool) -> None:
    """A row, then a message; taking it back twice takes nothing."""
    bench = Bench()
    bench.run(RunState.COMPLETE)
    box = bench.toolbox
    request_sync(box.ledger, box.sync_queue, full=full, now=START, decision=ANN)
    assert [sent.text for sent in bench.sync_queue.sent] == [SYNC_MESSAGE]
    report = describe(box.view(runs=5))
    assert (report["sync_requested_at"], report["sync_requested_by"]) == (
        START.isoformat(),
        "ann: a repair",
    )
    assert report["full_requested_at"] == (START.isoformat() if full else None)
    said = directly(box, "status").out
    assert "a sync run was asked for" in said
    assert ("a full run was asked for" in said) is full
    assert take_back(box.ledger) == TakenBack(sync=True, full=full)
    assert take_back(box.ledger) == TakenBack(sync=False, full=False)
    report = describe(box.view(runs=5))
    assert (report["sync_requested_at"], report["full_requested_at"]) == (None, None)


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("2026-01-01T08:30:00+09:00", "2025-12-31 23:30 UTC has passed"),
        ("2026-01-08T10:00:00+09:00", "2026-01-08 01:00 UTC is too far away"),
        ("0001-01-01T00:00:00+09:00", "is not a time that UTC has"),
        ("9999-12-31T23:59:59-09:00", "is not a time that UTC has"),
    ],
)
def test_a_time_that_is_refused_is_told_in_utc(until: str, said: str) -> None:
    """Whatever its own zone is."""
    bench = Bench()
    now = bench.clock.now()
    with pytest.raises(ValueError, match=said):
        pause(bench.toolbox.ledger, until=datetime.fromisoformat(until), now=now, decision=ANN)


def test_a_pause_is_kept_in_utc() -> None:
    """So that whoever prints it need not know the zone in which it was given."""
    bench = Bench()
    until = datetime.fromisoformat("2026-01-01T10:00:00+09:00")
    made = pause(bench.toolbox.ledger, until=until, now=bench.clock.now(), decision=ANN)
    assert made.until.isoformat() == "2026-01-01T01:00:00+00:00"
