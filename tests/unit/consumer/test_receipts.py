"""Receipts: what counts as a late upload, and what is written of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from common.fingerprints import id_hash, unpack
from consumer.receipts import DOUBTED_AFTER, late_ids_of
from tests.fakes.clock import START
from tests.unit.consumer.samples import envelope

SLOT = START.timestamp()
WHOLE = tuple(id_hash(f"indicator--{number}") for number in range(3))


@pytest.mark.parametrize("after", [timedelta(-60), timedelta(0), DOUBTED_AFTER])
def test_a_first_delivery_in_its_slot_is_not_late(after: timedelta) -> None:
    """Nothing is written of it: a chunk in good time costs nothing more."""
    on_time = replace(envelope(), slot=SLOT)
    assert late_ids_of(on_time, is_first=True, at=START + after) == b""


@pytest.mark.parametrize(
    ("slot", "is_first"),
    [(SLOT - DOUBTED_AFTER.total_seconds() - 1, True), (SLOT, False), (None, True)],
)
def test_everything_else_is_late(slot: float | None, is_first: bool) -> None:
    """Long after its slot, not the first delivery, or of no slot: all ids count."""
    late = late_ids_of(replace(envelope(), slot=slot), is_first=is_first, at=START)
    assert unpack(late) == WHOLE


def test_the_ids_stand_beside_the_fingerprints() -> None:
    """One hash an object in its order, whatever the object is."""
    odd = replace(envelope(count=2), body=b'[{"id": "a"}, 5]', slot=None)
    assert unpack(late_ids_of(odd, is_first=True, at=START)) == (id_hash("a"), id_hash(""))
