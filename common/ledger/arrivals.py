"""Arrivals: one row a run says how much of its sample was found in the workspace, and when.

Written by the timer `arrival_check`, read by everything that shows the feed. One more row has the
result of the last check. Rows are kept for `KEPT_FOR`: by then a sample has arrived, or never will.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final

from common.ledger.control import TABLE
from common.ledger.partitions import newest_first
from common.ledger.tables import Row, Table, Tables, Value, remove_all
from common.records import moment_of
from common.text import cut

_PARTITION: Final = "arrival"
_LAST_KEY: Final = "last-check"
"""Sorts behind the rows of all runs, whose keys begin with a digit."""

KEPT_FOR: Final = timedelta(days=2)
"""How long the row of a run is kept: 192 rows by the default schedule."""

MISSING_AFTER: Final = timedelta(hours=2)
"""How long after its acceptance a sample may take. New rows show within minutes, as a rule
(learn.microsoft.com/azure/azure-monitor/logs/data-ingestion-time, read 2026-11-29)."""

ASKED_FOR: Final = timedelta(days=1)
"""How long after its acceptance a sample is looked for, and its absence counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A sample that was found: the `modified` that it was sent with, and when its row arrived.

    `after` is in seconds from acceptance to arrival, None if unknown: a later version has come, or
    the row was there before. `differs` names the values that differ from those sent.
    """

    id: str
    modified: int
    arrived_at: datetime
    after: float | None = None
    differs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArrival:
    """How much of a run's sample has arrived, by the check at `checked_at`.

    `missing` were accepted long ago and are not there; for `older` ones the workspace got an older
    version last; `different` have arrived with other values than were sent. The times are in
    seconds, None while unknown; `accepted_at` is the last acceptance in the sample.
    """

    run_id: str
    checked_at: datetime = field(compare=False)
    accepted_at: datetime
    sampled: int = 0
    arrived: int = 0
    missing: int = 0
    older: int = 0
    different: int = 0
    median_seconds: float | None = None
    longest_seconds: float | None = None
    found: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCheck:
    """The last check: why it could not ask, if so, or that it is switched off."""

    at: datetime
    trouble: str = ""
    is_off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalBook:
    """All rows: the last check, and the runs, the newest first."""

    last: LastCheck | None = None
    runs: tuple[RunArrival, ...] = ()

    def of(self, run_id: str) -> RunArrival | None:
        """Return the arrival of a run's sample, if known."""
        return next((run for run in self.runs if run.run_id == run_id), None)

    @property
    def latest(self) -> RunArrival | None:
        """The newest run whose sample has begun to arrive, or should have."""
        told = (run for run in self.runs if run.arrived or run.missing or run.older)
        return next(told, None)

    @property
    def median_seconds(self) -> float | None:
        """From accepted to arrived, for the newest run for which that is known."""
        known = (run.median_seconds for run in self.runs if run.median_seconds is not None)
        return next(known, None)


class Arrivals:
    """The arrival rows."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def read(self, *, whole: bool = False) -> ArrivalBook:
        """Return all rows; with the samples `found` of each run only if `whole`.

        Damaged rows are left out.
        """
        last: LastCheck | None = None
        runs: list[RunArrival] = []
        for row in self._table.query(_PARTITION, select=None if whole else _SHOWN):
            if row.key == _LAST_KEY:
                last = _last_of(row)
            elif (found := _run_of(row)) is not None:
                runs.append(found)
        return ArrivalBook(last=last, runs=tuple(runs))

    def write(self, arrival: RunArrival) -> None:
        """Record the arrival of a run's sample. Called again: the later call counts."""
        data: dict[str, Value] = {
            item.name: getattr(arrival, item.name)
            for item in fields(RunArrival)
            if item.name != "found"
        }
        data["found"] = _pack(arrival.found)
        self._table.merge(Row(partition=_PARTITION, key=newest_first(arrival.run_id), data=data))

    def note(self, last: LastCheck) -> None:
        """Record the result of a check."""
        data: dict[str, Value] = {
            "at": last.at,
            "trouble": cut(last.trouble),
            "is_off": last.is_off,
        }
        self._table.merge(Row(partition=_PARTITION, key=_LAST_KEY, data=data))

    def remove_old(self, now: datetime) -> int:
        """Remove the rows of runs that were accepted more than `KEPT_FOR` ago."""
        rows = self._table.query(_PARTITION, before_key=_LAST_KEY)
        return remove_all(self._table, [row for row in rows if _is_old(row, now)])


_SHOWN: Final = (
    "at",
    "trouble",
    "is_off",
    *(item.name for item in fields(RunArrival) if item.name != "found"),
)


def _is_old(row: Row, now: datetime) -> bool:
    accepted_at = row.data.get("accepted_at")
    return not isinstance(accepted_at, datetime) or now - accepted_at > KEPT_FOR


def _last_of(row: Row) -> LastCheck | None:
    at, trouble = row.data.get("at"), row.data.get("trouble")
    if not isinstance(at, datetime):
        return None
    return LastCheck(
        at=at,
        trouble=trouble if isinstance(trouble, str) else "",
        is_off=row.data.get("is_off") is True,
    )


_TYPES: Final[Mapping[Any, tuple[type, ...]]] = {
    str: (str,),
    datetime: (datetime,),
    int: (int,),
    float | None: (int, float),
}


def _run_of(row: Row) -> RunArrival | None:
    """Return the arrival of a row; None if it is damaged. Unknown properties are ignored."""
    known: dict[str, Any] = {}
    for item in fields(RunArrival):
        value = row.data.get(item.name)
        if item.name == "found" or value is None:
            continue
        if not isinstance(value, _TYPES[item.type]):
            return None
        known[item.name] = value
    if not {"run_id", "checked_at", "accepted_at"} <= known.keys():
        return None
    return RunArrival(**known, found=_unpack(row.data.get("found")))


def _pack(found: Iterable[Found]) -> bytes:
    listed = [
        {
            "id": one.id,
            "modified": one.modified,
            "arrived": round(one.arrived_at.timestamp() * 1000),
            "after": one.after,
            "differs": one.differs,
        }
        for one in found
    ]
    return json.dumps(listed, separators=(",", ":")).encode()


def _unpack(stored: object) -> tuple[Found, ...]:
    """Return the samples found; none if they are damaged: they are looked for again."""
    if not isinstance(stored, bytes):
        return ()
    try:
        return tuple(_found_of(one) for one in json.loads(stored))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OverflowError):
        return ()


def _found_of(stored: Mapping[str, Any]) -> Found:
    after = stored["after"]
    return Found(
        id=str(stored["id"]),
        modified=int(stored["modified"]),
        arrived_at=moment_of(stored["arrived"]),
        after=None if after is None else float(after),
        differs=str(stored["differs"]),
    )
