"""Sync runs: each has a head, the row by which it is resumed, fenced and reconciled.

The head is in the partition of the run's chunk rows. Every write of a producer replaces it by its
ETag, in one transaction with the chunk rows of that write. So storage refuses the writes of an
instance that was overtaken, whatever its clock says. `cursor` and `counts` are the checkpoint: the
first object without a stored outcome, and the counts before it.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from common.clock import Clock
from common.errors import ConflictError, LeaseLostError
from common.ledger.partitions import HEAD_KEY, TABLE, partition_of, run_id_of
from common.ledger.samples import Sample, pack_samples, unpack_samples
from common.ledger.states import OPEN_RUNS, RUN_MOVES, RunState, member_of
from common.ledger.tables import (
    Action,
    Operation,
    Row,
    Table,
    Tables,
    Value,
    read_json,
    remove_all,
)
from common.tally import Tally
from common.text import cut

ROWS_A_WRITE: Final = 99
"""Chunk rows in a transaction, beside the head: 100 entities at most (`MAX_BATCH_ENTITIES`)."""

GAP_COUNTS_FOR: Final = timedelta(days=14)
"""How long a gap counts if no operator acknowledges it."""

_CAS_TRIES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts(Tally):
    """The counts of a run's indicators; `fetched` is the sum of the next five.

    `corrections` are those enqueued although the filters would have dropped them, and `other_kind`
    those neither IPv4 nor domain; both are in `enqueued`.
    """

    fetched: int = 0
    filtered: int = 0
    invalid: int = 0
    unchanged: int = 0
    older: int = 0
    enqueued: int = 0
    corrections: int = 0
    other_kind: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in the feed: object `offset` of the page that `token` names.

    `token` None means the page inside the query's own answer; an empty text means that the answer
    listed nothing. `page` and `sequence` are the numbers of the run's next page and next chunk,
    from 0. `done`: that was the last page, so nothing is left to read.
    """

    token: str | None = None
    offset: int = 0
    page: int = 0
    sequence: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A place in the feed, and the `counts` of exactly what lies before it."""

    cursor: Cursor = field(default_factory=Cursor)
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded(Tally):
    """Counts of indicators: those in a run's chunks whose rows were folded.

    `waited` as in `Fate`: the sum of seconds from listed to accepted.
    """

    accepted: int = 0
    rejected: int = 0
    struck: int = 0
    discarded: int = 0
    waited: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WishRef:
    """The name of a wish, and the ETag under which it was taken."""

    key: str
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The gap of a run: why, when it was closed as a gap, who acknowledged that, and when."""

    run_id: str
    reason: str
    since: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""

    def counts_at(self, now: datetime) -> bool:
        """Whether it still counts: not acknowledged, and at most `GAP_COUNTS_FOR` old."""
        return self.acknowledged_at is None and now - self.since <= GAP_COUNTS_FOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sync run. `cursor` None: Lumen's query has not completed yet.

    `epoch` rises with every tick that works on the run; `tick` names the tick that last wrote the
    head, and `step` numbers its writes. `full_request`: the run serves an operator's request for
    a full run, made at that time, so it sends known versions, too. `asked`: Lumen was asked to
    start the query, or was about to be. `trail` is what `producer.paging` remembers of the tokens.

    `acknowledged_at` is when an operator acknowledged its gap, and `acknowledged_by` who, with a
    note.

    `progress_at` is when the cursor last moved. `stalled` counts the resumptions since then, and
    `stalled_for` is how many seconds the run waited before them, in all, by the storage's clock.
    `age` is how long ago the head was last written, by that clock; only `Runs.get` knows it.
    """

    run_id: str
    state: RunState
    started_at: datetime
    updated_at: datetime
    epoch: int = 1
    tick: str = ""
    step: int = 0
    cache_id: str | None = None
    cursor: Cursor | None = None
    counts: Counts = field(default_factory=Counts)
    folded: Folded = field(default_factory=Folded)
    full_request: datetime | None = None
    asked: bool = False
    trail: bytes = b""
    wishes: tuple[WishRef, ...] = ()
    sample: tuple[Sample, ...] = ()
    resumed: int = 0
    stalled: int = 0
    stalled_for: float = 0.0
    progress_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    reason: str = ""
    etag: str = ""
    age: timedelta | None = field(default=None, compare=False)

    @property
    def is_open(self) -> bool:
        """Whether there is something left to do."""
        return self.state in OPEN_RUNS

    @property
    def full(self) -> bool:
        """Whether it sends known versions, too."""
        return self.full_request is not None

    @property
    def progressed_at(self) -> datetime:
        """When its cursor last moved, or it started."""
        return self.progress_at or self.started_at

    @property
    def checkpoint(self) -> Checkpoint:
        """Where to continue."""
        return Checkpoint(cursor=self.cursor or Cursor(), counts=self.counts)

    @property
    def sequence(self) -> int:
        """The number of the next chunk; chunks from this number on lie beyond the checkpoint."""
        return self.checkpoint.cursor.sequence


class Head:
    """The head of one run, as this tick knows it; `save` writes the next one."""

    def __init__(self, runs: "Runs", run: Run, *, tick: str, clock: Clock) -> None:
        self._runs = runs
        self._tick = tick
        self._clock = clock
        self.run = run

    def save(self, *, rows: Sequence[Operation] = (), **changes: Any) -> Run:
        """Write `changes`, the time, and any progress, together with operations on chunk `rows`.

        All or nothing, at most `ROWS_A_WRITE` rows. Raises `LeaseLostError` if another tick has
        written the head since: the run is that tick's now. Raises `ValueError` as `Runs.save` does.
        """
        now = self._clock.now()
        # Only a cursor that moves is progress: a run may fail at the same page for ever.
        if changes.get("cursor", self.run.cursor) != self.run.cursor:
            changes |= {"progress_at": now, "stalled": 0, "stalled_for": 0.0}
        if "reason" in changes:
            changes["reason"] = cut(changes["reason"])
        try:
            self.run = self._runs.save(
                self.run, rows=rows, updated_at=now, tick=self._tick, **changes
            )
        except ConflictError as error:
            raise LeaseLostError(
                f"another instance goes on with run {self.run.run_id}; this one stops"
            ) from error
        return self.run


def new_run_id(now: datetime) -> str:
    """Return an id that sorts by time and is unique."""
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


class Runs:
    """The heads of all runs."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def create(self, run: Run) -> Run:
        """Write a new run's head; raises `ConflictError` if another run has the id."""
        try:
            return replace(run, etag=self._table.insert(_to_row(run)))
        except ConflictError:
            found = self.get(run.run_id)
            if found is None or (found.tick, found.step) != (run.tick, run.step):
                raise
            return replace(run, etag=found.etag)  # our own: its answer was lost

    def save(self, run: Run, *, rows: Sequence[Operation] = (), **changes: Any) -> Run:
        """Write `run` with `changes` over its head as it was read, in one transaction with `rows`.

        Raises `ConflictError` if another tick has written the head since, or a row's operation
        fails, and `ValueError` for a move that `RUN_MOVES` does not allow. A conflict with an
        earlier write of the same tick (same `tick` and `step`) is not an error.
        """
        changed: Run = replace(run, step=run.step + 1, **changes)
        if changed.state != run.state and changed.state not in RUN_MOVES[run.state]:
            raise ValueError(f"run {run.run_id} cannot go from {run.state} to {changed.state}")
        head = _to_row(changed)
        try:
            if rows:
                etag, *_ = self._table.transact([Operation(action=Action.REPLACE, row=head), *rows])
            else:
                etag = self._table.replace(head)
        except ConflictError:
            found = self.get(run.run_id)
            if found is None or (found.tick, found.step) != (changed.tick, changed.step):
                raise
            if found == replace(_from_row(head), etag=found.etag):
                # This same write: its answer was lost, and the storage client wrote again.
                return replace(changed, etag=found.etag)
            # An earlier write of this tick, whose answer was lost: continue from there.
            return self.save(found, rows=rows, **changes)
        return replace(changed, etag=etag)

    def get(self, run_id: str) -> Run | None:
        """Return the run, or None."""
        row = self._table.get(partition_of(run_id), HEAD_KEY)
        return None if row is None else _from_row(row)

    def latest(self, limit: int | None) -> Iterator[Run]:
        """Yield the newest runs first, at most `limit`, or all."""
        return map(_from_row, self._table.query(key=HEAD_KEY, limit=limit))

    def gaps(self) -> list[Gap]:
        """Return every gap, the newest run first."""
        heads = self._table.query(key=HEAD_KEY, select=_GAP)
        found = [_gap_of(row) for row in heads if row.data.get("state") == RunState.GAP]
        return [gap for gap in found if gap is not None]

    def acknowledge(self, run_id: str, *, at: datetime, by: str) -> bool:
        """Record that an operator acknowledged a run's gap; return False if there is none.

        Called twice: the first call counts. Compare-and-swap, so a concurrent fold is not
        overwritten.
        """
        tick = f"operator:{secrets.token_hex(4)}"
        for _ in range(_CAS_TRIES):
            run = self.get(run_id)
            if run is None or run.state is not RunState.GAP or run.acknowledged_at is not None:
                return False
            try:
                self.save(run, tick=tick, acknowledged_at=at, acknowledged_by=by)
            except ConflictError:
                continue
            return True
        raise ConflictError(f"the head of run {run_id} kept changing; try again")

    def with_rows(self) -> set[str]:
        """Return the ids of the runs that still have a chunk row."""
        rows = self._table.query(before_key=HEAD_KEY, select=("state",))
        return {run_id_of(row.partition) for row in rows}

    def remove(self, run: Run) -> bool:
        """Remove the head; return False if it changed since it was read, or is gone."""
        head = Row(partition=partition_of(run.run_id), key=HEAD_KEY, etag=run.etag)
        return remove_all(self._table, [head]) == 1

    def open(self) -> list[Run]:
        """Return the runs that have something left to do, the newest first."""
        heads = self._table.query(key=HEAD_KEY, select=("state",))
        names = [row.partition for row in heads if row.data.get("state") in OPEN_RUNS]
        # Each is read again, whole: the list has no age, which the takeover needs.
        found = [self.get(run_id_of(partition)) for partition in names]
        return [run for run in found if run is not None and run.is_open]


