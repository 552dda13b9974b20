"""Receipts: what counts as a late upload, and what is written of it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from common.fingerprints import id_hash, unpack
from consumer.receipts import LATE_AFTER, late_ids_of
from tests.fakes.clock import START
from tests.unit.consumer.samples import envelope

SLOT = START.timestamp()
WHOLE = tuple(id_hash(f"indicator--{number}") for number in range(3))


@pytest.mark.parametrize("after", [timedelta(-60), timedelta(0), LATE_AFTER])
def test_a_first_delivery_in_its_slot_is_not_late(after: timedelta) -> None:
    """Nothing is written of it: a chunk in good time costs nothing more."""
    assert late_ids_of(replace(envelope(), slot=SLOT), at=START + after) == b""


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": SLOT - LATE_AFTER.total_seconds() - 1},
        {"slot": SLOT, "deferrals": 1},
        {"slot": SLOT, "postponed": 1},
        {"slot": None},
    ],
)
def test_everything_else_is_late(changes: dict[str, Any]) -> None:
    """Long after its slot, deferred, postponed (as a replay is), or of no slot: all ids count."""
    late = late_ids_of(replace(envelope(), **changes), at=START)
    assert unpack(late) == WHOLE


def test_the_ids_stand_beside_the_fingerprints() -> None:
    """One hash an object in its order, whatever the object is."""
    odd = replace(envelope(count=2), body=b'[{"id": "a"}, 5]', slot=None)
    assert unpack(late_ids_of(odd, at=START)) == (id_hash("a"), id_hash(""))
