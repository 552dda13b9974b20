"""The border to Azure Table Storage: the few operations the ledger needs, and their errors.

Every write names what it promises: `insert` (only if absent), `merge` (create or overlay the
given properties), `update` (overlay, only if present), `replace` (only if unchanged since it was
read: compare-and-swap by ETag), `transact` (several of them in one partition, all or none).
A missing table is made on first use. No type and no error of azure-data-tables leaves this module.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from itertools import batched, groupby
from typing import Any, Final, Protocol, assert_never

from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.data.tables import (
    TableClient,
    TableServiceClient,
    UpdateMode,
)

from common.errors import ConflictError, SettingsError
from common.settings import STORAGE_CONNECTION, StorageSettings
from common.storage_errors import already_exists, is_absent, is_unmade, storage_errors
from common.storage_options import client_options

MAX_BATCH_ENTITIES: Final = 100
"""Entities of one partition in a transaction
(learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions,
read 2026-11-22; also less than 4 MiB in all)."""

MAX_BATCH_BYTES: Final = 3 * 1024 * 1024
"""Less than the 4 MiB of a transaction: base64 and XML around the values need room."""

MAX_BINARY_PROPERTY: Final = 64 * 1024
"""A binary property holds at most 64 KiB
(learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model,
read 2026-11-22)."""

_NO_KEY: Final = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]")
"""Characters that no key of a row may hold (same source). The service answers a request for such a
row with 400, and no such row can exist."""

_RETRIES: Final = 3
_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE", "POST"})
"""Methods of calls that are repeated if the answer is lost. By default the SDK repeats only reads,
PUT and DELETE (azure-core, RetryPolicy, read 2026-11-22), neither a merge (PATCH) nor a transaction
(POST). An insert is a POST, too, and is not repeated: it would conflict with itself."""

MAX_PAGE_ENTITIES: Final = 1000
"""Most entities that a query may ask for in one answer; more is refused
(learn.microsoft.com/rest/api/storageservices/query-timeout-and-pagination, read 2026-11-28)."""

Value = str | int | float | bool | bytes | datetime | None
"""The type of a property's value. An int beyond 32 bits must be kept as text or bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entity: its two keys, its properties, and the ETag under which it was read.

    `age` is the time from its last write to the read, by the storage's own clock. Only `get`
    returns it.
    """

    partition: str
    key: str
    data: Mapping[str, Value] = field(default_factory=dict)
    etag: str = ""
    age: timedelta | None = field(default=None, compare=False)


def read_value[T](row: Row | None, name: str, wanted: type[T]) -> T | None:
    """Return a property of a row; None without the row or the property, or of another type.

    So damage to a row that only helps, such as a counter, stops no delivery.
    """
    value: Any = None if row is None else row.data.get(name)
    is_it = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
    return value if is_it else None


def read_json(stored: bytes | str) -> Any:
    """Return what stored JSON says; raises `ValueError` if it is none, or nested too deeply."""
    try:
        return json.loads(stored)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class Action(Enum):
    """What an operation of a transaction does; if it fails, the whole transaction fails."""

    INSERT = "insert"
    """Fails when the row exists."""
    REPLACE = "replace"
    """Fails when the row changed since it was read, or is gone."""
    UPDATE = "update"
    """Overlays properties; fails when the row is gone."""
    DELETE = "delete"
    """Fails when the row changed since it was read, or is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One write of a transaction."""

    action: Action
    row: Row


class Table(Protocol):
    """One table of the ledger."""

    def get(self, partition: str, key: str) -> Row | None:
        """Return the row, or None."""
        ...

    def insert(self, row: Row) -> str:
        """Create the row and return its ETag; `ConflictError` when it exists.

        A lost answer raises `UnavailableError`. After a 500 the SDK sends the insert again, so the
        conflict may be with our own row.
        """
        ...

    def merge(self, row: Row) -> None:
        """Create the row, or overlay the given properties on it, without a check of its ETag."""
        ...

    def update(self, row: Row) -> bool:
        """Overlay the given properties on the row if it is there; return whether it is."""
        ...

    def replace(self, row: Row) -> str:
        """Replace the row read under `row.etag`; `ConflictError` if it changed or is gone.

        The conflict may be with our own write: if its answer is lost, it is sent again and finds
        the row changed. A caller that must tell the two apart re-reads the row.
        """
        ...

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        """Do all `operations` or none; return the ETag of each row, empty for one that is deleted.

        All rows are of one partition, each occurs once, and there are at most `MAX_BATCH_ENTITIES`.
        Raises `ConflictError` if one of them fails for its `Action`'s reason; as with `replace`,
        the conflict may be with our own write.
        """
        ...

    def delete(self, partition: str, key: str) -> None:
        """Remove the row; nothing happens if it does not exist."""
        ...

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
        """Yield the rows of a partition (or all) in key order, at most `limit`.

        Each argument narrows the query, and the service filters. `key`: only that row key;
        `from_key`: only keys from it on; `before_key`: only keys before it. `partitions_above`:
        only partitions that sort after it; `partitions_below`: only those before it. `earlier`, a
        property and a moment: only rows in which the property's time is before the moment, to the
        millisecond.

        With `select` only these properties are read; such a part of a row has no ETag, so that it
        cannot be written back as if it were whole.
        """
        ...

    def merge_all(self, rows: Sequence[Row]) -> None:
        """`merge` every row, in transactions; rows with the same keys overlay in their order."""
        ...


class Tables(Protocol):
    """A source of tables by name."""

    def table(self, name: str) -> Table:
        """Return the table called `name`."""
        ...


class AzureTables:
    """The tables of a storage account (or of Azurite)."""

    def __init__(
        self, storage: StorageSettings, *, credential: TokenCredential | None = None
    ) -> None:
        # Four tries with 5 s of waits, because waiting is billed. The SDK's default is ten retries.
        options = client_options() | {"retry_total": _RETRIES}
        if storage.connection_string is not None:
            try:
                self._service = TableServiceClient.from_connection_string(
                    storage.connection_string.reveal(), **options
                )
            except ValueError:  # without the cause: its text may show the key
                raise SettingsError(
                    [f"{STORAGE_CONNECTION}: lacks the address of the tables; copy it again"]
                ) from None
        else:
            assert storage.table_endpoint is not None  # noqa: S101 - read_settings promises it
            self._service = TableServiceClient(
                endpoint=storage.table_endpoint, credential=credential, **options
            )

    def table(self, name: str) -> "AzureTable":
        return AzureTable(self._service.get_table_client(name))


class AzureTable:
    """One table. Safe to use from several threads."""

    def __init__(self, client: TableClient) -> None:
        self._client = client

    def get(self, partition: str, key: str) -> Row | None:
        if _NO_KEY.search(partition) or _NO_KEY.search(key):
            return None
        answered: list[str] = []
        with _translated(self._client.table_name):
            try:
                entity = self._client.get_entity(
                    partition,
                    key,
                    raw_response_hook=lambda response: answered.append(
                        response.http_response.headers.get("Date", "")
                    ),
                )
            except HttpResponseError as error:
                if not is_absent(error):
                    raise
                return None
            return replace(_row(entity), age=_age(entity.metadata.get("timestamp"), answered))

    def insert(self, row: Row) -> str:
        made = self._with_table(lambda: self._client.create_entity(_entity(row)))
        return str(made["etag"])

    def merge(self, row: Row) -> None:
        self._with_table(
            lambda: self._client.upsert_entity(
                _entity(row), mode=UpdateMode.MERGE, retry_on_methods=_SAFE_TO_REPEAT
            )
        )

    def update(self, row: Row) -> bool:
        with _translated(self._client.table_name):
            try:
                self._client.update_entity(
                    _entity(row), mode=UpdateMode.MERGE, retry_on_methods=_SAFE_TO_REPEAT
                )
            except HttpResponseError as error:
                if not is_absent(error):
                    raise
                return False
            return True

    def replace(self, row: Row) -> str:
        with _translated(self._client.table_name):
            try:
                made = self._client.update_entity(
                    _entity(row),
                    mode=UpdateMode.REPLACE,
                    etag=row.etag,
                    match_condition=MatchConditions.IfNotModified,
                )
            except HttpResponseError as error:
                if not is_absent(error) or is_unmade(error):
                    raise
                # To a compare-and-swap, a row that is gone is a row that has changed.
                raise ConflictError(
                    f"row {row.key} of {self._client.table_name} is gone"
                ) from error
            return str(made["etag"])

    def transact(self, operations: Sequence[Operation]) -> list[str]:
        if not operations:
            return []
        batch = [_in_batch(operation) for operation in operations]

        def submit() -> Any:
            try:
                return self._client.submit_transaction(batch, retry_on_methods=_SAFE_TO_REPEAT)
            except HttpResponseError as error:
                if not is_absent(error) or is_unmade(error):
                    raise
                raise ConflictError(f"a row of table {self._client.table_name} is gone") from error

        made = self._with_table(submit)
        return [str(result.get("etag") or "") for result in made]

    def delete(self, partition: str, key: str) -> None:
        with _translated(self._client.table_name):
            self._client.delete_entity(partition, key)

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
        count = 0
        if limit == 0:  # pages of 0 entities would never end
            return
        wanted: dict[str, str | datetime | None] = {
            "PartitionKey eq": partition,
            "PartitionKey gt": partitions_above,
            "PartitionKey lt": partitions_below,
            "RowKey eq": key,
            "RowKey ge": from_key,
            "RowKey lt": before_key,
        }
        if earlier is not None:
            name, moment = earlier
            wanted[f"{name} lt"] = moment
        conditions = {test: value for test, value in wanted.items() if value is not None}
        pages = self._pages(conditions, limit, select)
        is_first = True
        while (found := self._next_page(pages, select, is_first=is_first)) is not None:
            is_first = False
            for row in found:
                if count == limit:
                    return
                yield row
                count += 1

    def _pages(
        self, conditions: Mapping[str, Any], limit: int | None, select: Sequence[str] | None
    ) -> Iterator[Any]:
        """Return the pages of a query; nothing is requested before the first one is taken."""
        options: dict[str, Any] = {
            "results_per_page": None if limit is None else min(limit, MAX_PAGE_ENTITIES),
            "select": None if select is None else ["PartitionKey", "RowKey", *select],
        }
        if not conditions:
            return self._client.list_entities(**options).by_page()
        return self._client.query_entities(
            " and ".join(f"{test} @p{n}" for n, test in enumerate(conditions)),
            parameters={f"p{n}": v for n, v in enumerate(conditions.values())},
            **options,
        ).by_page()

    def _next_page(
        self, pages: Iterator[Any], select: Sequence[str] | None, *, is_first: bool
    ) -> list[Row] | None:
        """Return the rows of the next page; None after the last, or without a table."""
        with _translated(self._client.table_name):
            try:
                page = next(pages, None)
                if page is None:
                    return None
                return [_row(one) if select is None else _part(one, select) for one in page]
            except HttpResponseError as error:
                # If the table was deleted between two pages, what was read is incomplete.
                if not is_first or not is_absent(error):
                    raise
                return None

    def merge_all(self, rows: Sequence[Row]) -> None:
        ordered = sorted(_distinct(rows), key=lambda row: row.partition)
        for _, group in groupby(ordered, key=lambda row: row.partition):
            for batch in _transactions(group):
                self._with_table(
                    lambda batch=batch: self._client.submit_transaction(
                        batch, retry_on_methods=_SAFE_TO_REPEAT
                    )
                )

    def _with_table(self, operation: Any) -> Any:
        """Run `operation`; if there is no table yet, make it and run the operation again."""
        with _translated(self._client.table_name):
            try:
                return operation()
            except HttpResponseError as error:
                if not is_unmade(error):
                    raise
                with already_exists():  # another instance may make it at the same moment
                    self._client.create_table()
                return operation()


def put_over(table: Table, row: Row, *, known: Row | None) -> str:
    """Replace the row that was read, or insert a new one if there was none; return its ETag.

    Raises `ConflictError` if another writer changed the row in between.
    """
    if known is None:
        return table.insert(row)
    return table.replace(replace(row, etag=known.etag))


def remove_all(table: Table, rows: Iterable[Row]) -> int:
    """Remove `rows` if unchanged since they were read, in transactions; return how many.

    A row that changed stays. A changed or missing row raises no error: it fails its transaction,
    and then each row of that transaction is tried alone.
    """
    removed = 0
    for _, group in groupby(rows, key=lambda row: row.partition):
        for batch in batched(group, MAX_BATCH_ENTITIES, strict=False):
            deletions = [Operation(action=Action.DELETE, row=replace(r, data={})) for r in batch]
            try:
                table.transact(deletions)
                removed += len(batch)
            except ConflictError:
                removed += sum(_removed_alone(table, deletion) for deletion in deletions)
    return removed


def _removed_alone(table: Table, deletion: Operation) -> bool:
    try:
        table.transact([deletion])
    except ConflictError:
        return False
    return True


def _in_batch(operation: Operation) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return an operation as `submit_transaction` takes it."""
    row = operation.row
    unchanged = {"etag": row.etag, "match_condition": MatchConditions.IfNotModified}
    match operation.action:
        case Action.INSERT:
            return ("create", _entity(row), {})
        case Action.REPLACE:
            return ("update", _entity(row), {"mode": UpdateMode.REPLACE, **unchanged})
        case Action.UPDATE:
            return ("update", _entity(row), {"mode": UpdateMode.MERGE})
        case Action.DELETE:
            return ("delete", {"PartitionKey": row.partition, "RowKey": row.key}, unchanged)
        case _:
            assert_never(operation.action)


