"""Receipts: what is written of records, whatever a body holds."""

import json
from dataclasses import replace

import pytest

from common.fingerprints import id_hash, unpack
from common.ledger.tables import MAX_BINARY_PROPERTY
from consumer.outcomes import Done
from consumer.receipts import MAX_IDS, ids_of, rejections_of
from consumer.sentinel import RecordError
from tests.fakes.clock import START
from tests.unit.consumer.samples import envelope


def test_each_object_of_a_chunk_has_its_id_there() -> None:
    """One hash an object in its order, whatever the object is."""
    assert unpack(ids_of(envelope())) == tuple(id_hash(f"indicator--{n}") for n in range(3))
    odd = replace(envelope(count=2), body=b'[{"id": "a"}, 5]')
    assert unpack(ids_of(odd)) == (id_hash("a"), id_hash(""))


def records(count: int) -> bytes:
    """Return a body with so many records."""
    return json.dumps([{"id": f"indicator--{number}"} for number in range(count)]).encode()


@pytest.mark.parametrize("count", [2, 4])
def test_a_body_of_another_number_of_records_has_no_ids(count: int) -> None:
    """They would not stand beside the fingerprints."""
    assert ids_of(replace(envelope(count=3), body=records(count))) == b""


def test_more_ids_than_a_property_takes_are_left_out() -> None:
    """A row takes 64 KiB of them; nothing that a message may hold makes that more."""
    at_most = replace(envelope(), count=MAX_IDS, body=records(MAX_IDS))
    assert len(ids_of(at_most)) == MAX_BINARY_PROPERTY
    more = replace(envelope(), count=MAX_IDS + 1, body=records(MAX_IDS + 1))
    assert ids_of(more) == b""


@pytest.mark.parametrize("body", [b"{}", b"7", b"null", b"{", b"[" * 100_000])
def test_an_error_about_a_body_without_records_is_kept(body: bytes) -> None:
    """Sentinel may name what is not there: the reason is kept, and nothing fails."""
    done = Done(accepted=2, rejected=(RecordError(index=0, messages=("bad",)),))
    (rejection,) = rejections_of(done, replace(envelope(), body=body), at=START)
    assert (rejection.reason, rejection.content, rejection.indicator_id) == ("bad", b"", "")


def test_odd_texts_of_a_record_are_kept_as_every_store_takes_them() -> None:
    """A lone surrogate is replaced, what is no text is left out; the content has it all."""
    body = b'[{"id": "a\\ud800", "pattern": ["[x]"]}]'
    done = Done(accepted=0, rejected=(RecordError(index=0, messages=()),))
    (rejection,) = rejections_of(done, replace(envelope(count=1), body=body), at=START)
    assert (rejection.indicator_id, rejection.pattern) == ("a?", "")
    assert json.loads(rejection.content) == json.loads(body)[0]


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"[" * 100_000, b"\xff"])
def test_a_body_that_holds_no_records_has_no_ids(body: bytes) -> None:
    """A message that is given up may hold anything, and keeping it must not fail for that."""
    assert ids_of(replace(envelope(), body=body)) == b""
