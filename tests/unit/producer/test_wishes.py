"""Wishes: what an operator asks for is sent once more, if it is still Lumen's last word."""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import pytest

from common.errors import UnavailableError
from common.ledger.states import ChunkState, RunState
from common.ledger.wishes import Wish, Wishes
from producer.indicators import Indicator, Invalid
from producer.lumen import Page
from producer.versions import Decision, KnownVersion, decide_wish
from producer.wishes import GONE, WISHES_A_RUN, judge_wishes, put_in_front
from tests.fakes.clock import START
from tests.fakes.crash import Crash
from tests.unit.producer.samples import DictKnown, indicator, raw_indicator
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import TICK, FailAt, World, ids_of

MODIFIED, FINGERPRINT = 1000, 7
OLD, NEW = "2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z"


@pytest.mark.parametrize(
    ("modified", "fingerprint", "is_on_its_way"),
    list(product([MODIFIED - 1, MODIFIED, MODIFIED + 1], [FINGERPRINT, 8], [False, True])),
)
def test_only_exactly_the_newest_known_version_is_sent(
    modified: int, fingerprint: int, is_on_its_way: bool
) -> None:
    """Neither an older nor a newer one, nor another of the same time; none on its way."""
    known = KnownVersion(fingerprint, modified, is_on_its_way=is_on_its_way)
    is_it = (modified, fingerprint) == (MODIFIED, FINGERPRINT)
    expected = Decision.OLDER if not is_it else Decision.ENQUEUED
    if is_it and is_on_its_way:
        expected = Decision.UNCHANGED
    assert decide_wish(modified=MODIFIED, fingerprint=FINGERPRINT, known=known) is expected


def test_of_an_unknown_id_a_wish_is_sent() -> None:
    """Its entry has ended, or the ledger is another one."""
    decision = decide_wish(modified=MODIFIED, fingerprint=FINGERPRINT, known=None)
    assert decision is Decision.ENQUEUED


def _verdicts(*records: object, known: DictKnown | None = None) -> list[Any]:
    found = judge_wishes(records, known or DictKnown(), fits=lambda _: True)
    return [verdict.reason if type(verdict) is Invalid else verdict for verdict in found]


def test_filters_do_not_apply_to_a_wish() -> None:
    """It passed them before it was refused; and it may be withdrawn."""
    (low,) = _verdicts(raw_indicator(confidence=0))
    (revoked,) = _verdicts(raw_indicator(revoked=True))
    assert type(low) is type(revoked) is Indicator


def test_a_wish_that_was_refused_is_sent_as_a_known_one() -> None:
    """So that it waits for requests that may be about to leave, and strikes what it must."""
    sent = indicator(5)
    known = DictKnown({sent.id_hash: KnownVersion(sent.fingerprint, sent.modified)})
    (verdict,) = _verdicts(raw_indicator(5), known=known)
    assert (verdict.body, verdict.is_known, verdict.is_recent) == (sent.body, True, True)
    assert known.versions[sent.id_hash].is_on_its_way


def test_what_is_asked_for_twice_is_sent_once() -> None:
    """The second one is on its way already."""
    first, second = _verdicts(raw_indicator(5), raw_indicator(5))
    assert (type(first), second) == (Indicator, Decision.UNCHANGED)


def test_a_newer_known_version_stays() -> None:
    """Lumen has listed another one since: that is what Sentinel must hold."""
    newer = indicator(5, modified=NEW)
    known = DictKnown({newer.id_hash: KnownVersion(newer.fingerprint, newer.modified)})
    assert _verdicts(raw_indicator(5), known=known) == [Decision.OLDER]
    assert known.versions[newer.id_hash].fingerprint == newer.fingerprint


def test_wishes_keep_their_places_in_front_of_a_page() -> None:
    """One that is gone, or that is no JSON, is invalid at its place; Lumen's objects follow."""
    contents = [json.dumps(raw_indicator(1)).encode(), None, b"rubbish"]
    page = put_in_front(Page(objects=[raw_indicator(2)], next_token="next"), contents)
    assert (page.wished, page.next_token, page.objects[3]) == (3, "next", raw_indicator(2))
    first, gone, rubbish = _verdicts(*page.objects[:3])
    assert type(first) is Indicator
    assert gone == GONE
    assert "JSON" in rubbish


def world(*pages: list[Any], inline: bool = False) -> World:
    """Return a world whose Lumen lists these pages in each query."""
    return World(lumen=ScriptedLumen(pages=pages, inline=inline))


def wish_for(made: World, *records: object) -> None:
    """Ask for records, as an operator does."""
    for record in records:
        content = json.dumps(record).encode()
        made.ledger.wishes.ask(Wish(content=content, rejection="run/1", at=START, by="ann"))


def refused_once(*, pages: int = 1, inline: bool = False) -> World:
    """Return a world in which Sentinel has refused all of two indicators, which were folded."""
    made = world([raw_indicator(1), raw_indicator(2)], *([] for _ in range(pages - 1)))
    made.lumen.inline = inline
    made.tick()
    assert sorted(made.consume(rejected=2)) == sorted(
        raw_indicator(number)["id"] for number in (1, 2)
    )
    made.lumen.pages = [[] for _ in range(pages)]
    made.clock.advance(TICK)
    made.tick()
    assert made.chunks == []
    made.clock.advance(TICK)
    return made


def sent_numbers(made: World) -> list[int]:
    """Return which indicators are on the queue."""
    return sorted(int(found.rpartition("-")[2], 16) for found in made.enqueued_ids)


