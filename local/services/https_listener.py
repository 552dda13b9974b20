"""HTTPS on 127.0.0.1: whole requests in, whole or purposely broken answers out.

Promise: one thread a connection, HTTP/1.1 keep-alive, no delay by Nagle, and
:meth:`HttpsListener.stop` ends every connection at once, idle ones included.
Not obvious: the TLS handshake takes place in the connection's own thread, so that a caller that
stays silent holds up nobody else.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

_LISTEN_BACKLOG = 256
_STOP_POLL_SECONDS = 0.02
_STOP_GRACE_SECONDS = 2.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_KNOWN_STATUSES = frozenset(map(int, http.HTTPStatus))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as a simulator sees it. Its headers and body never appear in its ``repr``."""

    method: str
    path: str
    """Still percent-encoded, without the query."""
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Their names are in lower case."""
    body: bytes = field(default=b"", repr=False)

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the first."""
        return {name: values[0] for name, values in parse_qs(self.query_string).items()}


@dataclass(frozen=True, slots=True)
class Response:
    """What a simulated service answers, after ``delay`` seconds."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


class HttpsListener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The listening socket and its open connections."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = _LISTEN_BACKLOG

    def __init__(
        self,
        *,
        port: int,
        context: ssl.SSLContext,
        serve: "Callable[[Request, Wire], None]",
        failed: Callable[[Exception], None],
    ) -> None:
        """Listen on the port, 0 meaning any. ``serve`` is called from the connections' threads.

        ``failed`` is told of every error that is not a broken connection.
        """
        self.serve = serve
        self._failed = failed
        self._context = context
        self._connections: set[socket.socket] = set()
        self._closed = threading.Condition()
        super().__init__(("127.0.0.1", port), Wire)

    def get_request(self) -> tuple[socket.socket, object]:
        plain, address = self.socket.accept()
        connection = self._context.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
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

    def start(self) -> None:
        """Serve from threads of its own."""
        threading.Thread(
            target=self.serve_forever, args=(_STOP_POLL_SECONDS,), name="https", daemon=True
        ).start()

    def stop(self) -> None:
        """Close the port and every connection, and let their threads come to an end."""
        self.shutdown()
        self.server_close()
        with self._closed:
            for connection in self._connections:
                _hang_up(connection)
            self._closed.wait_for(lambda: not self._connections, _STOP_GRACE_SECONDS)


class Wire(BaseHTTPRequestHandler):
    """One connection: reads whole requests, writes whole (or purposely broken) answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpsListener
    request: ssl.SSLSocket

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def _serve(self) -> None:
        if "Transfer-Encoding" in self.headers:
            self.send_error(http.HTTPStatus.LENGTH_REQUIRED)
            return
        expected = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(expected)
        if len(body) < expected:
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.serve(
            Request(method=self.command, path=path, query_string=query, headers=headers, body=body),
            self,
        )

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def send(self, response: Response, limit: int) -> None:
        """Write the answer, at most ``limit`` bytes of its body; fewer than all ends the line."""
        if limit < len(response.body):
            self.close_connection = True
        self.wfile.write(self._head(response) + response.body[:limit])

    def trickle(self, response: Response, *, with_head: bool, go_on: Callable[[], bool]) -> None:
        """Write the answer a byte at a time, as long as `go_on`, which waits, says so."""
        slow = response.body
        if with_head:
            slow = self._head(response) + slow
        else:
            self.wfile.write(self._head(response))
        for place in range(len(slow)):
            if not go_on():
                self.close_connection = True
                return
            self.wfile.write(slow[place : place + 1])

    def _head(self, response: Response) -> bytes:
        phrase = (
            http.HTTPStatus(response.status).phrase if response.status in _KNOWN_STATUSES else ""
        )
        lines = [f"HTTP/1.1 {response.status} {phrase}"]
        fields = {"Content-Length": str(len(response.body)), **response.headers}
        if response.body:
            fields.setdefault("Content-Type", "application/json")
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def reset(self) -> None:
        """Make the coming close a TCP reset."""
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
