"""The contract of a table: what each write promises, what a read finds, where the limits are."""

import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest

from common.errors import (
    ConflictError,
    SettingsError,
    StorageRefusedError,
    UnavailableError,
)
from common.ledger.tables import (
    MAX_BATCH_ENTITIES,
    MAX_BINARY_PROPERTY,
    Action,
    AzureTables,
    Operation,
    Row,
    Table,
    Tables,
    Value,
    read_value,
    remove_all,
)
from common.settings import Secret, StorageSettings

MAX_TEXT_PROPERTY = 32 * 1024
"""A string property holds at most 64 KiB of UTF-16: 32 Ki characters."""

STALE = "W/\"datetime'2020-01-01T00%3A00%3A00.0000000Z'\""


@pytest.fixture
def table(tables: Tables) -> Table:
    """A table that does not exist yet."""
    return tables.table("things")


def row(key: str = "k", *, partition: str = "p", etag: str = "", **data: Value) -> Row:
    """A row of the usual partition."""
    return Row(partition=partition, key=key, data=data, etag=etag)


def insert(made: Row) -> Operation:
    """A row to create in a transaction."""
    return Operation(action=Action.INSERT, row=made)


def replacement(made: Row) -> Operation:
    """A row to replace in a transaction."""
    return Operation(action=Action.REPLACE, row=made)


def update(made: Row) -> Operation:
    """A row to overlay in a transaction."""
    return Operation(action=Action.UPDATE, row=made)


def removal(made: Row) -> Operation:
    """A row to remove in a transaction."""
    return Operation(action=Action.DELETE, row=made)


def read(table: Table, key: str = "k", *, partition: str = "p") -> Row:
    """A row that must be there."""
    found = table.get(partition, key)
    assert found is not None
    return found


def keys(table: Table, partition: str | None = None, limit: int | None = None) -> list[str]:
    """The keys of a query, in its order."""
    return [found.key for found in table.query(partition, limit=limit)]


def test_a_missing_table_is_empty(table: Table) -> None:
    """Before the first write, reading finds nothing and deleting does nothing."""
    assert table.get("p", "k") is None
    assert keys(table) == keys(table, "p") == []
    table.delete("p", "k")


@pytest.mark.parametrize("write", ["insert", "merge", "merge_all"])
def test_a_missing_table_is_made_by_the_first_write(table: Table, write: str) -> None:
    """Whatever the first write is, it succeeds and its row is there."""
    getattr(table, write)([row(a=1)] if write == "merge_all" else row(a=1))
    assert read(table).data == {"a": 1}


def test_nothing_is_replaced_in_a_missing_table(table: Table) -> None:
    """A row was read from it, so it cannot be missing: storage is in trouble, no race is lost."""
    with pytest.raises(UnavailableError):
        table.replace(row(etag=STALE))


def test_an_insert_makes_a_row_once(table: Table) -> None:
    """A second insert of the same keys is a conflict and changes nothing."""
    table.insert(row(a=1))
    with pytest.raises(ConflictError):
        table.insert(row(a=2))
    assert read(table).data == {"a": 1}


def test_a_property_is_read_as_what_it_should_be_or_not_at_all(table: Table) -> None:
    """Whatever types the client gives: a time is one, a number that is a text is none."""
    now = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    table.insert(row(at=now, count=7, text="7", flag=True))
    found = table.get("p", "k")
    assert read_value(found, "at", datetime) == now
    assert read_value(found, "count", int) == 7
    assert read_value(found, "text", str) == "7"
    assert [read_value(found, name, int) for name in ("text", "flag", "at", "other")] == [None] * 4
    assert read_value(None, "count", int) is None


def test_an_insert_returns_the_etag(table: Table) -> None:
    """The ETag of an insert is the one a read finds, good for a replace."""
    etag = table.insert(row(a=1))
    assert read(table).etag == etag
    table.replace(row(a=2, etag=etag))
    assert read(table).data == {"a": 2}


