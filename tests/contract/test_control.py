"""What operators ask of the producer, over the tables in memory and over Azurite."""

from datetime import timedelta

import pytest

from common.ledger.control import MAX_PAUSE, TABLE, Asked, Control, Pause, SyncRequest
from common.ledger.tables import Row, Tables
from tests.fakes.clock import START

SECOND = timedelta(seconds=1)


@pytest.fixture
def control(tables: Tables) -> Control:
    """The control rows."""
    return Control(tables)


def test_a_pause_ends_by_itself_or_by_hand(control: Control) -> None:
    """The last one counts, a later end included; ending it again changes nothing."""
    assert control.last_pause() is None
    assert not control.resume(at=START)
    first = Pause(since=START, until=START + timedelta(hours=1), by="ann: a repair")
    control.pause(first)
    assert control.last_pause() == first
    assert (first.is_on(first.until - SECOND), first.is_on(first.until)) == (True, False)
    longer = Pause(since=START + SECOND, until=START + timedelta(hours=2), by="bob")
    control.pause(longer)
    assert control.resume(at=START + timedelta(hours=1))
    assert not control.resume(at=START + timedelta(hours=1))
    ended = control.last_pause()
    assert ended == Pause(since=longer.since, until=START + timedelta(hours=1), by="bob")


def test_no_row_pauses_for_longer_than_a_week(control: Control) -> None:
    """Whoever wrote it, and whatever it says."""
    forever = Pause(since=START, until=START + timedelta(days=9999), by="")
    assert forever.is_on(START + MAX_PAUSE - SECOND)
    assert not forever.is_on(START + MAX_PAUSE)
    assert "by an operator" in forever.text


def test_a_damaged_pause_is_none(control: Control, tables: Tables) -> None:
    """It stops nothing."""
    row = Row(partition="control", key="pause", data={"since": START, "until": "tomorrow"})
    tables.table(TABLE).merge(row)
    assert control.last_pause() is None


def test_a_request_is_open_until_it_is_served_or_taken_back(control: Control) -> None:
    """One that is made while an earlier one is being served stays open."""
    assert control.sync_request() is None
    assert not control.take_back_sync()
    first, second = (SyncRequest(at=START + n * SECOND, by=f"ann {n}") for n in (0, 1))
    control.request_sync(first)
    assert control.sync_request() == first
    control.request_sync(second)
    control.sync_served(first)
    assert control.sync_request() == second
    control.sync_served(second)
    assert control.sync_request() is None
    third = SyncRequest(at=START + 2 * SECOND, by="")
    control.request_sync(third)
    assert (control.take_back_sync(), control.take_back_sync()) == (True, False)
    assert control.sync_request() is None


def test_all_of_it_is_read_at_once(control: Control) -> None:
    """What each read tells alone, and the run that the lease names."""
    assert control.read_all() == Asked(lease=None, pause=None, sync_request=None, full_request=None)
    lease = control.acquire_lease(owner="tick", seconds=9)
    control.set_open_run(lease, "run-1")
    pause = Pause(since=START, until=START + SECOND, by="ann")
    request = SyncRequest(at=START, by="bob")
    control.pause(pause)
    control.request_sync(request)
    control.request_full(at=START)
    found = control.read_all()
    assert (found.pause, found.sync_request, found.full_request) == (pause, request, START)
    assert found.lease is not None
    assert found.lease.open_run == "run-1"


def test_a_full_run_is_asked_for_and_taken_back(control: Control) -> None:
    """Taking it back leaves nothing for the next run; a later request counts."""
    control.request_full(at=START)
    assert control.full_request() == START
    assert (control.take_back_full(), control.take_back_full()) == (True, False)
    assert control.full_request() is None
    control.request_full(at=START + SECOND)
    assert control.full_request() == START + SECOND
    control.full_done(START + SECOND)
    assert control.full_request() is None
