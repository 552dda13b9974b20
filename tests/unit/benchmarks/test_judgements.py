"""How rows are judged: from counts to figures, where a wrong rule would flatter."""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import orjson
import pytest
from common.ledger.known import TABLE as KNOWN_TABLE
from common.ledger.known import Known

from benchmarks import cold_start, first_load, known_index, losses, scale_out, steady_state
from benchmarks.cold_start import Spent
from benchmarks.feeds import Changed
from benchmarks.first_load import Steady
from benchmarks.in_memory import MemoryTables
from benchmarks.known_index import Taken
from benchmarks.losses import TROUBLES, Loss
from benchmarks.scale_out import Phase
from benchmarks.table import Scale
from common.settings import DEFAULT_SCHEDULE, read_setting
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


def _phase(hosts: int, per_second: float, *, at_once: int = 2) -> Phase:
    return Phase(hosts=hosts, at_once=at_once, per_second=per_second, cores={"Azurite": 0.5})


def test_ticks_of_the_second_half_send_unchanged_indicators_too() -> None:
    """Each of 89,455 comes back once in 336 ticks: 11 requests in place of 9 for 831 changed."""
    tables = MemoryTables()
    fingerprints = array("Q", Random(0).randbytes(8 * 89_455))  # noqa: S311 - a fixed seed
    Known(tables).add(fingerprints, at=datetime(2026, 1, 8, 12, tzinfo=UTC))
    back = steady_state.expiring(list(tables.table(KNOWN_TABLE).query()))
    assert (len(back), sum(back)) == (336, 89_455)
    assert max(back) < 1.3 * 89_455 / 336
    even = steady_state.judge_second_half([266] * 336, changed=831, passing=89_455)
    assert (even.value, even.ratio, even.met) == ("11.0 requests", 11 / 9, None)
    assert "81.4 x fewer than without state" in even.note


def test_the_second_half_is_that_of_the_defaults() -> None:
    """Of the days for which an indicator stays known, at a sync every 15 minutes."""
    assert steady_state.LIFETIME / timedelta(days=1) == read_setting("REUPLOAD_AFTER_DAYS", {})
    assert DEFAULT_SCHEDULE.startswith(f"0 */{steady_state.TICK // timedelta(minutes=1)} ")


@pytest.mark.parametrize(("cpu", "met"), [(1.3, True), (1.4, False)])
def test_a_cold_start_is_judged_by_the_median_of_its_pairs(cpu: float, *, met: bool) -> None:
    """One lucky start, or one lucky pair, decides nothing."""
    ours = [Spent(cpu=one, wall=9.0) for one in (0.5, cpu, cpu, cpu, 9.0)]
    reference = [Spent(cpu=one, wall=9.0) for one in (1.0, 1.0, 1.0, 1.0, 1.0)]
    figure = cold_start.judge("7a", "import", ours, reference)
    assert (figure.ratio, figure.met) == (cpu, met)
    assert "all between 0.50 and 9.00" in figure.note


@pytest.mark.parametrize(("cpu", "met"), [(2.0, True), (2.1, False)])
def test_a_fold_is_judged_without_azurite_too(cpu: float, *, met: bool) -> None:
    """Its own processor time must not hide behind the time that Azurite takes to delete."""
    read, writes = Taken(wall=2.0, cpu=0.5), Taken(wall=8.0, cpu=0.5)
    figures = known_index.judge_fold(10, Taken(wall=10.0, cpu=cpu), read=read, writes=writes)
    assert [figure.ratio for figure in figures] == [1.0, cpu, 5.0]
    assert [figure.met for figure in figures] == [True, met, None]


def test_scale_out_is_judged_against_one_host() -> None:
    """0.85 of linear is enough for two and for four hosts, less is not."""
    narrow = [_phase(1, 10.0), _phase(2, 17.0), _phase(4, 33.0)]
    figures = scale_out.judge(narrow, [_phase(1, 40.0, at_once=24)])
    assert [(figure.row, figure.met) for figure in figures] == [("6a", True), ("6b", False)]


def test_full_width_is_shown_with_what_azurite_would_last_for() -> None:
    """Against one host as wide; late chunks against as many hosts whose chunks are on time."""
    wide = [_phase(hosts, rate, at_once=24) for hosts, rate in ((1, 20.0), (2, 30.0), (4, 35.0))]
    late = [_phase(2, 15.0, at_once=24)]
    figures = scale_out.judge([_phase(1, 4.0)], wide, late=late)
    assert [figure.ratio for figure in figures] == [1.5, 1.75, 0.5]
    assert {figure.met for figure in figures} == {None}
    assert [figure.row for figure in figures] == ["6a", "6b", "6c"]
    assert "would last for 60 chunks/s (computed)" in figures[0].note
    assert figures[2].what.endswith("every chunk late")


def test_the_widest_hosts_are_as_wide_as_deployed() -> None:
    """24 messages at once, in the two numbers that `host.json` gives."""
    plan = scale_out.widest(1, seconds=1.0)
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
