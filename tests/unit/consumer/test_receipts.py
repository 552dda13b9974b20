"""Receipts: what is written of records, whatever a body holds."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from common.envelope import Envelope
from common.fingerprints import id_hash
from common.ledger.chunks import Chunk, Fate
from common.ledger.samples import unpack_samples
from common.ledger.states import ChunkState
from consumer.outcomes import Done
from consumer.receipts import ReceiptWriter, properties_of, rejections_of
from consumer.sentinel import RecordError
from consumer.split import part_of
from tests.fakes.clock import START
from tests.unit.consumer.samples import Bench, envelope


@pytest.mark.parametrize("body", [b"{}", b"7", b"null", b"{", b"[" * 100_000])
def test_an_error_about_a_body_without_records_is_kept(body: bytes) -> None:
    """Sentinel may name what is not there: the reason is kept, and nothing fails."""
    done = Done(sent=(0, 1, 2), rejected=(RecordError(index=0, messages=("bad",)),))
    (rejection,) = rejections_of(done, replace(envelope(), body=body), at=START)
    assert (rejection.reason, rejection.content, rejection.indicator_id) == ("bad", b"", "")


def test_odd_texts_of_a_record_are_kept_as_every_store_takes_them() -> None:
    """A lone surrogate is replaced, what is no text is left out; the content has it all."""
    body = b'[{"id": "a\\ud800", "pattern": ["[x]"]}]'
    done = Done(sent=(0,), rejected=(RecordError(index=0, messages=()),))
    (rejection,) = rejections_of(done, replace(envelope(count=1), body=body), at=START)
    assert (rejection.indicator_id, rejection.pattern) == ("a?", "")
    assert json.loads(rejection.content) == json.loads(body)[0]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((), ""),
        (("no word of it",), "other:1"),
        (("",), "other:1"),
        (("Invalid: 'bad.example' is no domain",), "other:1"),
        (("ValidFrom: must be a time",), "valid_from:1"),
        (("the field valid_until ends before valid_from",), "valid_until:1"),
        (
            ("valid until is over", "Pattern_Type?", "pattern [x]"),
            "pattern:1 pattern_type:1 valid_until:1",
        ),
        (("pattern type is missing",), "pattern_type:1"),
        (("pattern too long", "PATTERN", "id is taken"), "id:1 pattern:2"),
    ],
    ids=str,
)
def test_rejections_are_counted_by_the_property_that_sentinel_names(
    said: tuple[str, ...], expected: str
) -> None:
    """Its own words may repeat the indicator: no log line has them."""
    errors = [RecordError(index=n, messages=(text,)) for n, text in enumerate(said)]
    assert properties_of(errors) == expected


def write(bench: Bench, sent: Envelope, done: Done, row: Chunk | None) -> None:
    """Write a receipt for the row that was seen before the request."""
    ReceiptWriter(ledger=bench.ledger, clock=bench.clock).write(done, sent, row)


def refused(*indexes: int) -> tuple[RecordError, ...]:
    """Return what Sentinel says of these records."""
    return tuple(RecordError(index=index, messages=("bad",)) for index in indexes)


@pytest.mark.parametrize("between", ["nothing", "a deferral", "a strike", "an answer"])
def test_a_receipt_is_merged_into_what_the_row_has_become(between: str) -> None:
    """It is written on the row as it was seen; a conflict is read again and nothing undone."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    seen = bench.row(sent)
    match between:
        case "a deferral":
            bench.ledger.chunks.record_deferred(sent, at=START, reason="why")
        case "a strike":
            bench.ledger.chunks.strike(sent.run_id, sent.key, {0, 1})
        case "an answer":
            bench.settle(sent, accepted=(0, 1))
    write(bench, sent, Done(sent=(0, 1, 2), rejected=refused(1)), seen)
    chunk = bench.row(sent)
    assert chunk.state is ChunkState.UPLOADED
    letters, fate = {
        "a strike": ("ASA", Fate(accepted=2, struck=1)),
        "an answer": ("AAA", Fate(accepted=3)),
    }.get(between, ("", Fate(accepted=2, rejected=1)))
    assert (chunk.letters, chunk.fate) == (letters, fate)


