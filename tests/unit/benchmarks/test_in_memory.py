"""Tables in memory give their rows as the service does."""

from datetime import timedelta

from benchmarks.in_memory import MemoryTables
from common.ledger.tables import Action, Operation, Row


def test_rows_come_in_the_order_of_their_keys_before_the_limit_cuts() -> None:
    """By partition, then by key, however they were written."""
    table = MemoryTables().table("any")
    for partition, key in (("b", "1"), ("a", "3"), ("b", "0"), ("a", "2")):
        table.insert(Row(partition=partition, key=key))
    keys = [(row.partition, row.key) for row in table.query()]
    assert keys == [("a", "2"), ("a", "3"), ("b", "0"), ("b", "1")]
    assert [row.key for row in table.query("b", limit=1)] == ["0"]
    assert [row.key for row in table.query(limit=3)] == ["2", "3", "0"]


def test_a_query_begins_at_a_key_or_finds_only_one() -> None:
    """`from_key` and `key`, in one partition or in all."""
    table = MemoryTables().table("any")
    for partition, key in (("a", "1"), ("a", "2"), ("b", "1"), ("b", "head")):
        table.insert(Row(partition=partition, key=key))
    assert [row.key for row in table.query("a", from_key="2")] == ["2"]
    assert [row.partition for row in table.query(key="1")] == ["a", "b"]


def test_a_transaction_does_all_of_its_operations() -> None:
    """Insert, replace, overlay, delete."""
    table = MemoryTables(age=timedelta(hours=1)).table("any")
    for key in ("replaced", "overlaid", "deleted"):
        table.insert(Row(partition="p", key=key, data={"old": 1}))
    operations = [
        Operation(action=action, row=Row(partition="p", key=key, data={"new": 2}))
        for action, key in (
            (Action.INSERT, "inserted"),
            (Action.REPLACE, "replaced"),
            (Action.UPDATE, "overlaid"),
            (Action.DELETE, "deleted"),
        )
    ]
    assert table.transact(operations) == [""] * 4
    assert {row.key: row.data for row in table.query()} == {
        "inserted": {"new": 2},
        "overlaid": {"old": 1, "new": 2},
        "replaced": {"new": 2},
    }
    found = table.get("p", "inserted")
    assert found is not None
    assert found.age == timedelta(hours=1)
    assert not table.update(Row(partition="p", key="deleted"))
