"""Tables with a hook before each operation: a race is a state between a read and its write."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from common.ledger.tables import Operation, Row, Table, Tables


class HookedTables:
    """Any tables, with `before` called ahead of each operation (table, operation)."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.before: Callable[[str, str], None] = lambda _table, _operation: None

    def table(self, name: str) -> "HookedTable":
        return HookedTable(self._tables.table(name), lambda what: self.before(name, what))

    def once(self, table: str, operation: str, action: Callable[[], object]) -> None:
        """Run `action` right before the next such operation, and never again."""

        def hook(name: str, what: str) -> None:
            if (name, what) == (table, operation):
                self.before = lambda _table, _operation: None
                action()

        self.before = hook


class HookedTable:
    """One table of `HookedTables`."""

    def __init__(self, table: Table, before: Callable[[str], None]) -> None:
        self._table = table
        self._before = before

    def get(self, partition: str, key: str) -> Row | None:
        self._before("get")
        return self._table.get(partition, key)

    def insert(self, row: Row) -> str:
        self._before("insert")
        return self._table.insert(row)

    def merge(self, row: Row) -> None:
        self._before("merge")
        self._table.merge(row)

    def replace(self, row: Row) -> str:
        self._before("replace")
        return self._table.replace(row)

    def update(self, row: Row) -> bool:
        self._before("update")
        return self._table.update(row)

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        self._before("transact")
        return self._table.transact(operations)

    def delete(self, partition: str, key: str) -> None:
        self._before("delete")
        self._table.delete(partition, key)

    def query(self, partition: str | None = None, **which: Any) -> Iterator[Row]:
        self._before("query")
        return self._table.query(partition, **which)

    def merge_all(self, rows: Sequence[Row]) -> None:
        self._before("merge_all")
        self._table.merge_all(rows)
