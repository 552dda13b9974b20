"""Pulses over the tables in memory and over Azurite."""

from dataclasses import fields, replace
from datetime import timedelta

from common.ledger.pulses import KEPT_FOR, TABLE, Books, Pulse, Pulses
from common.ledger.tables import Row, Tables, Value
from tests.fakes.clock import START

FULL = Pulse(
    at=START,
    verdict="degraded",
    tick="complete",
    run="20260101T000000-0badcafe",
    reasons="gap poison",
    reason="one gap",
    backlog=3_000_000_000,
    drain_minutes=2.5,
    poison_queue=0,
    poison_kept=7,
    pending=300,
    oldest_pending_minutes=1.0,
    last_accepted_minutes=0.0,
    last_complete_minutes=15.0,
    problems=1,
    oldest_problem_minutes=90.0,
    gaps=1,
    books_balance=False,
    paused_until=START + timedelta(days=1),
    minutes=15.0,
    fetched=9,
    filtered=1,
    invalid=1,
    unchanged=1,
    older=1,
    enqueued=5,
    corrections=1,
    accepted=4,
    rejected=1,
    struck=0,
    poisoned=-2,
    rate_per_minute=0.3,
    accepted_after_seconds=4.2,
    arrived_after_seconds=130.0,
    template_version="0.1.0",
)


def test_a_pulse_is_read_as_it_was_written(tables: Tables) -> None:
    """Every field, a whole number as large as a property takes, and the books for the next one."""
    pulses = Pulses(tables)
    assert (list(pulses.latest(9)), pulses.last_books()) == ([], None)
    books = Books(newest="b", accounts={"b": (1.0, 2.5), "a": (0.0, 0.0)})
    pulses.write(FULL, books)
    (found,) = pulses.latest(9)
    assert all(getattr(FULL, item.name) is not None for item in fields(Pulse))
    assert found == replace(FULL, backlog=2**31 - 1)
    assert pulses.last_books() == (found, books)


def test_pulses_are_in_the_order_of_time_and_go_when_they_are_old(tables: Tables) -> None:
    """The newest first, from a moment on; those that are older than `KEPT_FOR` go."""
    pulses = Pulses(tables)
    moments = [START, START + timedelta(minutes=15), START + KEPT_FOR]
    for moment in moments:
        pulses.write(replace(FULL, at=moment), Books())
    assert [pulse.at for pulse in pulses.latest(2)] == moments[:0:-1]
    assert [pulse.at for pulse in pulses.latest(None)] == moments[::-1]
    assert [pulse.at for pulse in pulses.since(moments[1])] == moments[:0:-1]
    assert len(list(pulses.before(moments[1]))) == 1
    now = moments[2] + timedelta(seconds=1)
    assert (pulses.remove_old(now), pulses.remove_old(now)) == (1, 0)
    assert [pulse.at for pulse in pulses.latest(None)] == moments[:0:-1]


def test_a_damaged_pulse_is_left_out(tables: Tables) -> None:
    """One of a wrong type, or without a verdict; damaged books are as none."""
    pulses = Pulses(tables)
    table = tables.table(TABLE)
    table.merge(Row(partition="pulse", key="1", data={"at": START}))
    table.merge(Row(partition="pulse", key="2", data={"at": START, "verdict": "down", "gaps": "x"}))
    later: dict[str, Value] = {
        "at": START,
        "verdict": "of a later release",
        "more": 1,
        "books": b"\x00",
    }
    table.merge(Row(partition="pulse", key="0", data=later))
    (found,) = pulses.latest(9)
    assert (found.verdict, found.version, found.gaps) == ("of a later release", "", None)
    assert pulses.last_books() == (found, Books())
