"""Control rows: the run lease, with it which run is open, and the request for a full run.

Lease and open run share one row, so that taking the lease and learning what to resume is one
atomic step. The lease only saves work: correctness does not rest on clocks, because every write
of a run's row is a compare-and-swap and every step of a run may happen twice.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from common.errors import ConflictError, LeaseHeldError, LeaseLostError
from common.ledger.tables import Row, Table, Tables

TABLE: Final = "control"
_PARTITION: Final = "control"
_LEASE_KEY: Final = "run-lease"
_FULL_KEY: Final = "full-sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The run lease as its holder knows it; `open_run` is the run to resume, if any."""

    owner: str
    expires_at: datetime
    open_run: str | None
    etag: str


class Control:
    """The control rows."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def acquire_lease(self, *, owner: str, now: datetime, seconds: float) -> Lease:
        """Take the run lease for `seconds`; raises `LeaseHeldError` naming holder and expiry."""
        expires = now + timedelta(seconds=seconds)
        held = self.read_lease()
        try:
            if held is None:
                lease = Lease(owner=owner, expires_at=expires, open_run=None, etag="")
                return replace(lease, etag=self._table.insert(_to_row(lease)))
            if held.owner and held.expires_at > now:
                raise LeaseHeldError(
                    f"run lease is held by {held.owner} until {held.expires_at:%H:%M:%S} UTC"
                )
            return self._write(replace(held, owner=owner, expires_at=expires))
        except ConflictError as error:
            raise LeaseHeldError("run lease was taken by another instance just now") from error

    def read_lease(self) -> Lease | None:
        """Return the lease as it stands (no owner: free), or None before the first run."""
        row = self._table.get(_PARTITION, _LEASE_KEY)
        return None if row is None else _from_row(row)

    def renew_lease(self, lease: Lease, *, now: datetime, seconds: float) -> Lease:
        """Extend the lease; raises `LeaseLostError` when another instance took it over."""
        return self._write(replace(lease, expires_at=now + timedelta(seconds=seconds)))

    def set_open_run(self, lease: Lease, run_id: str | None) -> Lease:
        """Remember which run is open; raises `LeaseLostError` when it was taken over."""
        return self._write(replace(lease, open_run=run_id))

    def release_lease(self, lease: Lease, *, now: datetime) -> None:
        """Give the lease back; a lease that was lost meanwhile is left alone."""
        try:
            self._write(replace(lease, owner="", expires_at=now))
        except ConflictError:
            return

    def request_full(self, *, at: datetime) -> None:
        """Let the next new run send everything, known or not."""
        self._table.merge(Row(partition=_PARTITION, key=_FULL_KEY, data={"requested_at": at}))

    def full_request(self) -> datetime | None:
        """Return when the full run was asked for that none has served yet; None without one."""
        row = self._table.get(_PARTITION, _FULL_KEY)
        data: dict[str, Any] = {} if row is None else dict(row.data)
        requested: datetime | None = data.get("requested_at")
        return None if requested == data.get("served") else requested

    def full_done(self, request: datetime) -> None:
        """Note that `request` is served; one that was made since stays.

        Called twice: the same. Operator and run own different properties of the row.
        """
        self._table.merge(Row(partition=_PARTITION, key=_FULL_KEY, data={"served": request}))

    def _write(self, lease: Lease) -> Lease:
        try:
            return replace(lease, etag=self._table.replace(_to_row(lease)))
        except ConflictError as error:
            found = self.read_lease()
            if found is None or replace(found, etag=lease.etag) != lease:
                raise LeaseLostError("the run lease was taken over; this instance stops") from error
            return found  # our own write came first: its answer was lost, the client wrote again


def _to_row(lease: Lease) -> Row:
    return Row(
        partition=_PARTITION,
        key=_LEASE_KEY,
        data={
            "owner": lease.owner,
            "expires_at": lease.expires_at,
            "open_run": lease.open_run or "",
        },
        etag=lease.etag,
    )


def _from_row(row: Row) -> Lease:
    data: dict[str, Any] = dict(row.data)
    return Lease(
        owner=data["owner"],
        expires_at=data["expires_at"],
        open_run=data["open_run"] or None,
        etag=row.etag,
    )
