"""What is old goes at an operator's wish, and nothing that is still needed goes with it."""

from datetime import timedelta
from functools import partial

import pytest

from common.errors import ConflictError, UnavailableError
from common.ledger.acts import Act
from common.ledger.pulses import Books, Pulse
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.runs import Run
from common.ledger.states import RunState
from common.ledger.tables import Row
from ops.cli.ending import GOOD, WRONG
from ops.purge import Purged, count_old, purge
from tests.fakes.clock import START
from tests.unit.ops.cli.program import directly
from tests.unit.ops.samples import RUN, Bench, chunk

DAY = 24 * 3600.0


def old_runs(bench: Bench, *states: RunState) -> list[Run]:
    """Record a run of each state, a day apart, then a newer one that stays for its own sake."""
    runs = []
    for state in states:
        runs.append(bench.run(state))
        bench.clock.advance(DAY)
    bench.clock.advance(90 * DAY)
    bench.run()
    return runs


def left(bench: Bench) -> list[str]:
    """Return the ids of the runs that are there, the newest first."""
    return [run.run_id for run in bench.toolbox.ledger.runs.latest(None)]


def do(bench: Bench, *, days: int = 90, dry_run: bool = False) -> Purged:
    """Purge what is older than some days."""
    do_it = count_old if dry_run else purge
    return do_it(bench.toolbox.ledger, older_than=timedelta(days=days), now=bench.clock.now())


@pytest.mark.parametrize(
    ("state", "goes"),
    [
        (RunState.COMPLETE, True),
        (RunState.FAILED, True),
        (RunState.GAP, True),
        (RunState.RUNNING, False),
        (RunState.INTERRUPTED, False),
        (RunState.OTHER, False),
    ],
)
def test_old_runs_that_are_over_go(state: RunState, goes: bool) -> None:
    """What is open, or of a later release, stays."""
    bench = Bench()
    (run,) = old_runs(bench, state)
    assert do(bench, dry_run=True) == Purged(runs=goes)
    assert run.run_id in left(bench)
    assert do(bench) == Purged(runs=goes)
    assert (run.run_id in left(bench)) is not goes
    assert do(bench) == Purged()


@pytest.mark.parametrize("needed_by", ["a chunk's row", "a void row", "kept poison"])
def test_a_run_that_is_needed_stays(needed_by: str) -> None:
    """And goes once nothing needs it any more."""
    bench = Bench()
    (run,) = old_runs(bench, RunState.COMPLETE)
    assert run.run_id == RUN
    if needed_by == "kept poison":
        bench.poison()
        bench.remove_row()
    else:
        bench.write_row(0)
        if needed_by == "a void row":
            bench.void()
    assert do(bench).runs == 0
    if needed_by == "kept poison":
        assert directly(bench.toolbox, "poison", "discard", "--all", "--yes").status == GOOD
    bench.remove_row()
    assert do(bench).runs == 1


@pytest.mark.parametrize(("days", "goes"), [(13, False), (15, True)])
def test_a_gap_stays_for_a_fortnight(days: int, goes: bool) -> None:
    """However young the records are that are removed."""
    bench = Bench()
    bench.run(RunState.GAP)
    bench.clock.advance(days * DAY)
    bench.run()
    assert do(bench, days=1).runs == goes


def test_the_newest_runs_stay() -> None:
    """The health is judged by the newest run and by the newest that is complete."""
    bench = Bench()
    runs = []
    for state in (RunState.COMPLETE, RunState.COMPLETE, RunState.FAILED, RunState.FAILED):
        runs.append(bench.run(state))
        bench.clock.advance(DAY)
    bench.clock.advance(90 * DAY)
    assert do(bench).runs == 2
    assert left(bench) == [runs[3].run_id, runs[1].run_id]


def test_a_head_that_is_written_meanwhile_stays() -> None:
    """Compare-and-swap: what was read is removed, and nothing newer."""
    bench = Bench()
    (run,) = old_runs(bench, RunState.COMPLETE)
    runs = bench.toolbox.ledger.runs
    read = runs.get(run.run_id)
    assert read is not None
    runs.save(read, reason="written meanwhile")
    assert runs.remove(read) is False
    assert run.run_id in left(bench)
    again = runs.get(run.run_id)
    assert again is not None
    assert runs.remove(again) is True
    assert runs.remove(again) is False