def _to_row(run: Run) -> Row:
    data: dict[str, Value] = {
        "run_id": run.run_id,
        "state": run.state.value,
        "started_at": run.started_at,
        "updated_at": run.updated_at,
        "epoch": run.epoch,
        "tick": run.tick,
        "step": run.step,
        "cache_id": run.cache_id,
        "resumed": run.resumed,
        "reason": cut(run.reason),
        "full_request": run.full_request,
        "asked": run.asked,
        "trail": run.trail,
        "wishes": _pack_wishes(run.wishes),
        "sample": pack_samples(run.sample) or None,
        "stalled": run.stalled,
        "stalled_for": run.stalled_for,
        "progress_at": run.progress_at,
        "acknowledged_at": run.acknowledged_at,
        "acknowledged_by": cut(run.acknowledged_by),
        **{f.name: getattr(run.counts, f.name) for f in fields(Counts)},
        **{f"folded_{f.name}": getattr(run.folded, f.name) for f in fields(Folded)},
    }
    if run.cursor is not None:
        data["cursor"] = json.dumps(
            {f.name: getattr(run.cursor, f.name) for f in fields(Cursor)}
        ).encode()
    return Row(partition=partition_of(run.run_id), key=HEAD_KEY, data=data, etag=run.etag)


def _from_row(row: Row) -> Run:
    """Return the run of a head; a damaged head gives a run of the state `OTHER`."""
    data: dict[str, Any] = dict(row.data)
    try:
        return _read(row, _checked(data))
    except (KeyError, TypeError, ValueError) as error:
        never = datetime.min.replace(tzinfo=UTC)
        return Run(
            run_id=run_id_of(row.partition),
            state=RunState.OTHER,
            started_at=never,
            updated_at=never,
            reason=f"the head cannot be read: {error}",
            etag=row.etag,
        )


