"""Chunks and checkpoints: in order, exactly once, and never past what is not in a chunk."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envelope import (
    MAX_BODY_BYTES,
    MAX_NEW_ENVELOPE_BYTES,
    chunk_id_of,
    decode_envelope,
)
from common.ledger.runs import Counts, Cursor
from producer.chunking import (
    SURELY_FITS,
    TOO_LARGE,
    FilledPage,
    PackedChunk,
    PageAt,
    Progress,
    fill_chunks,
    flush_chunks,
    pack,
)
from producer.indicators import FILTERED, Indicator, Invalid, Verdict, fingerprint_of
from tests.unit.producer.samples import indicator, raw_indicator

RUN = "20260101T000000-0badcafe"
INVALID = Invalid(reason="why", indicator_id="", pattern="", content=b"{}")

Pages = Sequence[Sequence[Verdict]]


def small(number: int, *, other_kind: bool = False) -> Indicator:
    """Return a tiny indicator, told apart by its number."""
    body = b'{"n":%d}' % number
    return Indicator(
        indicator_id="", body=body, fingerprint=fingerprint_of(body), other_kind=other_kind
    )


def bulky(number: int, size: int) -> Indicator:
    """Return an indicator of about `size` bytes that hardly compress."""
    noise = random.Random(number).choices(range(35, 92), k=size)  # noqa: S311 - no quote, no backslash
    body = b'{"n":%d,"x":"%s"}' % (number, bytes(noise))
    return Indicator(indicator_id="", body=body, fingerprint=fingerprint_of(body), other_kind=False)


def token(page: int) -> str | None:
    """Return the token of a page: none for the one that comes with the query's answer."""
    return f"token-{page}" if page else None


@dataclass
class Drained:
    """What a run over `pages` returned, page by page."""

    steps: list[FilledPage] = field(default_factory=list)

    @property
    def chunks(self) -> list[PackedChunk]:
        return [chunk for step in self.steps for chunk in step.chunks]

    @property
    def invalid(self) -> list[Invalid]:
        return [found for step in self.steps for found in step.invalid]

    @property
    def progress(self) -> Progress:
        return self.steps[-1].progress


def drain(
    pages: Pages,
    *,
    size: int,
    cursor: Cursor | None = None,
    counts: Counts | None = None,
    stop_after: int | None = None,
) -> Drained:
    """Read `pages` from a checkpoint to the end, or for `stop_after` pages."""
    at = cursor or Cursor()
    progress = Progress(cursor=at, counts=counts or Counts())
    drained, offset = Drained(), at.offset
    for number in range(at.page, len(pages)):
        page = PageAt(
            token=token(number),
            number=number,
            next_token=token(number + 1) if number + 1 < len(pages) else None,
            offset=offset,
        )
        step = fill_chunks(progress, pages[number][offset:], page=page, run_id=RUN, size=size)
        drained.steps.append(step)
        progress, offset = step.progress, 0
        if len(drained.steps) == stop_after:
            return drained
    drained.steps.append(flush_chunks(progress, run_id=RUN))
    return drained


def before(pages: Pages, cursor: Cursor) -> list[Verdict]:
    """Return the verdicts that lie before a cursor."""
    return [*chain(*pages[: cursor.page]), *pages[cursor.page][: cursor.offset]]


def counted(verdicts: Sequence[Verdict]) -> Counts:
    """Return the counts of verdicts that are all dealt with."""
    indicators = [found for found in verdicts if isinstance(found, Indicator)]
    return Counts(
        fetched=len(verdicts),
        filtered=sum(found is FILTERED for found in verdicts),
        invalid=sum(isinstance(found, Invalid) for found in verdicts),
        enqueued=len(indicators),
        other_kind=sum(found.other_kind for found in indicators),
    )


def bodies(chunks: Sequence[PackedChunk]) -> bytes:
    """Return the bodies of chunks as one list, as the indicators were put in."""
    return b",".join(chunk.envelope.body[1:-1] for chunk in chunks)


@st.composite
def feeds(draw: st.DrawFn) -> list[list[Verdict]]:
    """Pages of any sizes, empty ones included, with any mix of verdicts."""
    shapes = draw(st.lists(st.text("iiiofx", max_size=12), min_size=1, max_size=8))
    numbers = iter(range(1000))
    made: dict[str, Verdict] = {"f": FILTERED, "x": INVALID}
    return [
        [made.get(kind) or small(next(numbers), other_kind=kind == "o") for kind in shape]
        for shape in shapes
    ]


SIZES = st.integers(1, 9)


