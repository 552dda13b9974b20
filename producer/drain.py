"""Pages to messages: fetch one page while the page before it is put on the queue.

The order of the writes keeps indicators from being lost and old versions from winning: first the
rows of the chunks, with the head of the run; then older versions are struck; then the messages;
then the checkpoint. A crash between any two of them repeats work and loses none. At most two pages
are in memory, whatever the size of the feed. Threads here fetch and send; they log nothing and
write no row.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import batched, chain, count, repeat
from typing import Final

from common.backoff import Backoff, call_with_retries
from common.clock import Clock
from common.delivery import LONGEST_DELIVERY
from common.envelope import MAX_CHUNKS
from common.errors import GapError, LeaseLostError, OutOfTimeError, PipelineError
from common.ledger import Ledger
from common.ledger.chunks import Chunk, insertion, row_of
from common.ledger.rejections import INVALID, RejectedBy, Rejection, position_of
from common.ledger.runs import ROWS_A_WRITE, Head
from common.ledger.slots import Slots
from common.queues import SendQueue
from producer.chunking import (
    FilledPage,
    Origin,
    PackedChunk,
    PageAt,
    Progress,
    fill_chunks,
    fits,
    flush_chunks,
)
from producer.indicators import Filters, Invalid, judge_page
from producer.known import Known
from producer.lumen import Page
from producer.paging import Trail
from producer.versions import Policy
from producer.wishes import judge_wishes

SENDERS: Final = 8
"""Threads that enqueue a page's chunks side by side."""

