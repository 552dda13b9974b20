"""Pages to messages: fetch one page while the page before it is put on the queue.

The order of the writes is what keeps indicators from being lost: messages, then their chunk
rows, then the checkpoint. A crash between any two of them repeats work and loses none. No more
than two pages are ever held, whatever the size of the feed. Threads here fetch and send; they
log nothing and write no row.
"""

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import repeat
from typing import Final

from common.backoff import Backoff, call_with_retries
from common.clock import Clock
from common.envelope import MAX_CHUNKS
from common.errors import GapError, LeaseLostError, OutOfTimeError, PipelineError
from common.fingerprints import KnownVersions
from common.ledger import Ledger
from common.ledger.rejections import INVALID, RejectedBy, Rejection
from common.ledger.runs import Cursor, RunRow
from common.ledger.slots import Slots
from common.queues import SendQueue
from producer.chunking import (
    FilledPage,
    PackedChunk,
    PageAt,
    Progress,
    fill_chunks,
    flush_chunks,
)
from producer.indicators import Filters, Invalid, judge_all
from producer.lumen import Page

SENDERS: Final = 8
"""Threads that enqueue a page's chunks side by side."""

MAX_INVALID_KEPT: Final = 1000
"""Invalid records of one page that are kept with their content; the rest is only counted, so
that a feed that is wrong as a whole does not become a million rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainConfig:
    """The settings that draining obeys; `trace_parent` names the invocation in the envelopes."""

    filters: Filters
    chunk_size: int = 100
    max_pages: int = 1000
    trace_parent: str = ""


class Sender:
    """Puts chunks on the queue, each for its send slot, and records that they are there."""

    def __init__(
        self,
        *,
        queue: SendQueue,
        ledger: Ledger,
        slots: Slots,
        backoff: Backoff,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._slots = slots
        self._backoff = backoff
        self._clock = clock
        self._rng = rng

    def enqueue(
        self,
        chunks: tuple[PackedChunk, ...],
        pool: ThreadPoolExecutor,
        *,
        trace_parent: str = "",
        give_up_at: float | None = None,
    ) -> None:
        """Reserve slots for `chunks`, enqueue them, then write their rows.

        Each is tried at least once; `give_up_at` ends the tries of those that fail.
        Called twice: two messages and one row a chunk. If it dies halfway: some slots stay
        unused, and some messages have no row yet; the consumer writes it.
        """
        if chunks:
            reserved = self._slots.reserve(len(chunks))
            slots = map(reserved.slot, range(len(chunks)))
            more = repeat(trace_parent), repeat(give_up_at)
            for _ in pool.map(self._send, chunks, slots, *more):
                pass
            self._ledger.chunks.record_enqueued(
                [chunk.envelope for chunk in chunks], at=self._clock.now()
            )

    def keep_invalid(self, records: tuple[Invalid, ...]) -> None:
        """Keep a page's invalid records with reason and content; called twice: the same rows."""
        now = self._clock.now()
        self._ledger.rejections.record(
            Rejection(
                run_id=INVALID,
                position=hashlib.sha256(record.content).hexdigest(),
                rejected_by=RejectedBy.VALIDATION,
                indicator_id=record.indicator_id,
                pattern=record.pattern,
                reason=record.reason,
                content=record.content,
                at=now,
            )
            for record in records[:MAX_INVALID_KEPT]
        )

    def _send(
        self, chunk: PackedChunk, slot: datetime, trace_parent: str, give_up_at: float | None
    ) -> None:
        text = chunk.text(slot=slot.timestamp(), trace_parent=trace_parent)
        call_with_retries(
            lambda: self._queue.send(text, delay=self._until(slot)),
            backoff=self._backoff,
            clock=self._clock,
            rng=self._rng,
            give_up_at=give_up_at,
        )

    def _until(self, slot: datetime) -> float:
        return (slot - self._clock.now()).total_seconds()