def test_old_rejections_go() -> None:
    """By when they were seen last."""
    bench = Bench()
    table = bench.toolbox.ledger.rejections
    for number in range(250):
        table.record([rejection(bench, run_id="invalid", position=f"{number:03d}")])
    bench.clock.advance(91 * DAY)
    table.record([rejection(bench, run_id="invalid", position="007")])  # seen again
    table.record([rejection(bench, run_id=RUN, position="chunk-1")])
    assert do(bench, dry_run=True).rejections == 249
    assert do(bench).rejections == 249
    assert [found.position for found in table.of_run("invalid")] == ["007"]
    assert [found.position for found in table.of_run(RUN)] == ["chunk-1"]


def test_a_row_of_another_kind_beside_the_rejections_stays() -> None:
    """However old: a later release may keep there what it still needs."""
    bench = Bench()
    other = Row(partition="other", key="1", data={"at": bench.clock.now(), "content": b"x"})
    bench.tables.table("rejections").insert(other)
    bench.clock.advance(91 * DAY)
    assert do(bench).rejections == 0
    assert bench.tables.table("rejections").get("other", "1") is not None


def test_old_pulses_go_but_for_the_newest() -> None:
    """The next pulse goes on from the newest one, however old it is."""
    bench = Bench()
    pulses = bench.toolbox.ledger.pulses
    for day in range(3):
        pulses.write(Pulse(at=START + timedelta(days=day), verdict="healthy"), Books())
    bench.clock.advance(100 * 86_400)
    assert (do(bench, dry_run=True).pulses, do(bench).pulses, do(bench).pulses) == (2, 2, 0)
    (left,) = pulses.latest(9)
    assert left.at == START + timedelta(days=2)
    assert do(bench, days=99).pulses == 0


def test_old_acts_go() -> None:
    """With the rest of the record; newer ones stay."""
    bench = Bench()
    acts = bench.toolbox.ledger.acts
    for _ in range(2):
        acts.begin(Act(act="pause", by="ann", at=bench.clock.now()))
        bench.clock.advance(91 * DAY)
    acts.begin(Act(act="resume", by="ann", at=bench.clock.now()))
    assert (do(bench, dry_run=True).acts, do(bench).acts, do(bench).acts) == (2, 2, 0)
    assert [act.act for act in acts.latest()] == ["resume"]


@pytest.mark.parametrize("budget", [0, 1, 100, 101, 250, 251, 252, 253])
def test_a_purge_goes_as_far_as_there_is_time(budget: int) -> None:
    """It says that something is left; the next one does the rest. So does counting."""
    bench = Bench()
    table = bench.toolbox.ledger.rejections
    for number in range(250):
        table.record([rejection(bench, run_id="invalid", position=f"{number:03d}")])
    old_runs(bench, RunState.COMPLETE, RunState.FAILED)
    whole = do(bench, dry_run=True)
    assert (whole.rejections, whole.runs, whole.remaining) == (250, 2, 0)
    counted, done = (
        call(
            bench.toolbox.ledger,
            older_than=timedelta(days=90),
            now=bench.clock.now(),
            go_on=partial(next, iter([True] * budget), False),
        )
        for call in (count_old, purge)
    )
    assert counted == done
    assert done.remaining
    assert done.rejections == min(250, max(0, budget - 1))
    rest = do(bench)
    assert (done.rejections + rest.rejections, done.runs + rest.runs) == (250, 2)
    assert rest.remaining == 0


def test_young_records_are_not_read_to_find_the_old_ones() -> None:
    """The storage picks them: a purge in slices costs what goes, not what stays."""
    bench = Bench()
    table = bench.toolbox.ledger.rejections
    for number in range(3):
        table.record([rejection(bench, run_id="invalid", position=f"old{number}")])
    bench.clock.advance(91 * DAY)
    for number in range(500):
        table.record([rejection(bench, run_id="invalid", position=f"{number:03d}")])
    bench.tables.rows_read = 0
    assert do(bench).rejections == 3
    assert bench.tables.rows_read == 3


def test_a_rejection_that_is_seen_while_it_is_purged_stays() -> None:
    """Its neighbours in the same transaction go."""
    bench = Bench()
    table = bench.toolbox.ledger.rejections
    for number in range(3):
        table.record([rejection(bench, run_id="invalid", position=str(number))])
    bench.clock.advance(91 * DAY)
    rows = list(table.seen_before(bench.clock.now()))
    table.record([rejection(bench, run_id="invalid", position="1")])
    assert table.purge(rows) == 2
    assert [found.position for found in table.of_run("invalid")] == ["1"]


