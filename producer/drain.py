"""Pages to messages: fetch one page while the page before it is put on the queue.

The order of the writes is what keeps indicators from being lost: messages, then their chunk
rows, then the checkpoint. A crash between any two of them repeats work and loses none. No more
than two pages are ever held, whatever the size of the feed. Threads here fetch and send; they
log nothing and write no row.
"""

import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from common.backoff import Backoff, call_with_retries
from common.clock import Clock
from common.errors import GapError, OutOfTimeError
from common.ledger import Ledger
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.runs import Cursor, RunRow
from common.queues import SendQueue
from producer.chunking import (
    FilledPage,
    InvalidRecord,
    PackedChunk,
    PageAt,
    Progress,
    fill_chunks,
    flush_chunks,
)
from producer.indicators import Filters, judge
from producer.lumen import Page

SENDERS: Final = 8
"""Threads that enqueue a page's chunks side by side."""

MAX_INVALID_KEPT: Final = 1000
"""Invalid records of one page that are kept with their content; the rest is only counted, so
that a feed that is wrong as a whole does not become a million rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainConfig:
    """The settings that draining obeys."""

    filters: Filters
    chunk_size: int = 100
    max_pages: int = 1000


class Sender:
    """Puts chunks on the queue and records that they are there."""

    def __init__(
        self,
        *,
        queue: SendQueue,
        ledger: Ledger,
        backoff: Backoff,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._backoff = backoff
        self._clock = clock
        self._rng = rng

    def enqueue(self, chunks: tuple[PackedChunk, ...], pool: ThreadPoolExecutor) -> None:
        """Enqueue `chunks`, then write their rows.

        Called twice: two messages and one row a chunk. If it dies halfway: some messages have
        no row yet; the consumer writes it.
        """
        for _ in pool.map(self._send, chunks):
            pass
        if chunks:
            self._ledger.chunks.record_enqueued(
                [chunk.envelope for chunk in chunks], at=self._clock.now()
            )

    def keep_invalid(self, run_id: str, records: tuple[InvalidRecord, ...]) -> None:
        """Keep a page's invalid records with reason and content; called twice: the same rows."""
        now = self._clock.now()
        self._ledger.rejections.record(
            Rejection(
                run_id=run_id,
                position=f"page-{record.page:06d}-{record.index:06d}",
                rejected_by=RejectedBy.VALIDATION,
                indicator_id=record.invalid.indicator_id,
                pattern=record.invalid.pattern,
                reason=record.invalid.reason,
                content=record.invalid.content,
                at=now,
            )
            for record in records[:MAX_INVALID_KEPT]
        )

    def _send(self, chunk: PackedChunk) -> None:
        call_with_retries(
            lambda: self._queue.send(chunk.text),
            backoff=self._backoff,
            clock=self._clock,
            rng=self._rng,
        )


def drain_pages(
    row: RunRow,
    first: Page | None,
    *,
    fetch: Callable[[str | None], Page],
    sender: Sender,
    config: DrainConfig,
    keep_going: Callable[[], None],
) -> None:
    """Put everything from the row's cursor to the feed's end on the queue.

    `first` is the page at the cursor if it is already here. `fetch` runs on a thread of its
    own, `keep_going` between pages; what either raises stops the run at its last checkpoint.
    Raises `GapError` when paging goes in circles, `OutOfTimeError` at `max_pages`.
    """
    cursor = row.run.cursor or Cursor()
    at = PageAt(token=cursor.token, number=cursor.page, offset=cursor.offset)
    progress = Progress(cursor=cursor, counts=row.run.counts)
    seen = {cursor.token}
    with (
        ThreadPoolExecutor(1, "lumen-page") as fetcher,
        ThreadPoolExecutor(SENDERS, "enqueue") as pool,
    ):
        page = first or fetcher.submit(fetch, at.token).result()
        for number in range(1, config.max_pages + 1):
            at = replace(at, next_token=page.next_token)
            upcoming: Future[Page] | None = None
            if page.next_token and page.next_token not in seen and number < config.max_pages:
                upcoming = fetcher.submit(fetch, page.next_token)
            filled = _fill(progress, page, at, row.run.run_id, config)
            _store(row, filled, sender, pool)
            progress = filled.progress
            if page.next_token is None:
                _store(row, flush_chunks(progress, run_id=row.run.run_id), sender, pool)
                return
            if page.next_token in seen:
                raise GapError("Lumen's paging repeats a token; the pages behind it are missing")
            if upcoming is None:
                break
            keep_going()
            seen.add(page.next_token)
            at = PageAt(token=page.next_token, number=at.number + 1)
            page = upcoming.result()
    raise OutOfTimeError(f"reached MAX_PAGES ({config.max_pages}); the next tick goes on")


def _fill(
    progress: Progress, page: Page, at: PageAt, run_id: str, config: DrainConfig
) -> FilledPage:
    verdicts = (judge(record, config.filters) for record in page.objects[at.offset :])
    return fill_chunks(progress, verdicts, page=at, run_id=run_id, size=config.chunk_size)


def _store(row: RunRow, filled: FilledPage, sender: Sender, pool: ThreadPoolExecutor) -> None:
    """Enqueue, keep, and only then move the checkpoint."""
    sender.enqueue(filled.chunks, pool)
    sender.keep_invalid(row.run.run_id, filled.invalid)
    row.save(cursor=filled.progress.cursor, counts=filled.progress.counts)