MAX_INVALID_KEPT: Final = 1000
"""Invalid records of one tick that are kept with their content. The rest is only counted, so that a
feed of invalid objects does not become a million rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainConfig:
    """The settings that draining obeys; `trace_parent` names the invocation in the envelopes.

    `destination` is the workspace that the chunks are meant for.
    """

    filters: Filters
    destination: str = ""
    chunk_size: int = 100
    max_pages: int = 1000
    trace_parent: str = ""


class Sender:
    """Writes chunks into the ledger and puts them on the queue, each for its send slot."""

    def __init__(
        self,
        *,
        queue: SendQueue,
        ledger: Ledger,
        slots: Slots,
        backoff: Backoff,
        clock: Clock,
        rng: random.Random,
        threads: Callable[[int, str], Executor] = ThreadPoolExecutor,
    ) -> None:
        """`threads` makes a pool of so many threads of a name."""
        self.threads = threads
        self._queue = queue
        self._ledger = ledger
        self._slots = slots
        self._backoff = backoff
        self._clock = clock
        self._rng = rng

    def enqueue(
        self,
        chunks: tuple[PackedChunk, ...],
        *,
        head: Head,
        known: Known,
        config: DrainConfig,
        pool: Executor,
        give_up_at: float | None = None,
    ) -> None:
        """Write the rows of `chunks`, strike what they supersede, then enqueue them.

        Each message is tried at least once; `give_up_at` ends the retries. If it dies halfway, the
        next tick makes the rows void, because they lie beyond the checkpoint. Raises
        `LeaseLostError`, before any message is sent, if another tick has the run.
        """
        if not chunks:
            return
        now = self._clock.now()
        rows = [new_row(chunk, destination=config.destination, at=now) for chunk in chunks]
        for some in batched(rows, ROWS_A_WRITE, strict=False):
            head.save(rows=[insertion(row) for row in some])
        self._strike(chunks, rows, known)
        known.add_chunks(rows)
        more = repeat(config.trace_parent), repeat(give_up_at)
        for _ in pool.map(self._send, chunks, self._departures(chunks), *more):
            pass

    def keep_invalid(self, records: tuple[Invalid, ...]) -> None:
        """Keep a page's invalid records with reason and content; called twice: the same rows."""
        now = self._clock.now()
        self._ledger.rejections.record(
            Rejection(
                run_id=INVALID,
                position=position_of(record.content),
                rejected_by=RejectedBy.VALIDATION,
                indicator_id=record.indicator_id,
                pattern=record.pattern,
                reason=record.reason,
                content=record.content,
                at=now,
            )
            for record in records
        )

    def _strike(self, chunks: Sequence[PackedChunk], rows: Sequence[Chunk], known: Known) -> None:
        """Strike every older version of an indicator in `chunks` that may still be sent.

        Not the same version where it waits for another destination: were it struck, and the new row
        void after a crash, nothing would send it.
        """
        struck: dict[tuple[str, str], set[int]] = defaultdict(set)
        mine: dict[int, list[tuple[Chunk, int]]] = defaultdict(list)
        for chunk, row in zip(chunks, rows, strict=True):
            versions = {record.id_hash: record.fingerprint for record in row.unpacked()}
            for id_hash in chunk.supersedes:
                for place in known.places(id_hash):
                    if place.fingerprint != versions[id_hash]:
                        struck[place.run_id, place.key].add(place.index)
                for earlier, index in mine[id_hash]:
                    struck[earlier.run_id, earlier.key].add(index)
            for index, record in enumerate(row.unpacked()):
                mine[record.id_hash].append((row, index))
        for (run_id, key), indexes in struck.items():
            self._ledger.chunks.strike(run_id, key, indexes)

    def _departures(self, chunks: Sequence[PackedChunk]) -> list["_Departure"]:
        """Return when each chunk may leave: in a send slot, or after any older request is over.

        A recent chunk reserves its slot when it comes back from the queue, because a slot reserved
        two minutes ahead would delay all others. Recent chunks come back one after the other.
        """
        prompt = sum(not chunk.is_recent for chunk in chunks)
        slots: Iterator[datetime] = iter(())
        if prompt:
            reservation = self._slots.reserve(prompt)
            slots = map(reservation.slot, range(prompt))
        apart = self._slots.interval.total_seconds()
        delays = (LONGEST_DELIVERY + apart * number for number in count())
        return [
            _Departure(delay=next(delays)) if chunk.is_recent else _Departure(slot=next(slots))
            for chunk in chunks
        ]

    def _send(
        self,
        chunk: PackedChunk,
        departure: "_Departure",
        trace_parent: str,
        give_up_at: float | None,
    ) -> None:
        slot = None if departure.slot is None else departure.slot.timestamp()
        due = self._clock.now().timestamp() + departure.delay if slot is None else None
        text = chunk.text(slot=slot, due=due, trace_parent=trace_parent)
        call_with_retries(
            lambda: self._queue.send(text, delay=self._delay(departure)),
            backoff=self._backoff,
            clock=self._clock,
            rng=self._rng,
            give_up_at=give_up_at,
        )

    def _delay(self, departure: "_Departure") -> float:
        """Return the seconds from now until a slot, or the delay of a chunk without a slot."""
        if departure.slot is None:
            return departure.delay
        return (departure.slot - self._clock.now()).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Departure:
    """When a message becomes visible: at its `slot`, or `delay` seconds from now."""

    slot: datetime | None = None
    delay: float = 0.0


def new_row(chunk: PackedChunk, *, destination: str, at: datetime) -> Chunk:
    """Return the new row of a chunk."""
    return row_of(chunk.envelope, destination=destination, records=chunk.records, at=at)


def drain_pages(
    head: Head,
    first: Page | None,
    *,
    fetch: Callable[[str | None], Page],
    sender: Sender,
    config: DrainConfig,
    known: Known,
    policy: Policy,
    ledger_id: str,
    keep_going: Callable[[], None],
    give_up_at: float | None = None,
) -> None:
    """Put everything from the run's checkpoint to the feed's end on the queue.

    `first` is the page at the checkpoint, if it is already here. `fetch` runs on a thread of its
    own, `keep_going` between pages; what either raises stops the tick. Raises `GapError` when
    paging goes in circles, `OutOfTimeError` at `max_pages`. Guarantee: unless the process dies,
    everything read is on the queue before the tick ends, and the checkpoint is behind it; Lumen may
    not give those pages again.
    """
    with sender.threads(1, "lumen-page") as fetcher, sender.threads(SENDERS, "enqueue") as pool:
        store = _Store(
            head,
            sender,
            config,
            known=known,
            policy=policy,
            ledger_id=ledger_id,
            pool=pool,
            give_up_at=give_up_at,
        )
        stop: PipelineError | None = None
        try:
            _read_pages(first, fetch=fetch, fetcher=fetcher, store=store, keep_going=keep_going)
        except LeaseLostError:
            raise  # another instance goes on with this run
        except PipelineError as error:
            stop = error
        if store.is_sound and (stop is None or store.is_waiting):
            store.flush()
        if stop is not None:
            raise stop


