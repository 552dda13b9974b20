"""Counts that are added up."""

import pytest

from common.ledger.chunks import Fate
from common.ledger.runs import Counts, Folded
from common.tally import Tally


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (Counts(fetched=3, older=1), Counts(fetched=4, enqueued=2), {"fetched": 7, "older": 1}),
        (Folded(accepted=3), Folded(accepted=4, struck=2), {"accepted": 7, "struck": 2}),
        (Fate(pending=3, waited=0.5), Fate(pending=4, waited=1.0), {"pending": 7, "waited": 1.5}),
    ],
    ids=["counts", "folded", "fate"],
)
def test_each_count_is_added_to_the_one_of_its_name(
    one: Tally, other: Tally, together: dict[str, float]
) -> None:
    """The sum is of the same kind, and the order does not matter."""
    assert type(one + other) is type(one)
    assert one + other == other + one
    assert {name: getattr(one + other, name) for name in together} == together
