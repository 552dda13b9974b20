"""The demo's faults: each comes early enough for a small feed, and knows whether it was met."""

import pytest

from local.demo.faults import BAD_SHARE, PLAYS, Seen, bad_ids, is_bad, throttled_requests

NOTHING = Seen()
MET = {
    "throttle": Seen(throttled=1),
    "outage": Seen(problems=frozenset({"unavailable"})),
    "bad-records": Seen(rejected=1),
    "expired-secret": Seen(problems=frozenset({"access"})),
    "crash": Seen(deaths=1, resumed=1),
    "poison": Seen(poison=1),
}
NOT_YET = {
    "outage": Seen(problems=frozenset({"access"}), throttled=1),
    "expired-secret": Seen(problems=frozenset({"unavailable"})),
    "crash": Seen(deaths=1),
}


def ids(count: int) -> list[str]:
    """So many ids of indicators."""
    return [f"indicator--{number}" for number in range(count)]


@pytest.mark.parametrize("name", PLAYS)
def test_a_fault_is_met_by_its_own_signs(name: str) -> None:
    """Nothing seen means not met; neither do the signs of another fault, or half of its own."""
    play = PLAYS[name]
    assert play.was_met(MET[name])
    assert not play.was_met(NOTHING)
    assert not play.was_met(NOT_YET.get(name, NOTHING))
    assert play.unmet


@pytest.mark.parametrize("name", PLAYS)
def test_a_fault_that_lasts_says_what_repairs_it(name: str) -> None:
    """What is done outside of the app, an act of the page and the CLI, or both."""
    repair = PLAYS[name].repair
    assert repair.finding
    assert repair.outside or repair.act is not None
    assert not (PLAYS[name].passes and repair.outside)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [(0, (0, 0)), (1, (0, 1)), (2, (1, 1)), (6, (5, 1)), (20, (5, 15)), (101, (5, 25))],
)
def test_throttling_suits_the_feed(chunks: int, expected: tuple[int, int]) -> None:
    """Each chunk of a small feed is throttled about once at most, and any feed meets some."""
    assert throttled_requests(chunks) == expected


def test_a_large_feed_has_its_share_of_bad_records() -> None:
    """About BAD_SHARE of them, the same ones whatever else is in the feed."""
    found = bad_ids(ids(20_000))
    assert found == {name for name in ids(20_000) if is_bad(name)}
    assert 0.5 * BAD_SHARE < len(found) / 20_000 < 2 * BAD_SHARE


@pytest.mark.parametrize(("count", "bad"), [(0, 0), (1, 0), (2, 1), (20, 1)])
def test_a_small_feed_has_one_bad_record(count: int, bad: int) -> None:
    """One that has a neighbour: alone, nothing would prove that it is at fault."""
    assert len(bad_ids(ids(count))) == bad


@pytest.mark.parametrize(
    ("objects", "size"), [(1, 1), (4, 1), (40, 5), (2000, 250), (8000, 1000), (20_000, 1000)]
)
def test_the_crash_finds_its_page(objects: int, size: int) -> None:
    """A feed of four objects or more has a fourth page; no page is larger than without a fault."""
    assert PLAYS["crash"].page_size(objects, at_most=1000) == size
    assert PLAYS["throttle"].page_size(objects, at_most=1000) == min(objects, 1000)
