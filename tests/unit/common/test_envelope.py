"""The envelope: what goes in comes out, what does not fit or is damaged is refused, with why."""

import base64
import json
import random
import re
import tracemalloc
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.envelope import (
    MAX_BODY_BYTES,
    MAX_CHUNKS,
    MAX_COUNT,
    MAX_ENVELOPE_BYTES,
    MAX_EPOCH,
    MAX_HISTORY,
    MAX_NEW_ENVELOPE_BYTES,
    MAX_REASON,
    MAX_TRACE,
    VERSION,
    Attempt,
    Envelope,
    chunk_id_of,
    decode_envelope,
    encode_envelope,
    pack_body,
    sequence_key,
)
from common.errors import LaterVersionError, TryLaterError, UndecodableError

BODY = '[{"type":"indicator","name":"bücher.example"}]'.encode()
AT = "2026-01-01T00:00:00+00:00"

ids = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?", fullmatch=True)
numbers = st.integers(0, MAX_COUNT - 1)
stamps = st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds"))
reasons = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'),
    max_size=MAX_REASON,
).map(lambda text: " ".join(text.split()))
attempts = st.builds(Attempt, at=stamps, reason=reasons)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Any envelope that the pipeline can make, small enough to be sent."""
    body = draw(st.binary(max_size=2000))
    count = draw(st.integers(1, 100))
    exact = st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count)
    return Envelope(
        run_id=draw(ids),
        chunk_id=chunk_id_of(body),
        sequence=draw(st.integers(0, MAX_CHUNKS - 1)),
        count=count,
        body=body,
        fingerprints=tuple(draw(exact)),
        epoch=draw(st.integers(0, MAX_EPOCH - 1)),
        ledger_id=draw(ids),
        attempt=draw(numbers),
        deferrals=draw(numbers),
        put_back=draw(numbers),
        failed=draw(st.none() | numbers),
        part=draw(st.none() | st.just(tuple(range(100 - count, 100)))),
        history=tuple(draw(st.lists(attempts, max_size=MAX_HISTORY))),
        trace_parent=draw(reasons)[:MAX_TRACE].strip(),
    )


def envelope(body: bytes = BODY, **changes: Any) -> Envelope:
    """An envelope of one indicator."""
    made = Envelope(
        run_id="20260101T000000-0badcafe",
        chunk_id=chunk_id_of(body),
        sequence=3,
        count=1,
        body=body,
        fingerprints=(2**64 - 1,),
        ledger_id="0badcafe0badcafe",
        trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return replace(made, **changes)


def fields(**changes: Any) -> dict[str, Any]:
    """The fields of a good message, with changes; None removes one."""
    made: dict[str, Any] = json.loads(encode_envelope(envelope()))
    made.update(changes)
    return {name: value for name, value in made.items() if value is not None}


def envelope_of_size(size: int) -> Envelope:
    """An envelope whose text has exactly `size` characters, of a body that does not compress."""
    noise = random.Random(size).randbytes(size)  # noqa: S311 - repeatable, not secret
    low, high = 0, size
    while low < high:  # the longest body that is not too long
        middle = (low + high + 1) // 2
        body = noise[:middle]
        if _length(envelope(body, trace_parent="")) <= size:
            low = middle
        else:
            high = middle - 1
    made = envelope(noise[:low], trace_parent="")
    return replace(made, trace_parent="t" * (size - _length(made)))


def _length(made: Envelope) -> int:
    without_body = len(encode_envelope(made, packed_body="-"))
    return without_body - 1 + len(pack_body(made.body))


@given(original=envelopes())
def test_an_envelope_comes_back_as_it_was(original: Envelope) -> None:
    """Decoding an encoded envelope gives an equal one, body bytes and all."""
    assert decode_envelope(encode_envelope(original)) == original


@given(original=envelopes())
def test_the_text_is_one_byte_a_character_and_valid_xml(original: Envelope) -> None:
    """The message is printable ASCII: its length is its size and the queue's XML can carry it."""
    text = encode_envelope(original)
    assert re.fullmatch(r"[ -~]+", text)


def test_unicode_survives() -> None:
    """Letters outside ASCII come back in the body; other texts are for reading only."""
    original = envelope('["é漢😀\u2028"]'.encode(), trace_parent="é\ud800")
    decoded = decode_envelope(encode_envelope(original))
    assert decoded.body == original.body
    assert decoded.trace_parent == "??"


