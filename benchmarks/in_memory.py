"""Storage that answers from memory at once, so that a benchmark measures the code around it.

Tables know no conflict and keep no ETag; a write is as old as it is told. Queues only remember.
Good for one writer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from common.ledger.tables import Action, Operation, Row, Value


class MemoryTable:
    """One table: rows by (partition, key)."""

    def __init__(self, age: timedelta) -> None:
        self._rows: dict[tuple[str, str], Row] = {}
        self._age = age

    def get(self, partition: str, key: str) -> Row | None:
        row = self._rows.get((partition, key))
        return None if row is None else replace(row, age=self._age)

    def insert(self, row: Row) -> str:
        return self.replace(row)

    def merge(self, row: Row) -> None:
        known = self._rows.get((row.partition, row.key))
        data = {**(known.data if known else {}), **row.data}
        self._rows[row.partition, row.key] = Row(partition=row.partition, key=row.key, data=data)

    def update(self, row: Row) -> bool:
        exists = (row.partition, row.key) in self._rows
        if exists:
            self.merge(row)
        return exists

    def replace(self, row: Row) -> str:
        self._rows[row.partition, row.key] = row
        return ""

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        for operation in operations:
            row = operation.row
            match operation.action:
                case Action.INSERT | Action.REPLACE:
                    self.replace(row)
                case Action.UPDATE:
                    self.merge(row)
                case Action.DELETE:
                    self.delete(row.partition, row.key)
        return [""] * len(operations)

    def delete(self, partition: str, key: str) -> None:
        self._rows.pop((partition, key), None)

    def query(
        self,
        partition: str | None = None,
        *,
        key: str | None = None,
        from_key: str | None = None,
        partitions_above: str | None = None,
        partitions_below: str | None = None,
        before_key: str | None = None,
        earlier: tuple[str, datetime] | None = None,
        limit: int | None = None,
        select: Sequence[str] | None = None,  # noqa: ARG002 - a whole row has what is selected
    ) -> Iterator[Row]:
        found = (
            row
            for row in self._rows.values()
            if partition in (None, row.partition)
            and key in (None, row.key)
            and (from_key is None or row.key >= from_key)
            and (partitions_above is None or row.partition > partitions_above)
            and (partitions_below is None or row.partition < partitions_below)
            and (before_key is None or row.key < before_key)
            and (earlier is None or _is_earlier(row.data.get(earlier[0]), earlier[1]))
        )
        return iter(sorted(found, key=lambda row: (row.partition, row.key))[:limit])

    def merge_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.merge(row)


def _is_earlier(value: Value, moment: datetime) -> bool:
    return isinstance(value, datetime) and value < moment


class MemoryTables:
    """The tables of one account; every row that is read was written `age` ago."""

    def __init__(self, *, age: timedelta = timedelta()) -> None:
        self._tables: dict[str, MemoryTable] = {}
        self._age = age

    def table(self, name: str) -> MemoryTable:
        return self._tables.setdefault(name, MemoryTable(self._age))


class CountingQueue:
    """Takes every message and keeps only the count."""

    def __init__(self) -> None:
        self.count = 0

    def send(self, text: str, *, delay: float = 0.0) -> None:  # noqa: ARG002 - the queue's shape
        self.count += 1

    def depth(self) -> int:
        return self.count
