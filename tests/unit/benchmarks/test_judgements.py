"""How rows are judged: from counts to figures, where a wrong rule would flatter."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from benchmarks import (
    cold_start,
    first_load,
    first_verdict,
    freshness,
    losses,
    outage,
    producer_cpu,
    scale_out,
    steady_state,
    version_index,
)
from benchmarks.cold_start import Spent
from benchmarks.feeds import Changed
from benchmarks.first_load import Steady
from benchmarks.first_verdict import Load
from benchmarks.freshness import Delta
from benchmarks.losses import TROUBLES, Loss
from benchmarks.scale_out import Phase
from benchmarks.table import Scale
from benchmarks.version_index import Taken
from common.ledger.tables import Action, Operation, Row
from common.settings import read_setting
from local.services.accepted_objects import AcceptedObjects
from local.services.feed import Feed, SyntheticFeed, expected_ids
from local.services.http_simulator import Exchange
from producer.entries import row_records, row_table
from producer.known import Known

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
        (12, 1006, 100_801, (False, False)),
        (100, 10_000, 1_000_000, (True, True)),
        (101, 10_000, 1_000_000, (False, True)),
        (99, 10_000, 1_000_000, (False, True)),
    ],
)
def test_a_steady_state_is_judged_by_its_requests(
    sent: int, changed: int, passing: int, met: tuple[bool, bool]
) -> None:
    """Exactly the fewest; 90 times fewer than everything."""
    figures = steady_state.judge(
        Scale.FULL, sent=sent, changed=changed, passing=passing, size=2 * passing
    )
    assert tuple(figure.met for figure in figures) == met


def _phase(hosts: int, per_second: float, *, at_once: int = 2) -> Phase:
    return Phase(hosts=hosts, at_once=at_once, per_second=per_second, cores={"Azurite": 0.5})


@pytest.mark.parametrize(("again", "met"), [([0, 0, 0], True), ([0, 1, 0], False)])
def test_one_unchanged_indicator_that_is_sent_again_is_too_many(
    again: list[int], *, met: bool
) -> None:
    """On any of the days."""
    figure = steady_state.judge_again(again, passing=100)
    assert (figure.met, figure.value) == (met, str(sum(again)))


def _known(feed: Feed) -> Known:
    """Return what is known once every indicator of a feed that passes was sent."""
    chunks = producer_cpu.produce(tuple(producer_cpu.pages_of(feed)))
    records = row_records(
        b"".join(chunk.records for chunk in chunks),
        letters="A" * sum(chunk.envelope.count for chunk in chunks),
        counts=[chunk.envelope.count for chunk in chunks],
        void=[False] * len(chunks),
    )
    return Known([], row_table([(c.envelope.run_id, c.envelope.key) for c in chunks], records))


def test_what_is_sent_again_is_counted() -> None:
    """Nothing of the feed that is known; of a changed one exactly the changes."""
    feed = SyntheticFeed(1_200)
    changed = Changed(feed, 10)
    wanted = expected_ids(changed.changes(), threshold=steady_state.THRESHOLD)
    assert steady_state.sent_again(_known(feed), feed, day=producer_cpu.TODAY + 30) == 0
    assert steady_state.sent_again(_known(feed), changed, day=producer_cpu.TODAY) == len(wanted)


@pytest.mark.parametrize(
    ("struck", "operations", "met"), [(1500, 400, True), (1400, 400, False), (1500, 6401, False)]
)
def test_an_outage_is_judged_by_its_books_and_its_operations(
    struck: int, operations: int, *, met: bool
) -> None:
    """Each version but the last is struck, and a change costs no more than four operations."""
    figure = outage.judge_outage(
        changed=1600, struck=struck, pending=100, messages=16, operations=operations
    )
    assert figure.met is met


@pytest.mark.parametrize(("prompt", "met"), [(2, True), (1, False), (0, False)])
def test_a_single_chunk_that_is_delayed_misses_the_goal(prompt: int, *, met: bool) -> None:
    """A change of what was settled long ago leaves at once."""
    assert outage.judge_prompt(prompt, 2).met is met
    assert not outage.judge_prompt(0, 0).met


def test_an_outage_counts_a_transaction_once() -> None:
    """As Azure bills it, however many rows it has."""
    tables = outage.CountingTables(age=timedelta())
    table = tables.table("any")
    rows = [Row(partition="p", key=str(number)) for number in range(3)]
    table.transact([Operation(action=Action.INSERT, row=row) for row in rows])
    table.get("p", "0")
    list(table.query("p"))
    assert tables.counts == {"transact": 1, "get": 1, "query": 1}


@pytest.mark.parametrize(("more", "met"), [(35.0, True), (35.1, False)])
def test_the_index_is_judged_by_what_it_takes_beyond_an_empty_one(
    more: float, *, met: bool
) -> None:
    """35 MB for each million entries."""
    assert version_index.judge_memory("9a", 1_000_000, more, empty=60.0).met is met
    assert version_index.judge_memory("9a", 10_000_000, 10 * more, empty=60.0).met is met


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
    figures = version_index.judge_fold(10, Taken(wall=10.0, cpu=cpu), read=read, writes=writes)
    assert [figure.ratio for figure in figures] == [1.0, cpu]
    assert [figure.met for figure in figures] == [True, met]


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


@pytest.mark.parametrize(("last", "met"), [(3.5, True), (4.5, False)])
def test_freshness_is_judged_by_the_slow_ones(last: float, *, met: bool) -> None:
    """By what 95 of 100 take, the answer included; the middle is shown beside it."""
    deltas = [Delta(requests=(1.0, 1.5, last), told=2.0) for _ in range(6)]
    main, told = freshness.judge(deltas)
    assert main.met is met
    assert "median 2.5 s" in main.value
    assert "1.0 s from the page" in main.note
    assert told.value == "2.0 s"
    assert told.met is None


@pytest.mark.parametrize(("slowest", "met"), [(0.9, True), (1.0, False)])
def test_the_first_verdict_is_judged_by_the_slowest_load(slowest: float, *, met: bool) -> None:
    """No load takes a second; how long the status takes is shown beside it."""
    loads = [Load(verdict=seconds, status=3.0) for seconds in (0.2, 0.4, slowest)]
    verdict, status = first_verdict.judge(loads)
    assert verdict.met is met
    assert "median 0.40 s" in verdict.value
    assert status.value == "median 3.00 s"
    assert status.met is None
