"""The status table: what each answer of Sentinel means, for every status there is."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from common.events import quoted
from consumer.sentinel import (
    DEFAULT_THROTTLE,
    MAX_MESSAGES,
    MAX_THROTTLE,
    Answer,
    Drift,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    Refused,
    Throttled,
    Unavailable,
    Uploaded,
    classify_answer,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 5

MEANING: dict[int, type] = {
    **dict.fromkeys(range(200, 300), Uploaded),
    400: Refused,
    401: RefreshToken,
    403: OperatorNeeded,
    404: OperatorNeeded,
    408: Unavailable,
    413: Refused,
    422: Refused,
    425: Unavailable,
    429: Throttled,
    **dict.fromkeys(range(500, 600), Unavailable),
}
"""What the contract names, written down a second time; every other status is drift."""


def classify(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, count: int = COUNT
) -> Answer:
    """Classify an answer to `count` records."""
    found = CaseInsensitiveDict(headers or {})
    return classify_answer(status, found, body, count=count, now=NOW)


def receipt(*errors: object, count: int = COUNT) -> Answer:
    """Classify a 200 that names these errors."""
    return classify(200, json.dumps({"errors": errors}).encode(), count=count)


def named(index: Any, *messages: str) -> dict[str, Any]:
    """Return one error in the service's form."""
    return {"recordIndex": index, "errorMessages": list(messages)}


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_means_what_the_table_says(status: int) -> None:
    """No status is retried, split or taken for success unless the contract says so."""
    answer = classify(status)
    assert type(answer) is MEANING.get(status, Drift)
    if not isinstance(answer, Uploaded):
        assert str(status) in answer.reason


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(403, "Microsoft Sentinel Contributor"), (404, "WORKSPACE_ID")],
)
def test_what_an_operator_must_mend_names_the_remedy(status: int, remedy: str) -> None:
    """The reason in the ledger says what to do."""
    answer = classify(status, b'{"message": "secret of the service"}')
    assert isinstance(answer, OperatorNeeded)
    assert remedy in answer.reason


@pytest.mark.parametrize(
    "body",
    [b"", b" \r\n\t ", b"{}", b'{"errors": []}', b'{"errors": null}', b"[]"],
)
def test_a_200_that_names_no_error_accepted_everything(body: bytes) -> None:
    """Nothing, an empty object and an empty list of errors are one answer."""
    assert classify(200, body) == Uploaded()


@pytest.mark.parametrize("index", [0, 2, COUNT - 1])
def test_a_named_record_is_rejected_and_no_other(index: int) -> None:
    """The index counts from 0, the messages are kept."""
    assert receipt(named(index, "bad", "worse")) == Uploaded(
        rejected=(RecordError(index=index, messages=("bad", "worse")),)
    )


@pytest.mark.parametrize("index", [COUNT, 10**9, -1, -COUNT])
def test_an_index_that_names_no_record_is_stray(index: int) -> None:
    """It rejects nobody's neighbour, and is not swallowed."""
    answer = receipt(named(1, "bad"), named(index, "lost"))
    assert answer == Uploaded(
        rejected=(RecordError(index=1, messages=("bad",)),),
        stray=(RecordError(index=index, messages=("lost",)),),
    )


@pytest.mark.parametrize(
    "error",
    [
        named(True, "bad"),
        named("one", "bad"),
        named("1.5", "bad"),
        named(1.5, "bad"),
        named(float("nan"), "bad"),
        named(float("inf"), "bad"),
        named("\u0661", "bad"),
        named(None, "bad"),
        named(10**400, "bad"),
        named(-(10**400), "bad"),
        {"errorMessages": ["bad"]},
        {"recordIndex": 1, "errorMessages": 7},
        {"recordIndex": 1, "errorMessages": {"text": "bad"}},
        "bad",
        1,
        None,
        [1, "bad"],
    ],
    ids=repr,
)
def test_an_error_of_unknown_form_is_drift(error: object) -> None:
    """Nobody knows which record it means, so nothing is taken for accepted."""
    assert isinstance(receipt(named(0, "bad"), error), Drift)


