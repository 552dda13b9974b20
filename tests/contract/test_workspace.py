"""AzureWorkspace over HTTPS: what goes out, what comes back, and what each trouble becomes."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common import workspace
from common.clock import SystemClock
from common.errors import (
    AnswerTooLargeError,
    ContractDriftError,
    CredentialError,
    PartialAnswerError,
    PipelineError,
    QueryRefusedError,
    ThrottledError,
    UnavailableError,
)
from common.settings import Secret, Settings, read_settings
from common.workspace import AzureWorkspace
from local.services.entra import Entra
from local.services.http_simulator import (
    Answer,
    Cut,
    Delay,
    Fault,
    HttpSimulator,
    Request,
    Reset,
    Response,
    Trickle,
    json_response,
)
from local.services.tls import LocalCertificates

TENANT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
CLIENT = "99999999-8888-7777-6666-555555555555"
WORKSPACE = "00000000-0000-4000-8000-0000000000aa"
AUDIENCE = "https://api.loganalytics.io"
DAY = timedelta(days=1)
TEXT = "ThreatIntelIndicators | take 2"

COLUMNS = [{"name": "Id", "type": "string"}, {"name": "At", "type": "datetime"}]
RESULT = {
    "tables": [
        {"name": "PrimaryResult", "columns": COLUMNS, "rows": [["a", "2026-11-29T10:00:00.5Z"]]}
    ]
}


class QueryApi(HttpSimulator):
    """A query API with one answer, which remembers what it was asked."""

    def __init__(self, *, certificates: LocalCertificates, entra: Entra) -> None:
        super().__init__(certificates=certificates)
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.tokens: list[str] = []
        self.result: object = RESULT
        self._entra = entra

    def answer(self, request: Request) -> Response:
        """Give the one answer to who has a token for the audience."""
        token = request.headers["authorization"].removeprefix("Bearer ")
        with self._changed:
            self.tokens.append(token)
            self.asked.append((request.path, json.loads(request.body), request.headers["prefer"]))
        if self._entra.token_is_valid(token, audience=AUDIENCE) is None:
            return json_response({"error": {"code": "AuthenticationFailed"}}, status=401)
        return json_response(self.result)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """Certificates that only this module's client trusts."""
    return LocalCertificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def entra(certificates: LocalCertificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entra]:
    """A tenant that this process trusts."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Entra(
        tenant_id=TENANT, client_id=CLIENT, client_secret="s", certificates=certificates
    ) as simulator:
        for name, value in simulator.managed_identity_environment().items():
            monkeypatch.setenv(name, value)
        yield simulator


@pytest.fixture
def api(certificates: LocalCertificates, entra: Entra) -> Iterator[QueryApi]:
    """A running query API."""
    with QueryApi(certificates=certificates, entra=entra) as simulator:
        yield simulator


@pytest.fixture
def settings(entra: Entra, api: QueryApi) -> Settings:
    """Settings of an application that signs in here and asks there."""
    return read_settings(
        {
            "LUMEN_API_KEY": "k",
            "WORKSPACE_ID": WORKSPACE,
            "TENANT_ID": TENANT,
            "CLIENT_ID": CLIENT,
            "CLIENT_SECRET": "s",
            "ENTRA_AUTHORITY_HOST": entra.url,
            "SENTINEL_QUERY_URL": api.url,
            "PipelineStorage": "UseDevelopmentStorage=true",
        }
    )


def opened(settings: Settings) -> AzureWorkspace:
    """Return the workspace that settings name."""
    return AzureWorkspace(
        settings,
        workspace_id=settings.workspace_id,
        url=settings.sentinel_query_url,
        audience=settings.sentinel_query_audience,
        clock=SystemClock(),
    )


@pytest.fixture
def asked(settings: Settings) -> AzureWorkspace:
    """The workspace under test."""
    return opened(settings)


@pytest.mark.parametrize("secret", [Secret("s"), None])
def test_the_identity_that_uploads_asks(
    settings: Settings, api: QueryApi, secret: Secret | None
) -> None:
    """The application by its secret, or the managed identity; for the audience of the query API."""
    asked = opened(replace(settings, client_secret=secret))
    rows = asked.query(TEXT, span=DAY)
    assert list(rows) == [{"Id": "a", "At": datetime(2026, 11, 29, 10, 0, 0, 500_000, tzinfo=UTC)}]
    ((path, body, prefer),) = api.asked
    assert path == f"/v1/workspaces/{WORKSPACE}/query"
    assert body["query"] == TEXT
    assert body["timespan"] == "PT86400.0S"
    assert prefer == f"wait={workspace.SERVER_TIMEOUT}"


def test_a_refused_token_is_not_shown_again(api: QueryApi, asked: AzureWorkspace) -> None:
    """The query fails, saying so, and the next one has another token."""
    api.inject(Fault(effect=Answer(401), times=1))
    with pytest.raises(CredentialError, match="did not accept the token") as caught:
        asked.query(TEXT, span=DAY)
    assert type(caught.value) is CredentialError
    asked.query(TEXT, span=DAY)
    asked.query(TEXT, span=DAY)
    assert len(api.tokens) == 2
    assert len(set(api.tokens)) == 1


def test_no_token_is_said_as_such(entra: Entra, asked: AzureWorkspace, api: QueryApi) -> None:
    """Without one nothing is asked."""
    entra.inject(
        Fault(effect=Answer(401, body='{"error":"invalid_client"}'), path="token", times=None)
    )
    with pytest.raises(CredentialError, match="no token"):
        asked.query(TEXT, span=DAY)
    assert api.asked == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Answer(403, body='{"error":{"code":"InsufficientAccessError"}}'), CredentialError),
        (Answer(403, body="private endpoint"), QueryRefusedError),
        (Answer(404), QueryRefusedError),
        (Answer(429), ThrottledError),
        (Answer(503, body="<html>"), UnavailableError),
        (Answer(302, {"Location": "https://127.0.0.1:1/"}), UnavailableError),
        (Answer(200, body="<html>"), ContractDriftError),
        (Answer(200, {"Content-Type": "text/html"}, "<html>"), ContractDriftError),
        (Answer(200, body="[1]"), ContractDriftError),
        (Answer(200, body='{"tables": []}'), ContractDriftError),
        (Answer(200, body='{"tables": [{"name": "x", "columns": 7}]}'), ContractDriftError),
        (Answer(200, body=""), ContractDriftError),
        (Reset(), UnavailableError),
        (Cut(after_bytes=10), UnavailableError),
    ],
)
def test_each_trouble_is_an_error_of_ours(
    api: QueryApi, asked: AzureWorkspace, fault: Any, error: type[PipelineError]
) -> None:
    """One request each: nothing is tried again within a query."""
    api.inject(Fault(effect=fault))
    with pytest.raises(error):
        asked.query(TEXT, span=DAY)
    assert api.requests == 1


def test_a_part_of_an_answer_is_none(api: QueryApi, asked: AzureWorkspace) -> None:
    """The rows that came are not all: nothing may be concluded from them."""
    api.result = {**RESULT, "error": {"code": "PartialError", "message": "x"}}
    with pytest.raises(PartialAnswerError, match="PartialError"):
        asked.query(TEXT, span=DAY)


def test_an_answer_has_a_size(
    api: QueryApi, asked: AzureWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more of it is read than that."""
    monkeypatch.setattr(workspace, "MAX_ANSWER", 50)
    with pytest.raises(AnswerTooLargeError):
        asked.query(TEXT, span=DAY)


@pytest.mark.parametrize("fault", [Delay(3600), Trickle(0.01), Trickle(0.01, with_head=True)])
def test_a_query_ends_in_time(
    api: QueryApi, asked: AzureWorkspace, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the service is, and however steadily a byte comes now and then."""
    monkeypatch.setattr(workspace, "QUERY_WITHIN", 0.5)
    api.result = {**RESULT, "padding": "x" * 100_000}
    api.inject(Fault(effect=fault))
    with pytest.raises(UnavailableError, match="cannot be asked"):
        asked.query(TEXT, span=DAY)


def test_threads_share_one_client(api: QueryApi, asked: AzureWorkspace) -> None:
    """Each gets its own answer."""
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(asked.query(TEXT, span=DAY))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4
