"""Pulses: one row for each tick says how the feed was. Charts, alerts and history read them.

A pulse holds facts of two kinds: the state at that moment, and the changes since the previous
pulse. Changes can be added up over any time. Rows sort by time, the newest first, and are kept for
`KEPT_FOR`. A row also holds the books of the runs that may still change: from them the next pulse
computes its changes.
"""

import json
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final

from common.ledger.partitions import newest_first
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
from common.text import cut
from common.version import VERSION

TABLE: Final = "pulses"
_PARTITION: Final = "pulse"

KEPT_FOR: Final = timedelta(days=30)
"""How long a pulse is kept: 2,880 rows by the default schedule."""

_OLD_A_DAY: Final = 5000
"""Old rows that one call removes: more than a day's ticks, even at one a minute."""

_BOOKS_KEPT: Final = 1000
"""Runs whose books are kept for the next pulse, the newest first: ten days of the default."""

_TRIED: Final = 5
"""Rows in which a readable pulse is looked for."""

_MAX_INT: Final = 2**31 - 1
"""Largest whole number of a property (`tables.Value`)."""

Account = tuple[float, ...]
"""The numbers of a run's books, in an order that the writer knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How the feed was when a tick ended. None: unknown, or there is none.

    `tick` is the state in which the tick left its `run`; `skipped` if it had none, because another
    instance was at work or the feed is paused; `error` if it failed. `reasons` are the codes of
    `health.Reason`, separated by blanks, and `reason` is the sentence of the first.
    """

    at: datetime
    verdict: str
    tick: str = ""
    run: str = ""
    reasons: str = ""
    reason: str = ""

    backlog: int | None = None
    """Messages on the upload queue."""
    drain_minutes: float | None = None
    """How long they take at the configured rate; None while nothing is accepted."""
    poison_queue: int | None = None
    """Messages that the host gave up and that are not yet kept as poison."""
    poison_kept: int | None = None
    """Messages that wait for an operator."""
    pending: int | None = None
    """Indicators that are still to be sent."""
    oldest_pending_minutes: float | None = None
    """Since the oldest chunk with unsent records was enqueued."""
    last_accepted_minutes: float | None = None
    """Since Sentinel last accepted something."""
    last_complete_minutes: float | None = None
    """Since a sync run last became complete."""
    problems: int | None = None
    """Problems that count, gaps among them."""
    oldest_problem_minutes: float | None = None
    """Since the oldest of them began; gaps and records that wait for proof left out."""
    gaps: int | None = None
    """Gaps that no operator has acknowledged."""
    books_balance: bool | None = None
    """Whether both laws of conservation hold for every run that was looked at."""
    paused_until: datetime | None = None

    minutes: float | None = None
    """Since the previous pulse; the counts from here on cover this time."""
    fetched: int | None = None
    filtered: int | None = None
    invalid: int | None = None
    unchanged: int | None = None
    older: int | None = None
    enqueued: int | None = None
    corrections: int | None = None
    accepted: int | None = None
    rejected: int | None = None
    struck: int | None = None
    poisoned: int | None = None
    """Negative if replays took away more than was given up."""
    rate_per_minute: float | None = None
    """Indicators that were accepted, a minute."""
    accepted_after_seconds: float | None = None
    """From listed to accepted: the mean over accepted indicators."""
    arrived_after_seconds: float | None = None
    """From accepted to arrived in the workspace: of the sample that was found last."""

    version: str = VERSION
    template_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the next pulse needs: the newest run, and the account of each that can change."""

    newest: str = ""
    accounts: Mapping[str, Account] = field(default_factory=dict)
    row: Row | None = field(default=None, compare=False, repr=False)
    """The row that they were read from."""


class Pulses:
    """The pulse rows."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def write(self, pulse: Pulse, books: Books, *, after: Books | None = None) -> None:
        """Keep a pulse whose changes are those since the books `after`. Called twice: two rows.

        Raises `ConflictError` if another pulse has followed these books: it has the same changes.
        """
        kept = dict(sorted(books.accounts.items(), reverse=True)[:_BOOKS_KEPT])
        text = json.dumps({"newest": books.newest, "accounts": kept}, separators=(",", ":"))
        data: dict[str, Value] = {name: _fit(value) for name, value in asdict(pulse).items()}
        key = newest_first(f"{_time(pulse.at)}-{secrets.token_hex(4)}")
        data["books"] = zlib.compress(text.encode())
        made = Row(partition=_PARTITION, key=key, data=data)
        if after is None or after.row is None:
            self._table.merge(made)
            return
        # A new ETag for the row of these books: only one pulse can follow them.
        followed = Operation(action=Action.REPLACE, row=after.row)
        self._table.transact([followed, Operation(action=Action.INSERT, row=made)])

    def remove_old(self, now: datetime) -> int:
        """Remove pulses that are older than `KEPT_FOR`; return how many went."""
        return self.remove(self.before(now - KEPT_FOR, limit=_OLD_A_DAY))

    def latest(self, limit: int | None) -> Iterator[Pulse]:
        """Yield the newest pulses first, at most `limit`, or all. Damaged rows are left out."""
        return _readable(self._table.query(_PARTITION, limit=limit))

    def since(self, moment: datetime) -> Iterator[Pulse]:
        """Yield the pulses since a moment, the newest first."""
        return _readable(self._table.query(_PARTITION, before_key=_key_before(moment)))

    def last_books(self) -> tuple[Pulse, Books] | None:
        """Return the newest pulse with its writer's books; None if the newest few are damaged."""
        for row in self._table.query(_PARTITION, limit=_TRIED):
            pulse = _pulse_of(row)
            if pulse is not None:
                return pulse, _books_of(row)
        return None

    def before(self, moment: datetime, *, limit: int | None = None) -> Iterator[Row]:
        """Yield the rows of pulses before a moment."""
        return self._table.query(_PARTITION, from_key=_key_before(moment), limit=limit)

    def remove(self, rows: Iterable[Row]) -> int:
        """Remove rows, if unchanged since they were read; return how many."""
        return remove_all(self._table, rows)


