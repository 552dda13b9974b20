"""Receipts: what is written of an upload that was not in time."""

from dataclasses import replace

import pytest

from common.fingerprints import id_hash, unpack
from consumer.receipts import ids_of
from tests.unit.consumer.samples import envelope


def test_each_object_of_a_chunk_has_its_id_there() -> None:
    """One hash an object in its order, whatever the object is."""
    assert unpack(ids_of(envelope())) == tuple(id_hash(f"indicator--{n}") for n in range(3))
    odd = replace(envelope(count=2), body=b'[{"id": "a"}, 5]')
    assert unpack(ids_of(odd)) == (id_hash("a"), id_hash(""))


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"[" * 100_000, b"\xff"])
def test_a_body_that_holds_no_records_has_no_ids(body: bytes) -> None:
    """A message that is given up may hold anything, and keeping it must not fail for that."""
    assert ids_of(replace(envelope(), body=body)) == b""