def test_the_same_indicators_make_the_same_chunk() -> None:
    """The id is 32 hex digits that depend on the content alone."""
    assert chunk_id_of(BODY) == chunk_id_of(bytes(BODY))
    assert chunk_id_of(BODY) != chunk_id_of(BODY + b" ")
    assert re.fullmatch(r"[0-9a-f]{32}", chunk_id_of(BODY))


def test_the_largest_envelope_is_exactly_64_kib() -> None:
    """A text of 65 536 bytes is made and read; one byte more is refused, naming the chunk."""
    largest = envelope_of_size(MAX_ENVELOPE_BYTES)
    text = encode_envelope(largest)
    assert len(text) == MAX_ENVELOPE_BYTES
    assert decode_envelope(text) == largest
    with pytest.raises(ValueError, match=largest.key):
        encode_envelope(replace(largest, trace_parent=largest.trace_parent + "t"))


def test_a_maximal_new_envelope_can_be_deferred_for_ever() -> None:
    """After a thousand deferrals for the longest reasons it still fits, and all is counted."""
    made = envelope_of_size(MAX_NEW_ENVELOPE_BYTES)
    assert len(encode_envelope(made)) == MAX_NEW_ENVELOPE_BYTES
    for _ in range(1000):
        made = made.deferred(at=AT, reason='"\\é😀' * MAX_REASON, counts=True)
    text = encode_envelope(made)
    assert len(text) <= MAX_ENVELOPE_BYTES
    assert decode_envelope(text) == made
    assert (made.attempt, made.deferrals) == (1000, 1000)


def test_the_history_keeps_the_first_and_the_latest() -> None:
    """Of many deferrals the first and the last eleven stay, in order."""
    made = envelope()
    for number in range(40):
        made = made.deferred(at=AT, reason=str(number), counts=False)
    expected = ["0", *map(str, range(40 - (MAX_HISTORY - 1), 40))]
    assert [item.reason for item in made.history] == expected


@given(reason=st.text(), at=st.text(max_size=60))
def test_a_reason_is_short_and_needs_no_escapes(reason: str, at: str) -> None:
    """Whatever a reason holds, it stands in the text as it is: no quote, backslash or control."""
    made = envelope().deferred(at=at, reason=reason, counts=False)
    [latest] = made.history
    assert len(latest.reason) <= MAX_REASON
    assert re.fullmatch(r"[ !#-\[\]-~]*", latest.reason)
    assert f'"{latest.reason}"]' in encode_envelope(made)
    assert decode_envelope(encode_envelope(made)) == made


@pytest.mark.parametrize(("counts", "attempt"), [(True, 1), (False, 0)])
def test_only_what_counts_is_an_attempt(counts: bool, attempt: int) -> None:
    """Every deferral is counted as such; as an attempt only one that counts."""
    original = envelope()
    made = original.deferred(at=AT, reason="throttled", counts=counts)
    assert (made.attempt, made.deferrals) == (attempt, 1)
    assert made.history == (Attempt(at=AT, reason="throttled"),)
    assert replace(made, attempt=0, deferrals=0, history=()) == original


def test_a_field_of_a_later_release_is_ignored() -> None:
    """A release that adds a field to version 1 is read by this one."""
    assert decode_envelope(json.dumps(fields(extra={"more": [1]}, zone="x"))) == envelope()


@pytest.mark.parametrize("version", [VERSION + 1, VERSION + 2, 10**40])
@pytest.mark.parametrize("changes", [{}, {"body": 7, "run": None, "count": "many"}])
def test_a_later_version_is_no_fault_of_the_message(version: int, changes: dict[str, Any]) -> None:
    """It is to be tried later, whatever else is in it: nothing of it is looked at."""
    with pytest.raises(LaterVersionError, match="of a later release; this one reads 1") as caught:
        decode_envelope(json.dumps(fields(version=version, **changes)))
    assert isinstance(caught.value, TryLaterError)


@pytest.mark.parametrize("version", [0, -1, "1", True, False, 1.0, 1.5, [], {}])
def test_what_is_no_version_is_named(version: object) -> None:
    """What no release has written is refused, with what it is."""
    with pytest.raises(UndecodableError, match=r"version '.{1,20}' is unknown"):
        decode_envelope(json.dumps(fields(version=version)))


