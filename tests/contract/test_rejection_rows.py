"""Rows of rejections, in memory and on Azurite: kept once, and as whole as they can be."""

import random
from dataclasses import replace
from typing import Any

import pytest

from common.ledger import Ledger
from common.ledger.rejections import MAX_REJECTION_REASON, RejectedBy, Rejection
from common.ledger.tables import Tables
from common.text import MAX_TEXT
from tests.contract.rows import (
    RUN,
)
from tests.fakes.clock import START


def rejection(position: str = "page-000001-000002", **changes: Any) -> Rejection:
    """A rejection of the run."""
    made = Rejection(
        run_id=RUN,
        position=position,
        rejected_by=RejectedBy.SENTINEL,
        indicator_id="indicator--1",
        pattern="[domain-name:value = 'bücher.example']",
        reason="no pattern_type\nsecond line",
        content='{"name":"bücher"}'.encode(),
        at=START,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"content": b"", "indicator_id": "", "pattern": "", "reason": ""},
        {"rejected_by": RejectedBy.VALIDATION, "content": bytes(10_000_000)},
    ],
)
def test_a_rejection_comes_back_as_it_was(ledger: Ledger, changes: dict[str, Any]) -> None:
    """Reason and content of a refused record are kept, however long what compresses is."""
    record = rejection(**changes)
    ledger.rejections.record([record])
    assert list(ledger.rejections.of_run(RUN)) == [record]
    assert list(ledger.rejections.of_run("another")) == []


def test_recording_again_changes_nothing(ledger: Ledger) -> None:
    """The step that found rejections may run twice: the same rows, by position."""
    records = [rejection(f"page-000000-{number:06d}") for number in range(250)]
    for _ in range(2):
        ledger.rejections.record(records)
    assert list(ledger.rejections.of_run(RUN)) == records


def test_a_record_that_is_named_twice_is_one_rejection(ledger: Ledger) -> None:
    """Sentinel may name the same record twice; the last word stays."""
    ledger.rejections.record([rejection(reason="first"), rejection(reason="last")])
    assert [found.reason for found in ledger.rejections.of_run(RUN)] == ["last"]


@pytest.mark.parametrize("size", [65_000, 65_536, 70_000, 200_000, 520_000])
def test_a_large_record_is_kept_whole(ledger: Ledger, size: int) -> None:
    """What does not fit in one property is kept in pieces."""
    content = random.Random(0).randbytes(size)  # noqa: S311 - repeatable, not secret
    for _ in range(2):
        ledger.rejections.record([rejection(content=content), rejection("another")])
    found = {item.position: item.content for item in ledger.rejections.of_run(RUN)}
    assert found == {rejection().position: content, "another": rejection().content}


def test_a_monstrous_record_is_kept_in_part(ledger: Ledger, tables: Tables) -> None:
    """A megabyte that does not compress costs its end, not the rejection."""
    content = random.Random(0).randbytes(1_000_000)  # noqa: S311 - repeatable, not secret
    ledger.rejections.record([rejection(content=content)])
    [found] = ledger.rejections.of_run(RUN)
    assert found == rejection(content=found.content)
    assert len(found.content) > 500_000
    assert content.startswith(found.content)
    [row] = tables.table("rejections").query(RUN)
    assert row.data["content_bytes"] == 1_000_000


def test_long_texts_of_a_rejection_are_cut(ledger: Ledger) -> None:
    """Pattern, reason and id are cut, so that a hundred rejections fit in one transaction."""
    long = "é" * 100_000
    content = random.Random(0).randbytes(65_000)  # noqa: S311 - repeatable, not secret
    ledger.rejections.record(
        rejection(str(number), pattern=long, reason=long, indicator_id=long, content=content)
        for number in range(100)
    )
    found = list(ledger.rejections.of_run(RUN))
    assert len(found) == 100
    assert {(len(item.pattern), len(item.reason), len(item.indicator_id)) for item in found} == {
        (MAX_REJECTION_REASON, MAX_REJECTION_REASON, MAX_TEXT)
    }
    assert all(item.content == content for item in found)
