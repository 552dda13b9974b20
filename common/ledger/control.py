"""Control rows: the run lease with the open run, and what operators ask of the producer.

Lease and open run share one row, so that taking the lease and learning what to resume is one atomic
step. The lease only saves work and avoids gaps; the head of the run keeps two ticks apart. The
lease's age is by the storage's clock: the time from its last write to the read.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from common.errors import ConflictError, LeaseHeldError, LeaseLostError
from common.ledger.tables import Row, Table, Tables, Value
from common.text import cut

TABLE: Final = "control"
_PARTITION: Final = "control"
_LEASE_KEY: Final = "run-lease"
_FULL_KEY: Final = "full-sync"
_SYNC_KEY: Final = "sync-request"
_PAUSE_KEY: Final = "pause"

MAX_PAUSE: Final = timedelta(days=7)
"""Longest pause, because it is not known for how long Lumen keeps what was not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The run lease as its holder last saw it; `open_run` is the run to resume, if any.

    `owner` is unique to the tick that took it, and empty while it is free. It expires when it has
    not been written for `seconds`.
    """

    owner: str
    seconds: float
    open_run: str | None
    etag: str = field(compare=False)
    age: timedelta | None = field(default=None, compare=False)

    @property
    def is_held(self) -> bool:
        """Whether another tick may be at work. If the storage gives no age, the lease is free."""
        return bool(self.owner) and self.age is not None and self.age.total_seconds() < self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """An operator's request for a sync run now: when it was made, by whom, and a note."""

    at: datetime
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """An operator's pause: from when until when, by whom, and a note. It ends by itself."""

    since: datetime
    until: datetime
    by: str

    def is_on(self, now: datetime) -> bool:
        """Whether it is on at `now`; never for longer than `MAX_PAUSE`, even if a row says so."""
        return now < min(self.until, self.since + MAX_PAUSE)

    @property
    def text(self) -> str:
        """The pause in words, the same everywhere."""
        return f"paused until {self.until:%d %b %H:%M} UTC by {self.by or 'an operator'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All control rows at one moment: the lease, and what operators ask of the producer.

    `pause` is the last one, which may be over; the requests are those that no run has served yet.
    """

    lease: Lease | None
    pause: Pause | None
    sync_request: SyncRequest | None
    full_request: datetime | None


class Control:
    """The control rows."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def acquire_lease(self, *, owner: str, seconds: float) -> Lease:
        """Take the run lease for `seconds`; raises `LeaseHeldError` naming its holder."""
        held = self.read_lease()
        try:
            if held is None:
                lease = Lease(owner=owner, seconds=seconds, open_run=None, etag="")
                return replace(lease, etag=self._table.insert(_to_row(lease)))
            if held.is_held:
                raise LeaseHeldError(
                    f"run lease is held by {held.owner}, written {held.age} ago; it is free once "
                    f"it was not written for {held.seconds:g} s"
                )
            return self._write(replace(held, owner=owner, seconds=seconds))
        except ConflictError as error:
            raise LeaseHeldError("run lease was taken by another instance just now") from error

    def read_lease(self) -> Lease | None:
        """Return the current lease (no owner: free), or None before the first run."""
        row = self._table.get(_PARTITION, _LEASE_KEY)
        return None if row is None else _from_row(row)

    def renew_lease(self, lease: Lease) -> Lease:
        """Renew the lease; raises `LeaseLostError` if another instance took it over."""
        return self._write(lease)

    def set_open_run(self, lease: Lease, run_id: str | None) -> Lease:
        """Remember which run is open; raises `LeaseLostError` when it was taken over."""
        return self._write(replace(lease, open_run=run_id))

    def release_lease(self, lease: Lease) -> None:
        """Give the lease back; a lease that was lost meanwhile is left alone."""
        try:
            self._write(replace(lease, owner=""))
        except ConflictError:
            return

    def request_full(self, *, at: datetime) -> None:
        """Let the next new run send everything, known or not."""
        self._table.merge(Row(partition=_PARTITION, key=_FULL_KEY, data={"requested_at": at}))

    def full_request(self) -> datetime | None:
        """Return when the open request for a full run was made; None if there is none.

        A damaged row counts as no request, because its damage would get into the head of a run.
        """
        found = self._open_request(_FULL_KEY)
        return None if found is None else found.at

    def full_done(self, request: datetime) -> None:
        """Record that `request` was served; a later request stays open.

        Called twice: the same. Operator and run own different properties of the row.
        """
        self._table.merge(Row(partition=_PARTITION, key=_FULL_KEY, data={"served": request}))

    def take_back_full(self) -> bool:
        """Withdraw the open request for a full run; False if there is none.

        A run that has begun to serve it goes on.
        """
        return self._take_back(_FULL_KEY)

    def request_sync(self, request: SyncRequest) -> None:
        """Ask for a sync run now. Called again: the later request counts."""
        data: dict[str, Value] = {"requested_at": request.at, "by": cut(request.by)}
        self._table.merge(Row(partition=_PARTITION, key=_SYNC_KEY, data=data))

    def sync_request(self) -> SyncRequest | None:
        """Return the open request for a run; None if there is none."""
        return self._open_request(_SYNC_KEY)

    def sync_served(self, request: SyncRequest) -> None:
        """Record that a tick that began after `request` has ended; a later request stays open."""
        self._table.merge(Row(partition=_PARTITION, key=_SYNC_KEY, data={"served": request.at}))

    def take_back_sync(self) -> bool:
        """Withdraw the request for a run; return False if none is open."""
        return self._take_back(_SYNC_KEY)

    def _open_request(self, key: str) -> SyncRequest | None:
        return _request_of(self._table.get(_PARTITION, key))

    def _take_back(self, key: str) -> bool:
        found = self._open_request(key)
        if found is None:
            return False
        self._table.merge(Row(partition=_PARTITION, key=key, data={"taken_back": found.at}))
        return True

    def pause(self, pause: Pause) -> None:
        """Stop new runs and uploads for a while. Called again: the later call counts."""
        data: dict[str, Value] = {"since": pause.since, "until": pause.until, "by": cut(pause.by)}
        self._table.merge(Row(partition=_PARTITION, key=_PAUSE_KEY, data=data))

    def resume(self, *, at: datetime) -> bool:
        """End the current pause; return False if there is none. Called twice: the same."""
        known = self.last_pause()
        if known is None or not known.is_on(at):
            return False
        self.pause(replace(known, until=at))
        return True

    def last_pause(self) -> Pause | None:
        """Return the last pause, which may be over; None if there is none, or it is damaged."""
        return _pause_of(self._table.get(_PARTITION, _PAUSE_KEY))

    def read_all(self) -> Asked:
        """Return all of them by one read; the age of the lease is unknown then."""
        rows = {row.key: row for row in self._table.query(_PARTITION)}
        lease, full = rows.get(_LEASE_KEY), _request_of(rows.get(_FULL_KEY))
        return Asked(
            lease=None if lease is None else _from_row(lease),
            pause=_pause_of(rows.get(_PAUSE_KEY)),
            sync_request=_request_of(rows.get(_SYNC_KEY)),
            full_request=None if full is None else full.at,
        )

    def _write(self, lease: Lease) -> Lease:
        try:
            return replace(lease, etag=self._table.replace(_to_row(lease)))
        except ConflictError as error:
            found = self.read_lease()
            if found is None or found != lease:
                raise LeaseLostError("the run lease was taken over; this instance stops") from error
            return found  # our own earlier write: its answer was lost, and the client wrote again


