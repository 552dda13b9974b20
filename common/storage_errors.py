"""How Azure Storage's errors become the pipeline's: one table for queues and tables.

The service's own code decides, not the status: a 409 may be an insert of an existing row, or a
table that is being deleted. Only 412 is always a lost compare-and-swap. Errors of the storage
clients do not pass this border, and errors that are not a message's fault must not use up its
deliveries. A caller that expects an error (`already_exists`, `is_absent`) checks for it before the
border does.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
)

from common.errors import (
    ConflictError,
    CredentialError,
    PipelineError,
    StorageRefusedError,
    ThrottledError,
    UnavailableError,
)
from common.transport import time_left, within

CALL_WITHIN: Final = 15.0
"""Seconds for a call to storage, including all retries. Between two tries a client waits for up to
5 s, so a wait that begins right before the end makes it 20 s."""

_COPY_AGAIN: Final = "copy the connection string in PipelineStorage again from the storage account"

_NO_TABLE: Final = "TableNotFound"
_NO_QUEUE: Final = "QueueNotFound"
_NO_ROW: Final = frozenset({"ResourceNotFound", "EntityNotFound"})
_ROW_EXISTS: Final = "EntityAlreadyExists"
_MADE_BY_ANOTHER: Final = frozenset({"TableAlreadyExists", "QueueAlreadyExists"})
_BEING_DELETED: Final = frozenset({"TableBeingDeleted", "QueueBeingDeleted"})
"""Error codes of the two services
(learn.microsoft.com/rest/api/storageservices/table-service-error-codes, queue-service-error-codes
and common-rest-api-error-codes, read 2026-11-28)."""

_DENIED: Final = frozenset({401, 403})
_SLOW_DOWN: Final = frozenset({429, 503})
_LATE: Final = 408
_LOST_SWAP: Final = 412
_CLIENT_ERRORS: Final = 400
_SERVER_ERRORS: Final = 500

_CODE_IN_BODY = re.compile(r'"code":\s*"(\w+)')


_UNREADABLE: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    SyntaxError,  # ElementTree.ParseError is one
    HTTPException,  # a part of a transaction's answer
)
"""What the storage clients raise for an answer of an unexpected form, such as a gateway's page,
because they check only the status. Without any answer it is a bug."""

_is_answered: Final[ContextVar[bool]] = ContextVar("is_answered", default=False)


class NotStorageError(Exception):
    """A 2xx from something other than the storage; raised inside the SDK, which would accept it."""


class TooLate(Exception):
    """A call to storage has used up `CALL_WITHIN`; raised inside the SDK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The facts of a failed call that decide. `status` 0, `code` "": there was no whole answer."""

    service: str
    status: int
    code: str
    kind: str
    no_response: bool = False
    no_token: bool = False

    @property
    def shown(self) -> str:
        """The text in brackets: the service's code, else the status, else the SDK's error."""
        return self.code or (str(self.status) if self.status else self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: whether it applies to a failure, which error that is, and what to say and do.

    `text` may name `{what}` failed, the `{role}` that it needs and the `{code}`. `hides_cause`: the
    SDK's own text may hold a key, or a URL with a signature.
    """

    applies: Callable[[Failure], bool]
    error: type[PipelineError]
    text: str
    hides_cause: bool = False