def test_a_receipt_for_a_void_chunk_is_written_all_the_same() -> None:
    """What Sentinel has is known, in the books or not."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    seen = bench.row(sent)
    bench.void(sent)
    write(bench, sent, Done(sent=(0, 1, 2)), seen)
    chunk = bench.row(sent)
    assert (chunk.void, chunk.state, chunk.accepted) == (True, ChunkState.UPLOADED, 3)


@pytest.mark.parametrize("row", ["went", "never was"])
def test_a_receipt_makes_no_row(row: str) -> None:
    """A row that is gone is settled, and a chunk of a lost ledger has none; rejections are kept."""
    bench, sent = Bench(), envelope()
    seen = None
    if row == "went":
        bench.enqueue(sent)
        seen = bench.row(sent)
        bench.remove_row(sent)
    write(bench, sent, Done(sent=(0, 1, 2), rejected=refused(2)), seen)
    assert bench.chunk(sent) is None
    (kept,) = bench.ledger.rejections.of_run(sent.run_id)
    assert kept.indicator_id == "indicator--2"


def test_a_receipt_twice_is_the_same_row() -> None:
    """Nothing is counted twice."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    seen = bench.row(sent)
    for _ in range(2):
        write(bench, sent, Done(sent=(0, 1, 2), rejected=refused(0)), seen)
    fate = bench.row(sent).fate
    assert (fate.accepted, fate.rejected) == (2, 1)
    assert len(list(bench.ledger.rejections.of_run(sent.run_id))) == 1


def test_an_error_of_no_record_hides_none_of_a_record() -> None:
    """The request of a part numbers its records from 0: a stray index may be one of the chunk."""
    whole = envelope(count=50)
    part = part_of(whole, (40, 41, 42))
    error = RecordError(index=41, messages=("bad",))
    done = Done(sent=part.indexes, rejected=(error,), stray=(error,))
    known, stray = rejections_of(done, part, at=START)
    assert json.loads(known.content)["id"] == known.indicator_id == "indicator--41"
    assert known.position == f"chunk-{part.key}-41"
    assert (stray.position, stray.content) == (f"chunk-{part.key}-stray-41", b"")


def sampled(*numbers: int) -> Envelope:
    """Return the envelope of a chunk of indicators with a time."""
    objects = [
        {"id": f"indicator--{n}", "modified": "2026-01-01T00:00:00Z", "confidence": 80}
        for n in numbers
    ]
    return replace(envelope(count=len(numbers)), body=json.dumps(objects).encode())


def ids_of(chunk: Chunk) -> list[str]:
    """Return the ids in the sample of a row."""
    return [one.id for one in unpack_samples(chunk.sample)]


def lowest(numbers: Iterable[int]) -> list[str]:
    """Return the two ids with the lowest hashes."""
    return sorted((f"indicator--{number}" for number in numbers), key=id_hash)[:2]


def test_a_receipt_keeps_a_sample_without_an_operation_more() -> None:
    """Two of the accepted ones, in the one write of the row; none that was rejected."""
    bench, sent = Bench(), sampled(*range(9))
    bench.enqueue(sent)
    seen, operations = bench.row(sent), []
    rejected = [int(name.rpartition("-")[2]) for name in lowest(range(9))]
    bench.tables.before = lambda table, operation: operations.append((table, operation))
    write(bench, sent, Done(sent=tuple(range(9)), rejected=refused(*rejected)), seen)
    assert [one for one in operations if one[0] == "chunks"] == [("chunks", "replace")]
    chunk = bench.row(sent)
    assert ids_of(chunk) == lowest(set(range(9)) - set(rejected))
    assert {one.accepted_at for one in unpack_samples(chunk.sample)} == {bench.clock.now()}


def test_the_parts_of_a_chunk_have_one_sample() -> None:
    """The two lowest of all that was accepted."""
    bench, sent = Bench(), sampled(*range(9))
    bench.enqueue(sent)
    parts = ((0, 1, 2), (3, 4, 5, 6), (7, 8))
    bench.ledger.chunks.record_split(bench.row(sent), parts)
    for indexes in parts:
        part = part_of(sent, indexes)
        write(bench, part, Done(sent=indexes), bench.row(sent))
    assert ids_of(bench.row(sent)) == lowest(range(9))


@pytest.mark.parametrize("body", [b"{}", b"7", b"{", b'[{"id": "a"}, 7, null]'])
def test_a_body_without_a_sample_is_settled_all_the_same(body: bytes) -> None:
    """Nothing is kept of it, and nothing fails."""
    bench, sent = Bench(), replace(envelope(), body=body)
    bench.enqueue(sent)
    write(bench, sent, Done(sent=(0, 1, 2)), bench.row(sent))
    chunk = bench.row(sent)
    assert (chunk.state, chunk.sample) == (ChunkState.UPLOADED, b"")


def test_stray_errors_leave_no_sample() -> None:
    """Which records they mean is not known."""
    bench, sent = Bench(), sampled(0, 1, 2)
    bench.enqueue(sent)
    done = Done(sent=(0, 1, 2), stray=(RecordError(index=9, messages=("bad",)),))
    write(bench, sent, done, bench.row(sent))
    assert bench.row(sent).sample == b""
