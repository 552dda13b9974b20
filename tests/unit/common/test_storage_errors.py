"""Azure Storage's errors, sorted by what the pipeline does about them."""

from dataclasses import dataclass, field
from http.client import BadStatusLine
from typing import Any

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.data.tables import TableServiceClient
from azure.identity import CredentialUnavailableError
from azure.storage.queue import QueueServiceClient

from common.errors import (
    ConflictError,
    CredentialError,
    StorageRefusedError,
    ThrottledError,
    UnavailableError,
)
from common.storage_errors import (
    already_exists,
    error_code,
    is_absent,
    is_unmade,
    note_answer,
    storage_errors,
)


@dataclass
class Response:
    """As much of an answer as an error of the SDK reads."""

    status_code: int
    reason: str = "why"
    headers: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        return "<private body>"


def http_error(
    status: int, code: str = "", *, kind: type[HttpResponseError] = HttpResponseError
) -> HttpResponseError:
    """An error as the storage clients raise it."""
    response: Any = Response(status)
    error = kind("a long message", response=response)
    if code:
        vars(error)["error_code"] = code
    return error


def translated(error: Exception, *, what: str = "table runs") -> Exception:
    """What `error` becomes at the border."""
    try:
        with storage_errors(what, role="Table Role"):
            raise error  # noqa: TRY301 - from outside the border
    except Exception as found:  # noqa: BLE001 - handed to the test
        return found


STATUSES: dict[int, type[Exception]] = {
    401: CredentialError,
    403: CredentialError,
    408: UnavailableError,
    429: ThrottledError,
    503: ThrottledError,
    **dict.fromkeys([*range(500, 503), *range(504, 600)], UnavailableError),
    **dict.fromkeys(range(200, 400), UnavailableError),
    412: ConflictError,
}


def test_every_status_has_a_meaning() -> None:
    """Refused access or requests need an operator, trouble and garbled answers pass.

    Without a code, only a 412 is a conflict.
    """
    found = {status: type(translated(http_error(status))) for status in range(200, 600)}
    assert found == {status: STATUSES.get(status, StorageRefusedError) for status in found}


@pytest.mark.parametrize(
    "error",
    [
        ServiceRequestError("no route"),
        ServiceResponseError("reset"),
        ServiceResponseTimeoutError("late"),
        AzureError("anything"),
        IncompleteReadError("cut short"),
        HttpResponseError("broken chunk"),
    ],
)
def test_no_answer_is_unavailable(error: AzureError) -> None:
    """An answer that never came, or came in part, means: try later.

    The SDK's text stays out: it may hold a URL, and that a signature.
    """
    found = translated(error)
    assert type(found) is UnavailableError
    assert found.__suppress_context__
    assert found.__cause__ is None


@pytest.mark.parametrize(
    "error",
    [
        CredentialUnavailableError("no identity endpoint"),
        http_error(400, kind=ClientAuthenticationError),
    ],
)
def test_no_token_for_storage_needs_an_operator(error: HttpResponseError) -> None:
    """A managed identity that gives no token is a credential fault, not a bug of ours."""
    found = translated(error)
    assert type(found) is CredentialError
    assert "PipelineStorage__clientId" in str(found)


def test_an_identity_outage_passes() -> None:
    """A server error of the identity endpoint is an outage."""
    error = http_error(500, kind=ClientAuthenticationError)
    assert type(translated(error)) is UnavailableError


@pytest.mark.parametrize("client", [TableServiceClient, QueueServiceClient])
def test_a_key_that_is_none_is_told_as_such(client: Any) -> None:
    """The SDKs' own error, before any request: the key is named, the identity is not."""
    service = client.from_connection_string(
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=no-key;EndpointSuffix=invalid"
    )
    with (
        pytest.raises(CredentialError, match="account key cannot be read; copy") as caught,
        storage_errors("it", role="Role"),
    ):
        service.get_service_properties()
    assert "identity" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AuthenticationFailed", "copy the connection string"),
        ("AuthorizationFailure", "network rules"),
        ("KeyBasedAuthenticationNotPermitted", "PipelineStorage__queueServiceUri"),
        ("AuthorizationPermissionMismatch", "role Table Role"),
    ],
)
def test_each_refusal_has_its_own_remedy(code: str, remedy: str) -> None:
    """A key, a network and a role are mended in different places; only the role names itself."""
    message = str(translated(http_error(403, code)))
    assert remedy in message
    assert ("Role" in message) == (code == "AuthorizationPermissionMismatch")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "AuthorizationPermissionMismatch",
         ("table runs refused access (AuthorizationPermissionMismatch); "
          "give the app's identity the role Table Role")),
        (403, "", "table runs refused access (403); give the app's identity the role Table Role"),
        (503, "ServerBusy", "table runs is throttled (ServerBusy)"),
        (500, "OperationTimedOut", "table runs is unavailable (OperationTimedOut)"),
    ],
)  # fmt: skip
def test_a_message_says_what_and_why(status: int, code: str, message: str) -> None:
    """The message names table or queue, the service's code or status, the remedy; no body."""
    assert str(translated(http_error(status, code))) == message


