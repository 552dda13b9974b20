"""Tokens for storage: from the identity endpoint or the Azure CLI, or an error in words, soon."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common import identity
from common.errors import CredentialError, PipelineError, UnavailableError
from common.identity import storage_credential
from common.ledger.tables import AzureTables
from common.queues import AzureQueue
from common.settings import Secret, StorageSettings, StorageSignIn

SCOPE = "https://storage.azure.com/.default"
NOWHERE = "https://127.0.0.1:9"
BY_IDENTITY = StorageSettings(queue_endpoint=NOWHERE, table_endpoint=NOWHERE, client_id="an-id")
BY_CLI = StorageSettings(
    queue_endpoint=NOWHERE, table_endpoint=NOWHERE, sign_in=StorageSignIn.AZURE_CLI
)


@dataclass
class Endpoint:
    """An identity endpoint that gives one answer; None is none at all, until the test ends."""

    answer: tuple[int, str, bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    over: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """The endpoint that this process finds."""
    found = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            if found.answer is None:
                found.over.wait()
                return
            status, kind, body = found.answer
            self.send_response(status)
            for name, value in {"Content-Type": kind, **found.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_SERVER_THUMBPRINT", "MSI_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        yield found
        found.over.set()
        server.shutdown()


def ask(storage: StorageSettings = BY_IDENTITY) -> str:
    """Ask once, as the storage clients do."""
    credential = storage_credential(storage)
    assert credential is not None
    return credential.get_token(SCOPE).token


JSON, HTML = "application/json", "text/html"
NOT_ASSIGNED = b'{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity"}'


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((500, JSON, b""), UnavailableError),
        ((500, "text/plain", b"oops"), UnavailableError),
        ((500, JSON, b'{"statusCode":500,"message":"x"}'), UnavailableError),
        ((502, HTML, b"<html>Bad Gateway</html>"), UnavailableError),
        ((503, JSON, b'{"error":"busy"}'), UnavailableError),
        ((429, JSON, b'{"error":"too many"}'), UnavailableError),
        ((404, JSON, b"{}"), UnavailableError),
        ((410, JSON, b"{}"), UnavailableError),
        ((200, HTML, b"<html>sign in</html>"), UnavailableError),
        ((200, JSON, b""), UnavailableError),
        ((200, JSON, b"{}"), UnavailableError),
        ((200, JSON, b"[]"), UnavailableError),
        ((200, JSON, b"null"), UnavailableError),
        ((200, JSON, b'{"access_token":"t","expires_on":"soon"}'), UnavailableError),
        ((307, HTML, b""), UnavailableError),
        ((403, HTML, b"<html>proxy</html>"), UnavailableError),
        ((400, JSON, NOT_ASSIGNED), CredentialError),
        ((401, JSON, b'{"statusCode":401,"message":"x"}'), CredentialError),
        ((403, JSON, b'{"statusCode":403,"message":"x"}'), CredentialError),
    ],
)
def test_every_answer_without_a_token_is_an_error_of_ours(
    endpoint: Endpoint, answer: tuple[int, str, bytes], expected: type[PipelineError]
) -> None:
    """An outage is told as one, a missing identity with its remedy; asked once, in words."""
    endpoint.answer = answer
    endpoint.headers = {"Retry-After": "3600", "Location": "http://127.0.0.1:9/"}
    with pytest.raises(expected, match="storage: ") as caught:
        ask()
    assert type(caught.value) is expected
    assert endpoint.asked == 1
    assert ("PipelineStorage__clientId" in str(caught.value)) == (expected is CredentialError)


def test_a_token_is_returned(endpoint: Endpoint) -> None:
    """The answer of the platform."""
    expires = int(time.time()) + 3600
    endpoint.answer = (200, JSON, b'{"access_token":"good","expires_on":"%d"}' % expires)
    assert ask() == "good"


def test_a_proxy_is_not_used(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is on this machine, whatever the environment says of the way out."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    expires = int(time.time()) + 3600
    endpoint.answer = (200, JSON, b'{"access_token":"good","expires_on":"%d"}' % expires)
    assert ask() == "good"


CALLS: dict[str, Callable[[StorageSettings], object]] = {
    "table": lambda storage: (
        AzureTables(storage, credential=storage_credential(storage)).table("runs").get("p", "k")
    ),
    "queue": lambda storage: AzureQueue("q", storage, credential=storage_credential(storage)).send(
        "text"
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, UnavailableError), ((502, HTML, b"x"), UnavailableError),
     ((400, JSON, NOT_ASSIGNED), CredentialError)],
    ids=["none", "502", "not assigned"],
)  # fmt: skip
def test_a_storage_client_hears_it_at_once(
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    answer: tuple[int, str, bytes] | None,
    expected: type[PipelineError],
) -> None:
    """It is not asked again within the call, and one that never answers is given up."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(identity, "_ANSWER", 0.2)
    endpoint.answer = answer
    with pytest.raises(expected):
        CALLS[call](BY_IDENTITY)
    assert (endpoint.asked, waits) == (1, [])


def test_a_place_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there: an outage."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{port}/")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        ask()


def test_the_time_limits_are_below_20_seconds() -> None:
    """What one question may take, for each way to sign in."""
    assert identity._CONNECT + identity._ANSWER < 20
    assert identity._CLI < 20


def put_cli(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `az` be this shell script, and no other."""
    az = folder / "az"
    az.write_text(f"#!/bin/sh\n{script}\n")
    az.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_an_operator_signs_in_by_the_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is what `az account get-access-token` says, asked for storage."""
    answer = '{"accessToken": "theirs", "expires_on": 4102444800}'
    put_cli(tmp_path, monkeypatch, f"echo \"$@\" > {tmp_path}/asked\necho '{answer}'")
    assert ask(BY_CLI) == "theirs"
    assert "get-access-token" in (tmp_path / "asked").read_text()
    assert "https://storage.azure.com" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    "script",
    [
        "echo \"Please run 'az login' to setup account.\" >&2; exit 1",
        "echo 'AADSTS50076: you must use multi-factor' >&2; exit 1",
        "echo no JSON",
        "exit 127",
    ],
    ids=["not signed in", "refused", "garbled", "missing"],
)
def test_a_cli_without_a_token_names_az_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """The remedy is the person's, and nothing of the CLI's own words is shown."""
    put_cli(tmp_path, monkeypatch, script)
    with pytest.raises(CredentialError, match="az login") as caught:
        ask(BY_CLI)
    assert "AADSTS" not in str(caught.value)


def test_a_cli_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot reach Entra, and says nothing."""
    monkeypatch.setattr(identity, "_CLI", 1)
    put_cli(tmp_path, monkeypatch, "exec tail -f /dev/null")
    with pytest.raises(UnavailableError, match="within 1 s"):
        ask(BY_CLI)


def test_a_connection_string_needs_no_sign_in() -> None:
    """Nor is one looked at."""
    storage = StorageSettings(connection_string=Secret("x"), sign_in=StorageSignIn.AZURE_CLI)
    assert storage_credential(storage) is None