def drain_pages(
    row: RunRow,
    first: Page | None,
    *,
    fetch: Callable[[str | None], Page],
    sender: Sender,
    config: DrainConfig,
    known: KnownVersions,
    keep_going: Callable[[], None],
    give_up_at: float | None = None,
) -> None:
    """Put everything from the row's cursor to the feed's end on the queue.

    `first` is the page at the cursor if it is already here, `known` what need not be
    sent. `fetch` runs on a thread of its own, `keep_going` between pages; what either
    raises stops the run. Raises `GapError` when paging goes in circles, `OutOfTimeError` at
    `max_pages`. Guarantee: whatever stops the run in good order, what was read is on the queue
    and the cursor behind it: nobody may be able to read those pages again.
    """
    start = row.run.cursor or Cursor()
    with (
        ThreadPoolExecutor(1, "lumen-page") as fetcher,
        ThreadPoolExecutor(SENDERS, "enqueue") as pool,
    ):
        store = _Store(row, sender, config, known, pool, give_up_at=give_up_at)
        stop: PipelineError | None = None
        try:
            _read_pages(
                start, first, fetch=fetch, fetcher=fetcher, store=store, keep_going=keep_going
            )
        except LeaseLostError:
            raise  # another instance goes on with this run
        except PipelineError as error:
            stop = error
        if store.is_sound and (stop is None or store.is_waiting):
            store.flush()
        if stop is not None:
            raise stop


def _read_pages(
    start: Cursor,
    first: Page | None,
    *,
    fetch: Callable[[str | None], Page],
    fetcher: ThreadPoolExecutor,
    store: "_Store",
    keep_going: Callable[[], None],
) -> None:
    """Store each page while the next one is fetched."""
    max_pages = store.config.max_pages
    at = PageAt(token=start.token, number=start.page, offset=start.offset)
    seen = {start.token}
    page = first or fetcher.submit(fetch, at.token).result()
    for number in range(1, max_pages + 1):
        at = replace(at, next_token=page.next_token)
        upcoming: Future[Page] | None = None
        if page.next_token and page.next_token not in seen and number < max_pages:
            upcoming = fetcher.submit(fetch, page.next_token)
        store.take(page, at)
        if page.next_token is None:
            return
        if page.next_token in seen:
            raise GapError("Lumen's paging repeats a token; the pages behind it are missing")
        if upcoming is None:
            break
        if store.progress.cursor.sequence > MAX_CHUNKS // 2:
            raise GapError(
                f"the run has more than {MAX_CHUNKS // 2} chunks; set a larger CHUNK_SIZE"
            )
        keep_going()
        seen.add(page.next_token)
        at = PageAt(token=page.next_token, number=at.number + 1)
        page = upcoming.result()
    raise OutOfTimeError(f"reached MAX_PAGES ({max_pages}); the next tick goes on")


class _Store:
    """The writes of a run in their order: enqueue, keep, and only then move the checkpoint."""

    def __init__(
        self,
        row: RunRow,
        sender: Sender,
        config: DrainConfig,
        known: KnownVersions,
        pool: ThreadPoolExecutor,
        *,
        give_up_at: float | None,
    ) -> None:
        self.config = config
        self._known = known
        self.progress = Progress(cursor=row.run.cursor or Cursor(), counts=row.run.counts)
        self._row = row
        self._sender = sender
        self._pool = pool
        self._give_up_at = give_up_at
        self.is_sound = True
        """Whether the last write came to its end; after one that did not, none is tried."""

    @property
    def is_waiting(self) -> bool:
        """Whether something was read that is not yet behind the cursor."""
        return bool(self.progress.waiting)

    def take(self, page: Page, at: PageAt) -> None:
        """Store the chunks that a page completes."""
        config = self.config
        verdicts = judge_all(page.objects[at.offset :], config.filters, self._known)
        self._write(
            fill_chunks(
                self.progress,
                verdicts,
                page=at,
                run_id=self._row.run.run_id,
                size=config.chunk_size,
            )
        )

    def flush(self) -> None:
        """Store what still waits for its chunk to fill."""
        self._write(flush_chunks(self.progress, run_id=self._row.run.run_id))

    def _write(self, filled: FilledPage) -> None:
        self.is_sound = False
        self._sender.enqueue(
            filled.chunks,
            self._pool,
            trace_parent=self.config.trace_parent,
            give_up_at=self._give_up_at,
        )
        self._sender.keep_invalid(filled.invalid)
        self._row.save(cursor=filled.progress.cursor, counts=filled.progress.counts)
        self.progress = filled.progress
        self.is_sound = True
