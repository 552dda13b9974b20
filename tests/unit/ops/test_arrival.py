"""Did it arrive? What is asked, what follows from the rows, and what is shown of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from common.errors import (
    ContractDriftError,
    CredentialError,
    PartialAnswerError,
    PipelineError,
    QueryRefusedError,
    SettingsError,
    ThrottledError,
    UnavailableError,
)
from common.fingerprints import id_hash
from common.health import Cause, Reason, Verdict, judge_health
from common.ledger.arrivals import ASKED_FOR, KEPT_FOR, MISSING_AFTER, ArrivalBook, RunArrival
from common.ledger.runs import Run
from common.ledger.samples import OF_A_RUN, Sample
from common.ledger.states import RunState
from common.ledger.tables import Row
from common.workspace import Row as Found
from ops.arrival import MAX_IDS, ArrivalTools, judge_sample, plan_check, run_check
from ops.status import describe
from tests.fakes.clock import START
from tests.fakes.workspace import FakeWorkspace
from tests.unit.ops.samples import HERE, Bench

MODIFIED = START - timedelta(days=1)
MINUTE = timedelta(minutes=1)


def sample(number: int = 1, **changes: Any) -> Sample:
    """Return a sample that the workspace of the bench accepted at `START`."""
    known = Sample(
        id=f"indicator--{number}",
        modified=round(MODIFIED.timestamp() * 1000),
        accepted_at=START,
        confidence=80,
        valid_until=round((START + timedelta(days=9)).timestamp() * 1000),
        destination=id_hash(HERE),
        rank=0,
    )
    return replace(known, **changes)


def row(**changes: Any) -> Found:
    """Return the row of such a sample, which arrived three minutes later."""
    return {
        "ArrivedAt": START + 3 * MINUTE,
        "Modified": MODIFIED,
        "Confidence": 80,
        "ValidUntil": START + timedelta(days=9),
        "Revoked": False,
        **changes,
    }


class World:
    """A bench, a workspace, and a run with a sample of so many in its head."""

    def __init__(self, *samples: Sample) -> None:
        self.bench = Bench()
        self.workspace = FakeWorkspace()
        self.run(*samples)

    def run(self, *samples: Sample, number: int = 1) -> Run:
        """Make one more run, with this sample."""
        now = self.bench.clock.now()
        return self.bench.toolbox.ledger.runs.create(
            Run(
                run_id=f"202601{number:02}T000000-0badcafe",
                state=RunState.COMPLETE,
                started_at=now,
                updated_at=now,
                sample=samples,
            )
        )

    def check(self, *, is_on: bool = True, open_: Callable[[], Any] | None = None) -> ArrivalBook:
        """Check once; return the book."""
        tools = ArrivalTools(
            ledger=self.bench.toolbox.ledger,
            workspace=open_ or (lambda: self.workspace),
            clock=self.bench.clock,
            destination=HERE,
        )
        run_check(tools, is_on=is_on)
        return self.bench.toolbox.ledger.arrivals.read(whole=True)

    def report(self) -> dict[str, Any]:
        """Return the status."""
        return describe(self.bench.toolbox.view(runs=5))

    @property
    def codes(self) -> set[str]:
        """The codes of the findings about arrivals."""
        return {one.code.value for one in self.reasons}

    @property
    def reasons(self) -> list[Reason]:
        """The findings about arrivals: as time passes without a sync, there is another one."""
        found = judge_health(self.bench.toolbox.view(runs=5)).reasons
        return [one for one in found if one.code is not Cause.NO_COMPLETE_RUN]


def test_all_arrive() -> None:
    """By one query; then nothing is open, and nothing is asked."""
    world = World(*map(sample, range(20)))
    world.workspace.rows = {
        sample(n).id: row(ArrivedAt=START + (n + 1) * MINUTE) for n in range(20)
    }
    world.bench.clock.advance(1200)
    (run,) = world.check().runs
    assert (run.sampled, run.arrived, run.missing, run.different) == (20, 20, 0, 0)
    assert (run.median_seconds, run.longest_seconds) == (630.0, 1200.0)
    world.check()
    assert [len(ids) for ids in world.workspace.asked] == [20]
    report = world.report()
    assert report["arrival"] | {"checked_at": ""} == {
        "checked_at": "",
        "off": False,
        "trouble": "",
        "run": "20260101T000000-0badcafe",
        "sampled": 20,
        "arrived": 20,
        "not_arrived": 0,
        "arrived_after_seconds": 630.0,
        "older": 0,
        "different": 0,
        "longest_seconds": 1200.0,
    }
    assert (report["runs"][0]["arrived"], report["runs"][0]["sampled"]) == (20, 20)
    assert (report["health"], report["findings"]) == ("healthy", [])


def test_what_is_missing_is_a_finding_after_two_hours_and_ends_when_it_comes() -> None:
    """Late by hours; what was found meanwhile stays found without being asked again."""
    world = World(*map(sample, range(4)))
    world.workspace.rows = {sample(1).id: row()}
    world.bench.clock.advance(MISSING_AFTER.total_seconds())
    world.check()
    assert Cause.NOT_ARRIVED not in world.codes
    world.bench.clock.advance(1)
    (run,) = world.check().runs
    assert (run.arrived, run.missing) == (1, 3)
    assert world.codes == {Cause.NOT_ARRIVED}
    (finding,) = (reason.text for reason in world.reasons)
    assert finding.index("WORKSPACE_ID") < finding.index("ingestion rule") < finding.index("Azure")
    assert "3 of a sample of 4" in finding
    late = START + timedelta(hours=5)
    world.workspace.rows |= {sample(n).id: row(ArrivedAt=late) for n in range(4)}
    world.bench.clock.advance(4 * 3600)
    (run,) = world.check().runs
    assert (run.arrived, run.missing, run.longest_seconds) == (4, 0, 18_000.0)
    assert world.codes == set()
    assert [len(ids) for ids in world.workspace.asked] == [4, 3, 3]


def test_a_sample_is_looked_for_for_a_day() -> None:
    """Then its absence counts no more, and after two days its row goes."""
    world = World(sample())
    world.bench.clock.advance(ASKED_FOR.total_seconds())
    world.check()
    assert Cause.NOT_ARRIVED in world.codes
    world.bench.clock.advance(1)
    world.check()
    assert len(world.workspace.asked) == 1
    assert Cause.NOT_ARRIVED not in world.codes
    world.bench.clock.advance((KEPT_FOR - ASKED_FOR).total_seconds())
    world.check()
    assert world.check().runs == ()


@pytest.mark.parametrize(
    "trouble",
    [
        CredentialError("the workspace denies queries (403)"),
        QueryRefusedError("by its private link only"),
        ThrottledError("slow down (429)"),
        PartialAnswerError("a part"),
        UnavailableError("cannot be asked"),
        ContractDriftError("no result"),
    ],
)
def test_a_workspace_that_cannot_be_asked_is_said_once_and_is_no_fault(
    trouble: PipelineError,
) -> None:
    """The feed stays healthy; what is not known is not missing; the next check asks again."""
    world = World(sample())
    world.run(sample(2), number=2)
    world.workspace.trouble = trouble
    world.check()
    world.bench.clock.advance(900)
    world.check()
    diagnosis = judge_health(world.bench.toolbox.view(runs=5))
    assert diagnosis.verdict is Verdict.HEALTHY
    (finding,) = diagnosis.findings
    assert str(trouble) in finding
    assert world.report()["arrival"]["trouble"] == str(trouble)
    world.workspace.trouble = None
    world.workspace.rows = {sample(1).id: row(), sample(2).id: row()}
    assert [run.arrived for run in world.check().runs] == [1, 1]
    assert world.codes == set()


def test_wrong_settings_are_a_trouble_too() -> None:
    """They are no fault of the workspace, and fail nothing here."""

    def opened() -> None:
        raise SettingsError(["TENANT_ID: is required"])

    world = World(sample())
    last = world.check(open_=opened).last
    assert last is not None
    assert "TENANT_ID" in last.trouble


def test_switched_off_nothing_is_asked() -> None:
    """The status says so; it is no finding."""
    world = World(sample())
    world.check(is_on=False)
    assert world.workspace.asked == []
    assert world.report()["arrival"]["off"] is True
    assert world.report()["findings"] == []
    world.check()
    assert world.report()["arrival"]["off"] is False


@pytest.mark.parametrize(
    ("changes", "arrived"),
    [
        ({}, True),
        ({"Modified": None}, True),
        ({"Modified": MODIFIED + timedelta(microseconds=400)}, True),
        ({"Modified": MODIFIED + MINUTE}, True),
        ({"Modified": MODIFIED - MINUTE}, False),
        ({"ArrivedAt": None}, False),
    ],
)
def test_which_row_is_the_arrival(changes: dict[str, Any], *, arrived: bool) -> None:
    """The version that was sent, or a later one."""
    assert (judge_sample(sample(), row(**changes)) is not None) is arrived


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, ""),
        ({"Confidence": 10}, "confidence"),
        ({"ValidUntil": START}, "valid_until"),
        ({"Revoked": True}, "revoked"),
        ({"Confidence": 10, "Revoked": True}, "confidence revoked"),
        ({"Confidence": None, "ValidUntil": None, "Revoked": None}, ""),
        ({"Modified": MODIFIED + MINUTE, "Confidence": 10}, ""),
    ],
)
def test_the_values_are_compared_with_those_sent(changes: dict[str, Any], differs: str) -> None:
    """Not those of a later version, nor of a column that the workspace has dropped."""
    found = judge_sample(sample(), row(**changes))
    assert found is not None
    assert found.differs == differs


def test_a_row_that_was_there_before_says_nothing_of_the_time() -> None:
    """The same version was sent once more; nor does a later version's."""
    there = judge_sample(sample(), row(ArrivedAt=START - timedelta(hours=1)))
    later = judge_sample(sample(), row(Modified=MODIFIED + MINUTE))
    early = judge_sample(sample(), row(ArrivedAt=START - MINUTE))
    assert there is not None
    assert later is not None
    assert early is not None
    assert (there.after, later.after, early.after) == (None, None, 0.0)