@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("inline", [False, True])
def test_the_next_run_sends_what_was_refused(pages: int, inline: bool) -> None:
    """Once; its books count it as fetched and enqueued; then the wish is gone."""
    made = refused_once(pages=pages, inline=inline)
    wish_for(made, raw_indicator(1))
    run = made.tick()
    assert run is not None
    assert (run.state, len(run.wishes)) == (RunState.COMPLETE, 1)
    assert sent_numbers(made) == [1]
    assert (run.counts.fetched, run.counts.enqueued) == (1, 1)
    assert made.ledger.wishes.first(9) == ()
    made.consume()
    made.clock.advance(TICK)
    made.tick()
    assert made.queue.sent == []
    assert all(fate.balanced for fate in made.fates())


@pytest.mark.parametrize("listed", ["before the wish", "in the run of the wish"])
def test_lumens_last_word_wins_over_a_wish(listed: str) -> None:
    """What is sent in the end is the newer version, and the wish is struck or left out."""
    made = refused_once()
    made.lumen.pages = [[raw_indicator(1, modified=NEW)]]
    if listed == "before the wish":
        made.tick()
        made.consume()
        made.lumen.pages = [[]]
        made.clock.advance(TICK)
    wish_for(made, raw_indicator(1))
    made.tick()
    expected = [] if listed == "before the wish" else [1]
    assert [int(found.rpartition("-")[2], 16) for found in made.sendable_ids] == expected
    for envelope in made.envelopes:
        bodies = json.loads(envelope.body)
        row = made.ledger.chunks.get(envelope.run_id, envelope.key)
        assert row is not None
        assert (row.state is ChunkState.STRUCK) is (bodies[0]["modified"] == OLD)


def test_a_wish_that_is_made_again_meanwhile_stays() -> None:
    """The run removes what it took, as it took it; the next run takes the other."""
    made = refused_once()
    wish_for(made, raw_indicator(1))

    def again(call: str, _argument: str) -> None:
        if call == "page":
            wish_for(made, raw_indicator(1))

    made.lumen.before = again
    made.tick()
    made.repair()
    assert len(made.ledger.wishes.first(9)) == 1
    made.clock.advance(TICK)
    made.tick()
    assert made.ledger.wishes.first(9) == ()


def test_a_run_takes_no_more_than_its_head_can_name() -> None:
    """The others go with the next run; none is lost."""
    made = world([])
    wish_for(made, *(raw_indicator(number) for number in range(WISHES_A_RUN + 2)))
    sizes = []
    for _ in range(3):
        run = made.tick(chunk_size=100)
        assert run is not None
        sizes.append(len(run.wishes))
        made.clock.advance(TICK)
    assert sizes == [WISHES_A_RUN, 2, 0]
    assert sent_numbers(made) == list(range(WISHES_A_RUN + 2))


def test_a_run_that_ends_badly_leaves_its_wishes_to_the_next() -> None:
    """Also one that had read them: what is on its way then is not sent twice."""
    made = refused_once(pages=3)
    wish_for(made, raw_indicator(1), raw_indicator(2))

    def forget(call: str, argument: str) -> None:
        if call == "page" and argument.endswith("/2"):
            made.lumen.forget()

    made.lumen.before = forget
    run = made.tick(chunk_size=1)
    assert run is not None
    assert run.state is RunState.GAP
    made.repair()
    made.clock.advance(TICK)
    made.tick(chunk_size=1)
    assert sorted(int(found.rpartition("-")[2], 16) for found in made.sendable_ids) == [1, 2]
    assert made.ledger.wishes.first(9) == ()


@pytest.mark.parametrize("listed", [[[3], [4]], [[]]], ids=["two pages", "nothing"])
@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(
    "error", [Crash, lambda: UnavailableError("503")], ids=["dies", "storage is out"]
)
def test_a_producer_that_stops_anywhere_sends_each_wish(
    error: Callable[[], BaseException], inline: bool, listed: list[list[int]]
) -> None:
    """At each call to storage and queue in turn: it arrives, the books balance, no wish is left."""
    numbers = [1, 2, *(number for page in listed for number in page)]
    at = 0
    while True:
        made = refused_once(pages=len(listed), inline=inline)
        made.lumen.pages = [[raw_indicator(number) for number in page] for page in listed]
        wish_for(made, raw_indicator(1), raw_indicator(2))
        failing = FailAt(error, at=at, lasting=True)
        made.tables.before = failing
        made.queue.before = failing
        with suppress(Crash, UnavailableError):
            made.tick(chunk_size=1)
        made.repair()
        for _ in range(4):
            made.clock.advance(TICK)
            made.tick(chunk_size=1)
        assert set(made.sendable_ids) == {raw_indicator(number)["id"] for number in numbers}
        gaps = [run.reason for run in made.ledger.runs.latest(9) if run.state is RunState.GAP]
        assert all("died before" in reason for reason in gaps), (at, gaps)
        sendable = made.sendable_ids
        assert len(sendable) == len(set(sendable)), at
        assert made.ledger.wishes.first(9) == (), at
        assert all(fate.balanced for fate in made.fates()), at
        if failing.calls <= at:
            break
        at += 1
    assert at > 25


def test_a_wish_that_vanished_costs_nothing_else() -> None:
    """Somebody removed the row by hand: the rest of the page is read as it is."""
    made = refused_once()
    made.lumen.pages = [[raw_indicator(3)]]
    wish_for(made, raw_indicator(1))

    def vanish(call: str, _argument: str) -> None:
        if call == "page":
            wishes: Wishes = made.ledger.wishes
            wishes.remove(wishes.first(9))

    made.lumen.before = vanish
    run = made.tick()
    assert run is not None
    assert (run.counts.invalid, run.counts.enqueued) == (1, 1)
    assert [found for envelope in made.envelopes for found in ids_of(envelope)] == [
        raw_indicator(3)["id"]
    ]