def test_a_replace_leaves_only_what_it_gives(table: Table) -> None:
    """Properties that a replace does not name are gone."""
    etag = table.insert(row(a=1, b=1))
    table.replace(row(b=2, etag=etag))
    assert read(table).data == {"b": 2}


def test_a_replace_returns_the_next_etag(table: Table) -> None:
    """Each replace returns the ETag under which the next one may follow."""
    etag = table.insert(row(a=0))
    for number in range(1, 4):
        etag = table.replace(row(a=number, etag=etag))
    assert read(table) == row(a=3, etag=etag)


@pytest.mark.parametrize("between", ["replace", "merge", "merge_all", "delete"])
def test_a_replace_of_what_changed_is_a_conflict(table: Table, between: str) -> None:
    """After any write by another, a replace under the old ETag fails and changes nothing."""
    etag = table.insert(row(a=1))
    match between:
        case "replace":
            table.replace(row(a=2, etag=etag))
        case "merge":
            table.merge(row(a=2))
        case "merge_all":
            table.merge_all([row(a=2)])
        case _:
            table.delete("p", "k")
    before = table.get("p", "k")
    with pytest.raises(ConflictError):
        table.replace(row(a=3, etag=etag))
    assert table.get("p", "k") == before


def test_the_same_write_changes_the_etag(table: Table) -> None:
    """A row that was written again with the same content counts as changed."""
    etag = table.insert(row(a=1))
    table.merge(row(a=1))
    with pytest.raises(ConflictError):
        table.replace(row(a=2, etag=etag))


def test_a_merge_overlays(table: Table) -> None:
    """A merge changes what it names, whoever wrote last, and keeps the rest."""
    table.merge(row(a=1, b=1))
    table.merge(row(b=2, c=2))
    assert read(table).data == {"a": 1, "b": 2, "c": 2}


def test_a_property_without_a_value_is_not_written(table: Table) -> None:
    """None leaves a property out, in every kind of write."""
    etag = table.insert(row("inserted", a=1, b=None))
    table.merge(row("merged", a=1, b=None))
    table.merge_all([row("all", a=1, b=None)])
    assert [found.data for found in table.query("p")] == [{"a": 1}] * 3
    table.replace(row("inserted", b=1, a=None, etag=etag))
    assert read(table, "inserted").data == {"b": 1}


def test_a_merge_of_nothing_keeps_what_is_there(table: Table) -> None:
    """None in a merge does not remove what was written before."""
    table.merge(row(a=1, b=1))
    table.merge(row(a=None, b=2))
    assert read(table).data == {"a": 1, "b": 2}


def test_every_kind_of_value_comes_back(table: Table) -> None:
    """Values come back equal and of their kind: empty ones, whole floats and any letter too."""
    data: dict[str, Value] = {
        "text": "é漢😀\u2028'\"<&>\\\x00",
        "no_text": "",
        "whole": -(2**31),
        "largest": 2**31 - 1,
        "float": 0.1,
        "whole_float": 5.0,
        "yes": True,
        "no": False,
        "bytes": bytes(range(256)),
        "no_bytes": b"",
        "moment": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    }
    table.insert(Row(partition="p", key="k", data=data))
    found = read(table).data
    assert found == data
    kinds = {name: type(value) for name, value in found.items() if name != "moment"}
    assert kinds == {name: type(value) for name, value in data.items() if name != "moment"}