RULES: Final = (
    Rule(
        applies=lambda f: f.no_response,
        error=UnavailableError,
        text="{what} cannot be reached ({code})",
        hides_cause=True,
    ),
    Rule(
        applies=lambda f: f.status == _LOST_SWAP or f.code == _ROW_EXISTS,
        error=ConflictError,
        text="a row of {what} was changed by another instance",
    ),
    Rule(
        applies=lambda f: f.code in _BEING_DELETED,
        error=UnavailableError,
        text="{what} is being deleted, which takes the service a minute or so ({code}); it is "
        "made again after that",
    ),
    Rule(
        applies=lambda f: f.code == (_NO_TABLE if f.service == "table" else _NO_QUEUE),
        error=UnavailableError,
        text="{what} is not there, or was made just now and is not ready yet ({code})",
    ),
    Rule(
        applies=lambda f: f.status in _DENIED and f.code == "AuthenticationFailed",
        error=CredentialError,
        text="{what} refused access ({code}); the key or signature is not this account's, or has "
        f"ended: {_COPY_AGAIN}",
        hides_cause=True,
    ),
    Rule(
        applies=lambda f: f.status in _DENIED and f.code == "AuthorizationFailure",
        error=CredentialError,
        text="{what} refused access ({code}); the account's network rules refuse this place (its "
        "name must lead to the private endpoint), or the key is another account's: "
        f"{_COPY_AGAIN}",
    ),
    Rule(
        applies=lambda f: f.status in _DENIED and f.code == "KeyBasedAuthenticationNotPermitted",
        error=CredentialError,
        text="{what} refused access ({code}); the account takes no keys: set "
        "PipelineStorage__queueServiceUri and so on, not PipelineStorage",
    ),
    Rule(
        applies=lambda f: f.status in _DENIED,
        error=CredentialError,
        text="{what} refused access ({code}); give the app's identity the role {role}",
    ),
    Rule(
        applies=lambda f: f.status in _SLOW_DOWN,
        error=ThrottledError,
        text="{what} is throttled ({code})",
    ),
    Rule(
        applies=lambda f: f.status >= _SERVER_ERRORS or f.status == _LATE,
        error=UnavailableError,
        text="{what} is unavailable ({code})",
    ),
    Rule(  # each SDK has its own signing error, and both are private
        applies=lambda f: f.kind == "AzureSigningError",
        error=CredentialError,
        text=f"{{what}}: the account key cannot be read; {_COPY_AGAIN}",
        hides_cause=True,
    ),
    Rule(  # of azure-identity, before any request
        applies=lambda f: f.no_token,
        error=CredentialError,
        text="{what}: the app's managed identity gave no token ({code}); check that it is "
        "assigned, and PipelineStorage__clientId",
    ),
    Rule(
        applies=lambda f: f.status < _CLIENT_ERRORS,
        error=UnavailableError,
        text="{what} gave no usable answer ({code})",  # cut short, or not the service's
        hides_cause=True,
    ),
    Rule(
        applies=lambda _: True,
        error=StorageRefusedError,
        text="{what} refused the request ({code}): check that the endpoint in the storage "
        "settings is that of this service",
    ),
)
"""The first rule that applies decides."""


def judge(failure: Failure) -> Rule:
    """Return the rule for a failure."""
    return next(rule for rule in RULES if rule.applies(failure))


@contextmanager
def storage_errors(what: str, *, role: str) -> Iterator[None]:
    """Translate errors of calls to `what` ("table runs"); `role` is the role it needs.

    The calls end within `CALL_WITHIN`, so a generator must not yield in here.
    """
    before = _is_answered.set(False)
    limit = max(0.0, min(CALL_WITHIN, time_left()))
    try:
        with within(limit):
            yield
    except TooLate:
        raise UnavailableError(f"{what} gave no answer within {limit:.0f} s") from None
    except NotStorageError:
        raise UnavailableError(
            f"{what} cannot be reached: another service answers in its place; check the network "
            "path and the endpoint in the storage settings"
        ) from None
    except _UNREADABLE as error:
        if not _is_answered.get():
            raise
        # Without the cause: its text holds parts of the answer.
        kind = type(error).__name__
        raise UnavailableError(f"{what} gave an answer that cannot be read ({kind})") from None
    except OSError as error:  # the CA bundle that the environment names is missing
        kind = type(error).__name__
        raise UnavailableError(
            f"{what} cannot be reached ({kind}): if REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE is set, "
            "check that its file is there"
        ) from None
    except AzureError as error:
        failure = _failure(error, service=what.partition(" ")[0])
        rule = judge(failure)
        text = rule.text.format(what=what, role=role, code=failure.shown)
        raise rule.error(text) from None if rule.hides_cause else error
    finally:
        _is_answered.reset(before)


def note_answer() -> None:
    """Record that the storage answered the current call; the transport calls this."""
    _is_answered.set(True)


def is_absent(error: HttpResponseError) -> bool:
    """Whether the error says that the row, or its whole table, does not exist."""
    return error_code(error) in {*_NO_ROW, _NO_TABLE}


def is_unmade(error: HttpResponseError) -> bool:
    """Whether the error says that the table or queue itself does not exist."""
    return error_code(error) in {_NO_TABLE, _NO_QUEUE}


@contextmanager
def already_exists() -> Iterator[None]:
    """Ignore that another instance made the table or queue that is being made in here."""
    try:
        yield
    except HttpResponseError as error:
        if error_code(error) not in _MADE_BY_ANOTHER:
            raise


def error_code(error: HttpResponseError) -> str:
    """Return the service's own code for `error` ("QueueNotFound"); empty when it has none.

    The SDKs set `error_code` on some paths only; the code also stands in a header or the body.
    """
    code = getattr(error, "error_code", None)
    if code is None:
        code = getattr(error.response, "headers", {}).get("x-ms-error-code")
    if code is None:
        found = _CODE_IN_BODY.search(str(error.message))
        code = found[1] if found else ""
    return str(getattr(code, "value", code))


def _failure(error: AzureError, *, service: str) -> Failure:
    kind = type(error).__name__
    if not isinstance(error, HttpResponseError):
        return Failure(service=service, status=0, code="", kind=kind, no_response=True)
    no_token = isinstance(error, ClientAuthenticationError)
    return Failure(
        service=service,
        status=error.status_code or 0,
        code=error_code(error),
        kind=kind,
        no_token=no_token,
    )
