"""Lost chunks: close the rows of chunks whose message no longer exists.

A queue that was cleared leaves rows that wait for ever: the books stay open, and the indicators
count as on their way. No call to the storage shows an invisible message. So a chunk can be declared
lost only if three things hold. Its row was not written for longer than a message may be invisible,
by the storage's clock. No message is invisible now, because an invisible one may be in delivery. No
visible message belongs to the chunk or to a later release, which may be of any chunk. If the
message turns up later, it is acknowledged unsent.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from common.envelope import decode_envelope
from common.errors import LaterVersionError, PipelineError
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.states import ChunkState
from common.queues import MAX_DELAY, MAX_PEEKED, WatchedQueue
from ops.decisions import Decision

LOST_AFTER: Final = timedelta(seconds=MAX_DELAY)
"""The longest time that a message may be invisible."""

_TRIES: Final = 8


class Result(StrEnum):
    """What was done with one chunk."""

    LOST = "declared lost"
    WOULD_BE_LOST = "would be declared lost"
    HAS_MESSAGE = "its message is on the queue"
    KEPT_AS_POISON = "its message, or a part of it, is kept as poison: replay or discard it"
    TOO_YOUNG = "its row was written within the last seven days: a message may be invisible"
    CANNOT_TELL = "there are messages that cannot be looked at: try again when the queue is calm"
    NOTHING_WAITS = "nothing of it waits"
    GONE = "there is no such chunk: it is settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """One chunk, how many of its indicators wait, and what was done with it."""

    name: str
    indicators: int
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """The messages found: names of chunks with a visible message, or with kept poison."""

    visible: frozenset[str]
    kept: frozenset[str]
    is_all: bool
    """Whether every message was looked at: none was invisible or of a later release, and they were
    not too many."""


def candidates(ledger: Ledger) -> list[str]:
    """Return the names of the chunks with pending records, the oldest first."""
    return sorted(
        f"{chunk.run_id}/{chunk.key}"
        for chunk in ledger.chunks.outcomes()
        if chunk.fate.pending and not chunk.void and chunk.state is not ChunkState.OTHER
    )


def declare_lost(
    names: Iterable[str],
    *,
    ledger: Ledger,
    traces: Traces,
    at: datetime,
    by: str,
    note: str = "",
    dry_run: bool = False,
    older_than: timedelta = LOST_AFTER,
) -> Iterator[Handled]:
    """Declare chunks lost whose message cannot be found; yield what was done with each.

    `traces` is what `look_for_messages` found. Pending records count as discarded. Called twice:
    nothing is left to do. If it dies halfway: the next call continues. A row that is written at the
    same moment is read again.
    """
    reason = f"declared lost by {Decision(by=by, note=note).signed}"
    for name in names:
        yield _handle(
            name,
            traces,
            ledger=ledger,
            at=at,
            reason=reason,
            dry_run=dry_run,
            older_than=older_than,
        )


def judge(chunk: Chunk | None, name: str, traces: Traces, *, older_than: timedelta) -> Result:
    """Return whether a chunk may be declared lost (`WOULD_BE_LOST`), or why not. Pure.

    `chunk` must have been read with its age.
    """
    if chunk is None:
        return Result.GONE
    if not chunk.fate.pending or chunk.void or chunk.state is ChunkState.OTHER:
        return Result.NOTHING_WAITS
    if name in traces.visible:
        return Result.HAS_MESSAGE
    if name in traces.kept:
        return Result.KEPT_AS_POISON
    if not _is_old(chunk, older_than):
        return Result.TOO_YOUNG
    return Result.WOULD_BE_LOST if traces.is_all else Result.CANNOT_TELL


def _is_old(chunk: Chunk, older_than: timedelta) -> bool:
    """Whether a row was written long enough ago, by the storage's clock; False if unknown."""
    age = None if chunk.row is None else chunk.row.age
    return age is not None and age > older_than


def look_for_messages(ledger: Ledger, queues: Sequence[WatchedQueue]) -> Traces:
    """Look for messages on all `queues`, that of the uploads first, and for those that are kept.

    The first one is looked at again: messages move between them, both ways. A look is good for the
    seconds of a call: a message that comes later, of a row that nobody has written for seven days,
    can only be one that was kept.
    """
    visible: set[str] = set()
    is_all = True
    for queue in (*queues, queues[0]):
        texts = queue.peek()
        is_all = is_all and len(texts) < MAX_PEEKED and queue.depth() <= len(texts)
        for text in texts:
            try:
                visible.add(decode_envelope(text).name)
            except LaterVersionError:  # its chunk is not known here
                is_all = False
            except PipelineError:  # a message that cannot be read belongs to no chunk
                continue
    return Traces(
        visible=frozenset(visible),
        kept=frozenset(f"{entry.run_id}/{entry.chunk_key}" for entry in ledger.poison.entries()),
        is_all=is_all,
    )


def _handle(
    name: str,
    traces: Traces,
    *,
    ledger: Ledger,
    at: datetime,
    reason: str,
    dry_run: bool,
    older_than: timedelta,
) -> Handled:
    run_id, _, key = name.partition("/")
    pending, result = 0, Result.NOTHING_WAITS
    for _ in range(_TRIES):
        chunk = ledger.chunks.get(run_id, key)
        pending = 0 if chunk is None else chunk.fate.pending
        result = judge(chunk, name, traces, older_than=older_than)
        if dry_run or chunk is None or result is not Result.WOULD_BE_LOST:
            break
        if ledger.chunks.declare_lost(chunk, at=at, reason=reason):
            result = Result.LOST
            break
    return Handled(name=name, indicators=pending, result=result)
