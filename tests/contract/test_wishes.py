"""Wishes over the tables in memory and over Azurite."""

from dataclasses import replace

from common.ledger.rejections import INVALID, RejectedBy, Rejection, Rejections
from common.ledger.runs import Run, Runs
from common.ledger.states import RunState
from common.ledger.tables import Tables
from common.ledger.wishes import Wish, Wishes
from tests.fakes.clock import START


def wish(number: int, *, by: str = "ann") -> Wish:
    """Return a wish for a record."""
    return Wish(content=b'{"n":%d}' % number * 9000, rejection="run/1", at=START, by=by)


def test_wishes_are_taken_named_and_removed(tables: Tables) -> None:
    """A head names them; one that was made again since it was taken stays."""
    wishes, runs = Wishes(tables), Runs(tables)
    assert wishes.first(9) == ()
    for number in (1, 2, 3):
        wishes.ask(wish(number))
    taken = wishes.first(2)
    run = Run(
        run_id="20260101T000000-0badcafe",
        state=RunState.RUNNING,
        started_at=START,
        updated_at=START,
        wishes=taken,
    )
    runs.create(run)
    found = runs.get(run.run_id)
    assert found is not None
    assert found.wishes == taken
    contents = {ref.key: wishes.content(ref.key) for ref in taken}
    asked = {one.key: one.content for one in map(wish, (1, 2, 3))}
    assert contents.items() <= asked.items()
    again = next(one for one in map(wish, (1, 2, 3)) if one.key == taken[0].key)
    wishes.ask(again)
    wishes.remove(found.wishes)
    wishes.remove(found.wishes)
    left = {ref.key for ref in wishes.first(9)}
    assert left == asked.keys() - {taken[1].key}
    assert wishes.content(taken[1].key) is None
    assert wishes.has(again)


def test_wishes_are_no_rejections(tables: Tables) -> None:
    """They share a table, and a list shows the latter only, without content."""
    rejections = Rejections(tables)
    made = Rejection(
        run_id=INVALID,
        position="1",
        rejected_by=RejectedBy.SENTINEL,
        indicator_id="indicator--1",
        pattern="",
        reason="why",
        content=b"{}",
        at=START,
    )
    rejections.record([made])
    Wishes(tables).ask(wish(1))
    (entry,) = rejections.entries()
    assert (entry.name, entry.content) == (made.name, b"")
    rejections.note_wish(made, at=START, by="ann")
    found = rejections.get(INVALID, "1")
    assert found is not None
    assert (found.content, found.wished_at, found.wished_by) == (b"{}", START, "ann")
    rejections.note_wish(replace(made, position="2"), at=START, by="ann")
    assert rejections.get(INVALID, "2") is None
