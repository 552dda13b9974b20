"""The server under everything local: bodies of every kind, and how its two ends differ."""

import http.client
import socket
import ssl
from collections.abc import Iterator

import pytest
import requests

from local.http_server import Connection, HttpServer, Request
from local.services.tls import LocalCertificates
from tests.patience import PATIENCE


class Served:
    """A running server that answers with what it was sent."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.failures: list[Exception] = []
        self.server = HttpServer(
            name="served", serve=self.answer, failed=self.failures.append, context=context
        )
        self.server.start()

    def answer(self, request: Request, connection: Connection) -> None:
        """Echo the body; `/204` has none, `/bug` fails."""
        self.requests.append(request)
        if request.path == "/bug":
            raise ZeroDivisionError
        connection.send(204 if request.path == "/204" else 200, body=request.body)


@pytest.fixture
def served() -> Iterator[Served]:
    """Plain HTTP; no failure is left unseen."""
    served = Served()
    yield served
    served.server.stop()


@pytest.fixture
def line(served: Served) -> Iterator[http.client.HTTPConnection]:
    """One connection, which opens again only when it is asked twice."""
    line = http.client.HTTPConnection("127.0.0.1", served.server.port, timeout=PATIENCE)
    yield line
    line.close()


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"Content-Length: 4\r\n\r\nbody", b"body"),
        (b"\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nbo\r\n2\r\ndy\r\n0\r\nA: b\r\n\r\n", b"body"),
    ],
    ids=["length", "none", "chunks"],
)
def test_a_body_is_read_whole_and_the_next_request_follows(
    served: Served, sent: bytes, body: bytes
) -> None:
    """Of known length, in chunks with extensions and trailers, or none: nothing is left over."""
    request = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\n" + sent
    with socket.create_connection(("127.0.0.1", served.server.port), PATIENCE) as caller:
        for _ in range(2):
            caller.sendall(request)
            answer = http.client.HTTPResponse(caller)
            answer.begin()
            assert (answer.status, answer.read()) == (200, body)
    assert [(one.target, one.body) for one in served.requests] == [("/a?b=c", body)] * 2


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 10\r\n\r\nhalf",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["length", "chunk", "no chunk"],
)
def test_half_a_request_is_not_served(served: Served, sent: bytes) -> None:
    """A caller that goes away in the middle is a broken connection, not a failure."""
    with socket.create_connection(("127.0.0.1", served.server.port), PATIENCE) as caller:
        caller.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + sent)
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(100) == b""
    assert (served.requests, served.failures) == ([], [])


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/"), ("POST", "/204")])
def test_an_answer_without_a_body_leaves_the_connection_usable(
    line: http.client.HTTPConnection, method: str, path: str
) -> None:
    """No byte of a body follows HEAD or 204, which would be taken for the next answer."""
    line.request(method, path, body=b"xyz")
    assert line.getresponse().read() == b""
    assert line.sock is not None
    line.request("POST", "/", body=b"next")
    assert line.getresponse().read() == b"next"


def test_a_closed_port_serves_the_connections_it_has(
    served: Served, line: http.client.HTTPConnection
) -> None:
    """A host that drains: who is connected is answered, a new caller is refused."""
    line.request("GET", "/")
    line.getresponse().read()
    served.server.close_port()
    line.request("POST", "/", body=b"still")
    assert line.getresponse().read() == b"still"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", line.port), PATIENCE)


def test_a_stop_ends_idle_connections(served: Served, line: http.client.HTTPConnection) -> None:
    """Their callers see the end at once."""
    line.request("GET", "/")
    line.getresponse().read()
    served.server.stop()
    assert line.sock.recv(1) == b""


def test_a_server_that_never_started_can_be_stopped() -> None:
    """Its port is free again, and nothing is waited for."""
    server = HttpServer(name="idle", serve=lambda *_: None, failed=lambda _: None)
    port = server.port
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE)


def test_a_failure_of_ours_is_reported(served: Served, line: http.client.HTTPConnection) -> None:
    """The caller's connection ends, and `failed` has the error."""
    line.request("GET", "/bug")
    with pytest.raises(http.client.RemoteDisconnected):
        line.getresponse()
    assert [type(error) for error in served.failures] == [ZeroDivisionError]


def test_a_silent_caller_holds_up_no_other(certificates: LocalCertificates) -> None:
    """One that never speaks TLS waits in a thread of its own."""
    served = Served(certificates.server_context())
    try:
        with socket.create_connection(("127.0.0.1", served.server.port), PATIENCE):
            url = f"https://127.0.0.1:{served.server.port}/"
            with requests.Session() as session:
                session.trust_env = False
                got = session.get(url, verify=str(certificates.authority), timeout=PATIENCE)
        assert got.status_code == 200
    finally:
        served.server.stop()
