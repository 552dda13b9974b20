"""HTTP sessions of the pipeline: they leak nothing and end in time.

A session sends exactly what it is given, exactly where it is told to: it follows no redirect, takes
no login from a `.netrc` or from the address, and uses the proxies and the CA bundle of the
environment. `requests` wraps most failures, but lets urllib3's own errors pass if a URL cannot be
parsed, and raises a bare `OSError` if a CA bundle is missing. All of them mean: no answer, try
later.

A time limit of `requests` is for each read, so a service that sends a byte now and then never times
out. `within` sets a limit for everything inside it, and each read and write of a session's
connections obeys it. Only name resolution has its own limits: those of the machine's resolver. Each
address of a name gets the time that is left.
"""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from common.clock import SystemClock

TRANSPORT_ERRORS: Final = (OSError, urllib3.exceptions.HTTPError)
"""`requests.RequestException` is an `OSError`."""

_PIECE: Final = 1 << 16

_now: Final = SystemClock().boottime
"""The sockets' own clock: no test's clock moves it."""

_late_at: Final[ContextVar[float]] = ContextVar("late_at", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """End every request inside, and the reading of its answer, within `seconds` in total.

    Inside another limit the earlier one counts. A late request ends as a time-out of `requests`. Do
    not use it in a generator's body: the limit would count for the caller, too.
    """
    token = _late_at.set(min(_late_at.get(), _now() + seconds))
    try:
        yield
    finally:
        _late_at.reset(token)


def time_left() -> float:
    """Return the seconds left by the limits around the caller; zero or less is too late."""
    return _late_at.get() - _now()


class PlainSession(requests.Session):
    """A session that follows no redirect, adds no login of its own and heeds `within`.

    Raises `requests.exceptions.InvalidURL` for an address with a user or a password in it.
    """

    def __init__(self, *, connections: int = 10) -> None:
        super().__init__()
        self.auth = _as_it_is  # with any `auth` at all, `requests` reads no .netrc
        for scheme in ("https://", "http://"):
            self.mount(scheme, _TimedAdapter(pool_maxsize=connections))

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if "@" in urlsplit(request.url or "").netloc:
            raise requests.exceptions.InvalidURL("the address holds a user or a password")
        kwargs["allow_redirects"] = False
        return super().send(request, **kwargs)


def read_body(response: requests.Response, *, limit: int) -> bytes | None:
    """Return the body of a response that was asked for with `stream=True`; None if it is too large.

    It is decompressed piece by piece, so memory holds at most `limit` bytes and one piece. Raises
    one of `TRANSPORT_ERRORS` if it ends early, or the limit of `within` is over.
    """
    pieces: list[bytes] = []
    while piece := response.raw.read1(_PIECE, decode_content=True):
        pieces.append(piece)
        limit -= len(piece)
        if limit < 0:
            return None
    return b"".join(pieces)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _sooner(limit: float | None) -> float | None:
    """Return the earlier of a socket's own limit and that of `within`; raises `TimeoutError`."""
    left = time_left()
    if left <= 0:
        raise TimeoutError("the time for this request is over")
    if math.isinf(left):
        return limit
    return left if limit is None else min(limit, left)


class _TimedSocket:
    """A connected socket whose every read and write ends within the limit."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._limit: float | None = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Set the socket's own limit, for each read and each write."""
        self._limit = seconds
        self._sock.settimeout(seconds)

    def sendall(self, data: Any) -> None:
        """Send all of it; over TLS the standard library restarts its limit with each piece."""
        rest = memoryview(data).cast("B")
        while rest:
            self._sock.settimeout(_sooner(self._limit))
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str, *_args: Any, **_options: Any) -> io.BufferedReader:
        """Return the answer as a file, in the only mode that http.client asks for."""
        raw = cast("io.RawIOBase", self._sock.makefile(mode, buffering=0))
        return io.BufferedReader(
            _TimedReader(raw, lambda: self._sock.settimeout(_sooner(self._limit)))
        )


class _TimedReader(io.RawIOBase):
    """What a socket receives, read by read; `set_limit` is called before each."""

    def __init__(self, raw: io.RawIOBase, set_limit: Callable[[], None]) -> None:
        self._raw = raw
        self._set_limit = set_limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._set_limit()
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Timed(HTTPConnection):
    """A connection that connects, sends and receives within the limit."""

    def _new_conn(self) -> Any:  # before TLS, and for what a proxy answers
        return _TimedSocket(super()._new_conn())

    def connect(self) -> None:
        own = self.timeout
        try:
            self.timeout = _sooner(own)
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, str(error)) from None
        try:
            super().connect()
        finally:
            self.timeout = own
        if not isinstance(self.sock, _TimedSocket):  # TLS has made a socket of its own
            self.sock = cast("Any", _TimedSocket(self.sock))


class _TimedHttps(_Timed, HTTPSConnection):
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Timed


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedHttps


class _TimedAdapter(HTTPAdapter):
    """Connects with these connections, by a proxy, too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS: Final = {"http": _HttpPool, "https": _HttpsPool}
