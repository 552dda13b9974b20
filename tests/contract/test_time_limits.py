"""A request is over within its limit as a whole, whatever the other side does with its sockets.

The limits of sockets are for each read: a service that sends a byte now and then never meets them.
Each service here would go on for far longer than the limit, and would then have answered well.
"""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from common import storage_errors, storage_options
from common.errors import UnavailableError
from common.ledger.tables import Action, AzureTables, Operation, Row
from common.queues import AzureQueue
from common.settings import Secret, StorageSettings
from common.storage_options import CONNECTION_TIMEOUT, client_options
from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, time_left, within

LIMIT = 0.4
PAUSE = 0.02
GOOD_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500
"""A byte each `PAUSE`: 10 s for all of it."""

AFTER_THE_HEAD = GOOD_ANSWER.index(b"x")
TLS_RECORD = b"\x16\x03\x03\x20\x00\x02\x00\x1f\xfc\x03\x03" + bytes(500)
"""How a server's greeting begins that says it has 8 KiB."""

NEVER = 3600.0
"""Seconds of the sockets' own limits, which must not be what ends a request here."""


class Slow:
    """A server on loopback: reads what comes, or not, then answers a byte at a time, or not."""

    def __init__(
        self, *, reads: bool = True, at_once: int = 0, answer: bytes = GOOD_ANSWER
    ) -> None:
        self._reads = reads
        self._at_once, self._slowly = answer[:at_once], answer[at_once:]
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> "Slow":
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self._open)

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self._start(partial(self._serve, connection))

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._reads:
                connection.recv(1 << 16)
            connection.sendall(self._at_once)
            for byte in self._slowly:
                if self._stopping.wait(PAUSE):
                    return
                connection.sendall(bytes([byte]))
        self._stopping.wait()


SLOW: dict[str, Callable[[], Slow]] = {
    "answers nothing": lambda: Slow(answer=b""),
    "a header a byte at a time": Slow,
    "a body a byte at a time": lambda: Slow(at_once=AFTER_THE_HEAD),
    "reads nothing": lambda: Slow(reads=False, answer=b""),
}


@pytest.fixture(params=SLOW)
def slow(request: pytest.FixtureRequest) -> Iterator[Slow]:
    """A server of each kind."""
    with SLOW[request.param]() as server:
        yield server


def sessions() -> dict[str, requests.Session]:
    """Return a session of each kind that the product makes."""
    storage = client_options()["transport"].session
    assert isinstance(storage, requests.Session)
    return {"plain": PlainSession(), "storage": storage}


@pytest.mark.parametrize("kind", ["plain", "storage"])
def test_a_request_is_over_within_the_limit(kind: str, slow: Slow) -> None:
    """Its body is larger than what the two ends of a connection hold."""
    address = f"http://127.0.0.1:{slow.port}/"
    expected = TRANSPORT_ERRORS if kind == "plain" else storage_errors.TooLate
    with sessions()[kind] as session, pytest.raises(expected), within(LIMIT):
        session.post(address, data=b"x" * (32 << 20), timeout=NEVER)


@pytest.mark.parametrize("hello", [b"", TLS_RECORD])
def test_a_handshake_is_in_the_limit(hello: bytes) -> None:
    """Of TLS: no answer to the greeting, or one that never comes to its end."""
    with (
        Slow(answer=hello) as slow,
        PlainSession() as session,
        pytest.raises(TRANSPORT_ERRORS, match="imed out"),
        within(LIMIT),
    ):
        session.get(f"https://127.0.0.1:{slow.port}/", timeout=NEVER)


def test_a_proxy_is_no_way_around_the_limit(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while it opens the way, nor behind that."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{slow.port}")
    with PlainSession() as session, pytest.raises(TRANSPORT_ERRORS), within(LIMIT):
        session.get("https://elsewhere.example/", timeout=NEVER)


def test_the_reading_of_an_answer_is_in_the_limit() -> None:
    """A body that is read piece by piece, as all large ones are."""
    with (
        Slow(at_once=AFTER_THE_HEAD) as slow,
        PlainSession() as session,
        pytest.raises(TRANSPORT_ERRORS),
        within(LIMIT),
        session.get(f"http://127.0.0.1:{slow.port}/", timeout=NEVER, stream=True) as response,
    ):
        read_body(response, limit=1 << 20)


