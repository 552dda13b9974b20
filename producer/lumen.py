"""The Lumen Defender Threat Feed API v3: start a query, look at it, fetch its pages.

Three calls, each retried on its own, and each translated at this border: a query or page that Lumen
no longer knows is a gap, a refused key halts, an answer that the contract does not describe is
drift. A start is repeated only if no query can have begun. Page tokens are followed unchanged, with
one exception that is not obvious: the last page may carry a `next_token` that lies behind the end.
See docs/contracts.md for the contract and its sources.
"""

import random
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal
from urllib.parse import quote

import requests
from urllib3.exceptions import NewConnectionError

from common.backoff import Backoff, call_with_retries, retry_after_seconds
from common.clock import Clock
from common.errors import (
    AnswerTooLargeError,
    ContractDriftError,
    CredentialError,
    GapError,
    ThrottledError,
    TryLaterError,
    UnavailableError,
)
from common.settings import Secret
from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, within
from producer.cutting import NOT_JSON, cut_answer, decode_loosely, decode_strictly, has_page
from producer.ordinary import decode_ordinary_page
from producer.paging import place_of

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 60.0
"""Seconds without a byte before a call counts as failed."""

ANSWER_TIMEOUT: Final = 300.0
"""Seconds for a whole answer, even if its bytes keep coming."""

MAX_ANSWER: Final = 64 << 20
"""Bytes of an answer, decompressed: about 100,000 indicators. Two pages of that size, decoded, fit
the memory of an instance; how large pages get is not known (docs/contracts.md)."""

MAX_TOKEN: Final = 8_000
"""Characters of an id or token in an address: what every server accepts (RFC 9110 section 4.1)."""

_SEGMENT: Final = "!$&'()*+,;=:@"
"""Characters of a path segment that are not escaped, besides letters, digits and `-._~` (RFC 3986,
`pchar`). Base64 keeps its `=`, as in the public V2 connector."""

NO_RESULTS: Final = b"no results found"
"""Text of the HTTP 400 that means an empty feed (the public V2 connector, read 2026-11-22). For a
page that is known to exist it cannot mean that, and counts as any other 400."""

_FORGOTTEN: Final = frozenset({400, 404, 410})
"""Statuses by which Lumen says that it does not know a cache id or token (any more)."""

_SERVICE_FAILED: Final = frozenset({500, 501})
_SERVICE_UNAVAILABLE: Final = 503
"""Server errors of the service itself (RFC 9110 section 15.6): it failed, or did not begin. The
others come from a gateway, which does not know whether the service got the request."""


