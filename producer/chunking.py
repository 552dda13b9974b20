"""How verdicts become chunks, and how far the checkpoint may move. Pure.

Chunks are filled across page borders. The checkpoint is the first object that is not dealt with:
it moves past a filtered object only while no indicator before it waits for its chunk, so it
never passes one that is not enqueued. Reading again from a checkpoint makes the same chunks,
with the same ids and numbers. This module does no I/O.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from common.envelope import (
    MAX_BODY_BYTES,
    MAX_NEW_ENVELOPE_BYTES,
    Envelope,
    chunk_id_of,
    encode_envelope,
    pack_body,
)
from common.ledger.runs import Counts, Cursor
from producer.indicators import FILTERED, UNCHANGED, Indicator, Invalid, Verdict, refused

SURELY_FITS: Final = 32 * 1024
"""An indicator of at most this many bytes fits in an envelope even if nothing compresses."""

BESIDES_THE_BODY: Final = 1024
"""A new envelope is at most this much larger than its body and its fingerprints, as packed."""

_PACKED_FINGERPRINT: Final = 11
"""Characters, rounded up: eight bytes in base64."""

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
    for end, verdict in enumerate(verdicts, start=page.offset + 1):
        # No `match`: its class patterns take a quarter of the time of all this.
        if verdict is FILTERED:
            tally.filtered += 1
        elif verdict is UNCHANGED:
            tally.unchanged += 1
        elif isinstance(verdict, Invalid):
            tally.invalid += 1
            invalid.append(verdict)
        elif len(verdict.body) > SURELY_FITS and not _fits_alone(verdict):
            tally.invalid += 1
            invalid.append(refused(verdict, TOO_LARGE))
        else:
            if not tally.waiting:
                tally.checkpoint(Cursor(token=page.token, offset=end - 1, page=page.number))
            tally.wait(verdict)
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
    body = b"[" + b",".join([indicator.body for indicator in indicators]) + b"]"
    envelope = Envelope(
        run_id=run_id,
        chunk_id=chunk_id_of(body),
        sequence=sequence,
        count=len(indicators),
        body=body,
        fingerprints=tuple([indicator.fingerprint for indicator in indicators]),
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
        return Cursor(token=page.token, offset=end, page=page.number, done=True)
    return Cursor(token=page.next_token, offset=0, page=page.number + 1)


def _fits(packed: PackedChunk) -> bool:
    if len(packed.envelope.body) > MAX_BODY_BYTES:
        return False
    body = len(packed.packed_body)
    fingerprints = _PACKED_FINGERPRINT * packed.envelope.count
    if body + fingerprints + BESIDES_THE_BODY <= MAX_NEW_ENVELOPE_BYTES:
        return True
    try:
        return len(packed.text()) <= MAX_NEW_ENVELOPE_BYTES
    except ValueError:
        return False


def _fits_alone(indicator: Indicator) -> bool:
    try:
        pack([indicator], run_id="0" * 32, sequence=0)
    except ValueError:
        return False
    return True


class _Tally:
    """The counts of one page while they are made; plain integers, as this is the hot loop."""

    def __init__(self, progress: Progress) -> None:
        self.waiting = list(progress.waiting)
        self.sequence = progress.cursor.sequence
        self.filtered = self.unchanged = self.invalid = 0
        self._enqueued = self._other = 0
        self._before = progress
        self._cursor: Cursor | None = None
        self._checkpoint = self._seen()

    def wait(self, indicator: Indicator) -> None:
        self.waiting.append(indicator)
        self._enqueued += 1
        if indicator.other_kind:
            self._other += 1

    def emptied(self, packed: Sequence[PackedChunk]) -> None:
        self.sequence += len(packed)
        self.waiting = []

    def checkpoint(self, cursor: Cursor) -> None:
        """Move the checkpoint to `cursor`, with everything counted so far behind it."""
        self._cursor = cursor
        self._checkpoint = self._seen()

    def progress(self, reached: Cursor) -> Progress:
        before, ahead = self._before, _counts(self._checkpoint, self._seen())
        if self._cursor is None:
            cursor, counts, ahead = before.cursor, before.counts, before.ahead + ahead
        else:
            cursor = replace(self._cursor, sequence=self._checkpoint.sequence)
            counts = before.counts + before.ahead + _counts(_NOTHING_SEEN, self._checkpoint)
        return Progress(
            cursor=cursor, counts=counts, waiting=tuple(self.waiting), ahead=ahead, reached=reached
        )

    def _seen(self) -> "_Seen":
        return _Seen(
            self.sequence,
            self.filtered,
            self.unchanged,
            self.invalid,
            self._enqueued,
            self._other,
        )


class _Seen(NamedTuple):
    """What a page has brought up to a point in it."""

    sequence: int = 0
    filtered: int = 0
    unchanged: int = 0
    invalid: int = 0
    enqueued: int = 0
    other_kind: int = 0


_NOTHING_SEEN: Final = _Seen()


def _counts(start: _Seen, end: _Seen) -> Counts:
    """Return what was counted from one point to another."""
    filtered = end.filtered - start.filtered
    unchanged = end.unchanged - start.unchanged
    invalid = end.invalid - start.invalid
    enqueued = end.enqueued - start.enqueued
    return Counts(
        fetched=filtered + unchanged + invalid + enqueued,
        filtered=filtered,
        invalid=invalid,
        unchanged=unchanged,
        enqueued=enqueued,
        other_kind=end.other_kind - start.other_kind,
    )