def test_a_moment_comes_back_aware(table: Table) -> None:
    """A moment of any zone comes back as the same moment, aware, to the microsecond."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    table.insert(row(at=moment))
    found = read(table).data["at"]
    assert isinstance(found, datetime)
    assert found.utcoffset() is not None
    assert found == moment


def test_keys_may_hold_quotes_and_any_letter(table: Table) -> None:
    """Apostrophes, blanks and letters outside ASCII in keys are found again."""
    for key in ("it's", "é漢", "a b", "%2F", "x" * 200):
        table.merge(row(key, partition=key, a=1))
        assert read(table, key, partition=key).data == {"a": 1}
        assert keys(table, key) == [key]
        table.delete(key, key)
        assert keys(table, key) == []


@pytest.mark.parametrize("key", ["a/b", "a\\b", "#", "?", "\x00", "\n", "\x9f"])
def test_no_row_has_a_key_that_no_row_may_have(table: Table, key: str) -> None:
    """What an operator types is looked for, and not refused."""
    table.insert(row("k"))
    assert table.get("p", key) is None
    assert table.get(key, "k") is None


def test_rows_come_in_the_order_of_their_keys(table: Table) -> None:
    """A partition is read by key, character by character; a table by partition, then key."""
    unordered = ["b", "10", "a", "B", "2", "a-1", "A", "9"]
    for partition in ("q", "p"):
        table.merge_all([row(key, partition=partition) for key in unordered])
    assert keys(table, "p") == sorted(unordered)
    found = [(item.partition, item.key) for item in table.query()]
    assert found == [(owner, key) for owner in ("p", "q") for key in sorted(unordered)]


def test_partitions_are_apart(table: Table) -> None:
    """The same key in another partition, or in another table, is another row."""
    table.merge(row(partition="p", a=1))
    table.merge(row(partition="pp", a=2))
    table.delete("p", "k")
    assert keys(table, "p") == []
    assert read(table, partition="pp").data == {"a": 2}


def test_tables_are_apart(tables: Tables) -> None:
    """A row of one table is not in another, and a name leads to the same table each time."""
    tables.table("one").merge(row(a=1))
    tables.table("two").merge(row(a=2))
    assert read(tables.table("one")).data == {"a": 1}


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (3, 3), (5, 5), (9, 5)])
def test_a_query_stops_at_its_limit(table: Table, limit: int, expected: int) -> None:
    """At most `limit` rows come, the first in key order; zero is none."""
    table.merge_all([row(str(number)) for number in range(5)])
    assert keys(table, "p", limit) == keys(table, None, limit) == list("01234")[:expected]


@pytest.mark.parametrize("partition", [None, "p"])
def test_a_query_reads_only_what_is_selected(table: Table, partition: str | None) -> None:
    """Keys and the selected properties come, absent ones not; a part cannot be written back."""
    table.insert(row("a", small=1, large=b"x" * MAX_BINARY_PROPERTY))
    table.insert(row("b", other="o"))
    found = list(table.query(partition, select=["small", "other"]))
    assert [(part.partition, part.key) for part in found] == [("p", "a"), ("p", "b")]
    assert [part.data for part in found] == [{"small": 1}, {"other": "o"}]
    assert [part.etag for part in found] == ["", ""]


def test_a_time_that_is_selected_is_no_more_than_a_time(table: Table) -> None:
    """What the SDK attaches to it would be most of the memory of many rows."""
    moment = datetime(2026, 1, 1, 0, 0, 1, 234567, tzinfo=UTC)
    table.insert(row("a", at=moment))
    (part,) = table.query(select=["at"])
    assert part.data == {"at": moment}
    assert type(part.data["at"]) is datetime


def test_a_query_may_end_before_a_partition(table: Table) -> None:
    """Letters and digits come before `~`; with other conditions both hold."""
    for partition in ("20260101T000000-0badcafe", "unknown", "zz", "~", "~settled"):
        table.insert(row("k", partition=partition))
        table.insert(row("l", partition=partition))
    found = [part.partition for part in table.query(partitions_below="~", key="k")]
    assert found == ["20260101T000000-0badcafe", "unknown", "zz"]
    assert len(list(table.query(partitions_below="unknown"))) == 2
    assert len(list(table.query(partitions_below="~", limit=5))) == 5
    between = table.query(partitions_above="unknown", partitions_below="~", key="l")
    assert [part.partition for part in between] == ["zz"]


@pytest.mark.parametrize("select", [None, ["a"]])
def test_a_query_of_what_is_earlier(table: Table, select: list[str] | None) -> None:
    """Only rows that have a time before the moment, to the millisecond."""
    moment = datetime(2026, 1, 1, 0, 0, 1, 234000, tzinfo=UTC)
    second = timedelta(seconds=1)
    for key, at in (("a", moment - second), ("b", moment), ("c", moment + second)):
        table.insert(row(key, at=at, a=1))
    table.insert(row("d", other=moment - second))
    table.insert(row("f", partition="q", at=moment - timedelta(milliseconds=1)))
    found = table.query(earlier=("at", moment), select=select)
    assert [(one.key, bool(one.etag)) for one in found] == [("a", not select), ("f", not select)]
    assert [one.key for one in table.query("p", earlier=("at", moment), select=select)] == ["a"]


def test_rows_are_removed_as_they_were_read(table: Table) -> None:
    """In transactions, of several partitions; what changed or went since is passed over."""
    names = [f"{number:03d}" for number in range(MAX_BATCH_ENTITIES + 50)]
    table.merge_all([row(key, partition=name, a=1) for name in ("p", "q") for key in names])
    found = list(table.query())
    table.merge(row("007", a=2))
    table.delete("q", "120")
    assert remove_all(table, found) == len(found) - 2
    assert [(left.partition, left.key) for left in table.query()] == [("p", "007")]
    assert remove_all(table, []) == 0


def test_a_long_query_is_read_to_its_end(table: Table) -> None:
    """More rows than the service gives in one answer (1000) all come, once each, in order."""
    expected = [f"{number:05d}" for number in range(2050)]
    table.merge_all([row(key, a=1) for key in reversed(expected)])
    assert keys(table, "p") == keys(table) == expected
    assert keys(table, "p", limit=1001) == expected[:1001]


def test_rows_of_several_partitions_are_merged_together(table: Table) -> None:
    """One call may hold more rows than a transaction, of several partitions, in any order."""
    rows = [
        row(f"{number:03d}", partition=f"p{number % 3}", a=number)
        for number in range(3 * MAX_BATCH_ENTITIES + 10)
    ]
    table.merge(row("000", partition="p0", b=1))
    table.merge_all(rows)
    assert len(keys(table)) == len(rows)
    assert read(table, "000", partition="p0").data == {"a": 0, "b": 1}


def test_nothing_is_merged_without_a_request(table: Table) -> None:
    """No rows, no write."""
    table.merge_all([])
    assert keys(table) == []


def test_rows_of_the_same_keys_overlay_each_other(table: Table) -> None:
    """The same row twice in a call is written once, the later over the earlier."""
    table.merge_all([row(a=1, b=1), row("other", a=0), row(b=2, c=2), row("other", a=1)])
    assert read(table).data == {"a": 1, "b": 2, "c": 2}
    assert read(table, "other").data == {"a": 1}


def test_an_update_overlays_only_what_is_there(table: Table) -> None:
    """It never creates a row, nor the table; what it does not name stays."""
    assert table.update(row(a=1)) is False
    assert table.get("p", "k") is None
    etag = table.insert(row(a=1, b=1))
    assert table.update(row("other", a=1)) is False
    assert table.update(row(b=2, c=None)) is True
    assert read(table).data == {"a": 1, "b": 2}
    assert keys(table) == ["k"]
    with pytest.raises(ConflictError):
        table.replace(row(a=3, etag=etag))


# Transactions


def test_a_transaction_does_all_it_says(table: Table) -> None:
    """Insert, replace, update and delete at once; each row's next ETag comes back in order."""
    head = table.insert(row("head", a=1, b=1))
    table.insert(row("note", a=1, b=1))
    gone = table.insert(row("gone"))
    etags = table.transact(
        [
            replacement(row("head", a=2, etag=head)),
            insert(row("new", a=3, b=None)),
            update(row("note", b=4)),
            removal(row("gone", etag=gone)),
        ]
    )
    assert {found.key: dict(found.data) for found in table.query("p")} == {
        "head": {"a": 2},
        "new": {"a": 3},
        "note": {"a": 1, "b": 4},
    }
    assert [read(table, key).etag for key in ("head", "new", "note")] == etags[:3]
    assert etags[3] == ""
    table.transact([replacement(row("head", a=5, etag=etags[0]))])
    assert read(table, "head").data == {"a": 5}


