"""Health: what makes the feed down or degraded, and that the report says why."""

from datetime import timedelta

from common.ledger.problems import Kind
from common.ledger.runs import Counts
from common.ledger.states import RunState
from ops.status import STALE_AFTER, Health, describe, judge_health
from tests.unit.ops.samples import Bench


def test_a_feed_that_never_synced_is_down() -> None:
    """Before the first complete run nothing can be called healthy."""
    diagnosis = judge_health(Bench().toolbox.look(runs=5))
    assert diagnosis.health is Health.DOWN
    assert "no sync run is complete yet" in diagnosis.findings[0]


def test_a_fresh_complete_run_is_healthy() -> None:
    """A complete run, no problem, no poison, no backlog: healthy, and nothing to say."""
    bench = Bench()
    bench.run()
    assert judge_health(bench.toolbox.look(runs=5)).findings == ()


def test_a_run_that_is_too_long_ago_is_down_with_the_last_reason() -> None:
    """A missing success is bad news even when nothing has failed."""
    bench = Bench()
    bench.run()
    bench.clock.advance(STALE_AFTER / timedelta(seconds=1) + 1)
    bench.run(RunState.FAILED, reason="Lumen refused the API key (401)")
    diagnosis = judge_health(bench.toolbox.look(runs=5))
    assert diagnosis.health is Health.DOWN
    assert "45 minutes ago: Lumen refused the API key (401)" in diagnosis.findings[0]


def test_an_open_problem_is_down_and_closes() -> None:
    """A problem is told with its remedy and since when; a success ends it."""
    bench = Bench()
    bench.run()
    bench.toolbox.problems.raise_problem(Kind.ACCESS, "role missing: give it")
    assert judge_health(bench.toolbox.look(runs=5)).health is Health.DOWN
    assert describe(bench.toolbox.look(runs=5))["problems"][0]["what"] == "role missing: give it"
    bench.toolbox.problems.note_success()
    assert judge_health(bench.toolbox.look(runs=5)).health is Health.HEALTHY


def test_poison_gaps_and_a_long_queue_are_degraded() -> None:
    """What waits for an operator is told, while the feed goes on."""
    bench = Bench()
    bench.run(RunState.GAP, reason="token unknown")
    bench.clock.advance(1)
    bench.run()
    bench.poison()
    for _ in range(60 * 24 + 1):
        bench.queue.send("x")
    for _ in range(60 * 24 * 59):
        bench.queue.sent.append(bench.queue.sent[0])
    diagnosis = judge_health(bench.toolbox.look(runs=5))
    assert diagnosis.health is Health.DEGRADED
    told = " ".join(diagnosis.findings)
    assert "messages given up: 1" in told
    assert "token unknown" in told
    assert "h to drain" in told


def test_the_diagnosis_does_not_depend_on_how_many_runs_are_shown() -> None:
    """With one run asked for, and that one at work, the complete one before it still counts."""
    bench = Bench()
    bench.run()
    bench.clock.advance(60)
    bench.run(RunState.RUNNING)
    view = bench.toolbox.look(runs=1)
    assert len(view.runs) == 1
    assert judge_health(view).health is Health.HEALTHY


def test_a_long_run_at_work_is_degraded_not_down() -> None:
    """A first load that takes hours arrives page by page: it is told, and it is no outage."""
    bench = Bench()
    run = bench.run(RunState.INTERRUPTED, reason="reached MAX_PAGES")
    bench.toolbox.ledger.runs.save(run, counts=Counts(fetched=1000, filtered=1000))
    diagnosis = judge_health(bench.toolbox.look(runs=5))
    assert diagnosis.health is Health.DEGRADED
    assert diagnosis.findings == ("no sync run is complete yet: reached MAX_PAGES",)