def test_a_missing_or_null_version_is_unknown() -> None:
    """A message without a version, or with null, is refused as of an unknown one."""
    for text in (json.dumps(fields(version=None)), json.dumps({**fields(), "version": None})):
        with pytest.raises(UndecodableError, match="version 'None' is unknown"):
            decode_envelope(text)


OPTIONAL = {"put_back", "failed", "part"}
"""Fields that may be missing."""

MISTYPED: dict[str, list[object]] = {
    "run": [1, "", "a" * 65, "a/b", "a b", "é", "---", [], {}],
    "chunk": [1, "", "a" * 65, "a#b", "0" * 32],
    "sequence": [-1, MAX_CHUNKS, 1.0, "1", True, [], {}],
    "count": [-1, 0, 2, 101, MAX_COUNT, 1.0, "1", True],
    "epoch": [-1, MAX_EPOCH, 1.0, "1", True, [], {}],
    "ledger": [1, 1.0, True, [], {}, "\u20ac" * 8, "a" * 65, "a/b"],
    "attempt": [-1, MAX_COUNT, 0.0, "0", False],
    "deferrals": [-1, MAX_COUNT, 0.0, "0", False],
    "put_back": [-1, MAX_COUNT, 0.0, "0", False],
    "failed": [-1, MAX_COUNT, 0.0, "0", False, [], {}],
    "part": [1, "x", {}, [], [-1], [100], [1.0], [True], ["0"], [0, 1], [1, 0], [[0]]],
    "history": ["x", 1, {}, [1], [[]], [["a"]], [["a", 1]], [["a", "b", "c"]], [{"a": "b"}]],
    "trace": [1, [], {}, True],
    "fingerprints": [1, [], "", "x", "é", "AAAA", "AAAAAAAAAAA=" * 2],
    "body": [1, [], "", "x", "é", "AAAA", "\ud800"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in MISTYPED.items() for value in values]
)
def test_a_wrong_field_is_refused(name: str, value: object) -> None:
    """Each field is checked for type and range; a message with a wrong one is undecodable."""
    with pytest.raises(UndecodableError):
        decode_envelope(json.dumps({**fields(), name: value}))


@pytest.mark.parametrize("name", [name for name in MISTYPED if name not in OPTIONAL])
def test_a_missing_field_is_named(name: str) -> None:
    """A message without one of its fields is refused with the field's name."""
    with pytest.raises(UndecodableError, match=f"'{name}'"):
        decode_envelope(json.dumps(fields(**{name: None})))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "1", '"x"', "NaN", "\ufeff{}", "[" * 9999])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    """Text that is not JSON, or JSON that is not an object, is undecodable."""
    with pytest.raises(UndecodableError, match="JSON"):
        decode_envelope(text)


def test_a_truncated_message_is_refused() -> None:
    """Cut at any place, a message is undecodable."""
    text = encode_envelope(envelope())
    for end in range(len(text)):
        with pytest.raises(UndecodableError):
            decode_envelope(text[:end])


def test_a_damaged_body_is_noticed() -> None:
    """With any one bit of its body flipped, a message is undecodable: nothing else is uploaded."""
    packed = base64.b64decode(fields()["body"])
    for bit in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decoded = decode_envelope(json.dumps(fields(body=_base64(damaged))))
        except UndecodableError:
            continue
        assert decoded.body == BODY  # bits of the zlib header that mean nothing


@pytest.mark.parametrize("body", [zlib.compress(BODY) + b"x", zlib.compress(BODY)[:-1]])
def test_a_body_ends_where_it_ends(body: bytes) -> None:
    """Data after the compressed body, or a missing last byte, is refused."""
    with pytest.raises(UndecodableError, match="cut short or followed"):
        decode_envelope(json.dumps(fields(body=_base64(body))))


def test_another_body_is_noticed() -> None:
    """A good body that is not the one the chunk id was made from is refused."""
    with pytest.raises(UndecodableError, match="does not match the chunk id"):
        decode_envelope(json.dumps(fields(body=_base64(zlib.compress(b"[{}]")))))


def test_the_largest_body_is_read() -> None:
    """A body of exactly the limit is decoded; one byte more is refused with the limit."""
    assert len(decode_envelope(encode_envelope(envelope(bytes(MAX_BODY_BYTES)))).body) == 2**22
    with pytest.raises(UndecodableError, match=str(MAX_BODY_BYTES)):
        decode_envelope(encode_envelope(envelope(bytes(MAX_BODY_BYTES + 1))))


