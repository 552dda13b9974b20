"""Health: what makes the feed down or degraded, and that the report says why."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from common.envelope import decode_envelope, encode_envelope
from common.health import Verdict, judge_health
from common.ledger.problems import STOPS_THE_FEED, STOPS_UPLOADS, ProblemKind
from common.ledger.runs import GAP_COUNTS_FOR, Counts, Cursor, Head
from common.ledger.states import RunState
from common.ledger.tables import Row
from common.view import HEALTH_RUNS, SILENT_AFTER, problem_of_gap
from ops.poison import Selection, find, replay
from ops.status import describe
from producer.entries import Keeping
from producer.fold import FoldConfig, survey
from producer.index import VersionIndex
from tests.fakes.clock import START
from tests.fakes.tables import FakeTable, FakeTables
from tests.unit.ops.samples import HERE, RUN, Bench, chunk

LONG = SILENT_AFTER / timedelta(seconds=1) + 1


def test_a_feed_that_never_synced_is_down() -> None:
    """Before the first complete run nothing can be called healthy."""
    diagnosis = judge_health(Bench().toolbox.view(runs=5))
    assert diagnosis.verdict is Verdict.DOWN
    assert "has not fired yet" in diagnosis.findings[0]


def test_the_first_runs_have_as_long_as_later_ones() -> None:
    """Until a complete run could be missing, a new feed is degraded, with the reason; then down."""
    bench = Bench()
    bench.run(RunState.FAILED, reason="Lumen refused the API key (401)")
    bench.clock.advance(bench.toolbox.stale_after / timedelta(seconds=1))
    bench.run(RunState.FAILED, reason="Lumen refused the API key (401)")
    diagnosis = judge_health(bench.toolbox.view(runs=5))
    assert diagnosis.verdict is Verdict.DEGRADED
    assert "none of the last 2 sync runs is complete: Lumen refused" in diagnosis.findings[0]
    bench.clock.advance(1)
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.DOWN


def test_a_fresh_complete_run_is_healthy() -> None:
    """A complete run, no problem, no poison, no backlog: healthy, and nothing to say."""
    bench = Bench()
    bench.run()
    assert judge_health(bench.toolbox.view(runs=5)).findings == ()


def test_a_run_that_is_too_long_ago_is_down_with_the_last_reason() -> None:
    """A missing success is bad news even when nothing has failed."""
    bench = Bench()
    bench.run()
    bench.clock.advance(bench.toolbox.stale_after / timedelta(seconds=1) + 1)
    bench.run(RunState.FAILED, reason="Lumen refused the API key (401)")
    diagnosis = judge_health(bench.toolbox.view(runs=5))
    assert diagnosis.verdict is Verdict.DOWN
    assert "45 minutes ago: Lumen refused the API key (401)" in diagnosis.findings[0]


def test_an_open_problem_is_down_and_closes() -> None:
    """A problem is told with its remedy and since when; a success ends it."""
    bench = Bench()
    bench.run()
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "role missing: give it")
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.DOWN
    assert describe(bench.toolbox.view(runs=5))["problems"][0]["what"] == "role missing: give it"
    bench.toolbox.problems.note_success(bench.clock.now())
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.HEALTHY


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
    diagnosis = judge_health(bench.toolbox.view(runs=5))
    assert diagnosis.verdict is Verdict.DEGRADED
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
    view = bench.toolbox.view(runs=1)
    assert len(view.runs) == 1
    assert judge_health(view).verdict is Verdict.HEALTHY


def _long_run(bench: Bench, *, cursor: Cursor, ticks: int) -> None:
    """Take a run on by a page a tick, every 15 minutes; each tick ends at its limits."""
    runs = bench.toolbox.ledger.runs
    run = bench.run(RunState.INTERRUPTED, reason="the time budget is used up")
    for number in range(ticks):
        bench.clock.advance(900)
        head = Head(runs, run, tick=f"tick-{number}", clock=bench.clock)
        head.save(epoch=run.epoch + 1, stalled=run.stalled + 1, state=RunState.RUNNING)
        cursor = replace(cursor, page=cursor.page + 1)
        counts = Counts(fetched=1000 * cursor.page, filtered=1000 * cursor.page)
        run = head.save(cursor=cursor, counts=counts)
        run = head.save(state=RunState.INTERRUPTED, reason="the time budget is used up")


@pytest.mark.parametrize("ticks", [1, 4, 100])
def test_a_long_run_that_comes_further_is_healthy(ticks: int) -> None:
    """A first load of days, over many ticks: neither limit of a tick is anything to tell."""
    bench = Bench()
    _long_run(bench, cursor=Cursor(), ticks=ticks)
    assert judge_health(bench.toolbox.view(runs=5)).findings == ()
    bench.clock.advance(bench.toolbox.stale_after.total_seconds())
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.HEALTHY


def test_a_long_run_that_comes_no_further_is_told() -> None:
    """Without progress for as long as a run may take, the feed is down, with the reason."""
    bench = Bench()
    _long_run(bench, cursor=Cursor(), ticks=4)
    (run,) = bench.toolbox.ledger.runs.latest(9)
    for _ in range(4):
        bench.clock.advance(900)
        run = Head(bench.toolbox.ledger.runs, run, tick="t", clock=bench.clock).save(
            reason="Lumen is unavailable (503)"
        )
    diagnosis = judge_health(bench.toolbox.view(runs=5))
    assert diagnosis.verdict is Verdict.DOWN
    assert diagnosis.findings == (
        "none of the last 1 sync runs is complete: Lumen is unavailable (503)",
    )


def test_a_run_that_was_not_answered_yet_is_not_at_work() -> None:
    """Its query may never complete: nothing was fetched."""
    bench = Bench()
    bench.run(RunState.RUNNING)
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.DEGRADED
    bench.clock.advance(bench.toolbox.stale_after.total_seconds() + 1)
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.DOWN


@pytest.mark.parametrize("state", list(RunState))
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("is_newest", [False, True])
def test_an_open_run_that_no_lease_names_is_told(
    state: RunState, named: bool, is_newest: bool
) -> None:
    """Until the next tick closes it; the newest is not, as its tick may be about to name it."""
    bench = Bench()
    run = bench.run(state)
    if not is_newest:
        bench.run_at(1)
    if named:
        bench.lease(run)
    is_told = run.is_open and not named and not is_newest
    view = bench.toolbox.view(runs=5)
    assert view.orphans == ((run.run_id,) if is_told else ())
    told = [finding for finding in judge_health(view).findings if "run lease" in finding]
    assert len(told) == is_told
    assert all(run.run_id in finding and "the next tick closes it" in finding for finding in told)


def test_rows_that_cannot_be_read_are_told_and_counted_nowhere_else() -> None:
    """One of a later release and one that is damaged: neither waits, here or for elsewhere."""
    bench = Bench()
    bench.run()
    bench.enqueue(0, 1)
    bench.queue.sent.clear()
    bench.set_row(0, state="sent-twice", destination="another")
    bench.set_row(1, count="two")
    bench.clock.advance(LONG)
    view = bench.toolbox.view(runs=5)
    assert (view.strange, view.elsewhere, view.missing) == (2, 0, 0)
    (finding,) = [text for text in judge_health(view).findings if "cannot read" in text]
    assert "chunk rows that this release cannot read: 2" in finding


@pytest.mark.parametrize("settled", ["", "uploaded", "void", "struck"])
def test_what_waits_for_another_workspace_is_told(settled: str) -> None:
    """Indicators that are still to be sent count, with the command that turns them over."""
    bench = Bench()
    bench.run(cursor=Cursor(sequence=2))
    bench.write_row(0)
    bench.write_row(1, destination="sentinel.example/before")
    bench.queue.send("one")
    match settled:
        case "uploaded":
            bench.upload(1)
        case "void":
            bench.void(1)
        case "struck":
            bench.toolbox.ledger.chunks.strike(RUN, chunk(1).key, {1})
    expected = {"": 2, "struck": 1}.get(settled, 0)
    view = bench.toolbox.view(runs=5)
    assert view.elsewhere == expected
    told = [text for text in judge_health(view).findings if "destination adopt" in text]
    assert len(told) == bool(expected)
    assert all(f"the present one: {expected};" in finding for finding in told)


def test_without_the_settings_of_a_workspace_nothing_is_elsewhere() -> None:
    """A laptop need not know them to ask for the status."""
    bench = Bench()
    bench.run()
    bench.write_row(0)
    bench.queue.send("one")
    assert replace(bench.toolbox, destination="").view(runs=5).elsewhere == 0


@pytest.mark.parametrize("queue", ["empty", "one", "one given up"])
@pytest.mark.parametrize("seconds", [LONG - 2, LONG])
def test_chunks_without_a_message_are_told(queue: str, seconds: float) -> None:
    """While both queues are empty for long, what waits has no message: it was cleared."""
    bench = Bench()
    bench.enqueue(0, 1)
    bench.queue.sent.clear()
    bench.upload(1)
    bench.clock.advance(seconds)
    bench.run()
    if queue != "empty":
        (bench.queue if queue == "one" else bench.poison_queue).send("message")
    is_told = queue == "empty" and seconds == LONG
    view = bench.toolbox.view(runs=5)
    assert view.missing == (2 if is_told else 0)
    told = [text for text in judge_health(view).findings if "no message is on the queue" in text]
    assert len(told) == is_told


def _accept(bench: Bench) -> None:
    bench.toolbox.problems.note_success(bench.clock.now())


def _silent(bench: Bench) -> None:
    """Enqueue two chunks at their slots, as a run does, and let nothing become of them."""
    bench.enqueue(0, 1)
    bench.clock.advance(LONG)
    bench.run()


def test_a_consumer_that_is_dead_is_down_however_short_the_queue() -> None:
    """Two chunks are due and nothing is accepted: the finding says so, and where to look."""
    bench = Bench()
    _accept(bench)
    bench.clock.advance(3600)
    _silent(bench)
    diagnosis = judge_health(bench.toolbox.view(runs=5))
    assert diagnosis.verdict is Verdict.DOWN
    (finding,) = diagnosis.findings
    assert "messages are due and Sentinel has accepted nothing since 01 Jan 01:00 UTC" in finding
    assert "sentinel_upload" in finding


def test_a_consumer_that_never_worked_is_down() -> None:
    """There need not have been a success before."""
    bench = Bench()
    _silent(bench)
    assert judge_health(bench.toolbox.view(runs=5)).verdict is Verdict.DOWN


def test_later_runs_do_not_hide_a_dead_consumer() -> None:
    """Each run moves the send slots on; the chunks of the ones before are due all the same."""
    bench = Bench()
    _silent(bench)
    bench.enqueue(2)
    bench.clock.advance(2)
    assert judge_health(bench.toolbox.view(runs=1)).verdict is Verdict.DOWN


def test_a_dead_consumer_shows_behind_a_long_queue() -> None:
    """While the last slots lie hours ahead, those that have passed are noticed."""
    bench = Bench()
    bench.enqueue(*range(4000))
    bench.clock.advance(LONG)
    bench.run()
    view = bench.toolbox.view(runs=5)
    assert view.oldest_due == START
    assert judge_health(view).verdict is Verdict.DOWN
    assert describe(view)["drain_minutes"] is None


def _nothing_enqueued(bench: Bench) -> None:
    bench.clock.advance(LONG)


def _enqueued_just_now(bench: Bench) -> None:
    bench.clock.advance(LONG)
    bench.enqueue(0, 1)
    bench.clock.advance(10)


def _accepted_just_now(bench: Bench) -> None:
    bench.enqueue(0, 1)
    bench.clock.advance(LONG)
    _accept(bench)


def _defer(bench: Bench, delay: float) -> None:
    """Let the consumer defer the one chunk that is on the queue."""
    (sent,) = bench.queue.sent
    bench.queue.sent.clear()
    due = bench.clock.now().timestamp() + delay
    copy = decode_envelope(sent.text).deferred(at="", reason="503", counts=False, due=due)
    bench.queue.send(encode_envelope(copy), delay=delay)


def _deferred_for_long(bench: Bench) -> None:
    bench.enqueue(0)
    _defer(bench, 2 * LONG)
    bench.clock.advance(LONG)


def _deferred_until_now(bench: Bench) -> None:
    bench.enqueue(0)
    _defer(bench, LONG)
    bench.clock.advance(LONG + 60)


def _postponed(bench: Bench) -> None:
    """A message that came late takes another slot, behind the whole queue."""
    bench.enqueue(0)
    (sent,) = bench.queue.sent
    bench.queue.sent.clear()
    bench.clock.advance(LONG)
    now = bench.clock.now().timestamp()
    bench.queue.send(encode_envelope(decode_envelope(sent.text).moved_to(now + 60)), delay=60)
    bench.clock.advance(120)


def _not_ours(bench: Bench) -> None:
    """What cannot be read, and what a release before enqueued, say nothing of when."""
    bench.queue.send("rubbish")
    bench.queue.send(encode_envelope(chunk()))
    bench.clock.advance(LONG)


def _replayed_just_now(bench: Bench) -> None:
    bench.enqueue(0)
    bench.queue.sent.clear()
    bench.poison(0)
    bench.clock.advance(LONG)
    tools = bench.toolbox
    kept = find(tools.ledger, Selection(all_kept=True))
    list(replay(kept, ledger=tools.ledger, queue=tools.queue, slots=tools.slots, clock=tools.clock))
    bench.clock.advance(10)


@pytest.mark.parametrize(
    "happen",
    [
        _nothing_enqueued,
        _enqueued_just_now,
        _accepted_just_now,
        _deferred_for_long,
        _deferred_until_now,
        _postponed,
        _not_ours,
        _replayed_just_now,
    ],
)
def test_what_is_no_silence(happen: Callable[[Bench], None]) -> None:
    """Hours without changes, chunks that wait for a reason, and those just sent: no alarm."""
    bench = Bench()
    _accept(bench)
    bench.clock.advance(3600)
    happen(bench)
    bench.run()
    assert judge_health(bench.toolbox.view(runs=5)).findings == ()


def test_a_deferred_chunk_that_is_not_taken_up_is_silence() -> None:
    """The end of its deferral has passed long ago: the consumer is dead since then."""
    bench = Bench()
    bench.enqueue(0)
    _defer(bench, 600)
    bench.clock.advance(600 + LONG)
    bench.run()
    (finding,) = judge_health(bench.toolbox.view(runs=5)).findings
    assert "accepted nothing since 01 Jan 00:10 UTC" in finding


@pytest.mark.parametrize("kind", ProblemKind)
def test_each_problem_is_told_with_its_remedy(kind: ProblemKind) -> None:
    """What stops the feed is down, the rest degraded; the queue empties only without the former."""
    bench = Bench()
    bench.run()
    bench.toolbox.problems.raise_problem(kind, "do this", subject="run/1")
    view = bench.toolbox.view(runs=5)
    diagnosis = judge_health(view)
    stops = kind in STOPS_THE_FEED
    assert diagnosis.verdict is (Verdict.DOWN if stops else Verdict.DEGRADED)
    (finding,) = diagnosis.findings
    assert (
        "1 record" if kind is ProblemKind.UNPROVEN else "do this (since 01 Jan 00:00"
    ) in finding
    assert (view.drain_time is None) is (kind in STOPS_UPLOADS)
    assert (describe(view)["drain_minutes"] is None) is (kind in STOPS_UPLOADS)


def test_records_that_wait_for_proof_are_one_sentence() -> None:
    """However many there are, with their number."""
    bench = Bench()
    bench.run()
    for number in range(3):
        bench.toolbox.problems.raise_problem(ProblemKind.UNPROVEN, "1", subject=f"run/{number}")
    (finding,) = judge_health(bench.toolbox.view(runs=5)).findings
    assert "3 records wait for proof" in finding


def test_a_problem_of_lumen_does_not_explain_silence() -> None:
    """Two things are wrong: two findings."""
    bench = Bench()
    _silent(bench)
    bench.toolbox.problems.raise_problem(ProblemKind.LUMEN_ACCESS, "403 at Lumen")
    findings = judge_health(bench.toolbox.view(runs=5)).findings
    assert [finding.split()[0] for finding in findings] == ["403", "messages"]


@pytest.mark.parametrize("days", [0, 13.9, 14.1])
@pytest.mark.parametrize("is_acknowledged", [False, True])
def test_a_gap_counts_until_it_is_acknowledged_or_old(days: float, is_acknowledged: bool) -> None:
    """Later runs do not hide it; what was acknowledged is a trace with its end."""
    bench = Bench()
    gap = bench.run(RunState.GAP, reason="token unknown")
    bench.clock.advance(days * 86_400)
    for _ in range(HEALTH_RUNS + 1):
        bench.run_at(1)
    runs = bench.toolbox.ledger.runs
    if is_acknowledged:
        assert runs.acknowledge(gap.run_id, at=bench.clock.now(), by="ann: asked Lumen")
        assert not runs.acknowledge(gap.run_id, at=bench.clock.now(), by="bob")
    diagnosis = judge_health(bench.toolbox.view(runs=5))
    counts = not is_acknowledged and days < 14
    assert diagnosis.verdict is (Verdict.DEGRADED if counts else Verdict.HEALTHY)
    assert len(diagnosis.findings) == counts
    assert all("token unknown" in finding for finding in diagnosis.findings)
    (found,) = runs.gaps()
    assert problem_of_gap(found).until == (
        bench.clock.now() if is_acknowledged else gap.updated_at + GAP_COUNTS_FOR
    )
    assert ("ann: asked Lumen" in problem_of_gap(found).what) is is_acknowledged


def test_only_a_gap_can_be_acknowledged() -> None:
    """Neither a run that ended otherwise, nor one that is not there, nor a damaged head."""
    bench = Bench()
    runs = bench.toolbox.ledger.runs
    for state in frozenset(RunState) - {RunState.GAP, RunState.OTHER}:
        run = bench.run(state)
        bench.clock.advance(1)
        assert not runs.acknowledge(run.run_id, at=bench.clock.now(), by="ann")
    assert not runs.acknowledge("20260101T000000-00000000", at=bench.clock.now(), by="ann")
    damaged = Row(partition="x", key="head", data={"state": "gap", "reason": 7})
    bench.tables.table("chunks").merge(damaged)
    assert runs.gaps() == []


def test_an_open_problem_explains_the_silence() -> None:
    """What stands in the way is told once, not guessed at a second time."""
    bench = Bench()
    _silent(bench)
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "role missing: give it")
    (finding,) = judge_health(bench.toolbox.view(runs=5)).findings
    assert finding.startswith("role missing")


def test_messages_that_nobody_has_kept_yet_are_told() -> None:
    """What the host gave up is on the poison queue until the handler has kept it."""
    bench = Bench()
    bench.run()
    bench.poison_queue.send("given up")
    view = bench.toolbox.view(runs=5)
    diagnosis = judge_health(view)
    assert diagnosis.verdict is Verdict.DEGRADED
    assert "not kept yet: 1; if this stays" in diagnosis.findings[0]
    assert "keep_poison" in diagnosis.findings[0]
    assert describe(view)["poison_queue_depth"] == 1


class SelectingTables(FakeTables):
    """Tables that note what a query selects: (table, properties)."""

    def __init__(self) -> None:
        super().__init__()
        self.selected: set[tuple[str, frozenset[str] | None]] = set()

    def table(self, name: str) -> FakeTable:
        return self._tables.setdefault(name, SelectingTable(name, self))


class SelectingTable(FakeTable):
    """One of them."""

    def query(self, partition: str | None = None, **which: Any) -> Iterator[Row]:
        if which.get("key") is None:  # heads are read whole, and stand in the same table
            assert isinstance(self._tables, SelectingTables)
            select = which.get("select")
            self._tables.selected.add((self._name, None if select is None else frozenset(select)))
        return super().query(partition, **which)


def test_the_report_reads_no_more_of_many_rows_than_it_needs() -> None:
    """Neither message nor reason of poison, nor records of chunks, also on a second look."""
    tables = SelectingTables()
    bench = Bench(tables=tables)
    bench.poison()
    runs = bench.toolbox.ledger.runs
    unbalanced = runs.save(bench.run(), counts=Counts(fetched=1, enqueued=1))

    def change_in_between(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "get"):
            tables.before = lambda _table, _operation: None
            runs.save(unbalanced, reason="looked at again")

    tables.before = change_in_between
    view = bench.toolbox.view(runs=5)
    assert (view.poison_kept, view.runs[0].run.reason) == (1, "looked at again")
    whole = {table for table, fields in tables.selected if fields is None}
    assert whole.isdisjoint({"chunks", "poison"})
    assert all("found" not in (fields or ()) for _, fields in tables.selected)
    read = {
        name for table, fields in tables.selected if table != "control" for name in fields or ()
    }
    assert read == {
        *("sequence", "epoch", "count", "state", "void", "letters", "accepted", "rejected"),
        *("deferrals", "destination", "enqueued_at", "finished_at", "settled_at"),
    }


def test_the_schedule_says_when_a_run_is_missing() -> None:
    """With three hours between ticks, a run of two hours ago is recent."""
    bench = Bench()
    bench.run()
    bench.clock.advance(2 * 3600)
    view = bench.toolbox.view(runs=5)
    assert judge_health(view).verdict is Verdict.DOWN
    patient = replace(view, stale_after=timedelta(hours=9))
    assert judge_health(patient).verdict is Verdict.HEALTHY


def _fold(bench: Bench) -> None:
    """Fold what is settled, as the next tick does."""
    ledger = bench.toolbox.ledger
    survey(
        runs=ledger.runs,
        chunks=ledger.chunks,
        index=VersionIndex(bench.tables),
        config=FoldConfig(destination=HERE, keeping=Keeping(known_for=90)),
        tick="next",
        today=20_000,
        keep_going=lambda: None,
    )


@pytest.mark.parametrize("at", range(1, 8))
def test_a_fold_while_the_books_are_read_is_no_imbalance(at: int) -> None:
    """Rows that a new run folds away between two reads are in the run's head, read once more."""
    bench = Bench()
    ledger = bench.toolbox.ledger
    run = bench.run()
    ledger.runs.save(run, cursor=Cursor(sequence=3), counts=Counts(fetched=6, enqueued=6))
    for sequence in range(3):
        bench.write_row(sequence)
    ledger.chunks.strike(RUN, chunk(2).key, {0})
    for sequence in range(3):
        bench.upload(sequence)
    calls: list[int] = []

    def fold_in_between(_table: str, _operation: str) -> None:
        calls.append(1)
        if len(calls) == at:
            bench.tables.before = lambda _table, _operation: None
            _fold(bench)

    bench.tables.before = fold_in_between
    view = bench.toolbox.view(runs=5)
    assert len(calls) == at
    assert not list(ledger.chunks.all())
    assert judge_health(view).findings == ()
    assert (view.runs[0].fate.accepted, view.runs[0].fate.struck) == (5, 1)


def test_books_that_do_not_balance_are_told_though_they_are_read_again() -> None:
    """A row that is really missing stays an imbalance."""
    bench = Bench()
    run = bench.run()
    bench.toolbox.ledger.runs.save(
        run, cursor=Cursor(sequence=1), counts=Counts(fetched=2, enqueued=2)
    )
    (finding,) = judge_health(bench.toolbox.view(runs=5)).findings
    assert "do not balance" in finding
