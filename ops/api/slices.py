"""Lists and long work in parts: a page of a list, a slice of an act.

Both continue from a token: the place of the last row, in an order that does not change while rows
come and go. One kind of row may move: an invalid record that Lumen lists again becomes the newest
rejection, so pages that are read meanwhile may miss it. A slice works for `SLICE` seconds and says
how much is left.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched, chain
from typing import Any, Final

from common.clock import Clock
from common.errors import HaltError, TryLaterError
from common.transport import time_left

SLICE: Final = 18.0
"""Seconds after which a slice begins no further item."""

LOOK_AHEAD: Final = 1000
"""Items that a slice reads behind the first slice: what the storage gives in one answer, and more
than there is time for, as each takes several calls to the storage."""

NAMED_AHEAD: Final = 100
"""The same for items that are given by their names: each takes a call to read."""

COUNT: Final = 3.0
"""Seconds for counting what is left, behind the slice."""

MARGIN: Final = 6.0
"""Seconds before the end of a call in which nothing begins: an item may need that long."""

BATCH: Final = 25
"""Items of a batch: a replay reserves the send slots of one at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page[T]:
    """Some rows of a list, how many there are in all, and the token behind the last, if any."""

    rows: Sequence[T]
    total: int
    next: str | None


def token_of(at: datetime, name: str) -> str:
    """Return the place of a row in the order of time, then name. Pure."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%S%f} {name}"


def page_of[T](
    rows: Iterable[T],
    *,
    token: Callable[[T], str],
    after: str,
    limit: int,
    newest_first: bool = False,
) -> Page[T]:
    """Return at most `limit` rows behind the token `after`; the oldest first, or the newest."""
    ordered = sorted(rows, key=token, reverse=newest_first)
    rest = [row for row in ordered if _is_behind(token(row), after, newest_first=newest_first)]
    shown = rest[:limit]
    has_more = len(rest) > len(shown)
    return Page(rows=shown, total=len(ordered), next=token(shown[-1]) if has_more else None)


def _is_behind(token: str, after: str, *, newest_first: bool) -> bool:
    if not after:
        return True
    return token < after if newest_first else token > after


def time_for(clock: Clock, seconds: float = SLICE, *, margin: float = MARGIN) -> Callable[[], bool]:
    """Return whether there is time to go on: asked before each item.

    So many seconds from now, and no longer than the call as a whole has, but for the margin.
    """
    end = clock.monotonic() + min(seconds, time_left() - margin)
    return lambda: clock.monotonic() < end


def slice_of[T](
    chosen: Sequence[T],
    *,
    token: Callable[[T], str],
    after: str,
    handle: Callable[[Sequence[T]], Iterator[Any]],
    describe: Callable[[Any], dict[str, Any]],
    clock: Clock,
    at_most: int | None = None,
) -> dict[str, Any]:
    """Handle the chosen items, oldest first, until the time is up; return the answer.

    One item at least, and `at_most` so many. `handle` yields one result an item, in order;
    `describe` returns it with its `result`. A fault after the first item ends the slice, so that
    the answer says what was done; the next call meets the fault first.
    """
    todo = page_of(chosen, token=token, after=after, limit=len(chosen) or 1).rows
    go_on = time_for(clock)
    done: list[dict[str, Any]] = []
    batches = batched(todo, BATCH, strict=False)
    try:
        for item in chain.from_iterable(handle(batch) for batch in batches):
            done.append(describe(item))
            if len(done) == at_most or not go_on():
                break
    except (HaltError, TryLaterError):
        if not done:
            raise
    left = len(todo) - len(done)
    return {
        "handled": done,
        "totals": dict(Counter(item["result"] for item in done)),
        "remaining": left,
        "next": token(todo[len(done) - 1]) if left else None,
    }
