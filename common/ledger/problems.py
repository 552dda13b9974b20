"""Problems: what stops or slows the whole feed, one row each, with its remedy and an end.

A producer or consumer raises a problem when it meets one. Its row says until when the problem
counts: for the longest wait between two tries, so a problem that does not recur ends by itself. A
success ends only the kinds that it disproves: an upload does not end *Lumen refuses the key*. A
problem that ended leaves a trace with its beginning and its end; the last `MAX_TRACES` are kept.
Writes are limited, so an outage does not cost a storage operation for each chunk; after it, each
chunk that had waited looks for problems to end. Gaps are not kept here: the head of their run is
the record (`runs`).
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from common.clock import Clock
from common.errors import ConflictError
from common.ledger.states import member_of
from common.ledger.tables import Action, Operation, Row, Table, Tables, read_value
from common.text import cut

TABLE: Final = "control"
_PARTITION: Final = "problem"
_TRACE: Final = "ended-"
"""How the keys of traces begin, in the partition of the problems."""
_SUCCESS_KEY: Final = "last-success"
_SUCCESS_PARTITION: Final = "success"

WRITE_EVERY: Final = 10.0
"""Seconds between two writes of one instance about the same problem."""

STANDS_FOR: Final = timedelta(minutes=20)
"""How long a problem counts that does not recur. A chunk that waits for an operator is tried at
least every 18 minutes, with the default of `DEFERRAL_DELAY`; the host takes a minute or two to poll
the queue and to start."""

MAX_TRACES: Final = 10
"""Ended problems that are kept."""


class ProblemKind(StrEnum):
    """What can stop or slow the feed."""

    ACCESS = "access"
    UNAVAILABLE = "unavailable"
    REFUSING = "refusing"
    THROTTLED = "throttled"
    DRIFT = "drift"
    FAILING = "failing"
    """Only one message meets server errors, or answers that the contract does not describe."""
    UNPROVEN = "unproven"
    """A refused record waits until Sentinel accepts something else."""
    LUMEN_ACCESS = "lumen-access"
    LUMEN_UNAVAILABLE = "lumen-unavailable"
    LUMEN_DRIFT = "lumen-drift"
    GAP = "gap"
    """Indicators of a run may be missing. A fact: it counts until an operator acknowledges it."""


UPLOAD_DISPROVES: Final = frozenset(
    {
        ProblemKind.ACCESS,
        ProblemKind.UNAVAILABLE,
        ProblemKind.REFUSING,
        ProblemKind.THROTTLED,
        ProblemKind.DRIFT,
        ProblemKind.FAILING,
        ProblemKind.UNPROVEN,
    }
)
"""Kinds that are over once Sentinel has accepted something."""

LUMEN_DISPROVES: Final = frozenset(
    {ProblemKind.LUMEN_ACCESS, ProblemKind.LUMEN_UNAVAILABLE, ProblemKind.LUMEN_DRIFT}
)
"""Kinds that are over once Lumen has answered a query with a page."""

OF_ONE_MESSAGE: Final = frozenset({ProblemKind.FAILING, ProblemKind.UNPROVEN})
"""Kinds whose subject is one message: its outcome ends them, too."""

STOPS_UPLOADS: Final = UPLOAD_DISPROVES - OF_ONE_MESSAGE
"""Kinds during which Sentinel accepts nothing."""

STOPS_THE_FEED: Final = STOPS_UPLOADS | {ProblemKind.LUMEN_ACCESS, ProblemKind.LUMEN_DRIFT}
"""Kinds that stop the feed until a person acts, or an outage of Sentinel ends. An outage of Lumen
stops the feed only once a complete run is missing: the next ticks retry by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem: what (with its remedy), from when to when, and when it was last met.

    `subject` is the run or chunk that it is about; empty if it is about the whole feed. `until` is
    when it ends unless it recurs, or when it ended.
    """

    kind: ProblemKind
    what: str
    since: datetime
    last_seen: datetime
    until: datetime
    subject: str = ""


class Problems:
    """The problem rows and their traces. Safe to use from several threads."""

    def __init__(
        self,
        tables: Tables,
        *,
        clock: Clock,
        stands_for: timedelta = STANDS_FOR,
    ) -> None:
        """`stands_for` is the longest wait between two tries of the side that raises problems."""
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self._stands_for = stands_for
        self._lock = threading.Lock()
        self._raised: dict[str, float] = {}
        self._succeeded: float | None = None

    def raise_problem(
        self,
        kind: ProblemKind,
        what: str,
        *,
        subject: str = "",
        no_try_for: timedelta = timedelta(0),
    ) -> None:
        """Record that a problem was met, at most once in `WRITE_EVERY` seconds.

        Called again while it counts: it counts longer, and keeps its beginning. `no_try_for`: time
        without a try, before the longest wait begins.
        """
        key = _key(kind, subject)
        if not self._is_due(key):
            return
        now = self._clock.now()
        row = self._table.get(_PARTITION, key)
        known = None if row is None else _from_row(row)
        if row is not None and known is not None and known.until < now:
            self._leave_trace(row, known, at=known.until)
            self._forget_old_traces()
            known = None
        self._table.merge(
            Row(
                partition=_PARTITION,
                key=key,
                data={
                    "kind": kind.value,
                    "subject": subject,
                    "what": cut(what),
                    "since": now if known is None else known.since,
                    "last_seen": now,
                    "until": now + no_try_for + self._stands_for,
                },
            )
        )

    def end(
        self,
        kinds: Collection[ProblemKind],
        *,
        sent: datetime | None = None,
        subject: str = "",
    ) -> None:
        """End the problems of `kinds`, or those about one `subject`. Called twice: the same.

        Call it when something has disproved them, or their subject has an outcome. A request that
        was `sent` before a problem arose does not disprove it. A problem that recurs at the same
        moment stays, until the next success or its own end.
        """
        now = self._clock.now()
        found = [row for row in self._rows() if row[1].kind in kinds]
        over = [row for row in found if _is_over(row[1], sent=sent, subject=subject)]
        self._forget(kinds, but={row.key for row, _ in found} - {row.key for row, _ in over})
        for row, problem in over:
            self._leave_trace(row, problem, at=min(now, problem.until))
        if over:
            self._forget_old_traces()  # once: after an outage hundreds may wait for proof

    def _forget(self, kinds: Collection[ProblemKind], *, but: Collection[str]) -> None:
        """Forget that this instance has raised problems of `kinds`, except some keys."""
        with self._lock:
            self._raised = {
                key: at
                for key, at in self._raised.items()
                if _kind_of(key) not in kinds or key in but
            }

    def note_success(self, sent: datetime, *, after_trouble: bool = False) -> None:
        """Record that Sentinel accepted a request, sent at a moment; end what that disproves.

        The time of sending counts, not that of the answer. Writes at most once in `WRITE_EVERY`
        seconds, unless this instance has raised a problem, or the success comes `after_trouble`:
        the chunk was deferred or refused before, perhaps on an instance that raised a problem.
        """
        with self._lock:
            now = self._clock.monotonic()
            recent = self._succeeded is not None and now - self._succeeded < WRITE_EVERY
            if recent and not self._raised and not after_trouble:
                return
            self._succeeded = now
        self._table.merge(
            Row(
                partition=_SUCCESS_PARTITION,
                key=_SUCCESS_KEY,
                data={"at": sent},
            )
        )
        self.end(UPLOAD_DISPROVES, sent=sent)

    def last_success(self) -> datetime | None:
        """Return when the last accepted request was sent, or up to `WRITE_EVERY` s earlier."""
        return read_value(self._table.get(_SUCCESS_PARTITION, _SUCCESS_KEY), "at", datetime)

    def open(self) -> list[Problem]:
        """Return the problems that count now."""
        now = self._clock.now()
        return [problem for _, problem in self._rows() if problem.until >= now]

    def ended(self) -> list[Problem]:
        """Return the problems that ended last, at most `MAX_TRACES`, the latest end first."""
        now = self._clock.now()
        passed = [problem for _, problem in self._rows() if problem.until < now]
        found = [*passed, *(problem for _, problem in self._rows(traces=True))]
        return sorted(found, key=lambda problem: problem.until, reverse=True)[:MAX_TRACES]

    def _rows(self, *, traces: bool = False) -> Iterator[tuple[Row, Problem]]:
        """Yield the rows of problems, or of traces. Kinds of another release are skipped."""
        for row in self._table.query(_PARTITION):
            problem = _from_row(row)
            if problem is not None and row.key.startswith(_TRACE) is traces:
                yield row, problem

    def _leave_trace(self, row: Row, problem: Problem, *, at: datetime) -> None:
        """Turn a problem's row into a trace, unless it changed since it was read."""
        key = f"{_TRACE}{problem.since:%Y%m%dT%H%M%S%f}-{row.key}"
        ended = {**row.data, "kind": problem.kind.value, "until": at}
        trace = Row(partition=_PARTITION, key=key, data=ended)
        with suppress(ConflictError):  # it recurred, or another instance was faster
            self._table.transact(
                [
                    Operation(action=Action.INSERT, row=trace),
                    Operation(action=Action.DELETE, row=row),
                ]
            )

    def _forget_old_traces(self) -> None:
        traces = sorted(self._rows(traces=True), key=lambda found: found[1].until, reverse=True)
        for old, _ in traces[MAX_TRACES:]:
            self._table.delete(_PARTITION, old.key)

    def _is_due(self, key: str) -> bool:
        with self._lock:
            now = self._clock.monotonic()
            if now - self._raised.get(key, -WRITE_EVERY) < WRITE_EVERY:
                return False
            self._raised[key] = now
            return True


