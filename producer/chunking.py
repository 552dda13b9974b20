"""How verdicts become chunks, and how far the checkpoint may move. Pure.

Chunks are filled across page borders. Two checkpoints say how far a run has come: `settled` is the
first object whose outcome is not stored, `reached` the first that was not read. The indicators
between the two wait for their chunk to fill; if none waits, the two are equal. So `settled` never
passes an indicator that is not in a chunk. This module does no I/O.
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
from common.ledger.runs import Checkpoint, Counts, Cursor
from common.records import pack_records
from producer.indicators import Indicator, Invalid, Verdict
from producer.versions import FILTERED, OLDER, UNCHANGED

SURELY_FITS: Final = 32 * 1024
"""An indicator of at most this many bytes fits in an envelope even if it is incompressible."""

BESIDES_THE_BODY: Final = 1024
"""A new envelope is at most this much larger than its body and its fingerprints, as packed."""

_PACKED_FINGERPRINT: Final = 11
"""Characters, rounded up: eight bytes in base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where chunks come from: the run, its epoch, and the ledger that has their rows."""

    run_id: str
    epoch: int = 1
    ledger_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedChunk:
    """A chunk ready to be enqueued: its envelope, and the body in the form of the message.

    `records` is what its row keeps. Older versions of the indicators in `supersedes` may still be
    on their way. `is_recent`: a request with one of those versions may be about to leave.
    """

    envelope: Envelope
    packed_body: str
    records: bytes
    supersedes: tuple[int, ...] = ()
    is_recent: bool = False

    def text(
        self, *, slot: float | None = None, due: float | None = None, trace_parent: str = ""
    ) -> str:
        """Return the message text for a send slot, or for the end of a delay (since 1970)."""
        envelope = replace(self.envelope, slot=slot, due=due, trace_parent=trace_parent)
        return encode_envelope(envelope, packed_body=self.packed_body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come; `waiting` are the indicators between the two checkpoints.

    `settled` is safe to store once every chunk returned so far is enqueued.
    """

    settled: Checkpoint = field(default_factory=Checkpoint)
    reached: Checkpoint = field(default_factory=Checkpoint)
    waiting: tuple[Indicator, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledPage:
    """What a page added: chunks to enqueue and invalid records to keep, then `progress`."""

    progress: Progress
    chunks: tuple[PackedChunk, ...]
    invalid: tuple[Invalid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAt:
    """The place of a page in its run: the token it was fetched with, its number, the next token."""

    token: str | None
    number: int
    next_token: str | None = None
    offset: int = 0
    """Index of the first verdict given; earlier objects were handled by an earlier tick."""


def fill_chunks(
    progress: Progress,
    verdicts: Iterable[Verdict],
    *,
    page: PageAt,
    origin: Origin,
    size: int,
) -> FilledPage:
    """Return the chunks that `verdicts`, the objects of `page` in order, complete.

    No chunk holds two versions of an indicator: the later one begins another chunk.
    """
    filling = _Filling(progress, origin)
    tally = _Tally(progress.reached.counts)
    invalid: list[Invalid] = []
    end = page.offset
    for end, verdict in enumerate(verdicts, start=page.offset + 1):
        # No `match`: its class patterns take a quarter of the time of all this.
        if type(verdict) is not Indicator:
            if verdict is FILTERED:
                tally.filtered += 1
            elif verdict is UNCHANGED:
                tally.unchanged += 1
            elif verdict is OLDER:
                tally.older += 1
            else:
                tally.invalid += 1
                invalid.append(verdict)  # type: ignore[arg-type] # the only one left
        else:
            if verdict.id_hash in filling.ids:
                filling.close_chunk()
            if not filling.waiting:
                filling.settle(_at(page, end - 1), tally.counts())
            filling.waiting.append(verdict)
            filling.ids.add(verdict.id_hash)
            tally.enqueued += 1
            tally.corrections += verdict.correction
            tally.other_kind += verdict.other_kind
            if len(filling.waiting) == size:
                filling.close_chunk()
    reached, counts = _behind(page, end), tally.counts()
    if not filling.waiting:
        filling.settle(reached, counts)
    return filling.result(reached, counts, invalid=invalid)


def flush_chunks(progress: Progress, *, origin: Origin) -> FilledPage:
    """Return the chunk of the waiting indicators, and the checkpoint behind everything read."""
    filling = _Filling(progress, origin)
    filling.close_chunk()
    reached = progress.reached
    filling.settle(reached.cursor, reached.counts)
    return filling.result(reached.cursor, reached.counts)


def fits(indicator: Indicator) -> bool:
    """Return whether an indicator fits in a message, alone."""
    if len(indicator.body) <= SURELY_FITS:
        return True
    try:
        chunks_of([indicator], origin=Origin(run_id="0" * 32), sequence=0)
    except ValueError:
        return False
    return True


def chunks_of(
    indicators: Sequence[Indicator], *, origin: Origin, sequence: int
) -> list[PackedChunk]:
    """Return `indicators` as one chunk, or as the halves of it that fit in a message."""
    body = b"[" + b",".join([indicator.body for indicator in indicators]) + b"]"
    envelope = Envelope(
        run_id=origin.run_id,
        chunk_id=chunk_id_of(body),
        sequence=sequence,
        epoch=origin.epoch,
        ledger_id=origin.ledger_id,
        count=len(indicators),
        body=body,
        fingerprints=tuple([indicator.fingerprint for indicator in indicators]),
    )
    known = [indicator for indicator in indicators if indicator.is_known]
    packed = PackedChunk(
        envelope=envelope,
        packed_body=pack_body(body),
        records=pack_records(indicators),
        supersedes=tuple([indicator.id_hash for indicator in known]),
        is_recent=any(indicator.is_recent for indicator in known),
    )
    if _fits(packed):
        return [packed]
    if len(indicators) == 1:
        raise ValueError("an indicator that does not fit alone must be refused before")
    middle = len(indicators) // 2
    first = chunks_of(indicators[:middle], origin=origin, sequence=sequence)
    second = chunks_of(indicators[middle:], origin=origin, sequence=sequence + len(first))
    return first + second


def _at(page: PageAt, offset: int) -> Cursor:
    return Cursor(token=page.token, offset=offset, page=page.number)


def _behind(page: PageAt, end: int) -> Cursor:
    """Return the place behind a page of `end` objects."""
    if page.next_token is None:
        return replace(_at(page, end), done=True)
    return Cursor(token=page.next_token, page=page.number + 1)


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


class _Filling:
    """The chunks of one page while they fill, and the checkpoint before the waiting indicators."""

    def __init__(self, progress: Progress, origin: Origin) -> None:
        self.waiting = list(progress.waiting)
        self.ids = {indicator.id_hash for indicator in progress.waiting}
        self._settled = progress.settled
        self._sequence = progress.reached.cursor.sequence
        self._origin = origin
        self._chunks: list[PackedChunk] = []

    def close_chunk(self) -> None:
        """Make a chunk of the waiting indicators, if there are any."""
        if self.waiting:
            packed = chunks_of(self.waiting, origin=self._origin, sequence=self._sequence)
            self._sequence += len(packed)
            self._chunks += packed
            self.waiting = []
            self.ids = set()

    def settle(self, cursor: Cursor, counts: Counts) -> None:
        """Move the checkpoint to `cursor`: nothing waits."""
        cursor = replace(cursor, sequence=self._sequence)
        self._settled = Checkpoint(cursor=cursor, counts=counts)

    def result(
        self, reached: Cursor, counts: Counts, *, invalid: Sequence[Invalid] = ()
    ) -> FilledPage:
        """Return the chunks, and how far the run has come."""
        cursor = replace(reached, sequence=self._sequence)
        return FilledPage(
            progress=Progress(
                settled=self._settled,
                reached=Checkpoint(cursor=cursor, counts=counts),
                waiting=tuple(self.waiting),
            ),
            chunks=tuple(self._chunks),
            invalid=tuple(invalid),
        )


class _Tally:
    """Counts while they are made; plain integers, as this is the hot loop."""

    def __init__(self, before: Counts) -> None:
        self._before = before
        self.filtered = self.unchanged = self.older = self.invalid = 0
        self.enqueued = self.corrections = self.other_kind = 0

    def counts(self) -> Counts:
        """Return everything counted so far."""
        left_out = self.filtered + self.unchanged + self.older + self.invalid
        return self._before + Counts(
            fetched=left_out + self.enqueued,
            filtered=self.filtered,
            invalid=self.invalid,
            unchanged=self.unchanged,
            older=self.older,
            enqueued=self.enqueued,
            corrections=self.corrections,
            other_kind=self.other_kind,
        )
