"""Row 1: what the producer's hot path costs, in units of merely decoding the pages.

From the bytes of Lumen's pages to the texts of the envelopes and the records of the rows: decode,
validate, hash the id, look it up among a million known versions, filter, fingerprint, fill chunks,
compress, encode. Every object is looked up, known or not. Excluded are the network, storage, and
the threads around them. Three states have a goal: the first load, where nothing of the feed is
known and every indicator that passes the filters is enqueued; any later sync, where all are known
and one in a hundred is not; and a first load that the filters drop nothing of.

The other lines are for information: an indicator out of the ordinary on each page, so that the
whole page takes the general way; and the garbage collector. The reference makes objects that it
tracks, and our records are none, so 1e leaves it out on both sides.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import orjson

from benchmarks.feeds import open_feed
from benchmarks.pages import PAGE, encode_page
from benchmarks.table import Figure, Scale, shown
from benchmarks.timing import best_cpu
from common.ledger.versions import SegmentInfo
from common.records import RECORD_BYTES
from local.services.feed import Feed
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
from producer.drain import new_row
from producer.entries import Entries, row_records, row_table
from producer.index import Segment
from producer.indicators import Filters, judge_page
from producer.known import Known
from producer.lumen import decode_answer, read_page
from producer.versions import Policy

GOAL: Final = 3.5
GOAL_WHERE_ALL_PASSES: Final = 5.0
INDICATORS: Final = {Scale.QUICK: 10_000, Scale.FULL: 30_000}
ROUNDS: Final = {Scale.QUICK: 20, Scale.FULL: 40}
PAGES_A_PIECE: Final = 2
KNOWN: Final = 1_000_000
STEP: Final = 100
FILTERS: Final = Filters(threshold=65)
"""The defaults of the settings."""

EVERYTHING: Final = Filters(threshold=0)
CHUNK: Final = 100
RUN: Final = "20260101T000000-0badcafe"
TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DESTINATION: Final = "api.invalid/00000000-0000-4000-8000-000000000001"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
TODAY: Final = 20_454
"""The same day, counted since 1970."""

SLOT: Final = 1.8e9
"""The send slot of every message, in seconds since 1970."""

LONG_AGO: Final = 1e6
"""Seconds since anything was entered in the index: nothing is recent."""

Pages = tuple[bytes, ...]

_ORIGIN: Final = Origin(run_id=RUN, ledger_id="0123456789abcdef")
_NO_ROWS: Final = row_table([], row_records(b"", letters="", counts=[], void=[]))


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Measure the feed at hand in its states, and what else may come."""
    objects = open_feed(feed, INDICATORS[scale])
    others = random_segment(KNOWN)
    known = known_but(STEP, objects)
    odd = Odd(objects)
    lines = [
        _figure("1a", "first load", objects, others, scale),
        _figure("1b", "later sync, 1 % is new", objects, known, scale),
        shown(_figure("1c", "first load, an odd one on each page", odd, others, scale)),
        _figure(
            "1d",
            "first load, everything passes",
            objects,
            others,
            scale,
            filters=EVERYTHING,
            goal=GOAL_WHERE_ALL_PASSES,
        ),
    ]
    with _without_collector():
        apart = "first load, no garbage collection on either side"
        lines.append(shown(_figure("1e", apart, objects, others, scale)))
    return lines


@dataclass(frozen=True, slots=True)
class Odd:
    """A feed of which one indicator a page has a property that is out of the ordinary."""

    feed: Feed

    def __len__(self) -> int:
        return len(self.feed)

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """See :class:`Feed`."""
        found = self.feed.encoded(start, stop)
        found[-1] = orjson.dumps({**orjson.loads(found[-1]), "x_odd": 0.5})
        return found


def produce(pages: Pages, *segments: Segment, filters: Filters = FILTERS) -> list[PackedChunk]:
    """Return the chunks that the producer makes of `pages`, as `drain` does it.

    Their texts are made, too, and what they hold is known to the pages behind.
    """
    known = Known(segments, _NO_ROWS)
    chunks: list[PackedChunk] = []
    progress = Progress()

    def keep(filled: FilledPage) -> Progress:
        known.add_chunks([new_row(c, destination=DESTINATION, at=NOW) for c in filled.chunks])
        for chunk in filled.chunks:
            chunk.text(slot=SLOT, trace_parent=TRACE)
        chunks.extend(filled.chunks)
        return filled.progress

    policy = Policy(today=TODAY)
    for number, content in enumerate(pages):
        page = read_page(decode_answer(content))
        verdicts = judge_page(page.objects, filters, known, policy, fits=fits)
        at = PageAt(token=f"token-{number}", number=number, next_token=page.next_token)
        progress = keep(fill_chunks(progress, verdicts, page=at, origin=_ORIGIN, size=CHUNK))
    keep(flush_chunks(progress, origin=_ORIGIN))
    return chunks


