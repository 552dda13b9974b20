"""How the pipeline speaks HTTP: sessions that hand nothing on, and failures before an answer.

A session sends to the address that it is given, what it is given: it follows no redirect, takes no
login from a `.netrc` or from the address, and keeps the proxies and the CA bundle that the
environment names. `requests` wraps most failures, but lets urllib3's own errors pass where a URL
cannot be parsed, and raises a bare `OSError` where a CA bundle is missing. All of it means: no
answer, try later.
"""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3

TRANSPORT_ERRORS: Final = (OSError, urllib3.exceptions.HTTPError)
"""`requests.RequestException` is an `OSError`."""

_PIECE: Final = 1 << 16


class PlainSession(requests.Session):
    """A session that follows no redirect and adds no login of its own.

    Raises `requests.exceptions.InvalidURL` for an address with a user or a password in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.auth = _as_it_is  # with any `auth` at all, `requests` reads no .netrc

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if "@" in urlsplit(request.url or "").netloc:
            raise requests.exceptions.InvalidURL("the address holds a user or a password")
        kwargs["allow_redirects"] = False
        return super().send(request, **kwargs)


def read_body(
    response: requests.Response, *, limit: int, late: float, now: Callable[[], float]
) -> bytes | None:
    """Return the body of a response that was asked for with `stream=True`; None if it is too large.

    It is decompressed piece by piece, so no more than `limit` bytes and one piece are ever held.
    Raises `requests.ReadTimeout` once `now` is past `late`, however steadily the bytes come in.
    """
    pieces: list[bytes] = []
    while piece := response.raw.read1(_PIECE, decode_content=True):
        pieces.append(piece)
        limit -= len(piece)
        if limit < 0:
            return None
        if now() > late:
            raise requests.ReadTimeout
    return b"".join(pieces)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
