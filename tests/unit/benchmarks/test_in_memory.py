"""Tables in memory give their rows as the service does."""

from benchmarks.in_memory import MemoryTables
from common.ledger.tables import Row


def test_rows_come_in_the_order_of_their_keys_before_the_limit_cuts() -> None:
    """By partition, then by key, however they were written."""
    table = MemoryTables().table("any")
    for partition, key in (("b", "1"), ("a", "3"), ("b", "0"), ("a", "2")):
        table.insert(Row(partition=partition, key=key))
    keys = [(row.partition, row.key) for row in table.query()]
    assert keys == [("a", "2"), ("a", "3"), ("b", "0"), ("b", "1")]
    assert [row.key for row in table.query("b", limit=1)] == ["0"]
    assert [row.key for row in table.query(limit=3)] == ["2", "3", "0"]