def _is_over(problem: Problem, *, sent: datetime | None, subject: str) -> bool:
    """Whether a request `sent` after it arose disproves a problem, if it is about the `subject`."""
    return (sent is None or problem.since <= sent) and subject in ("", problem.subject)


def _key(kind: ProblemKind, subject: str) -> str:
    """Return the key of a problem's row; `/` must not be in one."""
    return f"{kind.value}|{subject.replace('/', '|')}" if subject else kind.value


def _kind_of(key: str) -> ProblemKind | None:
    return member_of(ProblemKind, key.partition("|")[0], None)


def _from_row(row: Row) -> Problem | None:
    """Return the problem of a row or trace; None if it is damaged or of another release."""
    data: dict[str, Any] = dict(row.data)
    kind = _kind_of(str(data.get("kind", row.key)))
    is_whole = all(isinstance(data.get(name), wanted) for name, wanted in _TYPES.items())
    if kind is None or not is_whole:
        return None
    return Problem(
        kind=kind,
        what=data["what"],
        since=data["since"],
        last_seen=data["last_seen"],
        until=data["until"],
        subject=str(data.get("subject", "")),
    )


_TYPES: Final[dict[str, type]] = {
    "what": str,
    **dict.fromkeys(("since", "last_seen", "until"), datetime),
}