def _read(row: Row, data: dict[str, Any]) -> Run:
    return Run(
        run_id=run_id_of(row.partition),
        state=member_of(RunState, data["state"], RunState.OTHER),
        started_at=data["started_at"],
        updated_at=data["updated_at"],
        epoch=data["epoch"],
        tick=data["tick"],
        step=data["step"],
        cache_id=data.get("cache_id"),
        cursor=_read_cursor(data["cursor"]) if "cursor" in data else None,
        counts=Counts(**{f.name: data[f.name] for f in fields(Counts)}),
        folded=_read_folded(data),
        full_request=data.get("full_request"),
        asked=data["asked"],
        trail=data.get("trail", b""),
        wishes=_read_wishes(data.get("wishes") or b"[]"),
        sample=unpack_samples(data.get("sample")),
        resumed=data["resumed"],
        stalled=data.get("stalled", 0),
        stalled_for=data.get("stalled_for", 0.0),
        progress_at=data.get("progress_at"),
        acknowledged_at=data.get("acknowledged_at"),
        acknowledged_by=data.get("acknowledged_by", ""),
        reason=data["reason"],
        etag=row.etag,
        age=row.age,
    )


_GAP: Final = ("state", "reason", "updated_at", "acknowledged_at", "acknowledged_by")


def _gap_of(row: Row) -> Gap | None:
    """Return the gap of a head; None if the head is damaged, which `_from_row` reports."""
    data: dict[str, Any] = dict(row.data)
    try:
        since = _checked(data)["updated_at"]
    except (KeyError, TypeError):
        return None
    return Gap(
        run_id=run_id_of(row.partition),
        reason=data.get("reason", ""),
        since=since,
        acknowledged_at=data.get("acknowledged_at"),
        acknowledged_by=data.get("acknowledged_by", ""),
    )


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("run_id", "state", "tick", "reason", "cache_id", "acknowledged_by"), str),
    **dict.fromkeys(
        ("started_at", "updated_at", "full_request", "progress_at", "acknowledged_at"), datetime
    ),
    **dict.fromkeys(("epoch", "step", "resumed", "stalled"), int),
    **dict.fromkeys((f.name for f in fields(Counts)), int),
    **dict.fromkeys((f"folded_{f.name}" for f in fields(Folded)), (int, float)),
    "asked": bool,
    "stalled_for": (int, float),
    "trail": bytes,
    "wishes": bytes,
    "cursor": bytes,
}


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a head; raises `TypeError` that names one of a wrong type."""
    for name, wanted in _TYPES.items():
        if data.get(name) is not None and not isinstance(data[name], wanted):
            raise TypeError(f"{name} is of another type")
    return data


def _read_folded(data: dict[str, Any]) -> Folded:
    """Return the sums of folded rows in a head; one of an older release may lack some of them."""
    later = {"folded_waited": 0.0}
    return Folded(**{f.name: {**later, **data}[f"folded_{f.name}"] for f in fields(Folded)})


def _pack_wishes(wishes: Sequence[WishRef]) -> bytes | None:
    return json.dumps([[ref.key, ref.etag] for ref in wishes]).encode() if wishes else None


def _read_wishes(text: bytes) -> tuple[WishRef, ...]:
    return tuple(WishRef(key=str(key), etag=str(etag)) for key, etag in read_json(text))


def _read_cursor(text: bytes) -> Cursor:
    """Return a stored cursor; fields of a later release are ignored."""
    known = read_json(text)
    if not isinstance(known, dict):
        raise TypeError("cursor is not an object")
    numbers = [known[name] for name in ("offset", "page", "sequence")]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise TypeError("cursor does not name a place")
    if not isinstance(known["token"], str | None):
        raise TypeError("cursor does not name a page")
    if not isinstance(known["done"], bool):
        raise TypeError("cursor does not say whether it is the last")
    return Cursor(**{f.name: known[f.name] for f in fields(Cursor)})
