"""Where an invalid record is kept, and rows that this release cannot read."""

from dataclasses import replace

import orjson
import pytest

from common.ledger.rejections import INVALID, RejectedBy, Rejection, Rejections, position_of
from common.ledger.tables import Value
from tests.fakes.clock import START
from tests.fakes.tables import FakeTables

FOUND = {
    "type": "indicator",
    "id": "indicator--1",
    "created": "2026-10-01T00:00:00.000Z",
    "modified": "2026-10-01T00:00:00.000Z",
    "confidence": "high",
    "description": "seen 2026-10-01T00:00:00Z",
    "pattern": "[domain-name:value = 'a.example'] START t'2026-10-01T00:00:00Z'",
}

TIMES = [
    "2026-11-29T10:15:00Z",
    "2026-11-29T10:15:00.123456Z",
    "2026-11-29T10:15:00+01:00",
    "2026-11-29 10:15:00",
    "2026-11-29T10:15Z",
]


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("names", [["modified"], ["created", "modified"], ["last_seen"]])
def test_a_record_whose_times_alone_changed_keeps_its_row(names: list[str], time: str) -> None:
    """Whatever the field is called; also where the object is not JSON."""
    before = {**dict.fromkeys(names, TIMES[0]), **FOUND}
    now = before | dict.fromkeys(names, time)
    for broken in (b"", b"\x00,"):
        assert position_of(orjson.dumps(now) + broken) == position_of(orjson.dumps(before) + broken)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "indicator--2"},
        {"confidence": "higher"},
        {"description": "seen 2026-10-02T00:00:00Z"},
        {"pattern": "[domain-name:value = 'a.example'] START t'2026-10-02T00:00:00Z'"},
        {"modified": "yesterday"},
        {"modified": None},
    ],
    ids=repr,
)
def test_any_other_change_makes_a_row_of_its_own(change: dict[str, object]) -> None:
    """A text that only holds a time is no time."""
    assert position_of(orjson.dumps(FOUND | change)) != position_of(orjson.dumps(FOUND))


@pytest.mark.parametrize(
    "change",
    [
        {"rejected_by": "watchdog"},
        {"rejected_by": 7},
        {"content": b"not zlib"},
        {"content": "a text"},
        {"at": "yesterday"},
        {"colour": "blue"},
    ],
    ids=repr,
)
def test_a_row_of_a_later_release_or_a_damaged_one_is_listed(change: dict[str, Value]) -> None:
    """Its neighbour is, too, and what can be read of it is there."""
    tables = FakeTables()
    rejections = Rejections(tables)
    whole = Rejection(
        run_id=INVALID,
        position="1",
        rejected_by=RejectedBy.VALIDATION,
        indicator_id="i",
        pattern="p",
        reason="why",
        content=b"{}",
        at=START,
    )
    rejections.record([whole, replace(whole, position="2")])
    table = tables.table("rejections")
    row = table.get(INVALID, "1")
    assert row is not None
    table.replace(replace(row, data={**row.data, **change}))
    odd, other = rejections.of_run(INVALID)
    assert (odd.indicator_id, odd.reason) == ("i", "why")
    assert other == replace(whole, position="2")
    assert (odd == whole) == ("colour" in change)
