"""Row 1: what the producer's hot path costs, in units of merely decoding the pages.

From the bytes of Lumen's pages to the texts of the envelopes: decode, validate, filter,
fingerprint, look up among the known indicators, fill chunks, compress, encode. Excluded are
the network, storage, and the threads around them. Two states are measured, which are the two that
a sync meets: the first load, where nothing is known and every indicator that passes the filters is
enqueued, and any later sync, where a million are known and one in a hundred is not. A third line
tells what an indicator out of the ordinary on each page costs: the whole page takes the general
way. It is for information: whether Lumen's pages are ordinary is not known.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import batched
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import orjson

from benchmarks.feeds import open_feed
from benchmarks.pages import PAGE, encode_page
from benchmarks.table import Figure, Scale
from benchmarks.timing import best_cpu
from common.envelope import decode_envelope
from common.fingerprints import Doubts, KnownSet, KnownVersions
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
"""The defaults of the settings: about 45 % of the real indicators pass."""

CHUNK: Final = 100
RUN: Final = "20260101T000000-0badcafe"
TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SLOT: Final = 1.8e9
"""The send slot of every message, in seconds since 1970."""

Pages = tuple[bytes, ...]

_NOTHING_LATE: Final = Doubts()
NOTHING: Final = KnownVersions(KnownSet(), _NOTHING_LATE)


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Measure the feed at hand in both states, and in the first what an odd page costs."""
    objects = open_feed(feed, INDICATORS[scale])
    return [
        _figure("1a", "first load", objects, NOTHING, scale),
        _figure("1b", "later sync, 1 % is new", objects, _known_but(STEP, objects), scale),
        replace(
            _figure("1c", "first load, an odd one on each page", Odd(objects), NOTHING, scale),
            goal="shown",
            met=True,
        ),
    ]


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


def produce(pages: Pages, known: KnownVersions) -> list[str]:
    """Return the messages that the producer makes of `pages`, as `drain` does it."""
    texts: list[str] = []
    progress = Progress(cursor=Cursor(), counts=Counts())

    def keep(filled: FilledPage) -> Progress:
        texts.extend(chunk.text(slot=SLOT, trace_parent=TRACE) for chunk in filled.chunks)
        return filled.progress

    for number, content in enumerate(pages):
        page = read_page(decode_answer(content))
        verdicts = judge_all(page.objects, FILTERS, known)
        at = PageAt(token=f"token-{number}", number=number, next_token=page.next_token)
        progress = keep(fill_chunks(progress, verdicts, page=at, run_id=RUN, size=CHUNK))
    keep(flush_chunks(progress, run_id=RUN))
    return texts


def make_messages(feed: Feed) -> list[str]:
    """Return the messages of a whole feed, all for the moment `SLOT`."""
    return produce(tuple(_pages(feed)), NOTHING)


def _known_but(step: int, feed: Feed) -> KnownVersions:
    """Return a known set of a million that lacks every `step`-th indicator that passes."""
    fingerprints = array("Q", Random(1).randbytes(8 * KNOWN))  # noqa: S311 - a fixed seed
    sent = [p for text in make_messages(feed) for p in decode_envelope(text).fingerprints]
    del sent[::step]
    fingerprints[: len(sent)] = array("Q", sent)
    return KnownVersions(KnownSet(fingerprints), _NOTHING_LATE)


def _figure(row: str, what: str, feed: Feed, known: KnownVersions, scale: Scale) -> Figure:
    pieces: list[Pages] = list(batched(_pages(feed), PAGES_A_PIECE, strict=False))
    libraries = {"orjson": orjson.loads, "msgspec": msgspec.json.Decoder().decode}
    ours, *decoders = best_cpu(
        [lambda pages: produce(pages, known), *map(_decode_all, libraries.values())],
        pieces,
        rounds=ROUNDS[scale],
    )
    reference, fastest = min(zip(decoders, libraries, strict=True))
    chunks = [text for pages in pieces for text in produce(pages, known)]
    largest = max(map(len, chunks))
    return Figure(
        row=row,
        what=f"producer CPU, {what}",
        value=f"{len(feed) / ours:,.0f} indicators/s ({ours / len(feed) * 1e6:.2f} us each)",
        reference=f"{reference / len(feed) * 1e6:.2f} us each to decode with {fastest}",
        ratio=ours / reference,
        goal=f"at most {GOAL:g} x",
        met=ours <= GOAL * reference,
        note=f"{len(feed):,} indicators in pages of {PAGE:,}, {len(chunks)} chunks, the largest "
        f"message {largest / 1024:.1f} KiB",
    )


def _decode_all(decode: Callable[[bytes], object]) -> Callable[[Pages], None]:
    def work(pages: Pages) -> None:
        for content in pages:
            decode(content)

    return work


def _pages(feed: Feed) -> list[bytes]:
    """Return the feed as Lumen's answers."""
    return [encode_page(feed, start, following="opaque") for start in range(0, len(feed), PAGE)]
