"""Samples: which accepted indicators they are, and what is read of stored ones."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from common.fingerprints import id_hash
from common.ledger.samples import (
    MAX_BYTES,
    OF_A_RUN,
    Sample,
    of_chunk,
    of_run,
    pack_samples,
    samples_of,
    unpack_samples,
)
from tests.fakes.clock import START

MODIFIED = "2026-01-01T00:00:00.5Z"


def indicator(number: int, **changes: Any) -> dict[str, Any]:
    """Return an indicator as it is sent."""
    return {"id": f"indicator--{number}", "modified": MODIFIED, **changes}


def chunk(number: int) -> tuple[Sample, ...]:
    """Return the sample of a chunk of ten indicators."""
    return samples_of((indicator(number * 10 + each) for each in range(10)), at=START)


def test_the_lowest_hashes_are_the_sample_of_a_chunk() -> None:
    """In whatever order they come, and from however many parts."""
    ids = sorted((f"indicator--{number}" for number in range(100)), key=id_hash)
    numbers = list(range(100))
    random.Random(1).shuffle(numbers)  # noqa: S311 - a shuffle
    parts = (
        samples_of(map(indicator, numbers[at : at + 30]), at=START) for at in range(0, 100, 30)
    )
    found = of_chunk(*parts)
    assert [(one.id, one.rank) for one in found] == [(ids[0], 0), (ids[1], 1)]


def test_a_sample_is_what_was_sent() -> None:
    """The values that are compared, in clear; what is none is left out."""
    (one,) = samples_of(
        [indicator(1, confidence=80, valid_until="2026-02-01T00:00:00Z", revoked=True)],
        at=START,
        destination="here",
    )
    assert one == Sample(
        id="indicator--1",
        modified=1_767_225_600_500,
        accepted_at=START,
        confidence=80,
        valid_until=1_769_904_000_000,
        revoked=True,
        destination=id_hash("here"),
    )
    (odd,) = samples_of(
        [indicator(1, confidence="80", valid_until="never", revoked="true")], at=START
    )
    assert (odd.confidence, odd.valid_until, odd.revoked) == (None, None, False)


@pytest.mark.parametrize(
    "odd",
    [7, None, [], {}, {"id": 7, "modified": MODIFIED}, {"id": "a\nb", "modified": MODIFIED},
     {"id": "\ud800", "modified": MODIFIED}, {"id": "x" * 201, "modified": MODIFIED},
     {"id": "", "modified": MODIFIED}, {"id": "a"}, {"id": "a", "modified": "soon"}],
)  # fmt: skip
def test_what_has_no_usable_id_or_time_is_passed_over(odd: object) -> None:
    """The others are the sample."""
    assert [one.id for one in samples_of([odd, indicator(1)], at=START)] == ["indicator--1"]


def test_the_sample_of_a_run_is_spread_over_its_chunks() -> None:
    """Of many chunks one each, of few both; never more than `OF_A_RUN`."""
    many = of_run(*map(chunk, range(50)))
    assert len(many) == OF_A_RUN
    assert len({one.id[:-1] for one in many}) == OF_A_RUN
    assert len(of_run(*map(chunk, range(3)))) == 6


def test_order_and_repetition_change_nothing() -> None:
    """Folding in any groups, twice, ends with the same sample."""
    chunks = [chunk(number) for number in range(40)]
    whole = of_run(*chunks)
    rng = random.Random(7)  # noqa: S311 - a shuffle
    for _ in range(20):
        rng.shuffle(chunks)
        found: tuple[Sample, ...] = ()
        for at in range(0, 40, 7):
            found = of_run(found, *chunks[at : at + 9])
        assert of_run(found, whole) == found == whole


def test_of_one_id_the_last_acceptance_counts() -> None:
    """A later version of it was sent."""
    (first,) = samples_of([indicator(1)], at=START)
    later = replace(first, modified=first.modified + 1)
    assert of_run([later], [first]) == of_run([first], [later]) == (later,)


def test_stored_samples_come_back() -> None:
    """All of them, and fields of a later release are ignored."""
    found = of_run(*map(chunk, range(20)))
    packed = pack_samples(found)
    assert unpack_samples(packed) == found
    assert len(packed) < MAX_BYTES / 2
    more = json.dumps([{**each, "zone": "x"} for each in json.loads(packed)])
    assert unpack_samples(more.encode()) == found
    assert pack_samples(()) == b""


@pytest.mark.parametrize(
    "stored",
    [None, 7, "[]", b"", b"{", b"{}", b"7", b"[7, null]", b"[" * 5000, b" " * (MAX_BYTES + 1),
     b"\xff\xfe", b'[{"id": "a"}]', b'[{"id": 7, "modified": 1, "accepted": 1}]',
     b'[{"id": "a", "modified": true, "accepted": 1}]',
     b'[{"id": "a", "modified": 1, "accepted": 1e400}]',
     b'[{"id": "a", "modified": 1, "accepted": 999999999999999999}]',
     b'[{"id": "a", "modified": 1, "accepted": 260000000000000}]',  # the year 10,209
     b'[{"id": "a\\u0000", "modified": 1, "accepted": 1}]'],
)  # fmt: skip
def test_a_damaged_sample_is_ignored(stored: object) -> None:
    """Whatever stands there."""
    assert unpack_samples(stored) == ()


def test_a_damaged_value_is_left_out() -> None:
    """The rest of the sample counts."""
    stored = {"id": "a", "modified": 1, "accepted": 1000}
    for odd in ({"confidence": 101}, {"until": "x"}, {"revoked": 1}, {"rank": -1}, {"rank": True}):
        (found,) = unpack_samples(json.dumps([{**stored, **odd}]).encode())
        assert (found.confidence, found.valid_until, found.revoked) == (None, None, False)
