"""Times of a page, read at once, are those that reading one by one gives."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records import day_of, milliseconds_of
from producer.entries import days_of_all, milliseconds_of_all

USUAL = st.integers(-30_000_000_000_000, 250_000_000_000_000).map(
    lambda number: (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number))
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
)
ODD = (
    "",
    "2026-02-31T00:00:00Z",
    "2026-01-01T00:00:00+02:00",
    "2026-01-01T00:00:00.123456Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:00:60Z",
    "2026-01-01",
    "2026-01-01T00:00:00Z\n2026-01-01T00:00:00Z",
    "\u0661\u0662\u0663\u0664-01-01T00:00:00Z",
    "now",
)


@given(st.lists(USUAL, max_size=20))
def test_usual_times_are_read_alike(texts: list[str]) -> None:
    """To the millisecond, before 1970, too."""
    assert milliseconds_of_all(texts) == [milliseconds_of(text) for text in texts]
    assert days_of_all(texts) == [day_of(text) for text in texts]


@pytest.mark.parametrize("odd", ODD)
def test_one_in_another_form_changes_none(odd: str) -> None:
    """It is read as it is alone, and so are its neighbours."""
    texts = ["2026-01-02T03:04:05.678Z", odd, "1960-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
    assert milliseconds_of_all(texts) == [milliseconds_of(text) for text in texts]
    assert days_of_all(texts) == [day_of(text) for text in texts]


def test_milliseconds_are_exact() -> None:
    """No fraction of a float is cut off."""
    for number in range(1000):
        assert milliseconds_of(f"2026-01-02T03:04:05.{number:03d}Z") % 1000 == number