@pytest.mark.parametrize("index", [3, 3.0, "3", "3.0"], ids=repr)
@pytest.mark.parametrize(
    ("said", "kept"), [(["bad"], ("bad",)), ("bad", ("bad",)), (None, ()), ([], ())], ids=repr
)
def test_the_forms_that_services_produce_are_read(
    index: object, said: object, kept: tuple[str, ...]
) -> None:
    """An index as a number with a fraction or as text; messages as one text, or none."""
    answer = receipt({"recordIndex": index, "errorMessages": said})
    assert answer == Uploaded(rejected=(RecordError(index=3, messages=kept),))


@pytest.mark.parametrize("status", [200, 201, 202, 207])
@pytest.mark.parametrize(
    "body",
    [
        {"statusCode": 500, "message": "Internal server error"},
        {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 5 seconds."},
        {"error": {"code": "Unauthorized", "message": "no"}},
        {"other": 1},
        {"statusCode": 429, "message": "Rate limit is exceeded.", "errors": []},
        {"error": "x", "errors": None},
        {"status": 400, "title": "One or more validation errors occurred.", "errors": None},
    ],
    ids=str,
)
def test_a_success_whose_body_is_no_receipt_is_drift(status: int, body: object) -> None:
    """The service failed and says so in the body only: nothing is taken for accepted."""
    assert isinstance(classify(status, json.dumps(body).encode()), Drift)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_success_is_read_as_a_200(status: int) -> None:
    """Empty or with a receipt."""
    assert classify(status) == Uploaded()
    body = json.dumps({"errors": [named(1, "bad")]}).encode()
    assert classify(status, body) == Uploaded(rejected=(RecordError(index=1, messages=("bad",)),))


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_200_that_names_every_record_is_a_refusal(count: int) -> None:
    """Nothing was accepted, so it proves nothing of the records; they are named all the same."""
    every = tuple(RecordError(index=index, messages=("bad",)) for index in range(count))
    answer = receipt(*(named(index, "bad") for index in range(count)), count=count)
    assert answer == Refused(
        reason="Sentinel refused every record of the request (200)", named=every
    )
    if count > 1:
        but_one = receipt(*(named(index, "bad") for index in range(1, count)), count=count)
        assert but_one == Uploaded(rejected=every[1:])


@pytest.mark.parametrize(
    "indexes", [(1, 2, 3), (0, 1, 3), (7, 8, 9), (0, 1, 2, 3), (9, 9, 9)], ids=str
)
def test_as_many_errors_as_records_name_nobody_where_some_are_stray(
    indexes: tuple[int, ...],
) -> None:
    """It may count from 1: nobody knows who is meant, and nothing is known to be accepted."""
    answer = receipt(*(named(index, "bad") for index in indexes), count=3)
    assert isinstance(answer, Refused)
    assert answer.named == ()
    assert "that it did not have" in answer.reason


def test_an_error_without_messages_still_rejects_its_record() -> None:
    """The reason is missing, the fact is not."""
    assert receipt({"recordIndex": 3}) == Uploaded(rejected=(RecordError(index=3, messages=()),))


def test_records_named_twice_are_rejected_once_and_in_order() -> None:
    """A repeated index does not make the count of rejected records wrong."""
    answer = receipt(named(4, "late"), named(1, "first"), named(1, "again"))
    assert isinstance(answer, Uploaded)
    assert [error.index for error in answer.rejected] == [1, 4]


def test_messages_without_end_are_cut() -> None:
    """Ten messages of a record are enough, of whatever type they are."""
    (error,) = receipt(named(0, *map(str, range(99)))).rejected  # type: ignore[union-attr]
    assert len(error.messages) == MAX_MESSAGES
    odd = receipt({"recordIndex": 0, "errorMessages": [1, None, {"a": []}]})
    assert isinstance(odd, Uploaded)
    assert odd.rejected[0].messages == ("1", "None", "{'a': []}")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{",
        b"null",
        b"5",
        b'"text"',
        b"true",
        b'{"errors": {}}',
        b'{"errors": "none"}',
        b'{"errors": 0}',
        b'{"errors": false}',
        b'["text"]',
        b"\xff\xfe\x00",
        b"[" * 200_000,
    ],
    ids=lambda body: repr(body)[:24],
)
def test_a_200_that_cannot_be_read_is_drift(body: bytes) -> None:
    """It is never taken for success."""
    assert isinstance(classify(200, body), Drift)


