"""Rows of poison: settled by one, free for those who look at what is kept, or left alone."""

from dataclasses import fields, replace

import pytest

from common.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_HISTORY,
    MAX_REASON,
    Attempt,
)
from common.errors import UnavailableError
from common.ledger import Ledger, open_ledger
from common.ledger.poison import (
    UNKNOWN_RUN,
    Poison,
    PoisonedBy,
    PoisonEntry,
    PoisonRecord,
    PoisonState,
    poison_of_envelope,
    poison_of_raw,
)
from common.ledger.tables import (
    MAX_PAGE_ENTITIES,
    AzureTables,
    Row,
    Tables,
    Value,
)
from common.settings import Secret, StorageSettings
from local.services.azurite import Azurite
from local.services.storage_proxy import StorageProxy
from local.services.storage_requests import Service
from tests.contract.hooked_tables import HookedTables
from tests.contract.rows import LATER, RUN, SOON, envelope
from tests.fakes.clock import START
from tests.fakes.tables import FakeTables


def raw(message: str) -> PoisonRecord:
    """The record of a message that cannot be decoded."""
    return poison_of_raw(message, reason="not JSON", poisoned_by=PoisonedBy.HOST, at=START)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        "x" * MAX_ENVELOPE_BYTES,
        "é漢😀\x00\u2028" * 4000,
        "\ud800 half a pair \udfff" * 2000,
        "\ud83d" * MAX_ENVELOPE_BYTES,
    ],
    ids=["empty", "short", "64 KiB", "any letter", "lone surrogates", "192 KiB of them"],
)
def test_a_message_is_kept_whatever_is_in_it(ledger: Ledger, message: str) -> None:
    """The text of a poisoned message comes back letter by letter."""
    record = raw(message)
    ledger.poison.keep(record)
    assert ledger.poison.get(UNKNOWN_RUN, record.poison_id) == record
    assert record.count == 0


def test_an_envelope_is_kept_with_its_history(ledger: Ledger) -> None:
    """The record of a decoded message has its run, chunk, count and what was tried before."""
    made = envelope(count=42)
    for number in range(MAX_HISTORY):
        made = made.deferred(at=f"at {number}", reason="r" * MAX_REASON, counts=True)
    record = poison_of_envelope(
        made, "text", reason="given up", poisoned_by=PoisonedBy.CONSUMER, at=START
    )
    ledger.poison.keep(record)
    assert list(ledger.poison.all()) == [record]
    assert (record.run_id, record.poison_id) == (RUN, made.key)
    assert (record.count, record.attempts) == (42, MAX_HISTORY)
    assert record.history[0] == Attempt(at="at 0", reason="r" * MAX_REASON)


def test_an_entry_is_the_record_without_its_message(ledger: Ledger) -> None:
    """A list tells everything but message and history, and when the record was settled."""
    record = raw("message")
    ledger.poison.keep(record)
    (entry,) = ledger.poison.entries()
    assert entry.settled_at is None
    assert entry == PoisonEntry(**{f.name: getattr(record, f.name) for f in fields(PoisonEntry)})
    found = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
    assert found is not None
    assert ledger.poison.settle(found, PoisonState.DISCARDED, at=LATER)
    assert list(ledger.poison.entries()) == []
    (entry,) = ledger.poison.entries(settled=True)
    assert (entry.name, entry.state, entry.settled_at) == (
        record.name,
        PoisonState.DISCARDED,
        LATER,
    )
    settled = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
    assert settled == replace(record, state=PoisonState.DISCARDED)
    assert list(ledger.poison.all()) == [settled]


def test_poison_that_comes_again_after_it_was_settled_is_kept_once_more(ledger: Ledger) -> None:
    """It is one record, with its first time; settled again it is one record, too."""
    record = raw("message")
    for moment in (SOON, LATER):
        again = replace(record, first_at=moment, last_at=moment)
        ledger.poison.keep(again)
        expected = replace(again, first_at=SOON)
        assert ledger.poison.get(UNKNOWN_RUN, record.poison_id) == expected
        assert [entry.state for entry in ledger.poison.entries(settled=True)] == [PoisonState.KEPT]
        found = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
        assert found is not None
        assert ledger.poison.settle(found, PoisonState.REPLAYED, at=moment)
        (entry,) = ledger.poison.entries(settled=True)
        assert (entry.state, entry.settled_at) == (PoisonState.REPLAYED, moment)


def test_poison_that_is_given_up_while_it_is_settled_stays_kept(
    ledger: Ledger, hooked: HookedTables
) -> None:
    """The settled row is written by then; what is kept counts."""
    record = raw("message")
    ledger.poison.keep(record)
    found = ledger.poison.get(UNKNOWN_RUN, record.poison_id)
    assert found is not None
    again = replace(record, reason="once more")
    hooked.once("poison", "transact", lambda: ledger.poison.keep(again))
    assert not ledger.poison.settle(found, PoisonState.REPLAYED, at=LATER)
    assert [e.reason for e in ledger.poison.entries(settled=True)] == ["once more"]
    assert ledger.poison.count_kept() == 1