def test_without_a_limit_a_slow_answer_is_awaited() -> None:
    """The sockets' own limits hold alone; what ends the requests above is `within`."""
    with (
        Slow(at_once=len(GOOD_ANSWER) - 10) as slow,
        PlainSession() as session,
        session.get(f"http://127.0.0.1:{slow.port}/", timeout=NEVER) as response,
    ):
        assert len(response.content) == 500


def test_nothing_is_sent_once_the_limit_is_over() -> None:
    """Not even a connection is made."""
    with Slow() as slow, PlainSession() as session:
        with pytest.raises(requests.ConnectTimeout), within(0.0):
            session.get(f"http://127.0.0.1:{slow.port}/")
        assert slow.connections == 0


def test_the_earlier_limit_counts() -> None:
    """An outer one is not lengthened by an inner one, and is over when its block is."""
    with Slow(at_once=len(GOOD_ANSWER)) as fast, PlainSession() as session:
        address = f"http://127.0.0.1:{fast.port}/"
        with within(0.0), within(NEVER), pytest.raises(requests.ConnectTimeout):
            session.get(address)
        with within(NEVER):
            assert session.get(address).ok


def account_at(port: int) -> StorageSettings:
    """The settings of an account at a port of this machine."""
    address = f"http://127.0.0.1:{port}/account"
    key = "a2V5"
    return StorageSettings(
        connection_string=Secret(
            f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};"
            f"TableEndpoint={address};QueueEndpoint={address};"
        )
    )


ROW = Row(partition="p", key="k", data={"a": 1}, etag='W/"1"')
CALLS: dict[str, Callable[[StorageSettings], object]] = {
    "get": lambda s: AzureTables(s).table("things").get("p", "k"),
    "insert": lambda s: AzureTables(s).table("things").insert(ROW),
    "merge": lambda s: AzureTables(s).table("things").merge(ROW),
    "update": lambda s: AzureTables(s).table("things").update(ROW),
    "replace": lambda s: AzureTables(s).table("things").replace(ROW),
    "delete": lambda s: AzureTables(s).table("things").delete("p", "k"),
    "query": lambda s: list(AzureTables(s).table("things").query("p")),
    "merge_all": lambda s: AzureTables(s).table("things").merge_all([ROW]),
    "transact": lambda s: (
        AzureTables(s).table("things").transact([Operation(action=Action.REPLACE, row=ROW)])
    ),
    "send": lambda s: AzureQueue("things", s).send("text"),
    "depth": lambda s: AzureQueue("things", s).depth(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["answers nothing", "a header a byte at a time"])
def test_a_call_to_storage_is_over_within_its_limit(
    kind: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unavailable, in words, and not tried again: that would double the time."""
    monkeypatch.setattr(storage_errors, "CALL_WITHIN", LIMIT)
    with SLOW[kind]() as slow:
        with pytest.raises(UnavailableError, match=r"(table|queue) things gave no answer within"):
            CALLS[call](account_at(slow.port))
        assert slow.connections <= 1


@pytest.mark.parametrize("call", ["get", "send"])
def test_a_try_of_a_call_has_a_limit_of_its_own(
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    """So that a connection that has died unseen is not all that a call may try."""
    monkeypatch.setattr(storage_options, "READ_TIMEOUT", 0.1)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with SLOW["answers nothing"]() as slow:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            CALLS[call](account_at(slow.port))
        eventually(lambda: slow.connections >= 4)  # the server may take the last one later
        assert slow.connections == 4


def test_the_limit_of_a_query_is_that_of_a_page(storage: StorageSettings) -> None:
    """What is done with the rows in between is not in it, nor what is asked then."""
    table = AzureTables(storage).table("things")
    table.merge_all([Row(partition="p", key=key) for key in "abc"])
    left = [time_left() for _ in table.query("p")]
    assert left == [math.inf] * 3


def test_a_call_to_storage_ends_within_twenty_seconds() -> None:
    """Its limit, and one wait between two tries, or one more connection, that began before it."""
    longest_wait = 5.0
    assert storage_errors.CALL_WITHIN + max(longest_wait, CONNECTION_TIMEOUT) <= 20
