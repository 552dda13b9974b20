"""The acceptance number: has Sentinel accepted anything since? One row of `control`, no clocks.

A request reads the number before it is sent; when it is accepted, its sender raises the number by
compare-and-swap on the row as it was read then. So of two raises that follow a moment, the second
is by a request that was sent after that moment: it saw the first. A failure notes the number after
its answer; a later failure counts if, before its request, the number was two above that.

The same row grants splits: one for each raise, and one a minute besides. A grant rewrites the row,
so a request that was under way at a grant does not raise the number: while everything is refused,
there are no raises, and the minute is all that is left.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from common.clock import Clock
from common.errors import ConflictError
from common.ledger.tables import Row, Table, Tables, Value, put_over

TABLE: Final = "control"
_PARTITION: Final = "control"
_KEY: Final = "acceptance"

RAISE_EVERY: Final = 5.0
"""Seconds between two raises of one instance, so that the flow costs no operation a chunk."""

ENOUGH_RAISES: Final = 2
"""Raises after which something that was sent after a failure is known to be accepted."""

PROBE_EVERY: Final = timedelta(minutes=1)
"""From one split to the next of the whole app while nothing is accepted, by the storage's clock."""

_GRANT_TRIES: Final = 4

WAITS_FOR_PROOF: Final = (
    "Sentinel refused this: it waits until Sentinel is seen to accept something else"
)
"""The reason of a chunk whose refusal proves nothing yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The row as it was read: the number, and what it was at the last split (-1: never)."""

    number: int
    split: int
    row: Row | None

    @property
    def is_unwritten_for_long(self) -> bool:
        """Whether no raise and no split was written for `PROBE_EVERY`."""
        age = None if self.row is None else self.row.age
        return age is None or age >= PROBE_EVERY


class Acceptance:
    """The row, as one instance uses it. Safe to use from several threads."""

    def __init__(self, tables: Tables, *, clock: Clock) -> None:
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self._raised: float | None = None
        self.last_read = 0
        """The number as this instance read it last."""

    def before_request(self, *, always: bool) -> Mark | None:
        """Return the number if it matters to a request: `always`, or where a raise is due."""
        raised = self._raised
        is_due = raised is None or self._clock.monotonic() - raised >= RAISE_EVERY
        return self.read() if always or is_due else None

    def read(self) -> Mark:
        """Return the number as it stands."""
        row = self._table.get(_PARTITION, _KEY)
        data: dict[str, Any] = {} if row is None else dict(row.data)
        mark = Mark(number=data.get("number", 0), split=data.get("split", -1), row=row)
        self.last_read = mark.number
        return mark

    def accepted(self, mark: Mark | None) -> None:
        """Raise the number for a request that was accepted; `mark` was read before it was sent.

        If the row changed since, another request raised it, or a split was granted: nothing to do.
        """
        if mark is None:
            return
        with suppress(ConflictError):
            self._write(mark, number=mark.number + 1, split=mark.split)
            self._raised = self._clock.monotonic()

    def refused(self) -> None:
        """Let the next request of this instance that is accepted raise the number at once."""
        self._raised = None

    def may_split(self) -> bool:
        """Take the right to split one refused chunk, if there is one now.

        Called twice: the second time there is none.
        """
        for _ in range(_GRANT_TRIES):
            mark = self.read()
            if mark.number <= mark.split and not mark.is_unwritten_for_long:
                return False
            with suppress(ConflictError):
                self._write(mark, number=mark.number, split=mark.number)
                return True
        return False

    def _write(self, mark: Mark, *, number: int, split: int) -> None:
        data: dict[str, Value] = {"number": number, "split": split}
        put_over(self._table, Row(partition=_PARTITION, key=_KEY, data=data), known=mark.row)