def test_a_downgrade_is_seen_from_the_other_end() -> None:
    """The newest row is of an older version, and came after the acceptance."""
    world = World(sample(1), sample(2))
    world.workspace.rows = {
        sample(1).id: row(Modified=MODIFIED - MINUTE),
        sample(2).id: row(Modified=MODIFIED - MINUTE, ArrivedAt=START - timedelta(hours=1)),
    }
    world.bench.clock.advance(MISSING_AFTER.total_seconds() + 1)
    (run,) = world.check().runs
    assert (run.older, run.missing, run.arrived) == (1, 1, 0)
    assert world.codes == {Cause.ARRIVED_OLDER, Cause.NOT_ARRIVED}


def test_what_another_workspace_accepted_is_not_looked_for_here() -> None:
    """It would be missing."""
    world = World(sample(destination=id_hash("another")))
    assert world.check().runs == ()
    assert world.workspace.asked == []


def test_a_query_has_at_most_a_thousand_ids_the_last_accepted_first() -> None:
    """The others come when these are found."""
    samples = {
        f"run-{number}": [
            sample(number * 100 + each, accepted_at=START + number * MINUTE)
            for each in range(OF_A_RUN)
        ]
        for number in range(60)
    }
    ids = plan_check(samples, ArrivalBook(), now=START + timedelta(hours=1))
    assert len(ids) == MAX_IDS
    assert "indicator--5900" in ids
    assert "indicator--0" not in ids


