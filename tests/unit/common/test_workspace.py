"""What an answer of the query API means, and how a value gets into a text."""

import base64
import json
import re
from datetime import UTC, datetime

import pytest
from requests.structures import CaseInsensitiveDict

from common.errors import (
    ContractDriftError,
    CredentialError,
    PipelineError,
    QueryRefusedError,
    ThrottledError,
    UnavailableError,
)
from common.workspace import DEFAULT_THROTTLE, explain_failure, fill

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
QUERY = "ThreatIntelIndicators | where Id has 'indicator--of-a-customer'"


def explained(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> PipelineError | None:
    """Return the error for an answer."""
    return explain_failure(status, CaseInsensitiveDict(headers or {}), body, now=NOW)


def problem(code: str, message: str, inner: str = "") -> bytes:
    """Return the body of a refusal, as the service writes it."""
    error: dict[str, object] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner, "message": f"{inner}: {QUERY}"}
    return json.dumps({"error": error}).encode()


DENIED = "The provided credentials have insufficient access to perform the requested operation"
PRIVATE = "Access is denied because this request was not made through a private endpoint"


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, problem("AuthenticationFailed", "x"), CredentialError, "SENTINEL_QUERY_AUDIENCE"),
        (401, b"", CredentialError, r"\(401\)"),
        (403, problem("InvalidAuthenticationToken", "x"), CredentialError, "AUDIENCE"),
        (403, problem("InvalidAuthenticationTokenAudience", "x"), CredentialError, "AUDIENCE"),
        (403, problem("InsufficientAccessError", DENIED), CredentialError, "role Microsoft"),
        (403, b"<html>", CredentialError, "role Microsoft"),
        (403, problem("InsufficientAccessError", "see our transparency report"),
         CredentialError, "role Microsoft"),
        (403, problem("InsufficientAccessError", PRIVATE), QueryRefusedError, "private link"),
        (403, problem("InsufficientAccessError", "x", "NspValidationFailedError"),
         QueryRefusedError, "private link"),
        (404, problem("WorkspaceNotFoundError", "x"), QueryRefusedError, "WORKSPACE_ID"),
        (400, problem("BadArgumentError", "x", "SEM0100"), QueryRefusedError, "no table"),
        (400, problem("BadArgumentError", "x", "SyntaxError"), ContractDriftError, "as such"),
        (408, b"", UnavailableError, "408"),
        (500, b"<html>", UnavailableError, "500"),
        (504, problem("GatewayTimeout", "x"), UnavailableError, "504"),
        (302, b"", UnavailableError, "redirect"),
        (418, b"", ContractDriftError, "418"),
        (206, b"", ContractDriftError, "206"),
    ],
)  # fmt: skip
def test_each_refusal_is_an_error_with_its_remedy(
    status: int, body: bytes, error: type[PipelineError], said: str
) -> None:
    """The status decides, and the text where one status means several things; no text is shown."""
    found = explained(status, body)
    assert isinstance(found, error)
    assert re.search(said, str(found))
    assert QUERY not in str(found)
    assert "<" not in str(found)


def test_a_code_that_is_none_is_not_shown() -> None:
    """The code of an answer may hold anything."""
    for code in ("a b", "x" * 61, "<script>", 7, None, {"code": "x"}):
        body = json.dumps({"error": {"code": code}}).encode()
        assert "(403)" in str(explained(403, body))
    assert "(403)" in str(explained(403, b"[" * 100_000))


def test_a_200_is_no_failure() -> None:
    """What is in it is another question."""
    assert explained(200, b"<html>") is None


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({}, DEFAULT_THROTTLE), ({"retry-after": "7"}, 7.0), ({"Retry-After": "soon"}, 60.0)],
)
def test_a_throttled_query_says_for_how_long(headers: dict[str, str], wait: float) -> None:
    """By its header, else by the default."""
    found = explained(429, headers=headers)
    assert isinstance(found, ThrottledError)
    assert found.retry_after == wait


@pytest.mark.parametrize(
    "value",
    ["plain", "it's", '"quoted"', "a | b", "back\\slash", "line\nbreak\r\n", "Zürich \U0001f600",
     "'); drop", "{value}", "'{other}'", ["a", "b'"], 7, None],
)  # fmt: skip
def test_a_value_cannot_leave_its_quotation(value: object) -> None:
    """It stands in the text as letters of base64 alone, and comes back whole."""
    text = fill("print parse_json(base64_decode_tostring('{value}'))", value=value)
    found = re.fullmatch(r"print parse_json\(base64_decode_tostring\('([A-Za-z0-9+/=]+)'\)\)", text)
    assert found
    assert json.loads(base64.b64decode(found[1])) == value


def test_every_placeholder_has_its_value() -> None:
    """A missing one, and one too many, are mistakes of the caller."""
    with pytest.raises(KeyError, match="two"):
        fill("print '{one}', '{two}'", one=1)
    with pytest.raises(KeyError, match="two"):
        fill("print '{one}'", one=1, two=2)
