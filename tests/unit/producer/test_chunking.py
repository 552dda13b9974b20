"""Chunks and checkpoints: in order, exactly once, and never past what is not in a chunk."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.envelope import (
    MAX_BODY_BYTES,
    MAX_NEW_ENVELOPE_BYTES,
    chunk_id_of,
    decode_envelope,
)
from common.ledger.runs import Checkpoint, Counts, Cursor
from common.records import Record, unpack_records
from producer.chunking import (
    SURELY_FITS,
    FilledPage,
    Origin,
    PackedChunk,
    PageAt,
    Progress,
    chunks_of,
    fill_chunks,
    fits,
    flush_chunks,
)
from producer.indicators import (
    Indicator,
    Invalid,
    Verdict,
    fingerprint_of,
)
from producer.versions import Decision

RUN = "20260101T000000-0badcafe"
ORIGIN = Origin(run_id=RUN, epoch=3, ledger_id="0badcafe0badcafe")
INVALID = Invalid(reason="why", indicator_id="", pattern="", content=b"{}")

Pages = Sequence[Sequence[Verdict]]


def made_of(body: bytes, number: int, **changes: Any) -> Indicator:
    """Return an indicator of this body."""
    values: dict[str, Any] = {
        "body": body,
        "id_hash": number,
        "fingerprint": fingerprint_of(body),
        "modified": 1000 + number,
        "ends_on": number % 7,
    }
    return Indicator(**(values | changes))


def small(number: int, **changes: Any) -> Indicator:
    """Return a tiny indicator, told apart by its number."""
    return made_of(b'{"n":%d}' % number, number, **changes)


def bulky(number: int, size: int) -> Indicator:
    """Return an indicator of about `size` bytes that hardly compress."""
    noise = random.Random(number).choices(range(35, 92), k=size)  # noqa: S311 - no quote, no backslash
    return made_of(b'{"n":%d,"x":"%s"}' % (number, bytes(noise)), number)


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
    pages: Pages, *, size: int, start: Checkpoint | None = None, stop_after: int | None = None
) -> Drained:
    """Read `pages` from a checkpoint to the end, or for `stop_after` pages."""
    checkpoint = start or Checkpoint()
    at = checkpoint.cursor
    progress = Progress(settled=checkpoint, reached=checkpoint)
    drained, offset = Drained(), at.offset
    for number in range(at.page, len(pages)):
        page = PageAt(
            token=token(number),
            number=number,
            next_token=token(number + 1) if number + 1 < len(pages) else None,
            offset=offset,
        )
        step = fill_chunks(progress, pages[number][offset:], page=page, origin=ORIGIN, size=size)
        drained.steps.append(step)
        progress, offset = step.progress, 0
        if len(drained.steps) == stop_after:
            return drained
    drained.steps.append(flush_chunks(progress, origin=ORIGIN))
    return drained


def before(pages: Pages, cursor: Cursor) -> list[Verdict]:
    """Return the verdicts that lie before a cursor."""
    return [*chain(*pages[: cursor.page]), *pages[cursor.page][: cursor.offset]]


def counted(verdicts: Sequence[Verdict]) -> Counts:
    """Return the counts of verdicts that are all dealt with."""
    indicators = [found for found in verdicts if isinstance(found, Indicator)]
    return Counts(
        fetched=len(verdicts),
        filtered=sum(found is Decision.FILTERED for found in verdicts),
        invalid=sum(isinstance(found, Invalid) for found in verdicts),
        unchanged=sum(found is Decision.UNCHANGED for found in verdicts),
        older=sum(found is Decision.OLDER for found in verdicts),
        enqueued=len(indicators),
        corrections=sum(found.correction for found in indicators),
        other_kind=sum(found.other_kind for found in indicators),
    )


def bodies(chunks: Sequence[PackedChunk]) -> bytes:
    """Return the bodies of chunks as one list, as the indicators were put in."""
    return b",".join(chunk.envelope.body[1:-1] for chunk in chunks)


@st.composite
def feeds(draw: st.DrawFn, *, letters: str = "iiiocfuvx") -> list[list[Verdict]]:
    """Pages of any sizes, empty ones included, with any mix of verdicts.

    Letters: i sent, o of another kind, c a correction, r another version of one of three ids,
    f filtered, u unchanged, v older, x invalid.
    """
    shapes = draw(st.lists(st.text(letters, max_size=12), min_size=1, max_size=8))
    numbers = iter(range(10, 1000))
    left_out: dict[str, Verdict] = {
        "f": Decision.FILTERED,
        "u": Decision.UNCHANGED,
        "v": Decision.OLDER,
        "x": INVALID,
    }

    def made(kind: str) -> Verdict:
        if kind in left_out:
            return left_out[kind]
        changes: dict[str, Any] = {"other_kind": kind == "o", "correction": kind == "c"}
        if kind == "r":
            changes |= {"id_hash": draw(st.integers(0, 2)), "is_known": True}
        return small(next(numbers), **changes)

    return [[made(kind) for kind in shape] for shape in shapes]


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
        assert (envelope.epoch, envelope.ledger_id) == (3, "0badcafe0badcafe")
        assert envelope.count == len(envelope.fingerprints)
        assert (envelope.attempt, envelope.deferrals, envelope.history) == (0, 0, ())


@given(pages=feeds(letters="iirx"), size=SIZES)
def test_a_chunk_has_what_its_row_keeps(pages: Pages, size: int) -> None:
    """A record for each indicator in the order of the body, and which ids it supersedes."""
    chunks = drain(pages, size=size).chunks
    wanted = [found for found in chain(*pages) if isinstance(found, Indicator)]
    records = [record for chunk in chunks for record in unpack_records(chunk.records)]
    assert records == [
        Record(
            id_hash=found.id_hash,
            fingerprint=found.fingerprint,
            modified=found.modified,
            ends_on=found.ends_on,
        )
        for found in wanted
    ]
    assert [id_hash for chunk in chunks for id_hash in chunk.supersedes] == [
        found.id_hash for found in wanted if found.is_known
    ]


@given(pages=feeds(letters="irrrf"), size=SIZES)
def test_no_chunk_holds_two_versions_of_an_indicator(pages: Pages, size: int) -> None:
    """The later one begins another chunk, so that it can strike the one before: order stays."""
    drained = drain(pages, size=size)
    for chunk in drained.chunks:
        ids = [record.id_hash for record in unpack_records(chunk.records)]
        assert len(set(ids)) == len(ids)
    wanted = [found for found in chain(*pages) if isinstance(found, Indicator)]
    assert bodies(drained.chunks) == b",".join(found.body for found in wanted)
    assert [chunk.envelope.sequence for chunk in drained.chunks] == list(range(len(drained.chunks)))


def test_only_a_second_version_begins_a_chunk_early() -> None:
    """Across a page border too; what waits behind it fills the next chunk."""
    pages = [
        [small(1), small(2)],
        [small(3, id_hash=1), small(4), small(5), small(6), small(7)],
    ]
    chunks = drain(pages, size=4).chunks
    assert [chunk.envelope.count for chunk in chunks] == [2, 4, 1]


@pytest.mark.parametrize("recent", range(3))
def test_one_recent_indicator_makes_its_chunk_wait(recent: int) -> None:
    """A request with an older version may be about to leave: the whole message waits for it."""
    page = [
        small(number, is_known=number == recent, is_recent=number == recent) for number in range(6)
    ]
    assert [chunk.is_recent for chunk in drain([page], size=3).chunks] == [True, False]


@given(pages=feeds(letters="iiiorcfuvx"), size=SIZES)
def test_the_settled_checkpoint_never_passes_what_is_not_in_a_chunk(
    pages: Pages, size: int
) -> None:
    """Before it lie exactly the indicators of the chunks so far, and its counts say so."""
    drained = drain(pages, size=size)
    enqueued, last = 0, (0, 0)
    for step in drained.steps:
        enqueued += sum(chunk.envelope.count for chunk in step.chunks)
        cursor, counts = step.progress.settled.cursor, step.progress.settled.counts
        assert counts == counted(before(pages, cursor))
        assert counts.enqueued == enqueued
        assert cursor.token == token(cursor.page)
        assert (cursor.page, cursor.offset) >= last
        last = (cursor.page, cursor.offset)


@given(pages=feeds(letters="iiiorcfuvx"), size=SIZES)
def test_the_settled_checkpoint_numbers_the_next_chunk(pages: Pages, size: int) -> None:
    """Chunks from that number on lie beyond it: those before have all that it counts."""
    sequence = 0
    for step in drain(pages, size=size).steps:
        sequence += len(step.chunks)
        assert step.progress.settled.cursor.sequence == sequence
        assert step.progress.reached.cursor.sequence == sequence


@given(pages=feeds(letters="iiiorcfuvx"), size=SIZES)
def test_counts_are_conserved(pages: Pages, size: int) -> None:
    """At both checkpoints what was fetched has one fate each; at the end they are one."""
    drained = drain(pages, size=size)
    for step in drained.steps:
        for counts in (step.progress.settled.counts, step.progress.reached.counts):
            left_out = counts.filtered + counts.invalid + counts.unchanged + counts.older
            assert counts.fetched == left_out + counts.enqueued
    assert drained.progress.settled == drained.progress.reached
    assert drained.progress.settled.counts == counted(list(chain(*pages)))
    assert drained.progress.waiting == ()


@given(pages=feeds(letters="iiiorcfuvx"), size=SIZES)
def test_the_reached_checkpoint_is_what_was_read(pages: Pages, size: int) -> None:
    """What lies between the two is what waits, and what was left out since: less than a chunk."""
    for read, step in enumerate(drain(pages, size=size).steps[:-1], start=1):
        progress = step.progress
        assert progress.reached.counts == counted(list(chain(*pages[:read])))
        waiting = progress.reached.counts.enqueued - progress.settled.counts.enqueued
        assert waiting == len(progress.waiting) < size
        assert (progress.settled == progress.reached) or progress.waiting


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
    start = Checkpoint()
    for stop in stops:
        part = drain(pages, size=size, start=start, stop_after=stop)
        chunks += part.chunks
        start = part.progress.settled
    rest = drain(pages, size=size, start=start)
    assert chunks + rest.chunks == uninterrupted.chunks
    assert rest.progress == uninterrupted.progress


@given(pages=feeds(letters="iiirf"), sizes=st.lists(SIZES, min_size=1, max_size=6))
def test_resuming_with_another_size_loses_and_repeats_nothing(
    pages: Pages, sizes: list[int]
) -> None:
    """Each tick may have another `CHUNK_SIZE`: the checkpoint says where to go on."""
    chunks: list[PackedChunk] = []
    start = Checkpoint()
    for size in sizes[:-1]:
        part = drain(pages, size=size, start=start, stop_after=1)
        chunks += part.chunks
        start = part.progress.settled
    rest = drain(pages, size=sizes[-1], start=start)
    wanted = [found.body for found in chain(*pages) if isinstance(found, Indicator)]
    assert bodies([*chunks, *rest.chunks]) == b",".join(wanted)
    assert rest.progress.settled.counts == counted(list(chain(*pages)))


@given(pages=feeds(), size=SIZES)
def test_the_last_checkpoint_lies_behind_everything(pages: Pages, size: int) -> None:
    """It says so, and no earlier one does; read again from there, there is nothing to do."""
    drained = drain(pages, size=size)
    done = drained.progress.settled
    assert done.cursor.done
    assert not any(step.progress.settled.cursor.done for step in drained.steps[: len(pages) - 1])
    again = drain(pages, size=size, start=done)
    assert again.chunks == []
    assert again.progress.settled == done


@given(pages=feeds(), size=SIZES, stop=st.integers(1, 4))
def test_flushing_part_way_moves_the_checkpoint_behind_what_was_read(
    pages: Pages, size: int, stop: int
) -> None:
    """What waited is in a short chunk; going on from there loses and repeats nothing."""
    part = drain(pages, size=size, stop_after=stop)
    part.steps.append(flush_chunks(part.progress, origin=ORIGIN))
    settled = part.progress.settled
    assert settled == part.progress.reached
    assert settled.counts == counted(before(pages, settled.cursor))
    assert settled.cursor.done == (stop >= len(pages))
    rest = drain(pages, size=size, start=settled)
    wanted = [found.body for found in chain(*pages) if isinstance(found, Indicator)]
    assert bodies([*part.chunks, *rest.chunks]) == b",".join(wanted)
    assert rest.progress.settled.counts == counted(list(chain(*pages)))


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
    assert drained.progress.settled.counts == counted(made)
    part = drain(pages, size=size, stop_after=1)
    rest = drain(pages, size=size, start=part.progress.settled)
    assert part.chunks + rest.chunks == drained.chunks


def test_a_full_chunk_of_ordinary_indicators_is_not_split() -> None:
    """A hundred indicators of half a kilobyte each are one message."""
    made = [bulky(number, 300) for number in range(100)]
    (chunk,) = chunks_of(made, origin=ORIGIN, sequence=7)
    assert (chunk.envelope.count, chunk.envelope.sequence) == (100, 7)


def test_a_body_that_inflates_beyond_what_is_decoded_is_split() -> None:
    """However well it compresses, no message holds more than the consumer will unpack."""
    body = b'{"x":"%s"}' % (b"a" * (MAX_BODY_BYTES // 10))
    chunks = chunks_of([made_of(body, number) for number in range(16)], origin=ORIGIN, sequence=0)
    assert [chunk.envelope.count for chunk in chunks] == [8, 8]
    assert all(decode_envelope(chunk.text()) == chunk.envelope for chunk in chunks)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (small(0), True),
        (bulky(0, 30_000), True),
        (bulky(1, 2 * MAX_NEW_ENVELOPE_BYTES), False),
        (made_of(b'"%s"' % (b"a" * MAX_BODY_BYTES), 0), False),
        (made_of(b'"%s"' % (b"a" * (MAX_BODY_BYTES - 4)), 0), True),
    ],
    ids=["small", "large", "incompressible", "inflates", "just inflates"],
)
def test_what_fits_alone(*, made: Indicator, expected: bool) -> None:
    """What does not is refused before it can hold up its neighbours."""
    assert fits(made) is expected


def test_what_surely_fits_fits() -> None:
    """The size below which nothing is tried holds for noise too."""
    noise = random.Random(0).randbytes(SURELY_FITS)  # noqa: S311 - a fixed seed
    (chunk,) = chunks_of(
        [made_of(noise, 0, fingerprint=2**64 - 1)],
        origin=Origin(run_id="0" * 64, epoch=10**6 - 1, ledger_id="f" * 64),
        sequence=2**31 - 1,
    )
    assert chunk.envelope.count == 1


def test_packing_what_cannot_fit_is_a_bug_that_says_so() -> None:
    """Callers refuse such an indicator before."""
    with pytest.raises(ValueError, match="must be refused before"):
        chunks_of([bulky(0, 2 * MAX_NEW_ENVELOPE_BYTES)], origin=ORIGIN, sequence=0)