def test_a_transaction_makes_the_table(table: Table) -> None:
    """A first write of any kind does."""
    table.transact([insert(row("1", a=1)), insert(row("2", a=2))])
    assert keys(table) == ["1", "2"]


def test_no_operations_are_no_transaction(table: Table) -> None:
    """Nothing to do, nothing asked."""
    assert table.transact([]) == []


@pytest.mark.parametrize(
    "fault",
    [
        insert(row("there", a=9)),
        replacement(row("there", a=9, etag=STALE)),
        replacement(row("absent", a=9, etag=STALE)),
        removal(row("there", etag=STALE)),
        removal(row("absent", etag=STALE)),
        update(row("absent", a=9)),
    ],
    ids=["insert", "replace", "replace absent", "delete", "delete absent", "update absent"],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_transaction_is_all_or_nothing(table: Table, fault: Operation, position: int) -> None:
    """One operation that does not find its row as it must: a conflict, and nothing is written."""
    head = table.insert(row("head", a=1))
    table.insert(row("there", a=1))
    operations = [replacement(row("head", a=2, etag=head)), insert(row("new", a=2))]
    operations.insert(position, fault)
    with pytest.raises(ConflictError):
        table.transact(operations)
    assert {found.key: dict(found.data) for found in table.query("p")} == {
        "head": {"a": 1},
        "there": {"a": 1},
    }
    assert read(table, "head").etag == head


@pytest.mark.parametrize("between", ["replace", "merge", "update", "transact", "delete"])
def test_a_stale_head_fails_the_whole_transaction(table: Table, between: str) -> None:
    """However the head changed since it was read: the fence of a run holds at the storage."""
    stale = table.insert(row("head", a=1))
    match between:
        case "replace":
            table.replace(row("head", a=2, etag=stale))
        case "merge":
            table.merge(row("head", a=2))
        case "update":
            table.update(row("head", a=2))
        case "transact":
            table.transact([replacement(row("head", a=2, etag=stale)), insert(row("0", a=1))])
        case _:
            table.delete("p", "head")
    before = list(table.query("p"))
    chunks = [insert(row(f"chunk-{number}", a=number)) for number in range(MAX_BATCH_ENTITIES - 1)]
    with pytest.raises(ConflictError):
        table.transact([replacement(row("head", a=3, etag=stale)), *chunks])
    assert list(table.query("p")) == before


def test_a_transaction_has_room_for_a_hundred_rows(table: Table) -> None:
    """The head and 99 chunk rows, each with the records of a hundred indicators."""
    head = table.insert(row("head", a=1))
    chunks = [insert(row(f"{number:03d}", records=bytes(2400))) for number in range(99)]
    table.transact([replacement(row("head", a=2, etag=head)), *chunks])
    assert len(keys(table, "p")) == MAX_BATCH_ENTITIES


# Places and ages


@pytest.mark.parametrize("partition", [None, "p"])
def test_a_query_by_row_key(table: Table, partition: str | None) -> None:
    """Only rows of that key come, of one partition or of all, with a limit or none."""
    for owner in ("p", "q", "r"):
        table.merge_all([row(key, partition=owner, a=1) for key in ("1", "head", "it's")])
    found = list(table.query(partition, key="head"))
    assert [item.partition for item in found] == (["p"] if partition else ["p", "q", "r"])
    assert {item.key for item in found} == {"head"}
    assert [item.partition for item in table.query(key="it's", limit=2)] == ["p", "q"]
    assert [item.data for item in table.query("p", key="1", select=["a"])] == [{"a": 1}]
    assert list(table.query(partition, key="absent")) == []


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("", ["0", "000001-1", "000001-2", "000002-1", "head"]),
        ("000001", ["000001-1", "000001-2", "000002-1", "head"]),
        ("000001-2", ["000001-2", "000002-1", "head"]),
        ("000002", ["000002-1", "head"]),
        ("9", ["head"]),
        ("i", []),
    ],
)
def test_a_query_from_a_key_on(table: Table, start: str, expected: list[str]) -> None:
    """Rows at or behind that key, in order: a run's chunks from a number on."""
    table.merge_all([row(key) for key in ["0", "000001-1", "000001-2", "000002-1", "head"]])
    table.merge(row("000009-1", partition="q"))
    assert [item.key for item in table.query("p", from_key=start)] == expected
    assert [item.key for item in table.query("p", from_key=start, limit=2)] == expected[:2]
    chunks = [key for key in expected if key != "head"]
    assert [item.key for item in table.query("p", from_key=start, before_key="head")] == chunks