def test_a_bomb_does_not_fill_the_memory() -> None:
    """A message that would inflate to forty times the limit is refused within thrice the limit."""
    text = _bomb(40 * MAX_BODY_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableError, match="refused"):
            decode_envelope(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_BODY_BYTES


def test_a_long_foreign_history_is_cut_as_ours_is() -> None:
    """A history that this code would not write is bounded on reading: it must fit in the ledger."""
    long = [["é" * 999, '"' * 999]] * 99
    history = decode_envelope(json.dumps(fields(history=long))).history
    assert len(history) == MAX_HISTORY
    assert {(len(item.at), item.reason) for item in history} == {(40, "?" * MAX_REASON)}


@given(text=st.text())
def test_any_text_is_decoded_or_undecodable(text: str) -> None:
    """No text makes decoding fail otherwise."""
    _decoded_or_undecodable(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(alphabet="AQJeNp+/=", max_size=40),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(changes=st.dictionaries(st.sampled_from([*MISTYPED, "version"]), json_values))
def test_any_fields_are_decoded_or_undecodable(changes: dict[str, object]) -> None:
    """Whatever JSON stands in whichever fields, decoding fails in no other way."""
    _decoded_or_undecodable(json.dumps({**fields(), **changes}))


@given(data=st.data())
def test_any_damage_is_decoded_or_undecodable(data: st.DataObject) -> None:
    """Whatever part of a message is replaced by whatever text, decoding fails in no other way."""
    text = encode_envelope(envelope())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    _decoded_or_undecodable(text[:start] + data.draw(st.text()) + text[end:])


def _decoded_or_undecodable(text: str) -> None:
    try:
        decoded = decode_envelope(text)
    except (UndecodableError, LaterVersionError):
        return
    assert decoded.chunk_id == chunk_id_of(decoded.body)


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode()


def _bomb(size: int) -> str:
    return json.dumps(fields(body=_base64(zlib.compress(bytes(size), 9))))


@pytest.mark.parametrize("count", [0, 1, 99, 101, 2**31 - 1])
def test_a_count_that_is_not_that_of_the_fingerprints_is_damage(count: int) -> None:
    """A request is built by them: a chunk of which one is wrong must not be sent."""
    made = envelope(fingerprints=tuple(range(100)), count=100)
    assert decode_envelope(encode_envelope(made)) == made
    with pytest.raises(UndecodableError, match=r"records|fingerprints|count"):
        decode_envelope(encode_envelope(replace(made, count=count)))


def test_more_records_than_a_request_takes_are_refused() -> None:
    """Sentinel takes a hundred: a hundred and one of them, fingerprints and all, are damage."""
    made = envelope(fingerprints=tuple(range(101)), count=101)
    with pytest.raises(UndecodableError, match="1 to 100"):
        decode_envelope(encode_envelope(made))


def test_a_key_tells_place_and_epoch() -> None:
    """A message of an earlier epoch never fits a row of a later one; keys sort by place."""
    made = [
        envelope(sequence=sequence, epoch=e) for sequence in (0, 9, 10, 99_999) for e in (1, 12)
    ]
    keys = [found.key for found in made]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert all(found.key.startswith(sequence_key(found.sequence)) for found in made)
    assert made[0].name == "20260101T000000-0badcafe/000000-1"


def test_what_just_fitted_before_fits_again() -> None:
    """A body that takes more room as we pack it than as it came is packed as closely as it can."""
    rng = random.Random(1)  # noqa: S311 - a fixed seed
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(3, 9))) for _ in range(3000)]
    text = " ".join(rng.choices(words, k=22_000))
    end = next(
        end
        for end in range(len(text), 0, -1000)
        if len(zlib.compress(text[:end].encode(), 9)) * 4 / 3 < MAX_ENVELOPE_BYTES - 1000
    )
    body = f'["{text[:end]}"]'.encode()
    full = replace(envelope(), body=body, chunk_id=chunk_id_of(body))
    assert len(pack_body(body)) > MAX_ENVELOPE_BYTES
    assert decode_envelope(encode_envelope(full)).body == body


def test_an_envelope_of_a_release_that_did_not_put_back_is_read() -> None:
    """A message without the field was not put back."""
    made = fields()
    del made["put_back"]
    assert decode_envelope(json.dumps(made)) == envelope()
