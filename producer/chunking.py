"""How verdicts become chunks, and how far the checkpoint may move. Pure.

Chunks are filled across page borders. The checkpoint is the first object that is not dealt with:
it moves past a filtered object only while no indicator before it waits for its chunk, so it
never passes one that is not enqueued. Reading again from a checkpoint makes the same chunks,
with the same ids and numbers. This module does no I/O.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from common.envelope import (
    MAX_BODY_BYTES,
    MAX_NEW_ENVELOPE_BYTES,
    Envelope,
    chunk_id_of,
    encode_envelope,
    pack_body,
)
from common.ledger.runs import Counts, Cursor
from producer.indicators import Filtered, Indicator, Invalid, Unchanged, Verdict

SURELY_FITS: Final = 32 * 1024
"""An indicator of at most this many bytes fits in an envelope even if nothing compresses."""

TOO_LARGE: Final = "does not fit in a queue message of 64 KiB, even alone and compressed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedChunk:
    """A chunk ready to be enqueued: its envelope, and the body as it stands in the message."""

    envelope: Envelope
    packed_body: str

    def text(self, *, slot: float | None = None, trace_parent: str = "") -> str:
        """Return the message text for a send slot (seconds since 1970)."""
        envelope = replace(self.envelope, slot=slot, trace_parent=trace_parent)
        return encode_envelope(envelope, packed_body=self.packed_body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come.

    `cursor` and `counts` are the checkpoint: safe to store once every chunk returned so far is
    enqueued. `waiting` are the indicators behind it that wait for their chunk to fill, and
    `ahead` counts everything behind it that was read, up to `reached` (None: nothing yet).
    """

    cursor: Cursor
    counts: Counts
    waiting: tuple[Indicator, ...] = ()
    ahead: Counts = field(default_factory=Counts)
    reached: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledPage:
    """What a page added: chunks to enqueue and invalid records to keep, then `progress`."""

    progress: Progress
    chunks: tuple[PackedChunk, ...]
    invalid: tuple[Invalid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAt:
    """Where a page stands in its run: the token it was fetched with, its number, the next."""

    token: str | None
    number: int
    next_token: str | None = None
    offset: int = 0
    """Index of the first verdict given; what lies before was dealt with earlier."""


def fill_chunks(
    progress: Progress,
    verdicts: Iterable[Verdict],
    *,
    page: PageAt,
    run_id: str,
    size: int,
) -> FilledPage:
    """Return the chunks that `verdicts`, the objects of `page` in order, complete."""
    tally = _Tally(progress)
    chunks: list[PackedChunk] = []
    invalid: list[Invalid] = []
    end = page.offset
    for index, verdict in enumerate(map(_refuse_too_large, verdicts), start=page.offset):
        end = index + 1
        match verdict:
            case Indicator():
                if not tally.waiting:
                    tally.checkpoint(Cursor(token=page.token, offset=index, page=page.number))
                tally.waiting.append(verdict)
            case Invalid():
                invalid.append(verdict)
            case Filtered() | Unchanged():
                pass
        tally.count(verdict)
        if len(tally.waiting) == size:
            packed = pack(tally.waiting, run_id=run_id, sequence=tally.sequence)
            chunks.extend(packed)
            tally.emptied(packed)
    reached = _after(page, end)
    if not tally.waiting:
        tally.checkpoint(reached)
    return FilledPage(
        progress=tally.progress(reached), chunks=tuple(chunks), invalid=tuple(invalid)
    )


def flush_chunks(progress: Progress, *, run_id: str) -> FilledPage:
    """Return the chunk of what still waits, and the checkpoint behind everything read."""
    reached = progress.reached or progress.cursor
    tally = _Tally(progress)
    packed: list[PackedChunk] = []
    if tally.waiting:
        packed = pack(tally.waiting, run_id=run_id, sequence=tally.sequence)
        tally.emptied(packed)
    tally.checkpoint(reached)
    return FilledPage(progress=tally.progress(reached), chunks=tuple(packed), invalid=())


def pack(indicators: Sequence[Indicator], *, run_id: str, sequence: int) -> list[PackedChunk]:
    """Return `indicators` as one chunk, or as the halves of it that fit in a message."""
    body = b"[" + b",".join(indicator.body for indicator in indicators) + b"]"
    envelope = Envelope(
        run_id=run_id,
        chunk_id=chunk_id_of(body),
        sequence=sequence,
        count=len(indicators),
        body=body,
        fingerprints=tuple(indicator.fingerprint for indicator in indicators),
    )
    packed = PackedChunk(envelope=envelope, packed_body=pack_body(body))
    if _fits(packed):
        return [packed]
    if len(indicators) == 1:
        raise ValueError("an indicator that does not fit alone must be refused before")
    middle = len(indicators) // 2
    first = pack(indicators[:middle], run_id=run_id, sequence=sequence)
    second = pack(indicators[middle:], run_id=run_id, sequence=sequence + len(first))
    return first + second


def _after(page: PageAt, end: int) -> Cursor:
    if page.next_token is None:
        return Cursor(token=page.token, offset=end, page=page.number)
    return Cursor(token=page.next_token, offset=0, page=page.number + 1)


def _fits(packed: PackedChunk) -> bool:
    if len(packed.envelope.body) > MAX_BODY_BYTES:
        return False
    try:
        return len(packed.text()) <= MAX_NEW_ENVELOPE_BYTES
    except ValueError:
        return False


def _refuse_too_large(verdict: Verdict) -> Verdict:
    if not isinstance(verdict, Indicator) or len(verdict.body) <= SURELY_FITS:
        return verdict
    try:
        pack([verdict], run_id="0" * 32, sequence=0)
    except ValueError:
        return Invalid(reason=TOO_LARGE, indicator_id="", pattern="", content=verdict.body)
    return verdict


class _Tally:
    """The counts of one page while they are made; plain integers, as this is the hot loop."""

    def __init__(self, progress: Progress) -> None:
        self.waiting = list(progress.waiting)
        self.sequence = progress.cursor.sequence
        self._cursor = progress.cursor
        self._counts = progress.counts
        self._ahead = progress.ahead
        self._reset()

    def _reset(self) -> None:
        self._fetched = self._filtered = self._invalid = 0
        self._unchanged = self._enqueued = self._other = 0

    def count(self, verdict: Verdict) -> None:
        self._fetched += 1
        match verdict:
            case Indicator(other_kind=other):
                self._enqueued += 1
                self._other += other
            case Filtered():
                self._filtered += 1
            case Unchanged():
                self._unchanged += 1
            case Invalid():
                self._invalid += 1

    def emptied(self, packed: Sequence[PackedChunk]) -> None:
        self.sequence += len(packed)
        self.waiting = []

    def checkpoint(self, cursor: Cursor) -> None:
        """Move the checkpoint to `cursor`, with everything counted so far behind it."""
        self._cursor = replace(cursor, sequence=self.sequence)
        self._counts = self._counts + self._counted()
        self._ahead = Counts()
        self._reset()

    def progress(self, reached: Cursor) -> Progress:
        return Progress(
            cursor=self._cursor,
            counts=self._counts,
            waiting=tuple(self.waiting),
            ahead=self._counted(),
            reached=reached,
        )

    def _counted(self) -> Counts:
        return self._ahead + Counts(
            fetched=self._fetched,
            filtered=self._filtered,
            invalid=self._invalid,
            unchanged=self._unchanged,
            enqueued=self._enqueued,
            other_kind=self._other,
        )