@given(pages=feeds(), size=SIZES)
def test_indicators_come_out_in_order_exactly_once_in_full_chunks(pages: Pages, size: int) -> None:
    """Every chunk but the last is full, and together they are the indicators of the feed."""
    drained = drain(pages, size=size)
    wanted = [found for found in chain(*pages) if isinstance(found, Indicator)]
    assert bodies(drained.chunks) == b",".join(found.body for found in wanted)
    assert [chunk.envelope.count for chunk in drained.chunks[:-1]] == [size] * (
        len(drained.chunks) - 1
    )
    assert all(0 < chunk.envelope.count <= size for chunk in drained.chunks[-1:])
    assert [chunk.envelope.sequence for chunk in drained.chunks] == list(range(len(drained.chunks)))


@given(pages=feeds(), size=SIZES)
def test_a_chunk_is_what_its_message_says(pages: Pages, size: int) -> None:
    """The text decodes to the envelope; id, count and fingerprints are those of the body."""
    for chunk in drain(pages, size=size).chunks:
        envelope = chunk.envelope
        assert decode_envelope(chunk.text()) == envelope
        assert (envelope.run_id, envelope.chunk_id) == (RUN, chunk_id_of(envelope.body))
        assert envelope.count == len(envelope.fingerprints)
        assert (envelope.attempt, envelope.deferrals, envelope.history) == (0, 0, ())


@given(pages=feeds(), size=SIZES)
def test_a_checkpoint_never_passes_what_is_not_in_a_chunk(pages: Pages, size: int) -> None:
    """Before it lie exactly the indicators of the chunks so far, and its counts say so."""
    drained = drain(pages, size=size)
    enqueued, last = 0, (0, 0)
    for step in drained.steps:
        enqueued += sum(chunk.envelope.count for chunk in step.chunks)
        cursor, counts = step.progress.cursor, step.progress.counts
        assert counts == counted(before(pages, cursor))
        assert counts.enqueued == enqueued
        assert cursor.token == token(cursor.page)
        assert (cursor.page, cursor.offset) >= last
        last = (cursor.page, cursor.offset)


@given(pages=feeds(), size=SIZES)
def test_counts_are_conserved(pages: Pages, size: int) -> None:
    """At every checkpoint fetched = filtered + invalid + unchanged + enqueued; at the end, all."""
    drained = drain(pages, size=size)
    for step in drained.steps:
        counts = step.progress.counts
        assert (
            counts.fetched == counts.filtered + counts.invalid + counts.unchanged + counts.enqueued
        )
    assert drained.progress.counts == counted(list(chain(*pages)))
    assert drained.progress.waiting == ()


@given(pages=feeds(), size=SIZES)
def test_checkpoint_and_what_is_ahead_add_up_to_what_was_read(pages: Pages, size: int) -> None:
    """Nothing that was read is in neither count, and what waits is less than a chunk."""
    for read, step in enumerate(drain(pages, size=size).steps[:-1], start=1):
        assert step.progress.counts + step.progress.ahead == counted(list(chain(*pages[:read])))
        assert len(step.progress.waiting) < size


@given(pages=feeds(), size=SIZES)
def test_invalid_records_are_returned_once_in_order(pages: Pages, size: int) -> None:
    """Each invalid record comes out with its page, exactly once."""
    expected = [verdict for page in pages for verdict in page if isinstance(verdict, Invalid)]
    assert drain(pages, size=size).invalid == expected


@given(pages=feeds(), size=SIZES, stops=st.lists(st.integers(1, 3), max_size=6))
def test_resuming_makes_the_same_chunks(pages: Pages, size: int, stops: list[int]) -> None:
    """Stopped after any pages and read again from the checkpoint: same ids, numbers, counts."""
    uninterrupted = drain(pages, size=size)
    chunks: list[PackedChunk] = []
    cursor, counts = Cursor(), Counts()
    for stop in stops:
        part = drain(pages, size=size, cursor=cursor, counts=counts, stop_after=stop)
        chunks += part.chunks
        cursor, counts = part.progress.cursor, part.progress.counts
    rest = drain(pages, size=size, cursor=cursor, counts=counts)
    assert chunks + rest.chunks == uninterrupted.chunks
    assert rest.progress.counts == uninterrupted.progress.counts


@given(pages=feeds(), size=SIZES)
def test_the_last_checkpoint_lies_behind_everything(pages: Pages, size: int) -> None:
    """It says so, and no earlier one does; read again from there, there is nothing to do."""
    drained = drain(pages, size=size)
    done = drained.progress
    assert done.cursor.done
    assert not any(step.progress.cursor.done for step in drained.steps[: len(pages) - 1])
    again = drain(pages, size=size, cursor=done.cursor, counts=done.counts)
    assert again.chunks == []
    assert again.progress.counts == done.counts