def test_the_age_of_a_row_is_told_by_the_storage(table: Table) -> None:
    """Small for one that was written now, by whatever write, and no part of what is compared."""
    assert table.get("p", "k") is None
    table.insert(row(a=1))
    first = read(table)
    assert first.age is not None
    assert timedelta() <= first.age < timedelta(minutes=1)
    assert next(iter(table.query("p"))).age is None
    assert next(iter(table.query("p"))) == first


def test_a_large_batch_is_split(table: Table) -> None:
    """Rows that together exceed the 4 MiB of a transaction are all written."""
    content = bytes(MAX_BINARY_PROPERTY)
    table.merge_all([row(f"{number:03d}", content=content) for number in range(90)])
    assert [found.data["content"] == content for found in table.query("p")] == [True] * 90


@pytest.mark.parametrize(
    "value", ["é" * MAX_TEXT_PROPERTY, b"x" * MAX_BINARY_PROPERTY], ids=["text", "bytes"]
)
def test_the_largest_property_is_kept(table: Table, value: str | bytes) -> None:
    """32 Ki characters, or 64 KiB of bytes, fit in one property."""
    table.insert(row(value=value))
    assert read(table).data == {"value": value}


@pytest.mark.parametrize(
    "value",
    ["x" * (MAX_TEXT_PROPERTY + 1), b"x" * (MAX_BINARY_PROPERTY + 1)],
    ids=["text", "bytes"],
)
def test_a_larger_property_is_refused(table: Table, value: str | bytes) -> None:
    """One more is refused with the service's code, and not as something that may pass."""
    with pytest.raises(StorageRefusedError, match="PropertyValueTooLarge"):
        table.insert(row(value=value))


def test_a_number_beyond_32_bits_is_refused(table: Table) -> None:
    """A whole number of more than 32 bits is not written as something else."""
    with pytest.raises(TypeError, match="INT32"):
        table.insert(row(value=2**31))


def test_a_table_is_read_anew_by_each_instance(storage: StorageSettings) -> None:
    """What one instance wrote is there for another that knows nothing of it."""
    AzureTables(storage).table("things").insert(row(a=1))
    assert read(AzureTables(storage).table("things")).data == {"a": 1}


def test_a_connection_string_without_an_account_is_a_fault_of_the_settings() -> None:
    """It says nothing of tables: named with its remedy, and the key in it is not shown."""
    connection = "AccountKey=bm90IGEga2V5;QueueEndpoint=http://127.0.0.1:1/account"
    with pytest.raises(SettingsError, match="PipelineStorage: ") as caught:
        AzureTables(StorageSettings(connection_string=Secret(connection)))
    assert "bm90" not in "".join(traceback.format_exception(caught.value))
