"""A short piece of chaos: everything fails at random, and nothing is lost."""

from pathlib import Path

from local.chaos.plan import What, draw_plan
from local.chaos.run import Options, run_chaos
from local.chaos.verdict import Verdict, render_verdict
from local.cloud import LocalCloud
from local.services.azurite import Azurite
from local.services.tls import LocalCertificates
from tests.log_guard import LogGuard

SECONDS = 20.0


def test_a_plan_is_a_matter_of_its_seed() -> None:
    """The same seed draws the same plan, another seed another one; in time everything happens."""
    plan = draw_plan(7, seconds=300, hosts=3)
    assert plan == draw_plan(7, seconds=300, hosts=3)
    assert plan != draw_plan(8, seconds=300, hosts=3)
    assert {happening.what for happening in plan} == set(What)
    assert [happening.at for happening in plan] == sorted(happening.at for happening in plan)


def test_outages_come_on_top_of_the_plan() -> None:
    """So many, evenly spread, each longer than a host stands; the rest is as it was drawn."""
    plan = draw_plan(7, seconds=300, hosts=3)
    longer = draw_plan(7, seconds=300, hosts=3, outages=5)
    added = [happening for happening in longer if happening not in plan]
    assert [happening.at for happening in added] == [0, 60, 120, 180, 240]
    assert {(happening.what, happening.lasts) for happening in added} == {(What.STORAGE_AWAY, 40)}
    assert [happening for happening in longer if happening not in added] == list(plan)


def test_chaos_loses_nothing(
    azurite: Azurite,
    account: str,
    certificates: LocalCertificates,
    tmp_path: Path,
    log_guard: LogGuard,
) -> None:
    """After kills and faults of all kinds Sentinel holds everything and every run balances."""
    clouds: list[LocalCloud] = []
    verdict = run_chaos(
        Options(seed=3, seconds=SECONDS, indicators=2000, hosts=2),
        azurite=azurite,
        account=account,
        certificates=certificates,
        directory=tmp_path,
        say=print,
        watch=clouds.append,
    )
    (cloud,) = clouds
    log_guard.forbid(cloud.secrets)
    for path in cloud.log_paths:
        log_guard.check_file(path)
    assert verdict.good, render_verdict(verdict)
    assert verdict.kills > 0
    assert verdict.faults_met > 0


def test_the_verdict_names_what_is_wrong() -> None:
    """A loss, an imbalance and a chunk that is stuck each fail the verdict and are told."""
    numbers = dict.fromkeys(Verdict.__dataclass_fields__, 0)
    fine = Verdict(**{**numbers, "unbalanced_runs": (), "settled": True})  # type: ignore[arg-type]
    assert fine.good
    assert "PASS: lost=0" in render_verdict(fine)
    for wrong, told in (
        ({"lost": 2}, "lost=2"),
        ({"stale": 3}, "stale=3"),
        ({"rejected": 1}, "rejected=1"),
        ({"unexpected": 1}, "unexpected=1"),
        ({"unbalanced_runs": ("r1",)}, "do not balance: r1"),
        ({"settled": False}, "not settled"),
    ):
        verdict = Verdict(**{**numbers, "unbalanced_runs": (), "settled": True, **wrong})  # type: ignore[arg-type]
        assert not verdict.good
        assert told in render_verdict(verdict)
