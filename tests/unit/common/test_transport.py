"""Sessions hand nothing on: no login but the caller's, no other address than the one given."""

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from common.errors import UnavailableError
from common.ledger.tables import AzureTables
from common.queues import AzureQueue
from common.settings import Secret, StorageSettings
from common.storage_options import client_options
from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, within
from local.services.http_simulator import HttpSimulator, Request, Response
from local.services.tls import LocalCertificates

BODY = b"x" * 200_000
ROOT = Path(__file__).parents[3]


class Elsewhere(HttpSimulator):
    """Answers a redirect to itself on `/moved`, else a body; notes what logins it was shown."""

    def answer(self, request: Request) -> Response:
        self.logins = [*getattr(self, "logins", []), request.headers.get("authorization", "")]
        named = {"x-ms-request-id": "1"}  # as the storage names its answers
        if request.path == "/moved":
            return Response(307, b"", {"Location": f"{self.url}/there", **named})
        return Response(200, BODY, named)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """A throw-away CA."""
    return LocalCertificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(
    certificates: LocalCertificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Elsewhere]:
    """A server that this process trusts, and for which a .netrc has a login."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password of-the-netrc\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Elsewhere(certificates=certificates) as simulator:
        yield simulator


class NoStorage(HttpSimulator):
    """A gateway that answers everything with a page, and 200; `named` as the storage would."""

    named = False

    def answer(self, request: Request) -> Response:
        headers = {"x-ms-request-id": "1"} if self.named else {}
        return Response(200, b"<html/>", {"Content-Type": "application/xml", **headers})


@pytest.mark.parametrize("named", [False, True])
def test_a_page_of_a_gateway_is_no_empty_queue(
    named: bool, server: Elsewhere, certificates: LocalCertificates
) -> None:
    """Not even a 200: the queue's client would find no message in it, the table's no row."""
    assert server.requests == 0
    with NoStorage(certificates=certificates) as gateway:
        gateway.named = named
        key = base64.b64encode(b"k" * 32).decode()
        storage = StorageSettings(
            connection_string=Secret(
                f"AccountName=a;AccountKey={key};QueueEndpoint={gateway.url}/a;"
                f"TableEndpoint={gateway.url}/a"
            )
        )
        queue, table = AzureQueue("work", storage), AzureTables(storage).table("things")
        calls: list[Callable[[], object]] = [lambda: queue.send("x"), lambda: table.get("p", "k")]
        if not named:
            calls += [queue.depth, lambda: queue.take(hidden_for=1.0)]
            calls += [lambda: list(table.query("p"))]
        for call in calls:
            with pytest.raises(UnavailableError):
                call()


def sessions() -> dict[str, requests.Session]:
    """Return a session of each kind that the product makes."""
    storage = client_options()["transport"].session
    assert isinstance(storage, requests.Session)
    return {"plain": PlainSession(), "storage": storage}


def test_the_product_makes_no_other_session() -> None:
    """Each HTTP session of the product is one of ours."""
    folders = ("common", "consumer", "ops", "producer")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    bare = re.compile(r"\b(requests|urllib3)\.(Session\(\)|session\(|get\(|post\(|request\(|PoolM)")
    assert files
    assert [path.name for path in files if bare.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("kind", ["plain", "storage"])
@pytest.mark.parametrize("own", ["", "bare-key"])
def test_a_netrc_is_ignored(kind: str, own: str, server: Elsewhere) -> None:
    """What a request carries is what the caller put there, or nothing."""
    with sessions()[kind] as session:
        headers = {"Authorization": own} if own else {}
        assert session.get(f"{server.url}/", headers=headers).status_code == 200
    assert server.logins == [own]


def test_the_netrc_of_the_test_works(server: Elsewhere) -> None:
    """The session that the product does not use would have sent it."""
    with requests.Session() as session:
        session.get(f"{server.url}/", headers={"Authorization": "bare-key"})
    assert server.logins[0].startswith("Basic ")


@pytest.mark.parametrize("kind", ["plain", "storage"])
@pytest.mark.parametrize("options", [{}, {"allow_redirects": True}])
def test_a_redirect_is_not_followed(kind: str, options: dict[str, Any], server: Elsewhere) -> None:
    """Whatever the caller says."""
    with sessions()[kind] as session:
        assert session.get(f"{server.url}/moved", **options).status_code == 307
    assert server.requests == 1


def test_the_storage_clients_follow_no_redirect() -> None:
    """The SDK's own way of following is switched off, too."""
    assert client_options()["permit_redirects"] is False


@pytest.mark.parametrize("login", ["user:password@", "user@", ":@", "user%40b:p@"])
def test_an_address_with_a_login_is_refused(login: str, server: Elsewhere) -> None:
    """Before anything is sent, as a failure before an answer, and without showing it."""
    address = server.url.replace("https://", f"https://{login}")
    with PlainSession() as session, pytest.raises(TRANSPORT_ERRORS) as caught:
        session.get(address)
    assert "password" not in str(caught.value).replace("a user or a password", "")
    assert server.requests == 0


@pytest.mark.parametrize(("limit", "read"), [(len(BODY), True), (len(BODY) - 1, False)])
def test_a_body_is_read_up_to_the_limit(limit: int, read: bool, server: Elsewhere) -> None:
    """One that is longer is no body."""
    with PlainSession() as session, session.get(f"{server.url}/", stream=True) as response:
        found = read_body(response, limit=limit)
    assert found == (BODY if read else None)


class Tunnel:
    """A proxy that opens the way to any address of this machine: HTTP's CONNECT, once."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = b""
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        while b"\r\n\r\n" not in self.asked:
            self.asked += client.recv(4096)
        port = int(self.asked.split(b" ")[1].rpartition(b":")[2])
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            self._open = [client, server]
            client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: here\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            _pass_on(client, server)
            back.join()

    def close(self) -> None:
        """Close the port and the one connection."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("kind", ["plain", "storage"])
def test_a_proxy_of_the_environment_is_used(
    kind: str, server: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through its tunnel, with TLS from end to end, and within a limit."""
    tunnel = Tunnel()
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
    with sessions()[kind] as session, within(60.0):
        answer = session.post(f"{server.url}/", data=b"y" * (1 << 20))
        assert answer.content == BODY
    tunnel.close()
    assert tunnel.asked.startswith(b"CONNECT 127.0.0.1:")
