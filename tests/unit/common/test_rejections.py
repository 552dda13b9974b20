"""Where an invalid record is kept: what changed in it decides, and times do not count."""

import orjson
import pytest

from common.ledger.rejections import position_of

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
