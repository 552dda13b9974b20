"""Rejections: found by run, reason and indicator, shown as CSV, asked for once more."""

import csv
import io
from datetime import datetime

import pytest

from common.ledger.rejections import INVALID, RejectedBy, Rejection
from common.ledger.wishes import Wish
from ops.csv_text import to_csv
from ops.rejections import Result, Selection, describe_rejection, find, retry
from tests.fakes.clock import START
from tests.unit.ops.samples import RUN, Bench

OTHER = "20260102T000000-0badcafe"


def rejection(
    position: str = "chunk-000000-1-0",
    *,
    run_id: str = RUN,
    by: RejectedBy = RejectedBy.SENTINEL,
    reason: str = "no pattern_type",
    content: bytes = b'{"id":"indicator--1"}',
    at: datetime = START,
) -> Rejection:
    """Return a record that was refused."""
    return Rejection(
        run_id=run_id,
        position=position,
        rejected_by=by,
        indicator_id=f"indicator--{position[-1]}",
        pattern=f"[domain-name:value = 'host-{position[-1]}.example']",
        reason=reason,
        content=content,
        at=at,
    )


ALL = (
    rejection(),
    rejection("chunk-000000-1-1", reason="Pattern is TOO long"),
    rejection("chunk-000000-1-2", run_id=OTHER),
    rejection("00ff3", run_id=INVALID, by=RejectedBy.VALIDATION, reason="id is missing"),
)


def bench_with(*rejections: Rejection) -> Bench:
    """Return a bench whose ledger has these, and a wish, which is none of them."""
    bench = Bench()
    ledger = bench.toolbox.ledger
    ledger.rejections.record(rejections)
    ledger.wishes.ask(Wish(content=b"{}", rejection="x", at=START, by="bob"))
    return bench


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {0, 1, 2, 3}),
        (Selection(run_id=RUN), {0, 1}),
        (Selection(run_id=INVALID), {3}),
        (Selection(reason="too LONG"), {1}),
        (Selection(indicator="indicator--2"), {2}),
        (Selection(indicator="HOST-1.example"), {1}),
        (Selection(run_id=RUN, reason="pattern_type"), {0}),
        (Selection(run_id=OTHER, reason="too long"), set()),
        (Selection(names=(ALL[0].name, ALL[3].name)), {0, 3}),
        (Selection(names=("nope",)), set()),
    ],
)
def test_rejections_are_found_by_all_that_is_told(selection: Selection, expected: set[int]) -> None:
    """A name names one; run, reason and indicator narrow the choice together."""
    found = find(bench_with(*ALL).toolbox.ledger, selection)
    assert {one.name for one in found} == {ALL[number].name for number in expected}
    assert all(one.content == b"" for one in found)  # a list reads none of it


@pytest.mark.parametrize(
    ("made", "result", "is_wished"),
    [
        (rejection(), Result.WISHED, True),
        (rejection(content=b""), Result.NO_CONTENT, False),
        (ALL[3], Result.INVALID, False),
    ],
)
def test_what_sentinel_refused_can_be_asked_for(
    made: Rejection, result: Result, is_wished: bool
) -> None:
    """With its content, by whom and why; what cannot be sent says so. Again: it waits already."""
    bench = bench_with(made)
    ledger = bench.toolbox.ledger
    chosen = find(ledger, Selection())
    (dry,) = retry(chosen, ledger=ledger, at=START, by="ann", dry_run=True)
    assert (dry.result is Result.WOULD_WISH) is is_wished
    assert len(ledger.wishes.first(9)) == 1
    (done,) = retry(chosen, ledger=ledger, at=START, by="ann", note="they fixed it")
    assert (done.name, done.result) == (made.name, result)
    wish = Wish(content=made.content, rejection=made.name, at=START, by="ann: they fixed it")
    assert ledger.wishes.has(wish) is is_wished
    assert ledger.wishes.content(wish.key) == (made.content if is_wished else None)
    (again,) = retry(chosen, ledger=ledger, at=START, by="bob")
    assert again.result is (Result.ALREADY_WISHED if is_wished else result)
    (shown,) = find(ledger, Selection())
    assert (shown.wished_at, shown.wished_by) == (
        (START, "ann: they fixed it") if is_wished else (None, "")
    )


def test_a_rejection_that_went_meanwhile_is_told() -> None:
    """Its row was removed by hand between the look and the command."""
    bench = bench_with(rejection())
    chosen = find(bench.toolbox.ledger, Selection())
    bench.tables.table("rejections").delete(RUN, chosen[0].position)
    (done,) = retry(chosen, ledger=bench.toolbox.ledger, at=START, by="ann")
    assert done.result is Result.GONE


def test_a_record_that_is_refused_again_keeps_that_it_was_asked_for() -> None:
    """Writing the same rejection again overlays what the consumer knows, and no more."""
    bench = bench_with(rejection())
    ledger = bench.toolbox.ledger
    list(retry(find(ledger, Selection()), ledger=ledger, at=START, by="ann"))
    ledger.rejections.record([rejection(reason="still bad")])
    (found,) = find(ledger, Selection())
    assert (found.reason, found.wished_by) == ("still bad", "ann")


COLUMNS = ("rejection", "at", "by", "indicator", "pattern", "reason", "wished_at", "wished_by")


@pytest.mark.parametrize(
    "reason", ["=1+1", "+1", "-1", "@x", 'quoted "words", and a comma', "é\nx"]
)
def test_csv_has_every_column_and_nothing_that_computes(reason: str) -> None:
    """A spreadsheet shows what Sentinel said and runs none of it."""
    made = rejection(reason=reason)
    (row,) = csv.DictReader(io.StringIO(to_csv([describe_rejection(made)])))
    told = {name: str(value or "") for name, value in describe_rejection(made).items()}
    assert tuple(row) == COLUMNS
    assert row["reason"].lstrip("'") == reason.lstrip("'")
    assert row["reason"].startswith("'") is (reason[0] in "=+-@")
    assert {**row, "reason": reason} == told
