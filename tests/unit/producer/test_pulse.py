"""The pulse of a tick: what it says, what has come since the last, and that it fails no tick."""

import json
import logging
from dataclasses import asdict
from datetime import timedelta
from typing import Never

import pytest

from common.errors import UnavailableError
from common.health import Verdict
from common.ledger.control import Pause
from common.ledger.problems import ProblemKind
from common.ledger.pulses import KEPT_FOR, Pulse
from common.ledger.runs import Counts, Cursor
from common.ledger.states import RunState
from ops.status import describe
from producer.entries import Keeping
from producer.fold import FoldConfig, survey
from producer.index import VersionIndex
from producer.pulse import PulseTools, take_pulse
from tests.unit.ops.samples import HERE, RUN, Bench

QUARTER = 900.0


def tools(bench: Bench) -> PulseTools:
    """Return what a pulse is taken with, over the fakes of a bench."""
    box = bench.toolbox
    return PulseTools(
        ledger=box.ledger,
        problems=box.problems,
        queue=bench.queue,
        poison_queue=bench.poison_queue,
        clock=bench.clock,
        requests_per_minute=60,
        stale_after=box.stale_after,
        template_version="0.1.0",
    )


def fold(bench: Bench) -> None:
    """Fold what is settled, as the next tick does."""
    folded = survey(
        runs=bench.toolbox.ledger.runs,
        chunks=bench.toolbox.ledger.chunks,
        index=VersionIndex(bench.tables),
        config=FoldConfig(destination=HERE, keeping=Keeping()),
        tick="tick",
        today=20_000,
        keep_going=lambda: None,
    )
    assert folded.folded == 2


def pulse(bench: Bench) -> Pulse:
    """Take the pulse of a tick."""
    return take_pulse(tools(bench), tick="complete", run=RUN)


def a_run_of(bench: Bench, chunks: int) -> None:
    """Record a complete run of so many chunks of two indicators, each with a message."""
    bench.enqueue(*range(chunks))
    counts = Counts(fetched=2 * chunks + 1, filtered=1, enqueued=2 * chunks)
    run = bench.run(cursor=Cursor(sequence=chunks, done=True), counts=counts)
    assert run.run_id == RUN


def test_what_has_come_since_the_pulse_before() -> None:
    """Each indicator is counted in one pulse, however often its run is looked at."""
    bench = Bench()
    a_run_of(bench, 3)
    first = pulse(bench)
    assert (first.minutes, first.fetched, first.enqueued, first.accepted) == (None, 7, 6, 0)
    assert (first.pending, first.backlog, first.rate_per_minute) == (6, 3, None)
    bench.clock.advance(QUARTER)
    bench.upload(0)
    second = pulse(bench)
    assert (second.fetched, second.enqueued, second.accepted, second.pending) == (0, 0, 2, 4)
    assert (second.minutes, second.rate_per_minute) == (15.0, 0.1)
    assert (second.oldest_pending_minutes, second.last_complete_minutes) == (15.0, 15.0)
    bench.clock.advance(QUARTER)
    bench.poison(1)
    bench.upload(2)
    third = pulse(bench)
    assert (third.accepted, third.poisoned, third.pending, third.poison_kept) == (2, 2, 0, 1)
    bench.upload(1)
    fourth = pulse(bench)
    assert (fourth.accepted, fourth.poisoned) == (2, -2)
    fifth = pulse(bench)
    assert (fifth.accepted, fifth.fetched, fifth.books_balance) == (0, 0, True)


def test_how_long_it_took_from_listed_to_accepted() -> None:
    """The mean over what was accepted since, whether its row is still there or folded away."""
    bench = Bench()
    a_run_of(bench, 3)
    assert pulse(bench).accepted_after_seconds is None
    bench.clock.advance(10)
    bench.upload(0)
    bench.clock.advance(20)
    bench.upload(1)
    fold(bench)
    assert pulse(bench).accepted_after_seconds == 20.0
    bench.clock.advance(70)
    bench.upload(2)
    assert pulse(bench).accepted_after_seconds == 100.0
    assert describe(bench.toolbox.view(runs=1))["runs"][0]["accepted_after_seconds"] == 46.7


def test_a_clock_that_is_behind_counts_nothing_twice() -> None:
    """The newest pulse is the one that was written last, whatever clock its instance had."""
    bench = Bench()
    a_run_of(bench, 2)
    for sequence, accepted in ((0, 2), (1, 2), (None, 0), (None, 0)):
        if sequence is not None:
            bench.upload(sequence)
        assert pulse(bench).accepted == accepted
        bench.clock.elapsed = -60.0


def test_a_run_that_is_no_longer_recent_is_counted_while_it_may_change() -> None:
    """After a long outage the chunks of many runs are accepted; none is forgotten."""
    bench = Bench()
    a_run_of(bench, 1)
    assert pulse(bench).enqueued == 2
    for _ in range(100):
        bench.run_at(QUARTER)
    pulse(bench)
    bench.upload(0)
    assert (pulse(bench).accepted, pulse(bench).accepted) == (2, 0)