def make_messages(feed: Feed) -> list[str]:
    """Return the messages of a whole feed, all for the moment `SLOT`."""
    chunks = produce(tuple(pages_of(feed)))
    return [chunk.text(slot=SLOT, trace_parent=TRACE) for chunk in chunks]


def random_segment(count: int, *, seed: int = 1) -> Segment:
    """Return a segment of so many versions of indicators that no feed has."""
    rng = np.random.default_rng(seed)
    return _segment(
        np.unique(rng.integers(0, 2**64, count, dtype=np.uint64)),
        rng.integers(0, 2**64, count, dtype=np.uint64),
        np.full(count, 1_760_000_000_000, dtype=np.uint64),
    )


def known_but(step: int, feed: Feed) -> Segment:
    """Return a segment of a million that lacks every `step`-th indicator that passes."""
    records = b"".join(chunk.records for chunk in produce(tuple(pages_of(feed))))
    count = len(records) // RECORD_BYTES
    sent = row_records(records, letters="A" * count, counts=[count], void=[False])
    keep = np.arange(len(sent)) % step != 0
    others = random_segment(KNOWN - int(keep.sum())).entries
    ids = np.concatenate([others.ids, sent.ids[keep]])
    order = np.argsort(ids)
    return _segment(
        ids[order],
        np.concatenate([others.fingerprints, sent.fingerprints[keep]])[order],
        np.concatenate([others.modified, sent.modified[keep]])[order],
    )


def _segment(
    ids: "np.typing.NDArray[np.uint64]",
    fingerprints: "np.typing.NDArray[np.uint64]",
    modified: "np.typing.NDArray[np.uint64]",
) -> Segment:
    entries = Entries(
        ids=ids,
        fingerprints=fingerprints,
        modified=modified,
        entered=np.full(len(ids), TODAY - 30, dtype=np.uint16),
        kept=np.full(len(ids), TODAY + 60, dtype=np.uint16),
    )
    info = SegmentInfo(name="the-index", count=len(entries), age=LONG_AGO)
    return Segment(info=info, entries=entries)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Let only unreferenced objects be collected."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _figure(
    row: str,
    what: str,
    feed: Feed,
    known: Segment,
    scale: Scale,
    *,
    filters: Filters = FILTERS,
    goal: float = GOAL,
) -> Figure:
    pieces: list[Pages] = list(batched(pages_of(feed), PAGES_A_PIECE, strict=False))
    libraries = {"orjson": orjson.loads, "msgspec": msgspec.json.Decoder().decode}
    ours, *decoders = best_cpu(
        [
            lambda pages: produce(pages, known, filters=filters),
            *map(_decode_all, libraries.values()),
        ],
        pieces,
        rounds=ROUNDS[scale],
    )
    reference, fastest = min(zip(decoders, libraries, strict=True))
    chunks = [chunk.text() for pages in pieces for chunk in produce(pages, known, filters=filters)]
    largest = max(map(len, chunks))
    every = produce(tuple(pages_of(feed)), filters=filters)
    passing = sum(chunk.envelope.count for chunk in every)
    return Figure(
        row=row,
        what=f"producer CPU, {what}",
        value=f"{len(feed) / ours:,.0f} indicators/s ({ours / len(feed) * 1e6:.2f} us each)",
        reference=f"{reference / len(feed) * 1e6:.2f} us each to decode with {fastest}",
        ratio=ours / reference,
        goal=f"at most {goal:g} x",
        met=ours <= goal * reference,
        note=f"{len(feed):,} indicators in pages of {PAGE:,}, each looked up among {KNOWN:,}; "
        f"{passing / len(feed):.0%} pass the filters; {len(chunks)} chunks, the largest message "
        f"{largest / 1024:.1f} KiB",
    )


def _decode_all(decode: Callable[[bytes], object]) -> Callable[[Pages], None]:
    def work(pages: Pages) -> None:
        for content in pages:
            decode(content)

    return work


def pages_of(feed: Feed) -> list[bytes]:
    """Return the feed as Lumen's answers."""
    return [encode_page(feed, start, following="opaque") for start in range(0, len(feed), PAGE)]