def _pause_of(row: Row | None) -> Pause | None:
    data: dict[str, Any] = {} if row is None else dict(row.data)
    since, until, by = (data.get(name) for name in ("since", "until", "by"))
    if not (isinstance(since, datetime) and isinstance(until, datetime)):
        return None
    return Pause(since=since, until=until, by=str(by or ""))


def _request_of(row: Row | None) -> SyncRequest | None:
    """Return the request of a row, if it is open."""
    data: dict[str, Any] = {} if row is None else dict(row.data)
    at = data.get("requested_at")
    if not isinstance(at, datetime) or at in (data.get("served"), data.get("taken_back")):
        return None
    return SyncRequest(at=at, by=str(data.get("by") or ""))


def _to_row(lease: Lease) -> Row:
    return Row(
        partition=_PARTITION,
        key=_LEASE_KEY,
        data={
            "owner": lease.owner,
            "seconds": lease.seconds,
            "open_run": lease.open_run or "",
        },
        etag=lease.etag,
    )


def _from_row(row: Row) -> Lease:
    """Return the lease of a row; a damaged one is free and names no run."""
    data: dict[str, Any] = dict(row.data)
    owner, seconds, open_run = (data.get(name) for name in ("owner", "seconds", "open_run"))
    if not (
        isinstance(owner, str) and isinstance(seconds, int | float) and isinstance(open_run, str)
    ):
        owner, seconds, open_run = "", 0.0, ""
    return Lease(
        owner=owner, seconds=seconds, open_run=open_run or None, etag=row.etag, age=row.age
    )
