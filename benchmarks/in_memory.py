"""Storage that answers from memory at once, so that a benchmark measures the code around it.

Tables know no conflict and keep no ETag; queues only remember. Good for one writer.
"""

from collections.abc import Iterator, Sequence

from common.ledger.tables import Row


class MemoryTable:
    """One table: rows by (partition, key)."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row] = {}

    def get(self, partition: str, key: str) -> Row | None:
        return self._rows.get((partition, key))

    def insert(self, row: Row) -> str:
        return self.replace(row)

    def merge(self, row: Row) -> None:
        known = self._rows.get((row.partition, row.key))
        data = {**(known.data if known else {}), **row.data}
        self._rows[row.partition, row.key] = Row(partition=row.partition, key=row.key, data=data)

    def replace(self, row: Row) -> str:
        self._rows[row.partition, row.key] = row
        return ""

    def delete(self, partition: str, key: str) -> None:
        self._rows.pop((partition, key), None)

    def query(
        self,
        partition: str | None = None,
        *,
        limit: int | None = None,
        select: Sequence[str] | None = None,  # noqa: ARG002 - a whole row has what is selected
    ) -> Iterator[Row]:
        found = (row for row in self._rows.values() if partition in (None, row.partition))
        return iter(sorted(found, key=lambda row: (row.partition, row.key))[:limit])

    def merge_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.merge(row)

    def delete_all(self, keys: Sequence[tuple[str, str]]) -> None:
        for partition, key in keys:
            self.delete(partition, key)


class MemoryTables:
    """The tables of one account."""

    def __init__(self) -> None:
        self._tables: dict[str, MemoryTable] = {}

    def table(self, name: str) -> MemoryTable:
        return self._tables.setdefault(name, MemoryTable())


class CountingQueue:
    """Takes every message and keeps only the count."""

    def __init__(self) -> None:
        self.count = 0

    def send(self, text: str, *, delay: float = 0.0) -> None:  # noqa: ARG002 - the queue's shape
        self.count += 1

    def depth(self) -> int:
        return self.count
