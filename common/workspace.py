"""The border to the workspace: KQL queries by Log Analytics' query API, and their errors.

`azure-monitor-query` is imported on the first call: nothing else in the app needs it, and its
import would slow every cold start. A query has no parameters, so a value gets into a text only by
`fill`, which encodes it. Only this module knows the package; `explain_failure` is the only table of
failed answers, a pure function.
"""

import io
import json
import re
import threading
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Protocol

import requests
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import RequestsTransport

from common.backoff import retry_after_seconds
from common.clock import Clock
from common.errors import (
    AnswerTooLargeError,
    ContractDriftError,
    CredentialError,
    PartialAnswerError,
    PipelineError,
    QueryRefusedError,
    ThrottledError,
    UnavailableError,
)
from common.identity import QueryTokens, SignIn
from common.text import ascii_line
from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, within

if TYPE_CHECKING:
    from azure.monitor.query import LogsQueryClient

QUERY_WITHIN: Final = 20.0
"""Seconds for a whole query: the token, the request, and the reading of the answer."""

SERVER_TIMEOUT: Final = 15
"""Seconds that the service may work on a query; its default is three minutes
(learn.microsoft.com/azure/azure-monitor/logs/api/timeouts, read 2026-11-29)."""

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 18.0
"""Seconds without a byte: the service answers when its work is done."""

MAX_ANSWER: Final = 8 * 1024 * 1024
"""Bytes of an answer. A thousand rows of the queries here take a tenth of it."""

DEFAULT_THROTTLE: Final = 60.0
"""Seconds to wait when a 429 does not say how long."""


_PRIVATE_ONLY: Final = re.compile(
    r"private.?(link|endpoint)|AMPLS|(?-i:Nsp[A-Z])|security perimeter|public network access",
    re.IGNORECASE,
)
"""How a refusal reads that the network is the reason for: its code is that of a missing role
(learn.microsoft.com/azure/azure-monitor/logs/private-link-security, read 2026-11-29)."""

_NO_TABLE: Final = re.compile(r"Failed to resolve (table|.{0,40}expression)|SEM0100", re.IGNORECASE)

_TOKEN_CODES: Final = re.compile(r"InvalidAuthenticationToken|AuthenticationFailed")
"""A bad token is a 403 to this service, too
(learn.microsoft.com/azure/azure-monitor/logs/api/errors, read 2026-11-29)."""

Row = Mapping[str, Any]
"""One row of an answer: the value of each column by its name. Moments are aware, in UTC."""


class Workspace(Protocol):
    """The workspace, for those who ask it."""

    def query(self, text: str, *, span: timedelta) -> Sequence[Row]:
        """Return the rows that the query finds in the last `span`, by `TimeGenerated`.

        Over within `QUERY_WITHIN` seconds. Raises, each with what to do about it:
        `CredentialError` (no token, token or role refused); `QueryRefusedError` (private network
        only, unknown workspace, no such table); `ThrottledError`; `PartialAnswerError`;
        `UnavailableError` (no usable answer); `ContractDriftError` (the query itself is refused, or
        an answer is none).
        """
        ...


def fill(text: str, **values: object) -> str:
    """Return a KQL text with each `{name}` replaced by its value as JSON, in base64.

    The text reads it as `parse_json(base64_decode_tostring('{name}'))`: no value can end the
    quotation. Raises `KeyError` for a placeholder without a value and for a value without one.
    """
    for name, value in values.items():
        if f"'{{{name}}}'" not in text:
            raise KeyError(name)
        encoded = b64encode(json.dumps(value).encode()).decode()
        text = text.replace(f"'{{{name}}}'", f"'{encoded}'")
    if left := re.search(r"'\{(\w+)\}'", text):
        raise KeyError(left[1])
    return text


class AzureWorkspace:
    """One Log Analytics workspace, asked as the identity that uploads. Safe to use from threads."""

    def __init__(
        self, sign_in: SignIn, *, workspace_id: str, url: str, audience: str, clock: Clock
    ) -> None:
        self._workspace_id = workspace_id
        self._url = url
        self._audience = audience
        self._clock = clock
        self._tokens = QueryTokens(sign_in, audience=audience, clock=clock)
        self._lock = threading.Lock()
        self._client: LogsQueryClient | None = None

    def query(self, text: str, *, span: timedelta) -> Sequence[Row]:
        with within(QUERY_WITHIN):
            try:
                result = self._ready_client().query_workspace(
                    self._workspace_id, text, timespan=span, server_timeout=SERVER_TIMEOUT
                )
                return _rows_of(result)
            except _TokenRefusedError as error:
                self._forget_token()
                raise CredentialError(str(error)) from None
            except _NO_RESULT as error:
                raise ContractDriftError(
                    f"the workspace answered a query with no result ({type(error).__name__})"
                ) from None
            except (AzureError, *TRANSPORT_ERRORS) as error:
                raise UnavailableError(
                    f"the workspace cannot be asked ({type(error).__name__}); check the network "
                    "path to SENTINEL_QUERY_URL"
                ) from None

    def _ready_client(self) -> "LogsQueryClient":
        from azure.monitor.query import LogsQueryClient  # noqa: PLC0415 - a cold start needs it not

        with self._lock:
            if self._client is None:
                transport = RequestsTransport(
                    session=_QuerySession(self._clock),
                    session_owner=True,
                    connection_timeout=CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                )
                self._client = LogsQueryClient(
                    self._tokens,
                    endpoint=self._url,
                    audience=self._audience,
                    transport=transport,
                    permit_redirects=False,
                    retry_total=0,  # the next check tries again
                )
            return self._client

    def _forget_token(self) -> None:
        """The client keeps its token until it ends: it goes with it."""
        self._tokens.refuse_last()
        with self._lock:
            self._client = None