class QueryState(StrEnum):
    """The states of a query, as Lumen names them."""

    QUEUED = "QUEUED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Decoded objects in Lumen's order, and the token of the next page, None at the end.

    The first `wished` objects are not from Lumen: an operator asked for them.
    """

    objects: list[Any]
    next_token: str | None
    wished: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryStatus:
    """How a query stands. Once completed either `token` (first page) or `page` (inline)."""

    state: QueryState
    token: str | None = None
    page: Page | None = None


class LumenClient:
    """Calls the API with one key. Used by one thread at a time.

    Raises, from every method: `CredentialError` (401, 403), `ThrottledError` and
    `UnavailableError` after the retries, `OutOfTimeError`, `ContractDriftError`, `GapError`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: Secret,
        backoff: Backoff,
        clock: Clock,
        rng: random.Random,
        session: PlainSession,
    ) -> None:
        self._queries_url = f"{base_url}/v3/reputation-query"
        self._api_key = api_key
        self._backoff = backoff
        self._clock = clock
        self._rng = rng
        self._session = session

    def start_query(
        self, *, give_up_at: float, before: Callable[[], object] = lambda: None
    ) -> str | None:
        """Start a query and return its cache id; None if Lumen says at once: no results.

        Called twice: two queries. If it dies halfway: a query may run whose id is lost, and a
        second query may not cover what the first one did. So a start is retried only if Lumen
        cannot have begun: no connection, 408, 429, 503. A 500 says that Lumen failed: no query
        runs, and the next tick tries again (`TryLaterError`). After any other end without an id a
        query may run: `GapError`. `before` is called right before each try; if it raises, the tries
        end.
        """
        # A connection kept since the last run may be dead, and that would look like a lost answer.
        self._session.close()
        answer = self._call("POST", self._queries_url, give_up_at, before=before)
        if answer is None:
            return None
        try:
            cache_id = check_token(answer.get("cache_id"), name="cache_id")
        except ContractDriftError as error:
            raise _lost_query(str(error)) from None
        if cache_id is None:
            raise _lost_query("its answer has no cache_id")
        return cache_id

    def query_status(self, cache_id: str, *, give_up_at: float) -> QueryStatus:
        """Return how the query stands; raises `GapError` when Lumen does not know it."""
        url = f"{self._queries_url}/query-status/{quote(cache_id, safe=_SEGMENT)}"
        answer = self._call("GET", url, give_up_at)
        if answer is None:
            return QueryStatus(state=QueryState.COMPLETED, page=_EMPTY_PAGE)
        return read_status(answer)

    def fetch_page(self, token: str, *, give_up_at: float, is_first: bool = False) -> Page:
        """Return one page; raises `GapError` when Lumen does not know the token.

        *No results found* means an empty feed only if `is_first`: the first page of a query that
        has just completed. For any other page it means that Lumen no longer knows it. An answer
        without bytes is an empty page, unless the token says that pages follow it. Called twice:
        the same page.
        """
        url = f"{self._queries_url}/retrieve-results/{quote(token, safe=_SEGMENT)}"
        place = place_of(token)
        is_last = place is None or place[0] + 1 >= place[1]
        answer = self._call(
            "GET", url, give_up_at, may_be_empty=is_first, may_have_no_content=is_last
        )
        return _EMPTY_PAGE if answer is None else read_page(answer)

    def _call(
        self,
        method: Literal["GET", "POST"],
        url: str,
        give_up_at: float,
        *,
        may_be_empty: bool = True,
        may_have_no_content: bool = False,
        before: Callable[[], object] = lambda: None,
    ) -> dict[str, Any] | None:
        """Return the answer's JSON object; None for *No results found* or no bytes, where allowed.

        POST starts a query.
        """
        starting = method == "POST"

        def once() -> dict[str, Any] | None:
            before()
            seconds = min(ANSWER_TIMEOUT, give_up_at - self._clock.monotonic())
            try:
                with (
                    within(seconds),
                    self._session.request(
                        method,
                        url,
                        headers={"Authorization": self._api_key.reveal()},
                        timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                        allow_redirects=False,
                        stream=True,
                    ) as response,
                ):
                    content = read_body(response, limit=MAX_ANSWER)
            except TRANSPORT_ERRORS as error:
                # Without the cause: its text contains the URL, which contains the page token.
                kind = type(error).__name__
                if starting and not _was_never_sent(error):
                    raise _lost_query(kind) from None
                raise UnavailableError(f"Lumen cannot be reached ({kind})") from None
            if content is None:
                raise _lost_query("its answer is too large") if starting else _too_large()
            if starting:
                return self._read_start(response, content)
            if may_have_no_content and response.status_code // 100 == 2 and not content.strip():  # noqa: PLR2004 - HTTP status class
                return None
            return self._read(response, content, _FORGOTTEN, may_be_empty=may_be_empty)

        return call_with_retries(
            once,
            backoff=self._backoff,
            clock=self._clock,
            rng=self._rng,
            give_up_at=give_up_at,
        )

    def _read_start(self, response: requests.Response, content: bytes) -> dict[str, Any] | None:
        """Return the answer to a start; one that leaves open whether a query runs is a gap."""
        status = response.status_code
        if status in _SERVICE_FAILED:
            raise TryLaterError(f"Lumen failed to start a query ({status})")
        if status > _SERVICE_UNAVAILABLE or status == 502:  # noqa: PLR2004 - HTTP status
            raise _lost_query(f"a gateway answered {status}")
        if status // 100 == 2:  # noqa: PLR2004 - HTTP status class
            with suppress(UnavailableError):
                return decode_answer(content)
            raise _lost_query(f"the answer, {status}, cannot be read")
        return self._read(response, content, frozenset())

    def _read(
        self,
        response: requests.Response,
        content: bytes,
        forgotten: frozenset[int],
        *,
        may_be_empty: bool = True,
    ) -> dict[str, Any] | None:
        status = response.status_code
        match status:
            case _ if status // 100 == 2:  # noqa: PLR2004 - HTTP status class
                return decode_answer(content)
            case 400 if may_be_empty and NO_RESULTS in content[:10_000].lower():
                return None
            case 401 | 403:
                raise CredentialError(
                    f"Lumen refused the API key ({status}): check that LUMEN_API_KEY is the "
                    "current key, complete and without 'Bearer', and entitled to this feed"
                )
            case 429:
                wait = retry_after_seconds(
                    response.headers.get("Retry-After"), now=self._clock.now()
                )
                raise ThrottledError("Lumen asked to slow down (429)", retry_after=wait)
            case 408:
                raise UnavailableError("Lumen timed out (408)")
            case _ if status >= 500:  # noqa: PLR2004 - HTTP status class
                raise UnavailableError(f"Lumen is unavailable ({status})")
            case _ if status in forgotten:
                raise GapError(f"Lumen does not know this query or page any more ({status})")
            case _:
                raise ContractDriftError(f"Lumen answered {status}, which its API does not name")


