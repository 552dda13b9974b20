"""Tables in memory, with ETags, merges and the errors of the real ones."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import wraps
from typing import Concatenate

from common.errors import ConflictError, StorageRefusedError, UnavailableError
from common.ledger.tables import (
    MAX_BATCH_ENTITIES,
    MAX_BINARY_PROPERTY,
    Action,
    Operation,
    Row,
    Value,
)

MAX_UTF_16_BYTES = 64 * 1024
MAX_INT = 2**31 - 1


class FakeTables:
    """Every table of one account, with a clock of its own: seconds, as `monotonic` returns them.

    `before` and `after` are called with (table, operation) around each call and may raise;
    `on_removal` with (table, row) for each row that is removed in a transaction, as it was then.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tables: dict[str, FakeTable] = {}
        self.monotonic = monotonic
        self.rows_read = 0
        """How many rows the queries of all tables have returned."""
        self.before: Callable[[str, str], None] = lambda _table, _operation: None
        self.after: Callable[[str, str], None] = lambda _table, _operation: None
        self.on_removal: Callable[[str, Row], None] = lambda _table, _row: None

    def peek(self, name: str, partition: str, key: str) -> tuple[Row | None, float]:
        """Return a row and the seconds since it was last written, also of one that was removed.

        No hook is called: this is for a judge.
        """
        table = self._tables[name]
        row = table._rows.get((partition, key))
        written = table._written.get((partition, key), 0.0)
        return row, self.monotonic() - written

    def lose(self) -> None:
        """Lose every table, as if somebody had deleted them all."""
        for table in self._tables.values():
            table._rows.clear()
            table._written.clear()

    def table(self, name: str) -> FakeTable:
        return self._tables.setdefault(name, FakeTable(name, self))


def _as_a_call[**P, T](
    method: Callable[Concatenate[FakeTable, P], T],
) -> Callable[Concatenate[FakeTable, P], T]:
    """Lock the table for a call, and tell the hooks of it by its name."""
    operation = method.__name__

    @wraps(method)
    def call(table: FakeTable, /, *arguments: P.args, **options: P.kwargs) -> T:
        table._tables.before(table._name, operation)
        with table._lock:
            done = method(table, *arguments, **options)
        table._tables.after(table._name, operation)
        return done

    return call


class FakeTable:
    """One table: rows by (partition, key)."""

    def __init__(self, name: str, tables: FakeTables) -> None:
        self._name = name
        self._tables = tables
        self._rows: dict[tuple[str, str], Row] = {}
        self._written: dict[tuple[str, str], float] = {}
        self._etags = itertools.count(1)
        self._lock = threading.Lock()

    @_as_a_call
    def get(self, partition: str, key: str) -> Row | None:
        row = self._rows.get((partition, key))
        if row is None:
            return None
        age = self._tables.monotonic() - self._written[partition, key]
        return replace(row, age=timedelta(seconds=age))

    @_as_a_call
    def insert(self, row: Row) -> str:
        (etag,) = self._transact([Operation(action=Action.INSERT, row=row)])
        return etag

    @_as_a_call
    def merge(self, row: Row) -> None:
        self._merge(row)

    @_as_a_call
    def update(self, row: Row) -> bool:
        exists = (row.partition, row.key) in self._rows
        if exists:
            self._merge(row)
        return exists

    @_as_a_call
    def replace(self, row: Row) -> str:
        if not self._written:  # nothing was ever put into it
            raise UnavailableError(f"table {self._name} is not there")
        (etag,) = self._transact([Operation(action=Action.REPLACE, row=row)])
        return etag

    @_as_a_call
    def transact(self, operations: Sequence[Operation]) -> list[str]:
        return self._transact(operations)

    @_as_a_call
    def delete(self, partition: str, key: str) -> None:
        self._rows.pop((partition, key), None)

    @_as_a_call
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
        select: Sequence[str] | None = None,
    ) -> Iterator[Row]:
        found = [
            row
            for (owner, name), row in sorted(self._rows.items())
            if partition in (None, owner)
            and key in (None, name)
            and (from_key is None or name >= from_key)
            and (partitions_above is None or owner > partitions_above)
            and (partitions_below is None or owner < partitions_below)
            and (before_key is None or name < before_key)
            and (earlier is None or _is_earlier(row.data.get(earlier[0]), earlier[1]))
        ]
        self._tables.rows_read += len(found[:limit])
        return iter([row if select is None else _part(row, select) for row in found[:limit]])

    @_as_a_call
    def merge_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._merge(row)

    def _transact(self, operations: Sequence[Operation]) -> list[str]:
        keys = [(operation.row.partition, operation.row.key) for operation in operations]
        assert len(set(keys)) == len(keys) <= MAX_BATCH_ENTITIES
        assert len({partition for partition, _ in keys}) <= 1
        for key, operation in zip(keys, operations, strict=True):
            if not _may(operation, self._rows.get(key)):
                raise ConflictError(f"row {key[1]}: {operation.action.value} failed")
        return [self._do(operation) for operation in operations]

    def _do(self, operation: Operation) -> str:
        row = operation.row
        match operation.action:
            case Action.INSERT | Action.REPLACE:
                return self._put(row, row.data)
            case Action.UPDATE:
                return self._merge(row)
            case Action.DELETE:
                removed = self._rows.pop((row.partition, row.key))
                self._tables.on_removal(self._name, removed)
                return ""

    def _merge(self, row: Row) -> str:
        known = self._rows.get((row.partition, row.key))
        return self._put(row, {**(known.data if known else {}), **_present(row.data)})

    def _put(self, row: Row, data: Mapping[str, Value]) -> str:
        present = _present(data)
        for value in present.values():
            _check(value)
        etag = f"etag-{next(self._etags)}"
        self._rows[row.partition, row.key] = Row(
            partition=row.partition, key=row.key, data=present, etag=etag
        )
        self._written[row.partition, row.key] = self._tables.monotonic()
        return etag


def _may(operation: Operation, known: Row | None) -> bool:
    """Whether an operation finds its row as it must be."""
    match operation.action:
        case Action.INSERT:
            return known is None
        case Action.UPDATE:
            return known is not None
        case Action.REPLACE | Action.DELETE:
            return known is not None and known.etag == operation.row.etag


def _present(data: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in data.items() if value is not None}


def _check(value: Value) -> None:
    """Refuse what the real ones refuse, in the same way."""
    match value:
        case bytes() if len(value) > MAX_BINARY_PROPERTY:
            raise StorageRefusedError("PropertyValueTooLarge")
        case str() if _utf_16_bytes(value) > MAX_UTF_16_BYTES:
            raise StorageRefusedError("PropertyValueTooLarge")
        case int() if not -MAX_INT - 1 <= value <= MAX_INT:
            raise TypeError("a whole number is of type INT32")
        case _:
            pass


def _utf_16_bytes(text: str) -> int:
    """Return how many bytes a text takes; of ASCII without encoding it."""
    return 2 * len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass"))


def _is_earlier(value: Value, moment: datetime) -> bool:
    return isinstance(value, datetime) and value < moment


def _part(row: Row, select: Sequence[str]) -> Row:
    data = {name: row.data[name] for name in select if name in row.data}
    return Row(partition=row.partition, key=row.key, data=data)
