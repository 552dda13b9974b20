"""Records: 24 bytes for each version of an indicator, and what times mean in them."""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records import (
    NO_END,
    RECORD_BYTES,
    Record,
    day_of,
    milliseconds_of,
    pack_records,
    unpack_records,
)

MILLISECONDS = 2**48
DAYS = 2**16

words = st.integers(0, 2**64 - 1)
records = st.builds(
    Record,
    id_hash=words,
    fingerprint=words,
    modified=st.integers(0, MILLISECONDS - 1) | st.just(MILLISECONDS - 1),
    ends_on=st.integers(0, DAYS - 1) | st.just(DAYS - 1),
)


@given(made=st.lists(records, max_size=20))
def test_records_come_back_as_they_were(made: list[Record]) -> None:
    """Every bit of every field, in order, in 24 bytes each."""
    packed = pack_records(made)
    assert len(packed) == RECORD_BYTES * len(made) == 24 * len(made)
    assert list(unpack_records(packed)) == made


def test_the_stored_form_stays() -> None:
    """Little-endian: id, fingerprint, 48 bits of milliseconds, 16 bits of days."""
    packed = pack_records([Record(id_hash=1, fingerprint=2, modified=3, ends_on=4)])
    assert packed.hex() == "0100000000000000" + "0200000000000000" + "030000000000" + "0400"


def test_a_cut_record_is_noticed() -> None:
    """Half a record is no record."""
    packed = pack_records([Record(id_hash=1, fingerprint=2)])
    with pytest.raises(struct.error):
        list(unpack_records(packed[:-1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01T00:00:00.0019Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01", 1000),
        ("2026-01-02T00:00:00.000Z", 1_767_312_000_000),
        ("2026-01-02T00:00:00.123456789Z", 1_767_312_000_123),
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+23:59", 0),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("9999-12-31T23:59:59-23:59", 0),
        ("", 0),
        ("yesterday", 0),
        ("2026-13-01T00:00:00Z", 0),
        ("\ud800", 0),
    ],
)
def test_a_time_in_milliseconds(text: str, expected: int) -> None:
    """Cut, never rounded; without a zone it is UTC; what is not a time is 0, the oldest."""
    assert milliseconds_of(text) == expected < MILLISECONDS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, NO_END),
        ("", NO_END),
        ("never", NO_END),
        ("1970-01-01T00:00:00Z", 1),
        ("1960-01-01T00:00:00Z", 1),
        ("1970-01-02T23:59:59Z", 1),
        ("1970-01-03T00:00:00Z", 2),
        ("2026-01-01T00:00:00+14:00", 20_453),
        ("2026-01-01T00:00:00Z", 20_454),
        ("9999-12-31T00:00:00Z", DAYS - 1),
    ],
)
def test_a_day(text: str | None, expected: int) -> None:
    """One that ended long ago has a day all the same: no end means for ever, and is 0."""
    assert day_of(text) == expected


@given(moment=st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC)))  # noqa: DTZ001 - the zone comes with it
def test_later_is_more(moment: datetime) -> None:
    """Two times of one indicator are ordered as they are."""
    found = milliseconds_of(moment.isoformat())
    assert 0 <= moment.timestamp() * 1000 - found < 1.001
    assert abs(day_of(moment.isoformat()) - found // 86_400_000) == 0 or found // 86_400_000 >= DAYS


@given(text=st.text())
def test_any_text_has_a_time_and_a_day(text: str) -> None:
    """Nothing that a feed may hold makes them fail, or leave their bits."""
    assert 0 <= milliseconds_of(text) < MILLISECONDS
    assert 0 <= day_of(text) < DAYS
