"""The way over HTTP: from anywhere that reaches the app, with a function key or a token.

The key is sent only to the given address: redirects are not followed. A failure names the host and
what to check.
"""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, within
from ops.cli.ending import Failure
from ops.cli.transport import Answer, accept

CALL_WITHIN: Final = 45.0
"""Seconds for one call: the app answers within 30, and may have to start first."""

CONNECT_WITHIN: Final = 15.0

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of an answer: a page of 1,000 rows with their reasons takes far fewer."""

LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})

type Headers = Callable[[], Mapping[str, str]]
"""What proves who calls: asked for when the first call is made."""


class HttpTransport:
    """Calls the app at `url`."""

    seen_from = "the app's settings and identity"

    def __init__(self, url: str, *, by: str, proof: Headers) -> None:
        self._url = checked_url(url)
        self._by = by
        self._proof = proof
        self._session = PlainSession()

    def call(self, method: str, path: str, params: Mapping[str, Any]) -> Answer:
        """Return the answer to one request; raises `Failure`."""
        headers = {"x-operator": quote(self._by, errors="replace"), **self._proof()}
        query = {name: _text(value) for name, value in params.items()}
        try:
            with within(CALL_WITHIN):
                response = self._session.request(
                    method,
                    f"{self._url}/api/{quote(path)}",
                    params=query if method == "GET" else None,
                    json=None if method == "GET" else dict(params),
                    headers=headers,
                    timeout=(CONNECT_WITHIN, CALL_WITHIN),
                    stream=True,
                )
                raw = read_body(response, limit=MAX_ANSWER)
        except TRANSPORT_ERRORS as error:
            raise Failure(self._no_answer(error)) from error
        if raw is None:
            raise Failure(f"{self._host} sent more than {MAX_ANSWER >> 20} MB: use a filter")
        return self._read(response.status_code, raw)

    def _read(self, status: int, raw: bytes) -> Answer:
        try:
            body = json.loads(raw or b"null")
        except ValueError:
            body = None
        if isinstance(body, dict) and (status == HTTPStatus.OK or "error" in body):
            return accept(status, body)
        match status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                why = "does not take the key or the sign-in, or it may not do this; see `login`"
            case HTTPStatus.NOT_FOUND:
                why = "has no such function: is it the app's address, and is the release deployed?"
            case HTTPStatus.OK:
                why = "did not answer as the pipeline does: is it the app's address?"
            case s if HTTPStatus.MULTIPLE_CHOICES <= s < HTTPStatus.BAD_REQUEST:
                why = f"redirects ({s}), and the key is not sent elsewhere: give the final address"
            case _:
                why = f"answered {status} without a reason: check that the app runs"
        raise Failure(f"{self._host} {why}")

    def _no_answer(self, error: Exception) -> str:
        what = "gives no answer in time" if _is_late(error) else "cannot be reached"
        return (
            f"{self._host} {what} ({_kind(error)}); where the app has a private endpoint, its "
            "name must lead to a private address here: see VPN and private DNS (`nslookup "
            f"{urlsplit(self._url).hostname}`)"
        )

    @property
    def _host(self) -> str:
        return urlsplit(self._url).netloc


def checked_url(text: str) -> str:
    """Return an app's address without a path; raises `Failure` for what is none, or not TLS."""
    parts = _split(text.strip())
    if not _is_address(parts):
        raise Failure(
            f"{text!r} is not the address of an app: give it as https://NAME.azurewebsites.net"
        )
    if parts.scheme == "http" and parts.hostname not in LOCAL:
        raise Failure(f"{text}: a key is sent over https only")
    if parts.query or parts.fragment or parts.path.strip("/") not in {"", "api"}:
        raise Failure(
            f"{text!r}: give the address without path and query; a key has no place in it"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _split(text: str) -> SplitResult:
    """Return the parts of an address; none of them where its host is malformed, as `[::1`."""
    try:
        return urlsplit(text)
    except ValueError:
        return urlsplit("")


def _is_address(parts: SplitResult) -> bool:
    """Whether there are a scheme of the web, a host, and a port that can be, and no login."""
    try:
        port = parts.port
    except ValueError:
        return False
    has_place = bool(parts.hostname) and port != 0
    return has_place and parts.scheme in {"https", "http"} and "@" not in parts.netloc


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_late(error: Exception) -> bool:
    return "timed out" in str(error).lower() or "timeout" in type(error).__name__.lower()


def _kind(error: Exception) -> str:
    """Return the innermost reason of a failed call, without addresses and objects in it."""
    text = str(error)
    for sign, words in (
        ("Name or service not known", "the name is not known"),
        ("Temporary failure in name resolution", "the name cannot be looked up"),
        ("nodename nor servname", "the name is not known"),
        ("getaddrinfo failed", "the name is not known"),
        ("NameResolution", "the name is not known"),
        ("Connection refused", "connection refused"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted here"),
        ("timed out", "time is up"),
    ):
        if sign in text:
            return words
    return type(error).__name__