def test_an_id_in_the_samples_of_two_runs_is_asked_for_once() -> None:
    """Each run is judged by the version that it sent."""
    world = World(sample())
    newer = sample(modified=sample().modified + 60_000, accepted_at=START + MINUTE)
    world.run(newer, number=2)
    world.workspace.rows = {sample().id: row(Modified=MODIFIED + MINUTE)}
    world.bench.clock.advance(600)
    second, first = world.check().runs
    assert world.workspace.asked == [[sample().id]]
    assert (first.arrived, first.median_seconds) == (1, None)
    assert (second.arrived, second.median_seconds) == (1, 120.0)


def test_a_damaged_row_is_left_out() -> None:
    """It is looked for once more, and written anew."""
    world = World(sample())
    world.workspace.rows = {sample().id: row()}
    (run,) = world.check().runs
    table = world.bench.tables.table("control")
    (stored,) = list(table.query("arrival", before_key="a"))
    for damage in ({"arrived": "x"}, {"found": b"{"}, {"found": b'[{"id": 1}]'}):
        table.merge(Row(partition=stored.partition, key=stored.key, data=damage))
        assert world.check().runs == (run,)


def test_the_pulse_has_the_median_of_the_newest_run_that_has_one() -> None:
    """A run without one does not hide it."""
    book = ArrivalBook(
        runs=tuple(
            RunArrival(run_id=f"{n}", checked_at=START, accepted_at=START, median_seconds=seconds)
            for n, seconds in enumerate([None, 7.0, 9.0])
        )
    )
    assert book.median_seconds == 7.0


def test_rows_come_back_as_they_were_written() -> None:
    """Every field."""
    world = World(sample(1), sample(2))
    world.workspace.rows = {sample(1).id: row(Confidence=1), sample(2).id: row(Modified=None)}
    (run,) = world.check().runs
    assert {hit.differs for hit in run.found} == {"confidence", ""}
    assert {hit.after for hit in run.found} == {180.0}
    assert run.found[0].arrived_at == START + 3 * MINUTE
    assert isinstance(run.checked_at, datetime)
