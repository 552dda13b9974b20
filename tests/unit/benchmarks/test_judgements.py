"""How rows are judged: from counts to figures, where a wrong rule would flatter."""

from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest

from benchmarks import first_load, losses, scale_out, steady_state
from benchmarks.feeds import Changed
from benchmarks.first_load import Steady
from benchmarks.losses import TROUBLES, Loss
from benchmarks.scale_out import Phase
from benchmarks.table import Scale
from common.settings import read_setting
from local.accepted_objects import AcceptedObjects
from local.feed import SyntheticFeed, expected_ids
from local.http_simulator import Exchange

PLAN = first_load.Plan(start_up=10, steady=60, indicators=1)


def _exchanges(answers: Sequence[tuple[float, int | None]]) -> list[Exchange]:
    return [
        Exchange(method="POST", path="/", at=at, received=1, status=status)
        for at, status in answers
    ]


def test_only_the_steady_part_counts() -> None:
    """From the end of the start-up, reckoned from the first request, for as long as planned."""
    answers = [(100.0, 200), (109.9, 200), (110.0, 200), (140.0, 429), (169.9, 200), (170.0, 200)]
    steady = first_load.cut(_exchanges(answers), PLAN)
    assert steady == Steady(seconds=60, arrived=3, taken=2, throttled=1)
    assert steady.per_minute == 2


@pytest.mark.parametrize(
    ("taken", "throttled", "others", "met"),
    [
        (95, 0, 9, (True, True)),
        (89, 0, 9, (False, True)),
        (95, 0, 11, (False, True)),
        (99, 1, 9, (True, False)),
    ],
)
def test_a_first_load_is_judged_by_rate_ratio_and_throttling(
    taken: int, throttled: int, others: int, met: tuple[bool, bool]
) -> None:
    """90 a minute, nine times the reference, and less than one in a hundred throttled."""
    ours = Steady(seconds=60, arrived=taken + throttled, taken=taken, throttled=throttled)
    reference = Steady(seconds=60, arrived=others, taken=others, throttled=0)
    assert tuple(figure.met for figure in first_load.judge(ours, reference)) == met


@pytest.mark.parametrize(("seconds", "met"), [(59.0, None), (60.0, False)])
def test_less_than_a_minute_claims_nothing_about_the_limit(
    seconds: float, met: bool | None
) -> None:
    """The share of 429 is shown then, and no goal is missed or met by it."""
    ours = Steady(seconds=seconds, arrived=90, taken=80, throttled=10)
    _, share = first_load.judge(ours, replace(ours, taken=8))
    assert (share.met, share.goal.startswith("shown")) == (met, met is None)


def test_a_newer_version_that_did_not_arrive_is_missed() -> None:
    """Sentinel holds every id, but of one changed indicator the version of the first sync."""
    first = SyntheticFeed(400)
    second = Changed(first, 10)
    changed = sorted(expected_ids(second.changes(), threshold=steady_state.THRESHOLD))
    held = AcceptedObjects()
    for feed in (first, second.changes()):
        for one in map(orjson.loads, feed.encoded(0, len(feed))):
            if feed is first or one["id"] != changed[0]:
                held.add({**one, "confidence": int(one["confidence"])})
    assert steady_state.stale(held, second) == {changed[0]}
    assert steady_state.stale(held, first) == set(changed[1:])


@pytest.mark.parametrize(
    ("sent", "changed", "passing", "met"),
    [
        (11, 1006, 100_801, (True, True)),
        (12, 1006, 100_801, (True, False)),
        (13, 1006, 100_801, (False, False)),
        (105, 10_000, 1_000_000, (True, True)),
        (106, 10_000, 1_000_000, (False, True)),
    ],
)
def test_a_steady_state_is_judged_by_its_requests(
    sent: int, changed: int, passing: int, met: tuple[bool, bool]
) -> None:
    """1.05 of the fewest, or one more where that is less; 90 times fewer than everything."""
    figures = steady_state.judge(
        Scale.FULL, sent=sent, changed=changed, passing=passing, size=2 * passing
    )
    assert tuple(figure.met for figure in figures) == met


def test_scale_out_is_judged_against_one_host() -> None:
    """0.85 of linear is enough for two and for four hosts, less is not."""
    one, two, four = (
        Phase(hosts=hosts, at_once=2, per_second=rate, cores={"Azurite": 0.5})
        for hosts, rate in ((1, 10.0), (2, 17.0), (4, 33.0))
    )
    figures = scale_out.judge([one, two, four], replace(two, per_second=25.0))
    assert [figure.met for figure in figures] == [True, False, None]
    assert figures[-1].reference.startswith("50 chunks/s")


def test_the_widest_hosts_are_as_wide_as_deployed() -> None:
    """24 messages at once, in the two numbers that `host.json` gives."""
    plan = scale_out.widest()
    assert (plan.batch, plan.threshold, plan.at_once) == (8, 16, 24)


def test_only_requests_that_were_taken_count_as_throughput() -> None:
    """Arrived in time and answered 200: not refused, not without an answer."""
    answers = [(1.0, 200), (1.5, 500), (1.6, None), (1.9, 200), (2.0, 200), (0.9, 200)]
    assert scale_out.taken(_exchanges(answers), 1.0, 2.0) == 2


LOSS = Loss(wanted=100, bad=2, lost=0, kept=2, met=3, requests=9)


def test_a_single_loss_misses_the_goal() -> None:
    """Nothing lost is met; one indicator is too many."""
    reference = replace(LOSS, lost=30, kept=0)
    assert losses.judge(TROUBLES[0], LOSS, reference).met
    assert not losses.judge(TROUBLES[0], replace(LOSS, lost=1), reference).met


@pytest.mark.parametrize("side", ["ours", "reference"])
def test_a_fault_that_nobody_met_proves_nothing(side: str) -> None:
    """Such a row is a failure, not a figure."""
    sides = {"ours": LOSS, "reference": LOSS} | {side: replace(LOSS, met=0)}
    with pytest.raises(AssertionError, match="was not met"):
        losses.judge(TROUBLES[0], sides["ours"], sides["reference"])


def test_throttling_lasts_its_time_from_the_fourth_request_on() -> None:
    """Three requests pass, then none for that long by the clock of the client."""
    times = iter([0.0, 50.0, 51.0, 100.0, 101.0, 134.9, 135.0, 200.0])
    lasts = losses.throttling(lambda: next(times))
    assert [lasts(None) for _ in range(8)] == [True] * 6 + [False] * 2


def test_a_first_load_runs_with_the_settings_of_a_deployment() -> None:
    """What the row sets in place of the local cloud's quick values are the app's defaults."""
    for name, value in first_load.AS_DEPLOYED.items():
        assert float(value) == read_setting(name, {})