def rejection(bench: Bench, *, run_id: str, position: str) -> Rejection:
    """Return a rejection that is seen now."""
    return Rejection(
        run_id=run_id,
        position=position,
        rejected_by=RejectedBy.VALIDATION,
        indicator_id="i",
        pattern="p",
        reason="why",
        content=b"{}",
        at=bench.clock.now(),
    )


def test_settled_poison_goes_and_kept_poison_does_not() -> None:
    """By when it was settled, not by when it was given up."""
    bench = Bench()
    kept = bench.poison(2)
    bench.poison(0)
    bench.clock.advance(91 * DAY)
    assert do(bench).poison == 0
    name = f"{RUN}/{chunk(0).key}"
    assert directly(bench.toolbox, "poison", "discard", name, "--yes").status == GOOD
    bench.clock.advance(90 * DAY)
    assert do(bench).poison == 0
    bench.clock.advance(1.0)
    assert do(bench, dry_run=True).poison == 1
    assert do(bench).poison == 1
    assert [record.name for record in bench.toolbox.ledger.poison.all()] == [kept.name]


@pytest.mark.parametrize("step", range(1, 4))
def test_a_purge_that_dies_is_completed_by_another(step: int) -> None:
    """Whatever was removed is counted by the one that removed it."""
    bench = Bench()
    old_runs(bench, RunState.COMPLETE, RunState.FAILED, RunState.COMPLETE)
    steps = 0

    def fail(_table: str, operation: str) -> None:
        nonlocal steps
        steps += operation == "transact"
        if steps == step:
            raise UnavailableError("storage is away")

    bench.tables.before = fail
    with pytest.raises(UnavailableError):
        do(bench)
    bench.tables.before = lambda _table, _operation: None
    assert do(bench).runs == 3 - (step - 1)


@pytest.mark.parametrize("age", ["90", "0d", "-1d", "d", "90h", "1.5d", "999999d", ""])
def test_an_age_is_a_number_of_days(age: str) -> None:
    """Anything else ends the command before it removes anything."""
    ended = directly(Bench().toolbox, "purge", "--older-than", age, "--yes")
    assert (ended.status, "--older-than" in ended.err) == (WRONG, True)


def test_the_command_says_what_went() -> None:
    """As a table, or JSON; a dry run removes nothing, and without a yes nothing is removed."""
    bench = Bench()
    old_runs(bench, RunState.COMPLETE)
    purging = ("purge", "--older-than", "90d")
    shown = directly(bench.toolbox, *purging, "--dry-run").out.splitlines()[:2]
    assert [line.split() for line in shown] == [
        ["records", "would", "be", "removed"],
        ["runs", "1"],
    ]
    asked = directly(bench.toolbox, *purging)
    assert (asked.status, "1 runs" in asked.err) == (WRONG, True)
    done = directly(bench.toolbox, *purging, "--yes", "--json")
    assert done.json == {
        "runs": 1,
        "rejections": 0,
        "poison": 0,
        "pulses": 0,
        "acts": 0,
        "remaining": 0,
    }
    again = directly(bench.toolbox, *purging)
    assert (again.status, again.out.splitlines()[1].split()) == (GOOD, ["runs", "0"])


def test_the_largest_age_is_no_error() -> None:
    """Nothing is that old."""
    bench = Bench()
    old_runs(bench, RunState.COMPLETE)
    assert directly(bench.toolbox, "purge", "--older-than", "3650d", "--yes").status == GOOD
    assert len(left(bench)) == 2


def test_a_run_whose_rows_appear_meanwhile_stays() -> None:
    """Rows are written only together with the head, so the head is another one then."""
    bench = Bench()
    (run,) = old_runs(bench, RunState.COMPLETE)
    runs = bench.toolbox.ledger.runs

    def write(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "transact"):
            bench.tables.before = lambda _table, _operation: None
            known = runs.get(run.run_id)
            assert known is not None
            runs.save(known, reason="as a producer writes it")

    bench.tables.before = write
    assert do(bench).runs == 0
    assert run.run_id in left(bench)
    with pytest.raises(ConflictError):
        runs.create(run)