@given(pages=feeds(), size=SIZES, stop=st.integers(1, 4))
def test_flushing_part_way_moves_the_checkpoint_behind_what_was_read(
    pages: Pages, size: int, stop: int
) -> None:
    """What waited is in a short chunk; going on from there loses and repeats nothing."""
    part = drain(pages, size=size, stop_after=stop)
    part.steps.append(flush_chunks(part.progress, run_id=RUN))
    assert part.progress.counts == counted(before(pages, part.progress.cursor))
    assert part.progress.cursor.done == (stop >= len(pages))
    rest = drain(pages, size=size, cursor=part.progress.cursor, counts=part.progress.counts)
    wanted = [found.body for found in chain(*pages) if isinstance(found, Indicator)]
    assert bodies([*part.chunks, *rest.chunks]) == b",".join(wanted)
    assert rest.progress.counts == counted(list(chain(*pages)))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(100, 44_000), min_size=1, max_size=14),
    size=st.integers(1, 10),
    cut=st.integers(0, 14),
)
def test_a_chunk_that_does_not_fit_is_split(sizes: list[int], size: int, cut: int) -> None:
    """Every message leaves room for its history, no indicator is lost, numbers stay dense."""
    made = [bulky(number, length) for number, length in enumerate(sizes)]
    pages = [made[:cut], made[cut:]]
    drained = drain(pages, size=size)
    assert all(len(chunk.text()) <= MAX_NEW_ENVELOPE_BYTES for chunk in drained.chunks)
    assert bodies(drained.chunks) == b",".join(found.body for found in made)
    assert [chunk.envelope.sequence for chunk in drained.chunks] == list(range(len(drained.chunks)))
    assert drained.progress.counts == counted(made)
    part = drain(pages, size=size, stop_after=1)
    rest = drain(pages, size=size, cursor=part.progress.cursor, counts=part.progress.counts)
    assert part.chunks + rest.chunks == drained.chunks


def test_a_full_chunk_of_ordinary_indicators_is_not_split() -> None:
    """A hundred indicators of half a kilobyte each are one message."""
    made = [bulky(number, 300) for number in range(100)]
    (chunk,) = pack(made, run_id=RUN, sequence=7)
    assert (chunk.envelope.count, chunk.envelope.sequence) == (100, 7)


def test_a_body_that_inflates_beyond_what_is_decoded_is_split() -> None:
    """However well it compresses, no message holds more than the consumer will unpack."""
    body = b'{"x":"%s"}' % (b"a" * (MAX_BODY_BYTES // 10))
    made = [Indicator(indicator_id="", body=body, fingerprint=0, other_kind=False)] * 16
    chunks = pack(made, run_id=RUN, sequence=0)
    assert [chunk.envelope.count for chunk in chunks] == [8, 8]
    assert all(decode_envelope(chunk.text()) == chunk.envelope for chunk in chunks)


@pytest.mark.parametrize(
    "giant",
    [
        bulky(1, 2 * MAX_NEW_ENVELOPE_BYTES),
        Indicator(
            indicator_id="", body=b'"%s"' % (b"a" * MAX_BODY_BYTES), fingerprint=0, other_kind=False
        ),
    ],
    ids=["incompressible", "inflates"],
)
def test_an_indicator_too_large_for_any_message_is_invalid_alone(giant: Indicator) -> None:
    """It is kept with that reason and its content; its neighbours go out."""
    drained = drain([[small(0), giant, small(1)]], size=3)
    (found,) = drained.steps[0].invalid
    assert (found.reason, found.content) == (TOO_LARGE, giant.body)
    assert [chunk.envelope.count for chunk in drained.chunks] == [2]
    assert drained.progress.counts == Counts(fetched=3, invalid=1, enqueued=2)


def test_what_is_too_large_is_kept_with_its_id_and_pattern() -> None:
    """An operator finds it by what identifies it."""
    noise = bulky(1, 2 * MAX_NEW_ENVELOPE_BYTES).body.decode()
    giant = indicator(7, description=noise)
    (found,) = drain([[giant]], size=3).invalid
    raw = raw_indicator(7)
    assert (found.indicator_id, found.pattern) == (raw["id"], raw["pattern"])
    assert found.content == giant.body


def test_what_surely_fits_fits() -> None:
    """The size below which nothing is tried holds for noise too."""
    noise = random.Random(0).randbytes(SURELY_FITS)  # noqa: S311 - a fixed seed
    (chunk,) = pack(
        [Indicator(indicator_id="", body=noise, fingerprint=2**64 - 1, other_kind=False)],
        run_id="0" * 64,
        sequence=2**31 - 1,
    )
    assert chunk.envelope.count == 1


def test_packing_what_cannot_fit_is_a_bug_that_says_so() -> None:
    """Callers refuse such an indicator before."""
    with pytest.raises(ValueError, match="must be refused before"):
        pack([bulky(0, 2 * MAX_NEW_ENVELOPE_BYTES)], run_id=RUN, sequence=0)
