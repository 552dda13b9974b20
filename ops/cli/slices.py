"""Lists and long work over an API that answers in parts: all pages, all slices.

Each call handles what it can and says how much is left, so stopping half-way loses nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from ops.cli.ending import BAD_NEWS, Failure
from ops.cli.screen import note, progress
from ops.cli.transport import Answer, Transport, act, read

PAGE: Final = 1000
"""Rows of one call, at most: the API's own limit."""

NOWHERE: Final = "the time of one call was not enough to do any: the storage is slow, try later"

SHOWN: Final = 100
"""Rows of a table where nothing else is asked for."""


def read_list(
    transport: Transport, path: str, *, rows: str, limit: int | None, **params: object
) -> tuple[list[Answer], Answer]:
    """Return up to `limit` rows of a list (None: all), and the first page's answer."""
    found: list[Answer] = []
    first: Answer = {}
    after = ""
    while True:
        wanted = PAGE if limit is None else min(PAGE, limit - len(found))
        page = read(transport, path, limit=wanted, after=after, **params)
        first = first or page
        found += page[rows]
        after = page.get("next") or ""
        if not after or (limit is not None and len(found) >= limit):
            return found, first


def carry_out(
    transport: Transport, path: str, *, what: str, **params: object
) -> tuple[list[Answer], Failure | None]:
    """Do an act slice by slice; return what was done with each item.

    If a later slice fails, the results so far are returned with the failure.
    """
    handled: list[Answer] = []
    after: Any = ""
    total = 0
    with progress(what) as bar:
        while True:
            try:
                answer = act(transport, path, after=after, **params)
            except Failure as failure:
                if not handled:
                    raise
                return handled, failure
            handled += answer["handled"]
            left = int(answer.get("remaining") or 0)
            if not left:
                return handled, None
            total = max(total, len(handled) + left)  # a later slice may count less far
            bar.show(done=len(handled), total=total)
            after = answer["next"]


def add_up(
    transport: Transport, path: str, *, what: str, counts: Sequence[str], **params: object
) -> tuple[Answer, Failure | None]:
    """Do an act that answers with `counts` until nothing remains; return the last answer, summed.

    Where a later call fails, or one gets nowhere, what was done before is returned with the
    failure.
    """
    done: Answer = {}
    with progress(what) as bar:
        while True:
            try:
                answer = act(transport, path, **params)
            except Failure as failure:
                if not done:
                    raise
                return done, failure
            done = _summed(done, answer, counts)
            if not answer["remaining"] or params.get("dry_run"):
                return done, None
            if not any(answer[name] for name in counts):
                return done, Failure(NOWHERE, status=BAD_NEWS)
            so_far = sum(int(done[name]) for name in counts)
            bar.show(done=so_far, total=so_far + int(answer["remaining"]))


def _summed(before: Answer, answer: Answer, counts: Sequence[str]) -> Answer:
    """Return an answer with its counts, and tables of counts, added to those before. Pure."""
    added: Answer = {name: before.get(name, 0) + answer[name] for name in counts}
    for name, value in answer.items():
        if isinstance(value, dict):
            added[name] = dict(Counter(before.get(name, {})) + Counter(value))
    return {**answer, **added}


def say_what_is_left(failure: Failure | None) -> None:
    """Say that work was cut short, and that the same command goes on."""
    if failure is not None:
        note(f"lumen-sentinel: {failure}")
        note("what is listed was done; the same command again does the rest")