def _read_pages(
    first: Page | None,
    *,
    fetch: Callable[[str | None], Page],
    fetcher: Executor,
    store: "_Store",
    keep_going: Callable[[], None],
) -> None:
    """Store each page while the next one is fetched."""
    start = store.progress.settled.cursor
    max_pages = store.config.max_pages
    at = PageAt(token=start.token, number=start.page, offset=start.offset)
    page = first or fetcher.submit(fetch, at.token).result()
    for number in range(1, max_pages + 1):
        at = replace(at, next_token=page.next_token)
        circle = store.follow(at)
        upcoming: Future[Page] | None = None
        if page.next_token and circle is None and number < max_pages:
            upcoming = fetcher.submit(fetch, page.next_token)
        store.take(page, at)
        if page.next_token is None:
            return
        if circle is not None:
            raise circle
        if upcoming is None:
            break
        if store.progress.reached.cursor.sequence > MAX_CHUNKS // 2:
            raise GapError(
                f"the run has more than {MAX_CHUNKS // 2} chunks; set a larger CHUNK_SIZE"
            )
        keep_going()
        at = PageAt(token=page.next_token, number=at.number + 1)
        page = upcoming.result()
    raise OutOfTimeError(f"reached MAX_PAGES ({max_pages}); the next tick goes on")


class _Store:
    """The writes of a tick in their order: enqueue, keep, and only then move the checkpoint."""

    def __init__(
        self,
        head: Head,
        sender: Sender,
        config: DrainConfig,
        *,
        known: Known,
        policy: Policy,
        ledger_id: str,
        pool: Executor,
        give_up_at: float | None,
    ) -> None:
        run = head.run
        self.config = config
        self.progress = Progress(settled=run.checkpoint, reached=run.checkpoint)
        self._origin = Origin(run_id=run.run_id, epoch=run.epoch, ledger_id=ledger_id)
        self._trail = Trail(run.trail, run.checkpoint.cursor)
        self._known = known
        self._policy = policy
        self._head = head
        self._sender = sender
        self._pool = pool
        self._give_up_at = give_up_at
        self._kept = 0
        """How many invalid records were kept in this tick."""
        self.is_sound = True
        """Whether the last write succeeded; after a failed write no other is tried."""

    @property
    def is_waiting(self) -> bool:
        """Whether something was read that the checkpoint has not passed yet."""
        return bool(self.progress.waiting)

    def follow(self, at: PageAt) -> GapError | None:
        """Remember the token of the next page; return a gap if it leads back."""
        if at.next_token is None:
            return None
        try:
            self._trail.follow(at.next_token, page=at.number + 1)
        except GapError as circle:
            return circle
        return None

    def take(self, page: Page, at: PageAt) -> None:
        """Store the chunks that a page completes."""
        config = self.config
        begin = max(at.offset, page.wished)
        # In this order, so that wishes are known when Lumen's objects are looked up.
        verdicts = chain(
            judge_wishes(page.objects[at.offset : begin], self._known, fits=fits),
            judge_page(page.objects[begin:], config.filters, self._known, self._policy, fits=fits),
        )
        self._write(
            fill_chunks(
                self.progress, verdicts, page=at, origin=self._origin, size=config.chunk_size
            )
        )

    def flush(self) -> None:
        """Store what still waits for its chunk to fill."""
        self._write(flush_chunks(self.progress, origin=self._origin))

    def _write(self, filled: FilledPage) -> None:
        self.is_sound = False
        self._sender.enqueue(
            filled.chunks,
            head=self._head,
            known=self._known,
            config=self.config,
            pool=self._pool,
            give_up_at=self._give_up_at,
        )
        invalid = filled.invalid[: MAX_INVALID_KEPT - self._kept]
        self._sender.keep_invalid(invalid)
        self._kept += len(invalid)
        settled = filled.progress.settled
        self._head.save(
            cursor=settled.cursor,
            counts=settled.counts,
            trail=self._trail.up_to(settled.cursor.page),
        )
        self.progress = filled.progress
        self.is_sound = True