_NO_RESULT: Final = (HttpResponseError, ValueError, TypeError, LookupError, AttributeError)
"""What the client raises for a 200 whose body has another form: other statuses it never sees."""


class _TokenRefusedError(CredentialError):
    """The service did not accept the token itself."""


class _QuerySession(PlainSession):
    """A session whose answers are read whole, up to a size, and are a result or an error of ours.

    The client would look at a status alone, and trips over a page of a gateway.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        response = super().send(request, **{**kwargs, "stream": True})
        with response:
            body = read_body(response, limit=MAX_ANSWER)
        if body is None:
            raise AnswerTooLargeError(f"the workspace's answer is larger than {MAX_ANSWER} bytes")
        failure = explain_failure(
            response.status_code, response.headers, body, now=self._clock.now()
        )
        if failure is not None:
            raise failure
        response.headers.pop("Content-Encoding", None)  # undone by now
        response.raw = io.BytesIO(body)
        return response


class _Means(Enum):
    """What a refusal is about."""

    TOKEN = auto()
    NETWORK = auto()
    ROLE = auto()
    WORKSPACE = auto()
    TABLE = auto()
    QUERY = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remedy:
    """The error for a refusal, and what to do."""

    error: type[PipelineError]
    text: str


_REMEDIES: Final = {
    _Means.TOKEN: _Remedy(
        error=_TokenRefusedError,
        text="the workspace's query API did not accept the token ({code}): set "
        "SENTINEL_QUERY_AUDIENCE to the one of your cloud, or unset it",
    ),
    _Means.NETWORK: _Remedy(
        error=QueryRefusedError,
        text="the workspace takes queries by its private link only ({code}): add the app's network "
        "to the Azure Monitor private link scope, or set ARRIVAL_CHECK to false",
    ),
    _Means.ROLE: _Remedy(
        error=CredentialError,
        text="the workspace denies queries ({code}): give the application the role Microsoft "
        "Sentinel Contributor on the workspace, or set ARRIVAL_CHECK to false",
    ),
    _Means.WORKSPACE: _Remedy(
        error=QueryRefusedError,
        text="the query API does not know the workspace ({code}): correct WORKSPACE_ID, or "
        "SENTINEL_QUERY_URL for another cloud",
    ),
    _Means.TABLE: _Remedy(
        error=QueryRefusedError,
        text="the workspace has no table ThreatIntelIndicators ({code}): check that WORKSPACE_ID "
        "is the workspace that Microsoft Sentinel is enabled on",
    ),
    _Means.QUERY: _Remedy(
        error=ContractDriftError,
        text="the workspace refused a query as such ({code})",
    ),
}


def explain_failure(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> PipelineError | None:
    """Return the error for an answer of the query API; None for a 200, whatever is in it.

    `headers` must look names up in any case. Nothing of the answer's text is shown: it may repeat
    the query. After learn.microsoft.com/azure/azure-monitor/logs/api/errors (read 2026-11-29).
    """
    match status:
        case 200:
            return None
        case 400 | 401 | 403 | 404:
            remedy = _REMEDIES[_means(status, body.decode("utf-8", "replace"))]
            return remedy.error(remedy.text.format(code=_code(body) or status))
        case 429:
            wait = retry_after_seconds(headers.get("Retry-After"), now=now)
            return ThrottledError(
                "the workspace asked to slow down (429)",
                retry_after=DEFAULT_THROTTLE if wait is None else wait,
            )
        case _ if status >= 500 or status == 408:  # noqa: PLR2004 - HTTP status classes
            return UnavailableError(f"the workspace's query API is unavailable ({status})")
        case _ if 300 <= status < 400:  # noqa: PLR2004 - HTTP status class
            return UnavailableError(
                f"the query API answered with a redirect ({status}), which is not followed: check "
                "SENTINEL_QUERY_URL"
            )
        case _:
            return ContractDriftError(f"the query API answered {status}, which is not in its API")


def _means(status: int, text: str) -> _Means:
    """Return what a refusal is about: its text decides between those of one status."""
    match status:
        case 404:
            return _Means.WORKSPACE
        case 400:
            return _Means.TABLE if _NO_TABLE.search(text) else _Means.QUERY
        case _ if _PRIVATE_ONLY.search(text):
            return _Means.NETWORK
        case _ if status == 401 or _TOKEN_CODES.search(text):  # noqa: PLR2004 - HTTP status
            return _Means.TOKEN
        case _:
            return _Means.ROLE


def _code(body: bytes) -> str:
    """Return the service's own code for an error, if there is one."""
    try:
        found: Any = json.loads(body)
        code = found["error"]["code"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return code if isinstance(code, str) and re.fullmatch(r"\w{1,60}", code) else ""


def _rows_of(result: Any) -> list[Row]:
    """Return the rows of the one table of a result; raises `PartialAnswerError`."""
    if result.status != "Success":
        code = ascii_line(str(getattr(result.partial_error, "code", "")), limit=60)
        raise PartialAnswerError(
            f"the workspace answered a part of the query ({code or 'no code'}); it is asked again"
        )
    (table,) = result.tables
    return [
        {name: _moment(value) for name, value in zip(table.columns, list(row), strict=True)}
        for row in table.rows
    ]


def _moment(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value