def test_the_verdict_and_what_stands_behind_it() -> None:
    """Codes of all reasons, the sentence of the worst, how long the oldest problem lasts."""
    bench = Bench()
    bench.run(RunState.GAP, reason="token unknown")
    bench.clock.advance(QUARTER)
    bench.run()
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "give the role")
    found = pulse(bench)
    assert (found.verdict, found.reasons) == (Verdict.DOWN, "access gap")
    assert found.reason.startswith("give the role")
    assert (found.problems, found.gaps, found.oldest_problem_minutes) == (2, 1, 0.0)
    assert found.drain_minutes is None
    bench.clock.advance(60.0)
    assert pulse(bench).oldest_problem_minutes == 1.0


@pytest.mark.parametrize("kind", [ProblemKind.GAP, ProblemKind.UNPROVEN])
def test_a_problem_that_no_alert_on_problems_is_about_has_no_age(kind: ProblemKind) -> None:
    """A gap has an alert of its own and stands for days; a record that waits needs nobody."""
    bench = Bench()
    bench.toolbox.problems.raise_problem(kind, "what", subject="run/1")
    bench.clock.advance(60.0)
    found = pulse(bench)
    assert (found.problems, found.oldest_problem_minutes) == (1, None)


def test_a_pause_is_in_the_pulse() -> None:
    """The verdict says so, and until when."""
    bench = Bench()
    until = bench.clock.now() + timedelta(days=1)
    bench.toolbox.ledger.control.pause(Pause(since=bench.clock.now(), until=until, by="ann"))
    found = pulse(bench)
    assert (found.verdict, found.reasons, found.paused_until) == (Verdict.PAUSED, "paused", until)


def test_the_first_tick_of_a_day_removes_what_is_too_old() -> None:
    """Once a day is often enough; the newest of before is still counted from."""
    bench = Bench()
    a_run_of(bench, 1)
    pulse(bench)
    bench.clock.advance(KEPT_FOR.total_seconds() + 1)
    assert (pulse(bench).enqueued, len(list(bench.toolbox.ledger.pulses.latest(None)))) == (0, 1)
    bench.clock.advance(1)
    pulse(bench)
    assert len(list(bench.toolbox.ledger.pulses.latest(None))) == 2


def test_one_row_and_one_line_a_tick(caplog: pytest.LogCaptureFixture) -> None:
    """The line has the facts of the row, times as text; the version comes with every line."""
    bench = Bench()
    bench.run()
    with caplog.at_level(logging.INFO, "lumen_sentinel"):
        taken = pulse(bench)
    assert list(bench.toolbox.ledger.pulses.latest(9)) == [taken]
    (line,) = [record.getMessage() for record in caplog.records]
    name, _, facts = line.partition(" ")
    expected = {key: value for key, value in asdict(taken).items() if key != "at"}
    assert (name, json.loads(facts)) == ("health", expected | {"trace": ""})
    assert (taken.tick, taken.run, taken.template_version) == ("complete", RUN, "0.1.0")


def _away(*_: object, **__: object) -> Never:
    raise UnavailableError("table pulses cannot be reached")


def _bug(*_: object, **__: object) -> Never:
    raise ZeroDivisionError("secret")


@pytest.mark.parametrize("failing", ["write", "last_books", "queue", "bug"])
def test_a_pulse_that_cannot_be_taken_is_logged(
    failing: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, with the reason; nothing is raised, whatever fails."""
    bench = Bench()
    bench.run()
    if failing == "queue":
        monkeypatch.setattr(bench.queue, "depth", _away)
    elif failing == "bug":
        monkeypatch.setattr(bench.queue, "depth", _bug)
    else:
        monkeypatch.setattr(type(bench.toolbox.ledger.pulses), failing, _away)
    with caplog.at_level(logging.INFO, "lumen_sentinel"):
        taken = pulse(bench)
    assert (taken.verdict, taken.reasons, taken.tick) == (Verdict.UNKNOWN, "ledger", "complete")
    wanted = "bug: ZeroDivisionError" if failing == "bug" else "cannot be reached"
    assert wanted in taken.reason
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text


def test_two_pulses_at_one_moment_count_what_has_come_once() -> None:
    """One that was looked at before the other was written looks again: its changes are told."""
    bench = Bench()
    pulse(bench)
    a_run_of(bench, 3)
    others: list[Pulse] = []

    def overtake(table: str, operation: str) -> None:
        if (table, operation) == ("pulses", "transact"):
            bench.tables.before = lambda _table, _operation: None
            others.append(pulse(bench))

    bench.tables.before = overtake
    mine = pulse(bench)
    (other,) = others
    assert (other.fetched, other.enqueued) == (7, 6)
    assert (mine.fetched, mine.enqueued) == (0, 0)
    kept = list(bench.toolbox.ledger.pulses.latest(9))
    assert [one.fetched for one in kept] == [0, 7, 0]
