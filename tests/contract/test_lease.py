"""The lease of the run, in memory and on Azurite: one has it, and it ends."""

import pytest

from common.errors import LeaseHeldError, LeaseLostError
from common.ledger import Ledger
from common.ledger.control import Control
from common.ledger.tables import Tables
from tests.contract.hooked_tables import HookedTables
from tests.contract.rows import RUN
from tests.fakes.clock import FakeClock
from tests.fakes.tables import FakeTables


def outlast(tables: Tables, seconds: float) -> float:
    """Let a lease of `seconds` end; of one in memory by its clock, of a real one by its length.

    Returns the length to ask for.
    """
    if isinstance(tables, FakeTables):
        tables.monotonic = lambda before=tables.monotonic: before() + seconds  # type: ignore[misc]
        return seconds
    return 0.0


def test_the_lease_is_taken_by_one(ledger: Ledger, other: Ledger) -> None:
    """While it is held, another instance is told by whom and for how long."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=600)
    assert (lease.owner, lease.open_run) == ("mine", None)
    with pytest.raises(LeaseHeldError, match=r"held by mine, written .* ago; .* for 600 s"):
        other.control.acquire_lease(owner="theirs", seconds=1)


@pytest.mark.parametrize(("first_time", "write_it"), [(True, "insert"), (False, "replace")])
def test_of_two_that_find_it_free_one_gets_the_lease(
    ledger: Ledger, other: Ledger, hooked: HookedTables, first_time: bool, write_it: str
) -> None:
    """Who takes the lease between another's look and write has it; the other is told."""
    if not first_time:
        ledger.control.release_lease(ledger.control.acquire_lease(owner="old", seconds=600))
    hooked.once(
        "control", write_it, lambda: other.control.acquire_lease(owner="theirs", seconds=600)
    )
    with pytest.raises(LeaseHeldError):
        ledger.control.acquire_lease(owner="mine", seconds=600)
    with pytest.raises(LeaseHeldError, match="held by theirs"):
        ledger.control.acquire_lease(owner="mine", seconds=600)


def test_a_lease_that_was_not_written_for_its_time_is_taken_over_with_its_run(
    ledger: Ledger, other: Ledger, tables: Tables
) -> None:
    """The run that a dead instance left open is handed to the next; the old one cannot write."""
    seconds = 60.0 if isinstance(tables, FakeTables) else 0.0
    old = ledger.control.acquire_lease(owner="dead", seconds=seconds)
    old = ledger.control.set_open_run(old, RUN)
    outlast(tables, seconds)
    new = other.control.acquire_lease(owner="next", seconds=600)
    assert (new.owner, new.open_run) == ("next", RUN)
    with pytest.raises(LeaseLostError):
        ledger.control.renew_lease(old)
    with pytest.raises(LeaseLostError):
        ledger.control.set_open_run(old, None)
    assert other.control.read_lease() == new


def test_a_renewed_lease_lasts_longer(ledger: Ledger, other: Ledger) -> None:
    """Renewing it makes it young again and keeps the open run."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=600)
    lease = ledger.control.set_open_run(lease, RUN)
    lease = ledger.control.renew_lease(lease)
    assert lease.open_run == RUN
    with pytest.raises(LeaseHeldError):
        other.control.acquire_lease(owner="theirs", seconds=60)


def test_a_lease_grows_old_by_the_storages_clock() -> None:
    """From its last write on; a holder that keeps writing keeps it, whatever any clock says."""
    clock = FakeClock()
    control = Control(FakeTables(clock.monotonic))
    lease = control.acquire_lease(owner="mine", seconds=60)
    for _ in range(5):
        clock.advance(59)
        lease = control.renew_lease(lease)
    clock.advance(59.9)
    with pytest.raises(LeaseHeldError):
        control.acquire_lease(owner="theirs", seconds=1)
    clock.advance(0.1)
    assert control.acquire_lease(owner="theirs", seconds=60).owner == "theirs"


def test_a_released_lease_is_free_and_remembers(ledger: Ledger, other: Ledger) -> None:
    """After a release anybody may take the lease at once, and learns which run is open."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=600)
    lease = ledger.control.set_open_run(lease, RUN)
    ledger.control.release_lease(lease)
    assert other.control.acquire_lease(owner="theirs", seconds=60).open_run == RUN


def test_releasing_what_is_not_held_is_harmless(ledger: Ledger, other: Ledger) -> None:
    """A second release, or one after a takeover, changes nothing and raises nothing."""
    old = ledger.control.acquire_lease(owner="slow", seconds=60)
    ledger.control.release_lease(old)
    ledger.control.release_lease(old)
    new = other.control.acquire_lease(owner="next", seconds=600)
    ledger.control.release_lease(old)
    assert other.control.read_lease() == new


def test_a_closed_run_is_forgotten(ledger: Ledger) -> None:
    """Once no run is open, the next holder finds none."""
    lease = ledger.control.acquire_lease(owner="mine", seconds=60)
    lease = ledger.control.set_open_run(lease, RUN)
    lease = ledger.control.set_open_run(lease, None)
    ledger.control.release_lease(lease)
    assert ledger.control.acquire_lease(owner="next", seconds=60).open_run is None
