"""Sync runs: one row each, holding what is needed to resume and to reconcile them.

The row is written under compare-and-swap, so that an instance that lost its run lease without
noticing cannot move the cursor: its next write fails. `cursor` points at the first object that
is not yet dealt with; `counts` cover exactly what lies before it. The newest run comes first in
key order, so listing the last ones is one short read.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Final

from common.clock import Clock
from common.errors import ConflictError, LeaseLostError
from common.events import cut
from common.ledger.states import OPEN_RUNS, RUN_MOVES, RunState
from common.ledger.tables import Row, Table, Tables, Value

TABLE: Final = "runs"
_PARTITION: Final = "run"
_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What happened to the indicators of a run; `fetched` is the sum of the next four.

    `other_kind` are those neither IPv4 nor domain (they pass and are in `enqueued` too).
    """

    fetched: int = 0
    filtered: int = 0
    invalid: int = 0
    unchanged: int = 0
    enqueued: int = 0
    other_kind: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The first object not yet dealt with: object `offset` of the page that `token` names.

    `token` None is the page that comes with the query's own answer. `page` numbers the pages
    of the run and `sequence` its chunks, both from 0: where the next ones go on. `done`: that was
    the last page, so nothing is left to read. Releases before did not write it.
    """

    token: str | None = None
    offset: int = 0
    page: int = 0
    sequence: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What is left of a run's chunks whose rows were folded away: counts of indicators.

    `chunks` has bit `n` set once the chunk of sequence `n` is in the counts, so that a chunk is
    counted once even when folding is repeated, or a late copy writes its row again.
    """

    accepted: int = 0
    rejected: int = 0
    discarded: int = 0
    chunks: int = 0

    def has(self, sequence: int) -> bool:
        """Whether the chunk of this sequence is counted."""
        return bool(self.chunks >> sequence & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sync run. `cursor` None: Lumen's query was not seen to complete yet.

    `full_request`: when the request for a full run was made that it serves, so it sends
    everything, whether known or not. `asked`: Lumen was, or was about to be, asked to start the
    query. `stalled` counts the resumptions since the cursor moved last, at `progress_at`.
    """

    run_id: str
    state: RunState
    started_at: datetime
    updated_at: datetime
    cache_id: str | None = None
    cursor: Cursor | None = None
    counts: Counts = field(default_factory=Counts)
    folded: Folded = field(default_factory=Folded)
    full_request: datetime | None = None
    asked: bool = False
    resumed: int = 0
    stalled: int = 0
    progress_at: datetime | None = None
    reason: str = ""
    etag: str = ""

    @property
    def is_open(self) -> bool:
        """Whether there is something left to do."""
        return self.state in OPEN_RUNS

    @property
    def full(self) -> bool:
        """Whether it sends what is known, too."""
        return self.full_request is not None

    @property
    def progressed_at(self) -> datetime:
        """When its cursor moved last, or it started."""
        return self.progress_at or self.started_at


class RunRow:
    """The latest version of one run's row, and the way to write the next one."""

    def __init__(self, runs: "Runs", run: Run, clock: Clock) -> None:
        self._runs = runs
        self._clock = clock
        self.run = run

    def save(self, **changes: Any) -> Run:
        """Write `changes` and the time, progress if it is any.

        Raises `LeaseLostError` when another instance has written the row since: none but who has
        the run lease does. `ValueError` as `Runs.save` does.
        """
        now = self._clock.now()
        if changes.get("cursor", self.run.cursor) != self.run.cursor:
            changes |= {"progress_at": now, "stalled": 0}
        try:
            self.run = self._runs.save(self.run, updated_at=now, **changes)
        except ConflictError as error:
            raise LeaseLostError(
                f"another instance goes on with run {self.run.run_id}; this one stops"
            ) from error
        return self.run


def new_run_id(now: datetime) -> str:
    """Return an id that sorts by time and is unique."""
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


class Runs:
    """The run rows."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def create(self, run: Run) -> Run:
        """Write a new run's row; raises `ConflictError` when the id is another run's."""
        try:
            return replace(run, etag=self._table.insert(_to_row(run)))
        except ConflictError:
            written = self._as_written(run)
            if written is None:
                raise
            return written

    def save(self, run: Run, **changes: Any) -> Run:
        """Write `run` with `changes` over the row that `run` was read from.

        Raises `ConflictError` when another instance has written the row since, and
        `ValueError` for a move that `RUN_MOVES` does not allow.
        """
        changed: Run = replace(run, **changes)
        if changed.state != run.state and changed.state not in RUN_MOVES[run.state]:
            raise ValueError(f"run {run.run_id} cannot go from {run.state} to {changed.state}")
        try:
            return replace(changed, etag=self._table.replace(_to_row(changed)))
        except ConflictError:
            written = self._as_written(changed)
            if written is None:
                raise
            return written

    def _as_written(self, run: Run) -> Run | None:
        """Return `run` if its row is just as it should be after a conflict, else None.

        Then it was our own write that came first: its answer was lost, and the storage client
        wrote again. What another instance writes differs in `updated_at`; but for a fold, and one
        that came to the same result is as good as ours.
        """
        found = self._table.get(_PARTITION, _key(run.run_id))
        wanted = {name: value for name, value in _to_row(run).data.items() if value is not None}
        return replace(run, etag=found.etag) if found and found.data == wanted else None

    def get(self, run_id: str) -> Run | None:
        """Return the run, or None."""
        row = self._table.get(_PARTITION, _key(run_id))
        return None if row is None else _from_row(row)

    def latest(self, limit: int) -> Iterator[Run]:
        """Yield the newest runs first, at most `limit`."""
        return map(_from_row, self._table.query(_PARTITION, limit=limit))


def _key(run_id: str) -> str:
    """Return a row key that sorts the newest run first: the digits of its time complemented."""
    time, dash, rest = run_id.partition("-")
    return time.translate(_COMPLEMENT) + dash + rest


def _to_row(run: Run) -> Row:
    data: dict[str, Value] = {
        "run_id": run.run_id,
        "state": run.state.value,
        "started_at": run.started_at,
        "updated_at": run.updated_at,
        "cache_id": run.cache_id,
        "resumed": run.resumed,
        "reason": cut(run.reason),
        "full_request": run.full_request,
        "asked": run.asked,
        "stalled": run.stalled,
        "progress_at": run.progress_at,
        **{f.name: getattr(run.counts, f.name) for f in fields(Counts)},
        "folded_accepted": run.folded.accepted,
        "folded_rejected": run.folded.rejected,
        "folded_discarded": run.folded.discarded,
        "folded_chunks": _to_bytes(run.folded.chunks),
    }
    if run.cursor is not None:
        data["cursor"] = json.dumps(
            {f.name: getattr(run.cursor, f.name) for f in fields(Cursor)}
        ).encode()
    return Row(partition=_PARTITION, key=_key(run.run_id), data=data, etag=run.etag)


def _from_row(row: Row) -> Run:
    data: dict[str, Any] = dict(row.data)
    return Run(
        run_id=data["run_id"],
        state=RunState(data["state"]),
        started_at=data["started_at"],
        updated_at=data["updated_at"],
        cache_id=data.get("cache_id"),
        cursor=Cursor(**json.loads(data["cursor"])) if "cursor" in data else None,
        counts=Counts(**{f.name: data[f.name] for f in fields(Counts)}),
        folded=Folded(
            accepted=data["folded_accepted"],
            rejected=data["folded_rejected"],
            discarded=data["folded_discarded"],
            chunks=int.from_bytes(data["folded_chunks"], "little"),
        ),
        full_request=data.get("full_request"),
        asked=data["asked"],
        resumed=data["resumed"],
        stalled=data.get("stalled", 0),
        progress_at=data.get("progress_at"),
        reason=data["reason"],
        etag=row.etag,
    )


def _to_bytes(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
