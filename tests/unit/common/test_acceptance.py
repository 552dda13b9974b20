"""The acceptance number: what a raise proves, and who may split."""

import pytest

from common.ledger.acceptance import (
    ENOUGH_RAISES,
    PROBE_EVERY,
    RAISE_EVERY,
    Acceptance,
)
from tests.fakes.clock import FakeClock
from tests.fakes.tables import FakeTables

MINUTE = PROBE_EVERY.total_seconds()


class Row:
    """The row and its clock, and instances that use it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tables = FakeTables(self.clock.monotonic)

    def instance(self) -> Acceptance:
        """Return it as another instance uses it."""
        return Acceptance(self.tables, clock=self.clock)

    @property
    def number(self) -> int:
        """The number as it stands."""
        return self.instance().read().number


def test_of_many_requests_under_way_one_raises_the_number() -> None:
    """All of them were sent before the raise, so one raise proves nothing of what was sent."""
    row = Row()
    requests = [(one, one.read()) for one in (row.instance() for _ in range(9))]
    for one, mark in requests:
        one.accepted(mark)
    assert row.number == 1


def test_two_raises_prove_that_something_was_sent_in_between() -> None:
    """Whatever was under way at a failure, it raises the number once at most."""
    row = Row()
    under_way = [(one, one.read()) for one in (row.instance() for _ in range(9))]
    failed = row.number
    for one, mark in under_way:
        one.accepted(mark)
    assert row.number < failed + ENOUGH_RAISES
    later = row.instance()
    later.accepted(later.read())
    assert row.number >= failed + ENOUGH_RAISES


def test_an_instance_reads_and_raises_every_few_seconds() -> None:
    """The flow costs no operation a chunk; after a refusal the next acceptance is told at once."""
    row = Row()
    one = row.instance()
    for second in range(30):
        one.accepted(one.before_request(always=False))
        assert row.number == 1 + second // int(RAISE_EVERY)
        row.clock.advance(1)
    before = row.number
    assert one.before_request(always=False) is not None
    one.accepted(one.before_request(always=False))
    assert one.before_request(always=False) is None
    one.refused()
    one.accepted(one.before_request(always=False))
    one.accepted(one.before_request(always=True))
    assert row.number == before + 3


def test_each_raise_lets_one_chunk_be_split() -> None:
    """The first of all, too; by whichever instance asks first."""
    row = Row()
    assert row.instance().may_split()
    assert not row.instance().may_split()
    for _ in range(3):
        one = row.instance()
        one.accepted(one.read())
        assert row.instance().may_split()
        assert not one.may_split()


@pytest.mark.parametrize("instances", [1, 3])
def test_without_a_raise_one_chunk_a_minute_is_split(instances: int) -> None:
    """Of the whole app, by the storage's clock."""
    row = Row()
    everybody = [row.instance() for _ in range(instances)]
    splits = []
    while row.clock.elapsed < 10 * MINUTE:
        splits += [row.clock.elapsed for one in everybody if one.may_split()]
        row.clock.advance(1)
    assert splits == [MINUTE * number for number in range(10)]


def test_what_was_under_way_at_a_split_raises_nothing() -> None:
    """So where everything is refused since, no late answer lets another chunk be split."""
    row = Row()
    one = row.instance()
    under_way = one.read()
    assert row.instance().may_split()
    one.accepted(under_way)
    assert row.number == 0
    assert not row.instance().may_split()


def test_of_instances_that_ask_at_once_one_may_split() -> None:
    """Between the look and the write of one, another is faster."""
    row = Row()
    asked = []

    def before(_table: str, operation: str) -> None:
        if operation in {"insert", "replace"}:
            row.tables.before = lambda _table, _operation: None
            asked.append(row.instance().may_split())

    row.tables.before = before
    assert not row.instance().may_split()
    assert asked == [True]


def test_a_row_that_is_lost_begins_again() -> None:
    """The number starts from 0, and whoever raises it does not stumble."""
    row = Row()
    one = row.instance()
    mark = one.read()
    one.accepted(mark)
    mark = one.read()
    row.tables.table("control").delete("control", "acceptance")
    one.accepted(mark)
    assert row.number == 0
    one.accepted(one.read())
    assert row.number == 1
