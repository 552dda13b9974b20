"""Row 1: what the producer's hot path costs, in units of merely decoding the pages.

From the bytes of Lumen's pages to the texts of the envelopes: decode, validate, filter,
fingerprint, look up among the known indicators, fill chunks, compress, encode. Excluded are
the network, storage, and the threads around them. Two states have the goal, which are the two that
a sync meets: the first load, where nothing is known and every indicator that passes the filters is
enqueued, and any later sync, where a million are known and one in a hundred is not.

The other lines are for information, and tell what these two leave out: an indicator out of the
ordinary on each page, so that the whole page takes the general way; filters that everything passes,
for what the filters drop costs little; versions that were uploaded late, so that the id of each
known indicator is looked up, too; and the garbage collector. The reference makes objects that it
tracks, and our records are none, so 1f leaves it out on both sides.
"""

import gc
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import orjson

from benchmarks.feeds import open_feed
from benchmarks.pages import PAGE, encode_page
from benchmarks.table import Figure, Scale, shown
from benchmarks.timing import best_cpu
from common.envelope import decode_envelope
from common.fingerprints import Doubts, KnownSet, KnownVersions, id_hash, version_mark
from common.ledger.runs import Counts, Cursor
from local.feed import Feed
from producer.chunking import FilledPage, PageAt, Progress, fill_chunks, flush_chunks
from producer.indicators import Filters, judge_all
from producer.lumen import decode_answer, read_page

GOAL: Final = 3.0
INDICATORS: Final = {Scale.QUICK: 10_000, Scale.FULL: 30_000}
ROUNDS: Final = {Scale.QUICK: 20, Scale.FULL: 40}
PAGES_A_PIECE: Final = 2
KNOWN: Final = 1_000_000
STEP: Final = 100
FILTERS: Final = Filters(threshold=65)
"""The defaults of the settings."""

EVERYTHING: Final = Filters(threshold=0)
LATE: Final = 10_000
"""Versions uploaded late: as many as 100 minutes at Sentinel's limit bring. One is enough for each
known indicator's id to be hashed."""

CHUNK: Final = 100
RUN: Final = "20260101T000000-0badcafe"
TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SLOT: Final = 1.8e9
"""The send slot of every message, in seconds since 1970."""

Pages = tuple[bytes, ...]

_NOTHING_LATE: Final = Doubts()
NOTHING: Final = KnownVersions(KnownSet(), _NOTHING_LATE)


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Measure the feed at hand in both states, and what else may come."""
    objects = open_feed(feed, INDICATORS[scale])
    known, late = known_but(STEP, objects)
    later = KnownVersions(known, _NOTHING_LATE)
    doubted = KnownVersions(known, late)
    odd = Odd(objects)
    lines = [
        _figure("1a", "first load", objects, NOTHING, scale),
        _figure("1b", "later sync, 1 % is new", objects, later, scale),
        shown(_figure("1c", "first load, an odd one on each page", odd, NOTHING, scale)),
        shown(
            _figure(
                "1d", "first load, everything passes", objects, NOTHING, scale, filters=EVERYTHING
            )
        ),
        shown(_figure("1e", "later sync after late uploads", objects, doubted, scale)),
    ]
    with _without_collector():
        apart = "first load, no garbage collection on either side"
        lines.append(shown(_figure("1f", apart, objects, NOTHING, scale)))
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


def produce(pages: Pages, known: KnownVersions, filters: Filters = FILTERS) -> list[str]:
    """Return the messages that the producer makes of `pages`, as `drain` does it."""
    texts: list[str] = []
    progress = Progress(cursor=Cursor(), counts=Counts())

    def keep(filled: FilledPage) -> Progress:
        texts.extend(chunk.text(slot=SLOT, trace_parent=TRACE) for chunk in filled.chunks)
        return filled.progress

    for number, content in enumerate(pages):
        page = read_page(decode_answer(content))
        verdicts = judge_all(page.objects, filters, known)
        at = PageAt(token=f"token-{number}", number=number, next_token=page.next_token)
        progress = keep(fill_chunks(progress, verdicts, page=at, run_id=RUN, size=CHUNK))
    keep(flush_chunks(progress, run_id=RUN))
    return texts


def make_messages(feed: Feed) -> list[str]:
    """Return the messages of a whole feed, all for the moment `SLOT`."""
    return produce(tuple(pages_of(feed)), NOTHING)


def known_but(step: int, feed: Feed) -> tuple[KnownSet, Doubts]:
    """Return a known set of a million that lacks every `step`-th indicator that passes.

    And late versions, which hide nothing: of those of the feed that are known, every `step`-th in
    the version that the feed has.
    """
    fingerprints = array("Q", Random(1).randbytes(8 * KNOWN))  # noqa: S311 - a fixed seed
    sent = _sent(make_messages(feed))
    del sent[::step]
    fingerprints[: len(sent)] = array("Q", [fingerprint for _, fingerprint in sent])
    ids = array("Q", Random(2).randbytes(8 * LATE))  # noqa: S311 - a fixed seed
    versions = fingerprints[-LATE:]
    for at, (indicator_id, fingerprint) in enumerate(sent[::step]):
        ids[at] = id_hash(indicator_id)
        versions[at] = version_mark(ids[at], fingerprint)
    return KnownSet(fingerprints), Doubts(ids=ids, versions=versions)


def _sent(messages: list[str]) -> list[tuple[str, int]]:
    """Return the ids and fingerprints of the indicators in `messages`."""
    return [
        (indicator["id"], fingerprint)
        for envelope in map(decode_envelope, messages)
        for indicator, fingerprint in zip(
            orjson.loads(envelope.body), envelope.fingerprints, strict=True
        )
    ]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Let nothing be collected but what nobody refers to any more."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _figure(
    row: str,
    what: str,
    feed: Feed,
    known: KnownVersions,
    scale: Scale,
    *,
    filters: Filters = FILTERS,
) -> Figure:
    pieces: list[Pages] = list(batched(pages_of(feed), PAGES_A_PIECE, strict=False))
    libraries = {"orjson": orjson.loads, "msgspec": msgspec.json.Decoder().decode}
    ours, *decoders = best_cpu(
        [lambda pages: produce(pages, known, filters), *map(_decode_all, libraries.values())],
        pieces,
        rounds=ROUNDS[scale],
    )
    reference, fastest = min(zip(decoders, libraries, strict=True))
    chunks = [text for pages in pieces for text in produce(pages, known, filters)]
    largest = max(map(len, chunks))
    passing = len(_sent(produce(tuple(pages_of(feed)), NOTHING, filters)))
    return Figure(
        row=row,
        what=f"producer CPU, {what}",
        value=f"{len(feed) / ours:,.0f} indicators/s ({ours / len(feed) * 1e6:.2f} us each)",
        reference=f"{reference / len(feed) * 1e6:.2f} us each to decode with {fastest}",
        ratio=ours / reference,
        goal=f"at most {GOAL:g} x",
        met=ours <= GOAL * reference,
        note=f"{len(feed):,} indicators in pages of {PAGE:,}, {passing / len(feed):.0%} pass the "
        f"filters; {len(chunks)} chunks, the largest message {largest / 1024:.1f} KiB",
    )


def _decode_all(decode: Callable[[bytes], object]) -> Callable[[Pages], None]:
    def work(pages: Pages) -> None:
        for content in pages:
            decode(content)

    return work


def pages_of(feed: Feed) -> list[bytes]:
    """Return the feed as Lumen's answers."""
    return [encode_page(feed, start, following="opaque") for start in range(0, len(feed), PAGE)]