def _time(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%S%f}"


def _key_before(moment: datetime) -> str:
    """Return a key behind those of pulses at or after `moment`, before those of earlier ones."""
    return newest_first(_time(moment)) + "~"


def _fit(value: Any) -> Value:
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_MAX_INT, min(_MAX_INT, value))
    found: Value = value
    return found


def _readable(rows: Iterable[Row]) -> Iterator[Pulse]:
    return (pulse for pulse in map(_pulse_of, rows) if pulse is not None)


_TYPES: Final[Mapping[Any, tuple[type, ...]]] = {
    datetime: (datetime,),
    datetime | None: (datetime,),
    str: (str,),
    str | None: (str,),
    int | None: (int,),
    float | None: (int, float),
    bool | None: (bool,),
}


def _pulse_of(row: Row) -> Pulse | None:
    """Return the pulse of a row; None if it is damaged. Unknown properties are ignored."""
    known: dict[str, Any] = {}
    for item in fields(Pulse):
        value = row.data.get(item.name)
        if value is None:
            continue
        if not isinstance(value, _TYPES[item.type]):
            return None
        known[item.name] = value
    if "at" not in known or "verdict" not in known:
        return None
    return Pulse(**{"version": "", **known})


def _books_of(row: Row) -> Books:
    """Return the books of a row; without accounts if they are damaged."""
    try:
        found = read_json(zlib.decompress(bytes(row.data["books"])))  # type: ignore[arg-type]
        return Books(
            newest=str(found["newest"]),
            accounts={str(run): tuple(map(float, each)) for run, each in found["accounts"].items()},
            row=row,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, zlib.error):
        return Books(row=row)