def _age(written: datetime | None, answered: Sequence[str]) -> timedelta | None:
    """Return how long before the answer a row was written; None if the storage did not say.

    Both are the storage's times; `Date` has whole seconds.
    """
    if written is None or not answered or not answered[-1]:
        return None
    return max(timedelta(), parsedate_to_datetime(answered[-1]) - written)


def _distinct(rows: Iterable[Row]) -> Iterable[Row]:
    """Overlay rows of the same keys: a transaction may name an entity only once."""
    merged: dict[tuple[str, str], Row] = {}
    for row in rows:
        known = merged.get((row.partition, row.key))
        merged[row.partition, row.key] = (
            row if known is None else replace(row, data={**known.data, **_present(row)})
        )
    return merged.values()


def _transactions(
    rows: Iterable[Row],
) -> Iterator[list[tuple[str, dict[str, Any], dict[str, Any]]]]:
    for batch in batched(rows, MAX_BATCH_ENTITIES, strict=False):
        pending: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        size = 0
        for row in batch:
            # Doubled: the service stores text as UTF-16, and a batch carries binary as base64.
            weight = sum(len(v) for v in row.data.values() if isinstance(v, str | bytes)) * 2
            if pending and size + weight > MAX_BATCH_BYTES:
                yield pending
                pending, size = [], 0
            pending.append(("upsert", _entity(row), {"mode": UpdateMode.MERGE}))
            size += weight
        if pending:
            yield pending


def _entity(row: Row) -> dict[str, Any]:
    return {"PartitionKey": row.partition, "RowKey": row.key, **_present(row)}


def _present(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.data.items() if value is not None}


def _row(entity: Any) -> Row:
    data = {k: v for k, v in entity.items() if k not in {"PartitionKey", "RowKey"}}
    return Row(
        partition=entity["PartitionKey"],
        key=entity["RowKey"],
        data=data,
        etag=entity.metadata["etag"],
    )


def _part(entity: Any, select: Sequence[str]) -> Row:
    """Return the selected properties of an entity; those missing, or None, are left out."""
    data = {name: _plain(entity[name]) for name in select if entity.get(name) is not None}
    return Row(partition=entity["PartitionKey"], key=entity["RowKey"], data=data)


def _plain(value: Any) -> Any:
    """Return a time as a plain `datetime`: the SDK's own type takes much more memory."""
    return datetime.combine(value, value.timetz()) if isinstance(value, datetime) else value


def _translated(table: str) -> AbstractContextManager[None]:
    """Turn the SDK's errors into the pipeline's."""
    return storage_errors(f"table {table}", role="Storage Table Data Contributor")