def test_of_two_who_settle_a_record_at_once_one_does(ledger: Ledger, hooked: HookedTables) -> None:
    """The other is told so, and what it meant to note is nowhere."""
    ledger.poison.keep(raw("message"))
    (found,) = ledger.poison.all()

    def discard() -> None:
        assert ledger.poison.settle(found, PoisonState.DISCARDED, at=SOON)

    hooked.once("poison", "replace", discard)
    assert not ledger.poison.settle(found, PoisonState.REPLAYED, at=LATER)
    (entry,) = ledger.poison.entries(settled=True)
    assert (entry.state, entry.settled_at) == (PoisonState.DISCARDED, SOON)
    assert ledger.poison.count_kept() == 0


def test_a_record_whose_move_was_cut_short_is_settled_and_purged(
    ledger: Ledger, hooked: HookedTables
) -> None:
    """It died behind the first write: settled where it was kept, and removed when it is old."""
    ledger.poison.keep(raw("message"))
    (found,) = ledger.poison.all()

    def die() -> None:
        raise UnavailableError("the process is gone")

    hooked.once("poison", "merge", die)
    with pytest.raises(UnavailableError):
        ledger.poison.settle(found, PoisonState.DISCARDED, at=SOON)
    assert list(ledger.poison.entries()) == []
    assert [e.state for e in ledger.poison.entries(settled=True)] == [PoisonState.DISCARDED]
    assert ledger.poison.purge(ledger.poison.settled_before(SOON)) == 0
    assert ledger.poison.purge(ledger.poison.settled_before(LATER)) == 1
    assert list(ledger.poison.entries(settled=True)) == []


def test_what_is_kept_of_the_poison_is_counted(ledger: Ledger) -> None:
    """Settled records are not."""
    assert ledger.poison.count_kept() == 0
    for text in "abcde":
        ledger.poison.keep(raw(text))
    assert ledger.poison.count_kept() == 5
    states = (PoisonState.REPLAYED, PoisonState.REPLAYED, PoisonState.DISCARDED)
    for record, state in zip(list(ledger.poison.all()), states, strict=False):
        assert ledger.poison.settle(record, state, at=LATER)
    assert ledger.poison.count_kept() == 2


def test_poison_that_comes_again_keeps_its_first_time(ledger: Ledger) -> None:
    """A message given up twice is one record: first time of the first, the rest of the last."""
    first = raw("message")
    again = replace(first, reason="still not JSON", first_at=LATER, last_at=LATER, attempts=3)
    ledger.poison.keep(first)
    ledger.poison.keep(again)
    assert list(ledger.poison.all()) == [replace(again, first_at=START)]


def test_poison_that_comes_out_of_order_keeps_the_earlier_time(ledger: Ledger) -> None:
    """Two instances may write in either order; the first time is the earlier one."""
    late = replace(raw("message"), first_at=LATER, last_at=LATER)
    ledger.poison.keep(late)
    ledger.poison.keep(raw("message"))
    assert next(ledger.poison.all()).first_at == START


def test_a_shorter_message_leaves_nothing_of_the_longer(ledger: Ledger) -> None:
    """A record that is written anew with less text comes back with just that."""
    long = replace(raw("x" * MAX_ENVELOPE_BYTES), poison_id="one")
    ledger.poison.keep(long)
    ledger.poison.keep(replace(long, message="short"))
    assert next(ledger.poison.all()).message == "short"


def test_different_messages_are_different_records(ledger: Ledger) -> None:
    """Undecodable messages are told apart by their text, those of runs by their chunk."""
    made = envelope()
    records = [
        raw("one"),
        raw("two"),
        poison_of_envelope(made, "t", reason="r", poisoned_by=PoisonedBy.HOST, at=START),
    ]
    for record in records:
        ledger.poison.keep(record)
    assert {item.poison_id for item in ledger.poison.all()} == {
        record.poison_id for record in records
    }
    assert ledger.poison.get(RUN, "0" * 32) is None


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


def test_the_poison_of_a_chunk_is_that_of_its_parts_and_of_no_other(ledger: Ledger) -> None:
    """By the beginning of the key, not that of another epoch; what is settled is no part of it."""
    poison = ledger.poison
    ids = ("000002-1", "000002-1-abcdef012345", "000002-1-0123456789ab", "000002-10", "000003-1")
    for poison_id in ids:
        poison.keep(replace(raw(poison_id), run_id=RUN, poison_id=poison_id))
    poison.keep(replace(raw("other"), run_id="another", poison_id="000002-1"))
    settled = poison.get(RUN, "000002-1-0123456789ab")
    assert settled is not None
    assert poison.settle(settled, PoisonState.DISCARDED, at=LATER)
    found = list(poison.of_chunk(RUN, "000002-1"))
    assert [record.poison_id for record in found] == ["000002-1", "000002-1-abcdef012345"]
    assert [record.message for record in found] == ["000002-1", "000002-1-abcdef012345"]
    assert list(poison.of_chunk(RUN, "000004-1")) == []