@pytest.mark.parametrize(
    ("headers", "message", "wait"),
    [
        ({}, "", DEFAULT_THROTTLE),
        ({}, "Rate limit is exceeded. Try again in 17 seconds.", 17.0),
        ({}, "TRY AGAIN IN   1 SECOND", 1.0),
        ({}, "Try again in 0 seconds.", 1.0),
        ({}, "Try again in 999999999 seconds.", MAX_THROTTLE),
        ({}, "Try again in 1000000000000 seconds.", DEFAULT_THROTTLE),
        ({}, "Try again in -5 seconds.", DEFAULT_THROTTLE),
        ({}, "Try again in a few seconds.", DEFAULT_THROTTLE),
        ({"Retry-After": "9"}, "Try again in 17 seconds.", 9.0),
        ({"retry-after": "9"}, "", 9.0),
        ({"Retry-After": "0"}, "", 1.0),
        ({"Retry-After": "1000000000000"}, "", MAX_THROTTLE),
        ({"Retry-After": "9" * 400}, "", MAX_THROTTLE),
        ({"Retry-After": "-5"}, "", DEFAULT_THROTTLE),
        ({"Retry-After": "-5"}, "Try again in 17 seconds.", 17.0),
        ({"Retry-After": "soon"}, "Try again in 17 seconds.", 17.0),
        ({"Retry-After": ""}, "", DEFAULT_THROTTLE),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=40), usegmt=True)}, "", 40.0),
        ({"Retry-After": format_datetime(NOW - timedelta(days=9), usegmt=True)}, "", 1.0),
        ({"Retry-After": format_datetime(NOW + timedelta(days=9), usegmt=True)}, "", MAX_THROTTLE),
    ],
)
def test_a_429_is_obeyed_by_header_else_by_text_else_by_default(
    headers: dict[str, str], message: str, wait: float
) -> None:
    """At least a second and at most an hour, whatever it says."""
    body = json.dumps({"statusCode": 429, "message": message}).encode() if message else b""
    answer = classify(429, body, headers)
    assert isinstance(answer, Throttled)
    assert answer.wait == wait


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_carries_the_services_own_words(status: int) -> None:
    """Its short message and nothing else: an answer may repeat the records sent."""
    said = {"message": "m" * 500, "errors": [named(0, "secret pattern")]}
    answer = classify(status, json.dumps(said).encode())
    assert isinstance(answer, Refused)
    assert answer.reason.endswith(": " + quoted("m" * 100))
    assert "secret pattern" not in answer.reason


WILD = "bad \ud800\x00 \x1b[31m\u2028line\nnext \u202e\U0001f600 é"
TAMED = "bad ?? ?[31m line next ?\U0001f600 é"
"""A lone surrogate, control and formatting characters; what is printable stays."""


def test_the_services_words_are_one_line_that_every_store_takes() -> None:
    """In a refusal as in the message of a record: nothing that UTF-8 or a terminal chokes on."""
    refusal = classify(400, json.dumps({"message": WILD}).encode())
    assert isinstance(refusal, Refused)
    assert refusal.reason.endswith(f": {quoted(TAMED)}")
    answer = receipt(named(0, WILD))
    assert isinstance(answer, Uploaded)
    assert answer.rejected[0].messages == (TAMED,)
    assert (refusal.reason + TAMED).encode()


@given(
    status=st.sampled_from([200, 400, 429, 500, 418]),
    header=st.none() | st.text(),
    body=st.binary()
    | st.text().map(str.encode)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["errors", "recordIndex", "errorMessages", "message"]), inner
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_classifying_never_raises(status: int, header: str | None, body: bytes) -> None:
    """Any body and any header have a meaning, and what is rejected is a record of the chunk."""
    answer = classify(status, body, {} if header is None else {"Retry-After": header})
    if isinstance(answer, Uploaded):
        indices = [error.index for error in answer.rejected]
        assert indices == sorted(set(indices))
        assert all(0 <= index < COUNT for index in indices)
        assert len(answer.rejected) + len(answer.stray) < COUNT
    if isinstance(answer, Refused):
        assert all(0 <= error.index < COUNT for error in answer.named)
    if isinstance(answer, Throttled):
        assert 1.0 <= answer.wait <= MAX_THROTTLE