@pytest.mark.parametrize(
    ("what", "status", "code", "expected", "word"),
    [
        ("table runs", 409, "TableBeingDeleted", UnavailableError, "is being deleted"),
        ("queue q", 409, "QueueBeingDeleted", UnavailableError, "is being deleted"),
        ("table runs", 404, "TableNotFound", UnavailableError, "is not there, or was made just"),
        ("queue q", 404, "QueueNotFound", UnavailableError, "is not there, or was made just"),
        ("table runs", 404, "QueueNotFound", StorageRefusedError, "the endpoint"),
        ("queue q", 404, "TableNotFound", StorageRefusedError, "the endpoint"),
        ("table runs", 404, "ResourceNotFound", StorageRefusedError, "the endpoint"),
        ("table runs", 409, "EntityAlreadyExists", ConflictError, "by another instance"),
        ("table runs", 412, "UpdateConditionNotSatisfied", ConflictError, "by another instance"),
        ("table runs", 412, "ConditionNotMet", ConflictError, "by another instance"),
        ("table runs", 412, "", ConflictError, "by another instance"),
        ("table runs", 409, "AccountIsDisabled", StorageRefusedError, "the endpoint"),
        ("queue q", 409, "QueueDisabled", StorageRefusedError, "the endpoint"),
        ("queue q", 409, "", StorageRefusedError, "the endpoint"),
    ],
)
def test_the_code_decides_not_the_status(
    what: str, status: int, code: str, expected: type[Exception], word: str
) -> None:
    """Of one status, and of whatever class the SDK makes of it, each code means its own."""
    for kind in (HttpResponseError, ResourceExistsError, ResourceNotFoundError):
        found = translated(http_error(status, code, kind=kind), what=what)
        assert type(found) is expected
        assert word in str(found)
        assert what in str(found)


def test_a_missing_ca_bundle_is_no_answer() -> None:
    """`requests` raises a bare `OSError` for it; the text may name a path, and stays out."""
    found = translated(OSError("Could not find a suitable TLS CA certificate bundle: /secret"))
    assert type(found) is UnavailableError
    assert "REQUESTS_CA_BUNDLE" in str(found)
    assert "/secret" not in str(found)


@pytest.mark.parametrize("error", [ValueError("bug"), ThrottledError("translated already")])
def test_the_rest_passes_unchanged(error: Exception) -> None:
    """Bugs and the pipeline's own errors are not touched."""
    assert translated(error) is error


@pytest.mark.parametrize(
    "kind",
    [ValueError, TypeError, KeyError, IndexError, AttributeError, SyntaxError, BadStatusLine],
)
def test_an_answer_that_the_sdk_cannot_read_is_no_answer(kind: type[Exception]) -> None:
    """Behind an answer they are not bugs; and an earlier call's answer does not count."""

    def fail(*, answered: bool) -> None:
        with storage_errors("table runs", role="R"):
            if answered:
                note_answer()
            raise kind("parts of the answer")

    with pytest.raises(UnavailableError, match="table runs gave an answer") as caught:
        fail(answered=True)
    assert "parts" not in str(caught.value)
    with pytest.raises(kind):
        fail(answered=False)


@pytest.mark.parametrize(
    ("code", "absent", "unmade", "passes"),
    [
        ("ResourceNotFound", True, False, False),
        ("EntityNotFound", True, False, False),
        ("TableNotFound", True, True, False),
        ("QueueNotFound", False, True, False),
        ("TableAlreadyExists", False, False, True),
        ("QueueAlreadyExists", False, False, True),
        ("TableBeingDeleted", False, False, False),
        ("QueueBeingDeleted", False, False, False),
        ("", False, False, False),
    ],
)
def test_what_a_caller_may_expect(code: str, absent: bool, unmade: bool, passes: bool) -> None:
    """A row or table that is not there, and one that another instance made, by code alone."""
    error = http_error(409, code, kind=ResourceExistsError)
    assert (is_absent(error), is_unmade(error)) == (absent, unmade)
    raised = False
    try:
        with already_exists():
            raise error
    except ResourceExistsError:
        raised = True
    assert raised is not passes


def test_no_error_no_translation() -> None:
    """A call that succeeds is left alone."""
    with storage_errors("queue q", role="Role"):
        pass


def test_the_code_is_the_service_s_own() -> None:
    """The code is found on the error, in a header or in the body; empty where there is none."""
    assert error_code(http_error(404, "QueueNotFound")) == "QueueNotFound"
    assert error_code(http_error(404)) == ""
    assert error_code(HttpResponseError("nothing")) == ""
    in_body = 'Not found Content: {"odata.error":{"code":"QueueNotFound"}}'
    assert error_code(HttpResponseError(in_body)) == "QueueNotFound"
    error = http_error(404)
    error.response.headers["x-ms-error-code"] = "QueueNotFound"  # type: ignore[union-attr]
    assert error_code(error) == "QueueNotFound"
