"""The HTTP server of the local cloud: whole requests in, whole or purposely broken answers out.

Simulators, the storage proxy and the Functions host all listen through it. Promise: one thread a
connection, HTTP/1.1 keep-alive, no delay by Nagle, TLS where a context is given, and
:meth:`HttpServer.stop` ends every connection at once, idle ones included.
Not obvious: the TLS handshake takes place in the connection's own thread, so that a caller that
stays silent holds up no other. Werkzeug's server closes each connection after one answer (ADR 19),
and much of what is tested is about connections that are kept.
It must not log: a request line or a header may hold a token.
"""

import contextlib
import http
import socket
import socketserver
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

_LISTEN_BACKLOG = 256
_STOP_POLL_SECONDS = 0.02
_STOP_GRACE_SECONDS = 2.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""`SO_LINGER` on, with no time to linger: the close becomes a TCP reset."""

_PHRASES = {int(status): status.phrase for status in http.HTTPStatus}
_WITHOUT_BODY = frozenset({http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED})

type Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it arrived. Its headers and body never appear in its ``repr``."""

    method: str
    path: str
    """Still percent-encoded, without the query."""
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Their names are in lower case; of a repeated one, the last."""
    body: bytes = field(default=b"", repr=False)

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the first."""
        return {name: values[0] for name, values in parse_qs(self.query_string).items()}

    @property
    def target(self) -> str:
        """Path and query, as in the request line."""
        return f"{self.path}?{self.query_string}" if self.query_string else self.path


class HttpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The listening socket on 127.0.0.1 and its open connections."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = _LISTEN_BACKLOG

    def __init__(
        self,
        *,
        name: str,
        serve: "Callable[[Request, Connection], None]",
        failed: Callable[[Exception], None],
        port: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Bind the port, 0 meaning any. ``serve`` is called from the connections' threads.

        ``failed`` is called with every error that is not a broken connection.
        """
        self.serve = serve
        self._name = name
        self._failed = failed
        self._context = context
        self._started = False
        self._connections: set[socket.socket] = set()
        self._closed = threading.Condition()
        super().__init__(("127.0.0.1", port), Connection)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        """Serve from threads of its own."""
        self._started = True
        threading.Thread(
            target=self.serve_forever, args=(_STOP_POLL_SECONDS,), name=self._name, daemon=True
        ).start()

    def close_port(self) -> None:
        """Accept no new connection. Those that are open are served on."""
        if self._started:
            self.shutdown()
        self.server_close()

    def stop(self) -> None:
        """Close the port and every connection, and let their threads come to an end."""
        self.close_port()
        with self._closed:
            for connection in self._connections:
                _hang_up(connection)
            self._closed.wait_for(lambda: not self._connections, _STOP_GRACE_SECONDS)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = self.socket.accept()
        if self._context is not None:
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._closed:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        connection = request if isinstance(request, socket.socket) else request[1]
        connection.close()
        with self._closed:
            self._connections.discard(connection)
            self._closed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep what is our failure; a connection that broke is often the purpose of a test."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self._failed(error)


class Connection(BaseHTTPRequestHandler):
    """One connection: reads whole requests, writes whole (or purposely broken) answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def _serve(self) -> None:
        body = self._read_body()
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.serve(
            Request(method=self.command, path=path, query_string=query, headers=headers, body=body),
            self,
        )

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_MERGE = _serve

    def _read_body(self) -> bytes:
        """Return the whole body; raises ConnectionError if the caller goes away before its end."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self._read_line().partition(b";")[0], 16):
            body += self._read(size)
            self._read_line()
        while self._read_line().strip():  # trailers, which nothing here needs
            continue
        return body

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionAbortedError("the caller went away in the middle of a request")
        return data

    def _read_line(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionAbortedError("the caller went away in the middle of a request")
        return line

    def send(
        self, status: int, *, headers: Headers = (), body: bytes = b"", limit: int | None = None
    ) -> None:
        """Write an answer; its length is added unless ``headers`` name one.

        At most ``limit`` bytes of the body are sent, and fewer than all end the connection.
        """
        head = self._head(status, headers, len(body))
        if limit is not None and limit < len(body):
            self.close_connection = True
        has_body = self.command != "HEAD" and status not in _WITHOUT_BODY
        self.wfile.write(head + body[:limit] if has_body else head)

    def trickle(
        self,
        status: int,
        *,
        headers: Headers,
        body: bytes,
        with_head: bool,
        go_on: Callable[[], bool],
    ) -> None:
        """Write the answer a byte at a time, as long as `go_on`, which waits, says so."""
        head = self._head(status, headers, len(body))
        slow = head + body if with_head else body
        if not with_head:
            self.wfile.write(head)
        for place in range(len(slow)):
            if not go_on():
                self.close_connection = True
                return
            self.wfile.write(slow[place : place + 1])

    def _head(self, status: int, headers: Headers, length: int) -> bytes:
        fields = list(headers)
        named = {name.lower() for name, _ in fields}
        if status not in _WITHOUT_BODY and "content-length" not in named:
            fields.append(("Content-Length", str(length)))
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in fields]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True

    def reset(self) -> None:
        """Close the connection without an answer, by a TCP reset."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the request line may hold a token."""


def _hang_up(connection: socket.socket) -> None:
    """Wake the thread that reads from the connection, which then closes it.

    ``SSLSocket.shutdown`` would take the TLS state from under that thread; the plain one does not.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
