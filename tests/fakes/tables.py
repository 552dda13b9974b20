"""Tables in memory, with ETags, merges and the errors of the real ones."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from common.errors import ConflictError, StorageRefusedError, UnavailableError
from common.ledger.tables import MAX_BINARY_PROPERTY, Row, Value

MAX_UTF_16_BYTES = 64 * 1024
MAX_INT = 2**31 - 1


class FakeTables:
    """Every table of one account. `before` is called with (table, operation) and may raise."""

    def __init__(self) -> None:
        self._tables: dict[str, FakeTable] = {}
        self.before: Callable[[str, str], None] = lambda _table, _operation: None

    def table(self, name: str) -> "FakeTable":
        return self._tables.setdefault(name, FakeTable(name, self))


class FakeTable:
    """One table: rows by (partition, key)."""

    def __init__(self, name: str, tables: FakeTables) -> None:
        self._name = name
        self._tables = tables
        self._rows: dict[tuple[str, str], Row] = {}
        self._etags = itertools.count(1)
        self._lock = threading.Lock()
        self._made = False

    def get(self, partition: str, key: str) -> Row | None:
        self._tables.before(self._name, "get")
        with self._lock:
            return self._rows.get((partition, key))

    def insert(self, row: Row) -> str:
        self._tables.before(self._name, "insert")
        with self._lock:
            if (row.partition, row.key) in self._rows:
                raise ConflictError(f"row {row.key} exists")
            return self._put(row, row.data)

    def merge(self, row: Row) -> None:
        self._tables.before(self._name, "merge")
        with self._lock:
            self._merge(row)

    def replace(self, row: Row) -> str:
        self._tables.before(self._name, "replace")
        with self._lock:
            if not self._made:
                raise UnavailableError(f"table {self._name} is not there")
            known = self._rows.get((row.partition, row.key))
            if known is None or known.etag != row.etag:
                raise ConflictError(f"row {row.key} changed")
            return self._put(row, row.data)

    def delete(self, partition: str, key: str) -> None:
        self._tables.before(self._name, "delete")
        with self._lock:
            self._rows.pop((partition, key), None)

    def query(
        self,
        partition: str | None = None,
        *,
        limit: int | None = None,
        select: Sequence[str] | None = None,
    ) -> Iterator[Row]:
        self._tables.before(self._name, "query")
        with self._lock:
            found = [
                row
                for (owner, _), row in sorted(self._rows.items())
                if partition is None or owner == partition
            ]
        return iter([row if select is None else _part(row, select) for row in found[:limit]])

    def merge_all(self, rows: Sequence[Row]) -> None:
        self._tables.before(self._name, "merge_all")
        with self._lock:
            for row in rows:
                self._merge(row)

    def delete_all(self, keys: Sequence[tuple[str, str]]) -> None:
        self._tables.before(self._name, "delete_all")
        with self._lock:
            for key in keys:
                self._rows.pop(key, None)

    def _merge(self, row: Row) -> None:
        known = self._rows.get((row.partition, row.key))
        self._put(row, {**(known.data if known else {}), **_present(row.data)})

    def _put(self, row: Row, data: Mapping[str, Value]) -> str:
        present = _present(data)
        self._made = True
        for value in present.values():
            _check(value)
        etag = f"etag-{next(self._etags)}"
        self._rows[row.partition, row.key] = Row(
            partition=row.partition, key=row.key, data=present, etag=etag
        )
        return etag


def _present(data: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in data.items() if value is not None}


def _check(value: Value) -> None:
    """Refuse what the real ones refuse, in the same way."""
    match value:
        case bytes() if len(value) > MAX_BINARY_PROPERTY:
            raise StorageRefusedError("PropertyValueTooLarge")
        case str() if len(value.encode("utf-16-le", "surrogatepass")) > MAX_UTF_16_BYTES:
            raise StorageRefusedError("PropertyValueTooLarge")
        case int() if not -MAX_INT - 1 <= value <= MAX_INT:
            raise TypeError("a whole number is of type INT32")
        case _:
            pass


def _part(row: Row, select: Sequence[str]) -> Row:
    data = {name: row.data[name] for name in select if name in row.data}
    return Row(partition=row.partition, key=row.key, data=data)