def _was_never_sent(error: Exception) -> bool:
    """Whether a request that ended in `error` cannot have reached the service.

    There was no connection, or `requests` refused to make one. In doubt: False.
    """
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError | ValueError):
        return True
    if type(error) is OSError:  # the CA bundle that the environment names is missing
        return True
    reason = getattr(next(iter(error.args), None), "reason", None)
    if isinstance(error, requests.exceptions.SSLError):
        causes = getattr(reason, "args", ())
        return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
    return isinstance(reason, NewConnectionError)


def _lost_query(why: str) -> GapError:
    return GapError(
        f"a query may run at Lumen whose id is not known ({why}): what it holds may be missing"
    )


def _too_large() -> AnswerTooLargeError:
    return AnswerTooLargeError(
        f"Lumen's answer is larger than {MAX_ANSWER >> 20} MiB when decompressed, and was not read "
        "to its end; ask Lumen for smaller pages"
    )


def read_status(answer: dict[str, Any]) -> QueryStatus:
    """Return the status in a query-status answer; raises `ContractDriftError`."""
    try:
        state = QueryState(str(answer.get("status", "")).upper())
    except ValueError:
        raise ContractDriftError("Lumen's query has a status its API does not name") from None
    if state is not QueryState.COMPLETED:
        return QueryStatus(state=state)
    token = check_token(answer.get("token_id"), name="token_id")
    if token is not None:
        return QueryStatus(state=state, token=token)
    # Without token and results the feed is empty; the public V2 connector reads it so, too.
    page = _EMPTY_PAGE if answer.get("results") is None else read_page(answer)
    return QueryStatus(state=state, page=page)


def read_page(answer: dict[str, Any]) -> Page:
    """Return the page in an answer with `results`; raises `ContractDriftError`."""
    results = answer.get("results")
    objects = results.get("stixobjects") if isinstance(results, dict) else None
    if not isinstance(objects, list):
        raise ContractDriftError("Lumen's page has no list results.stixobjects")
    return Page(objects=objects, next_token=token_to_follow(answer.get("next_token")))


def check_token(token: object, *, name: str) -> str | None:
    """Return an id or token of Lumen's; None if it is missing or empty.

    The only check of `cache_id`, `token_id` and `next_token`. Raises `ContractDriftError` for
    anything that is not a text, or cannot be a segment of an address: that is not the same as none.
    """
    if token is None or token == "":
        return None
    if not isinstance(token, str):
        raise ContractDriftError(f"Lumen's {name} is not a text")
    is_segment = token.isascii() and token not in {".", ".."} and len(token) <= MAX_TOKEN
    if not is_segment:
        raise ContractDriftError(f"Lumen's {name} cannot stand in a URL")
    return token


def token_to_follow(token: object) -> str | None:
    """Return a page's `next_token` unless there is none, or it lies behind the end.

    Tokens are base64 of JSON with `index` and `total_chunks`; one whose index is not below the
    total is the end. A token of another shape is opaque: follow it.
    """
    checked = check_token(token, name="next_token")
    place = None if checked is None else place_of(checked)
    return checked if place is None or place[0] < place[1] else None


def decode_answer(content: bytes) -> dict[str, Any]:
    """Return a JSON object: an ordinary page the fast way, and any other page object by object.

    The result for an object does not depend on its neighbours; one that is not JSON becomes
    `Unreadable`. Raises `UnavailableError` if the answer is not a JSON object, or ends too early.
    """
    page = decode_ordinary_page(content)
    if page is not None:
        return page
    answer: Any
    try:
        answer = decode_strictly(content)
    except NOT_JSON:
        answer = cut_answer(content) or _decode_without_page(content)
    if not isinstance(answer, dict):
        raise UnavailableError("Lumen's answer is not a JSON object; it may be cut short")
    return answer


def _decode_without_page(content: bytes) -> Any:
    """Return an answer that may hold odd texts; None for a page, which is never read that way."""
    try:
        answer = decode_loosely(content)
    except NOT_JSON:
        return None
    return None if has_page(answer) else answer


_EMPTY_PAGE: Final = Page(objects=[], next_token=None)
