"""The acceptance number: has Sentinel accepted anything since? One row of `control`, no clocks.

A sender reads the number before its request. If the request is accepted, the sender raises the
number by compare-and-swap on the row that it read. So after any moment, the second raise comes from
a request that was sent after that moment, because it saw the first raise. A failure stores the
number that it reads after its answer. A later failure counts if the number before its request was
at least two higher.

The same row grants splits: one for each raise, and one more a minute. A grant rewrites the row, so
a request that was under way during a grant does not raise the number. While everything is refused
there are no raises, and only one split a minute.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from common.clock import Clock
from common.errors import ConflictError
from common.ledger.tables import Row, Table, Tables, Value, put_over, read_value

TABLE: Final = "control"
_PARTITION: Final = "control"
_KEY: Final = "acceptance"

RAISE_EVERY: Final = 5.0
"""Seconds between two raises of one instance, so that not every chunk costs an operation."""

ENOUGH_RAISES: Final = 2
"""After this many raises, something that was sent after the failure was surely accepted."""

PROBE_EVERY: Final = timedelta(minutes=1)
"""Time between two splits of the whole app while nothing is accepted, by the storage's clock."""

_GRANT_TRIES: Final = 4

WAITS_FOR_PROOF: Final = "Sentinel refused this: it waits until Sentinel accepts something else"
"""The reason stored with a chunk whose refusal does not count yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The row as it was read: the number, and the number at the last split (-1: never)."""

    number: int
    split: int
    row: Row | None

    @property
    def is_unwritten_for_long(self) -> bool:
        """Whether no raise and no split was written for `PROBE_EVERY`."""
        age = None if self.row is None else self.row.age
        return age is None or age >= PROBE_EVERY


class Acceptance:
    """The row, for one instance. Safe to use from several threads."""

    def __init__(self, tables: Tables, *, clock: Clock) -> None:
        self._table: Table = tables.table(TABLE)
        self._clock = clock
        self._raised: float | None = None
        self.last_read = 0
        """The number that this instance read last."""

    def before_request(self, *, always: bool) -> Mark | None:
        """Return the number if a request needs it: `always`, or if a raise is due."""
        raised = self._raised
        is_due = raised is None or self._clock.monotonic() - raised >= RAISE_EVERY
        return self.read() if always or is_due else None

    def read(self) -> Mark:
        """Return the current number."""
        row = self._table.get(_PARTITION, _KEY)
        number, split = (read_value(row, name, int) for name in ("number", "split"))
        mark = Mark(number=number or 0, split=-1 if split is None else split, row=row)
        self.last_read = mark.number
        return mark

    def accepted(self, mark: Mark | None) -> None:
        """Raise the number for a request that was accepted; `mark` was read before it was sent.

        If the row has changed, another request raised it or a split was granted: nothing to do.
        """
        if mark is None:
            return
        with suppress(ConflictError):
            self._write(mark, number=mark.number + 1, split=mark.split)
            self._raised = self._clock.monotonic()

    def refused(self) -> None:
        """Let this instance's next accepted request raise the number at once."""
        self._raised = None

    def may_split(self) -> bool:
        """Take the permission to split one refused chunk, if one is available now.

        Called twice: the second call gets none.
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
