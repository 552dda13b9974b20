"""The count of requests for bad records: what it counts is what the consumer does."""

import pytest

from benchmarks.bad_records import BAD, RECORDS, requests_for


@pytest.mark.parametrize(("bad", "requests"), [([], 1), ([0], 14), ([99], 16)], ids=str)
def test_requests_are_counted_until_each_bad_record_is_rejected(
    bad: list[int], requests: int
) -> None:
    """Two for each split, and a second one for each bad record."""
    assert requests_for(bad) == requests


def test_a_chunk_of_bad_records_only_takes_three_requests_a_record() -> None:
    """Every split there is, and each record alone twice; the goal holds."""
    assert requests_for(list(range(RECORDS))) == 3 * RECORDS - 1 <= BAD[RECORDS]
