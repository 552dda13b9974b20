"""Rows of poison: what is settled costs nothing, what cannot be read is left alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from common.ledger import open_ledger
from common.ledger.poison import (
    Poison,
    PoisonedBy,
    PoisonState,
    poison_of_raw,
)
from common.ledger.tables import MAX_PAGE_ENTITIES, AzureTables, Row, Tables, Value
from common.settings import Secret, StorageSettings
from local.services.azurite import Azurite
from local.services.storage_proxy import StorageProxy
from local.services.storage_requests import Service
from tests.fakes.clock import START
from tests.fakes.tables import FakeTables

RUN = "20260101T000000-0badcafe"
LATER = START + timedelta(hours=1)


def test_settled_poison_costs_nothing_to_those_who_look_at_what_is_kept() -> None:
    """10,000 kept and 100,000 settled: list and count read the kept ones only."""
    kept, settled = 10_000, 100_000
    tables = FakeTables()
    poison = open_ledger(tables).poison
    table = tables.table("poison")
    for is_settled, count in ((True, settled), (False, kept)):
        _give_up(poison, f"{is_settled}", settled=is_settled)
        (row,) = table.query("~settled" if is_settled else RUN)
        table.merge_all([_another(row, number) for number in range(count - 1)])
    tables.rows_read = 0
    assert poison.count_kept() == kept
    assert sum(1 for _ in poison.entries()) == kept
    assert tables.rows_read == 2 * kept
    assert sum(1 for _ in poison.entries(settled=True)) == kept + settled


def test_settled_poison_needs_no_page_of_an_answer(azurite: Azurite, account: str) -> None:
    """Counted at a proxy in front of Azurite: more than two pages of settled ones cost nothing."""
    upstream: dict[Service, int] = {"table": azurite.port("table"), "queue": azurite.port("queue")}
    with StorageProxy(upstream) as proxy:
        connection = azurite.connection_string(account, via=proxy.urls)
        storage = StorageSettings(connection_string=Secret(connection))
        tables = AzureTables(storage)
        poison = open_ledger(tables).poison
        _give_up(poison, "0", settled=True)
        (row,) = tables.table("poison").query("~settled")
        tables.table("poison").merge_all(
            [_another(row, number) for number in range(2 * MAX_PAGE_ENTITIES)]
        )
        for number in range(3):
            _give_up(poison, f"1{number}", settled=False)
        proxy.clear()
        assert sum(1 for _ in poison.entries()) == 3
        assert proxy.counts == {("table", "query_entities"): 1}
        assert poison.count_kept() == 3
        assert proxy.counts == {("table", "query_entities"): 2}
        assert sum(1 for _ in poison.entries(settled=True)) == 3 + 1 + 2 * MAX_PAGE_ENTITIES
        assert proxy.counts["table", "query_entities"] == 2 + 1 + 3


def _another(row: Row, number: int) -> Row:
    """Return the row of another record of the same kind."""
    data = dict(row.data)
    if "poison_id" in data:
        data["poison_id"] = f"{data['poison_id']!s}{number}"
    return replace(row, key=f"{row.key}{number}", data=data)


def _give_up(poison: Poison, name: str, *, settled: bool) -> None:
    record = replace(
        poison_of_raw(name, reason="why", poisoned_by=PoisonedBy.HOST, at=START),
        run_id=RUN,
        poison_id=f"{name}-1",
    )
    poison.keep(record)
    if settled:
        found = poison.get(record.run_id, record.poison_id)
        assert found is not None
        assert poison.settle(found, PoisonState.REPLAYED, at=LATER)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "held-by-7.2"},
        {"poisoned_by": "watchdog"},
        {"count": "many"},
        {"reason": None, "state": None},
        {"pieces": 9},
        {"history": "not JSON"},
        {"colour": "blue"},
        {"state": "replayed-twice", "settled_at": "yesterday"},
    ],
    ids=repr,
)
def test_a_row_of_a_later_release_or_a_damaged_one_is_listed(change: dict[str, Value]) -> None:
    """And its neighbour, too; only a field that is new changes nothing."""
    tables = FakeTables()
    poison = open_ledger(tables).poison
    for name in ("0", "1"):
        _give_up(poison, name, settled=False)
    table = tables.table("poison")
    row = table.get(RUN, "0-1")
    assert row is not None
    table.replace(replace(row, data={**row.data, **change}))
    assert [entry.poison_id for entry in poison.entries()] == ["0-1", "1-1"]
    assert poison.count_kept() == 2
    record = poison.get(RUN, "0-1")
    assert record is not None
    is_readable = set(change) <= {"colour", "poisoned_by"}
    assert (record.state is PoisonState.OTHER) is not is_readable


def test_a_row_that_was_settled_where_it_was_kept_is_settled() -> None:
    """As the first release wrote it: it waits for nobody, and can be given up again."""
    tables = FakeTables()
    poison = open_ledger(tables).poison
    _give_up(poison, "0", settled=False)
    kept = poison.get(RUN, "0-1")
    data: dict[str, Value] = {"state": "replayed", "settled_at": LATER}
    tables.table("poison").merge(Row(partition=RUN, key="0-1", data=data))
    assert poison.count_kept() == 0
    assert list(poison.entries()) == []
    (entry,) = poison.entries(settled=True)
    assert (entry.state, entry.settled_at) == (PoisonState.REPLAYED, LATER)
    assert kept is not None
    poison.keep(kept)
    assert poison.count_kept() == 1


@pytest.mark.parametrize("name", ["", "a/b", "a#b", "a?b", "~settled", "a\\b", "x" * 300])
def test_what_is_no_name_names_no_poison(tables: Tables, name: str) -> None:
    """Storage would refuse it as a key, or find another row."""
    poison = open_ledger(tables).poison
    assert poison.get(RUN, name) is None
    assert poison.get(name, "0-1") is None
