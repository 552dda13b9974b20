"""Tokens, asked of a simulated Entra by the real MSAL: cached, renewed, never a held grudge."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from azure.core.credentials import TokenCredential

from common import identity
from common.clock import Clock, SystemClock
from common.errors import CredentialError, UnavailableError
from common.identity import (
    REMEMBER_FAILURE,
    TIME_LIMIT,
    QueryTokens,
    SentinelTokens,
    StorageIdentity,
    explain_token_error,
    storage_credential,
)
from common.ledger.tables import AzureTables
from common.queues import AzureQueue
from common.settings import Secret, Settings, StorageSettings, read_settings
from local.services.entra import Entra
from local.services.faults import Answer, Call, Cut, Delay, Effect, Fault, Reset, Trickle
from local.services.tls import LocalCertificates
from tests.fakes.clock import FakeClock

TENANT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
CLIENT = "99999999-8888-7777-6666-555555555555"
SECRET = "right-secret"
AUDIENCE = "https://management.azure.com"
DISCOVERY = "openid-configuration"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """A throw-away CA."""
    return LocalCertificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def entra(certificates: LocalCertificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entra]:
    """A running tenant that this process trusts, and the only managed identity it can find."""
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_SERVER_THUMBPRINT", "MSI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    simulator = Entra(
        tenant_id=TENANT, client_id=CLIENT, client_secret=SECRET, certificates=certificates
    )
    with simulator:
        for name, value in simulator.managed_identity_environment().items():
            monkeypatch.setenv(name, value)
        yield simulator


def settings(entra: Entra, **changes: str) -> Settings:
    """Settings of an application that signs in with a secret, or without one."""
    environ = {
        "LUMEN_API_KEY": "x",
        "WORKSPACE_ID": TENANT,
        "TENANT_ID": TENANT,
        "CLIENT_ID": CLIENT,
        "CLIENT_SECRET": SECRET,
        "ENTRA_AUTHORITY_HOST": entra.url,
        "PipelineStorage": "UseDevelopmentStorage=true",
    }
    return read_settings({**environ, **changes})


def sentinel_tokens(settings: Settings, *, clock: Clock) -> SentinelTokens:
    """Return a source of the tokens that the app uploads with."""
    return SentinelTokens(settings, audience=settings.sentinel_audience, clock=clock)


@pytest.fixture(params=[SECRET, ""], ids=["secret", "managed-identity"])
def tokens(request: pytest.FixtureRequest, entra: Entra) -> SentinelTokens:
    """A source of tokens, for both ways to sign in."""
    return sentinel_tokens(settings(entra, CLIENT_SECRET=request.param), clock=FakeClock())


def test_a_token_is_good_at_sentinel(entra: Entra, tokens: SentinelTokens) -> None:
    """The token is the application's, for the configured audience."""
    assert entra.token_is_valid(tokens.token()) == CLIENT
    assert entra.scopes[0].removesuffix("/.default") == AUDIENCE


def test_a_token_is_asked_for_once(entra: Entra, tokens: SentinelTokens) -> None:
    """Later calls answer from the cache."""
    assert tokens.token() == tokens.token()
    assert entra.tokens_issued == 1


def test_threads_share_one_request(entra: Entra, tokens: SentinelTokens) -> None:
    """Many threads that need a token at once cause one request and get the same token."""
    with ThreadPoolExecutor(8) as pool:
        found = {future.result() for future in [pool.submit(tokens.token) for _ in range(24)]}
    assert (len(found), entra.tokens_issued) == (1, 1)


def test_a_refused_token_is_replaced(entra: Entra, tokens: SentinelTokens) -> None:
    """A refresh brings another token, good, and it is the one that is cached from then on."""
    refused = tokens.token()
    entra.expire_tokens()
    renewed = tokens.refresh(refused=refused)
    assert entra.token_is_valid(renewed) == CLIENT
    assert tokens.token() == renewed != refused


def test_threads_that_were_refused_together_refresh_once(
    entra: Entra, tokens: SentinelTokens
) -> None:
    """A thread whose token was replaced by another one meanwhile takes the new one."""
    refused = tokens.token()
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(tokens.refresh, refused=refused) for _ in range(24)]
        found = {future.result() for future in futures}
    assert (len(found), entra.tokens_issued) == (1, 2)
    assert refused not in found


def test_a_repaired_secret_works_at_once(entra: Entra) -> None:
    """An expired secret is named with its remedy, and once renewed nothing replays the refusal."""
    tokens = sentinel_tokens(settings(entra), clock=FakeClock())
    entra.secret_expired = True
    for _ in range(2):
        with pytest.raises(CredentialError, match=r"AADSTS7000222.*make a new secret") as caught:
            tokens.token()
        assert SECRET not in str(caught.value)
    entra.secret_expired = False
    assert entra.token_is_valid(tokens.token()) == CLIENT


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"CLIENT_SECRET": "wrong-secret"}, r"AADSTS7000215.*CLIENT_SECRET is wrong"),
        ({"CLIENT_ID": TENANT}, r"AADSTS700016.*CLIENT_ID is not an application"),
        ({"CLIENT_SECRET": "", "CLIENT_ID": TENANT}, "managed identity"),
    ],
)
def test_a_refusal_names_its_remedy(entra: Entra, changes: dict[str, str], expected: str) -> None:
    """What Entra refuses needs an operator, who reads what to mend; never the secret."""
    with pytest.raises(CredentialError, match=expected) as caught:
        sentinel_tokens(settings(entra, **changes), clock=FakeClock()).token()
    assert "wrong-secret" not in str(caught.value)


def test_an_unknown_tenant_is_named(entra: Entra) -> None:
    """A tenant that does not exist has no discovery document: it is a wrong setting, no outage."""
    tokens = sentinel_tokens(settings(entra, TENANT_ID=CLIENT), clock=FakeClock())
    with pytest.raises(CredentialError, match=r"AADSTS90002.*TENANT_ID does not exist"):
        tokens.token()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("7000215", "CLIENT_SECRET is wrong"),
        ("7000222", "CLIENT_SECRET has expired"),
        ("700016", "CLIENT_ID is not an application"),
        ("90002", "TENANT_ID does not exist"),
        ("900023", "TENANT_ID does not exist"),
        ("500011", "SENTINEL_AUDIENCE"),
        ("70011", "SENTINEL_AUDIENCE"),
        ("7000112", "the application is disabled"),
        ("7000229", "no service principal"),
        ("53003", "Conditional Access"),
    ],
)
@pytest.mark.parametrize("ending", [": text", " text", ""])
def test_a_code_of_entra_has_its_remedy(entra: Entra, code: str, remedy: str, ending: str) -> None:
    """As the answer to a request for a token; the code is shown and its description is not."""
    body = json.dumps({"error": "invalid", "error_description": f"AADSTS{code}{ending}"})
    entra.inject(Fault(effect=Answer(400, body=body), path="oauth2/v2.0/token"))
    with pytest.raises(CredentialError, match=remedy) as caught:
        sentinel_tokens(settings(entra), clock=FakeClock()).token()
    assert f"(AADSTS{code})" in str(caught.value)
    assert "text" not in str(caught.value)


def test_a_longer_code_is_another_one() -> None:
    """A code is read to its end."""
    error = explain_token_error({"error": "e", "error_description": "AADSTS7000160: other"})
    assert "CLIENT_ID is not" not in str(error)
    assert "AADSTS7000160" in str(error)


@pytest.mark.parametrize(
    "effect",
    [
        Answer(500, body="<html>"),
        Answer(503, {"Retry-After": "3600"}, body="{}"),
        Answer(200, body="<html>"),
        Answer(304),
        Reset(),
        Cut(after_bytes=1),
    ],
)
@pytest.mark.parametrize("path", [DISCOVERY, "oauth2/v2.0/token"])
def test_an_outage_passes(entra: Entra, effect: Effect, path: str) -> None:
    """No usable answer is an outage, wherever it strikes, and the next call starts afresh."""
    tokens = sentinel_tokens(settings(entra), clock=FakeClock())
    entra.inject(Fault(effect=effect, path=path))
    with pytest.raises(UnavailableError):
        tokens.token()
    assert entra.token_is_valid(tokens.token()) == CLIENT


def test_a_stranger_s_answer_is_an_outage(entra: Entra) -> None:
    """JSON that is no discovery document, as from a proxy's welcome page, is an outage too."""
    tokens = sentinel_tokens(settings(entra), clock=FakeClock())
    entra.inject(Fault(effect=Answer(200, body="{}"), path=DISCOVERY))
    with pytest.raises(UnavailableError):
        tokens.token()
    assert entra.token_is_valid(tokens.token()) == CLIENT


@pytest.mark.parametrize("effect", [Answer(502, body="<html>"), Reset(), Cut(after_bytes=1)])
def test_an_outage_of_the_managed_identity_passes(entra: Entra, effect: Effect) -> None:
    """The identity endpoint may fail too, without a lasting mark."""
    tokens = sentinel_tokens(settings(entra, CLIENT_SECRET=""), clock=FakeClock())
    entra.inject(Fault(effect=effect))
    with pytest.raises(UnavailableError):
        tokens.token()
    assert entra.token_is_valid(tokens.token()) == CLIENT


def test_every_call_ends(
    entra: Entra, tokens: SentinelTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that accepts a connection and never answers is given up after the time-out."""
    monkeypatch.setattr(identity, "_TIMEOUT", 0.2)
    entra.inject(Fault(effect=Delay(60), times=None))
    with pytest.raises(UnavailableError):
        tokens.token()


SECONDS = 20.0
"""How long a call to Entra lasts that leads to nothing."""


def slow_failures(entra: Entra, clock: FakeClock, *, lasting: float) -> list[float]:
    """Let each call to Entra last so long and fail; return where their times are noted."""
    times: list[float] = []

    def pass_time(_request: object) -> None:
        times.append(clock.monotonic())
        clock.advance(lasting)

    entra.inject(Fault(effect=Call(pass_time), times=None))
    entra.inject(Fault(effect=Answer(500), times=None))
    return times


@pytest.mark.parametrize("secret", [SECRET, ""], ids=["secret", "managed-identity"])
def test_those_who_wait_while_entra_is_silent_share_its_failure(entra: Entra, secret: str) -> None:
    """However many there are: none of them asks again after the one that asked."""
    clock = FakeClock()
    tokens = sentinel_tokens(settings(entra, CLIENT_SECRET=secret), clock=clock)
    times = slow_failures(entra, clock, lasting=SECONDS)

    def fail() -> str:
        with pytest.raises(UnavailableError) as caught:
            tokens.token()
        return str(caught.value)

    with ThreadPoolExecutor(24) as pool:
        reasons = {future.result() for future in [pool.submit(fail) for _ in range(24)]}
    assert len(reasons) == 1
    assert clock.elapsed == len(times) * SECONDS <= 2 * SECONDS


def test_a_failure_that_took_long_is_forgotten_after_as_long_at_most(entra: Entra) -> None:
    """Asked again after that, Entra's recovery is noticed; an hour of silence counts as seconds."""
    for lasting, remembered in ((SECONDS, SECONDS), (3600.0, REMEMBER_FAILURE)):
        clock = FakeClock()
        tokens = sentinel_tokens(settings(entra), clock=clock)
        times = slow_failures(entra, clock, lasting=lasting)
        with pytest.raises(UnavailableError):
            tokens.token()
        asked = len(times)
        entra.clear_faults()
        clock.advance(remembered - 1)
        for ask in (tokens.token, lambda tokens=tokens: tokens.refresh(refused="any")):
            with pytest.raises(UnavailableError):
                ask()
        assert len(times) == asked
        clock.advance(1)
        assert entra.token_is_valid(tokens.token()) == CLIENT


def test_a_refused_token_is_replaced_once_entra_answers_again(entra: Entra) -> None:
    """A refresh that failed leaves nothing behind that the service has refused."""
    clock = FakeClock()
    tokens = sentinel_tokens(settings(entra), clock=clock)
    refused = tokens.token()
    entra.expire_tokens()
    slow_failures(entra, clock, lasting=SECONDS)
    with pytest.raises(UnavailableError):
        tokens.refresh(refused=refused)
    entra.clear_faults()
    clock.advance(SECONDS)
    renewed = tokens.refresh(refused=refused)
    assert entra.token_is_valid(renewed) == CLIENT
    assert tokens.token() == renewed != refused


@pytest.mark.parametrize(
    ("answer", "kind", "shown"),
    [
        ({}, CredentialError, "unknown"),
        ({"error": "invalid_client"}, CredentialError, "invalid_client"),
        ({"error": "temporarily_unavailable"}, UnavailableError, "temporarily_unavailable"),
        ({"error": "server_error"}, UnavailableError, "server_error"),
        ({"error": "503"}, UnavailableError, "503"),
        ({"error": "e", "error_description": "AADSTS53003: Blocked."}, CredentialError,
         "AADSTS53003"),
        ({"error": "server_error", "error_description": "AADSTS90033: Later."}, UnavailableError,
         "AADSTS90033"),
        ({"error": "e", "error_description": "secret-like text: more"}, CredentialError, "(e)"),
        ({"error": "x" * 999}, CredentialError, "x" * 40),
        ({"error": "e", "error_description": "AADSTS90002: Tenant 'x' not found."},
         CredentialError, "TENANT_ID does not exist"),
    ],
)  # fmt: skip
def test_an_error_answer_is_explained(
    answer: dict[str, Any], kind: type[Exception], shown: str
) -> None:
    """Of MSAL's error the code is shown, never the description, and it decides what to do."""
    error = explain_token_error(answer)
    assert type(error) is kind
    assert shown in str(error)
    assert len(str(error)) < 250
    assert "secret-like" not in str(error)


def test_a_connection_string_needs_no_credential() -> None:
    """Storage reached by a connection string is not asked to by identity."""
    assert storage_credential(StorageSettings(connection_string=Secret("x"))) is None


STORAGE = StorageSettings(
    queue_endpoint="https://a.queue.example", table_endpoint="https://a.table.example",
    client_id=CLIENT,
)  # fmt: skip
SCOPE = "https://storage.azure.com/.default"


def storage_identity() -> TokenCredential:
    """The credential of the storage clients."""
    credential = storage_credential(STORAGE)
    assert credential is not None
    return credential


def test_storage_is_reached_by_the_configured_identity(entra: Entra) -> None:
    """Storage by endpoints gets the managed identity that its own client id names, once."""
    credential = storage_identity()
    token = credential.get_token(SCOPE)
    assert credential.get_token(SCOPE).token == token.token
    assert 3000 < token.expires_on - time.time() <= 3600
    assert entra.scopes == ["https://storage.azure.com"]


def test_storage_is_reached_by_the_app_s_own_identity(entra: Entra) -> None:
    """Without a client id, no identity is named."""
    seen: list[str] = []
    entra.inject(Fault(effect=Call(lambda request: seen.append(request.query_string)), times=None))
    credential = storage_credential(replace(STORAGE, client_id=None))
    assert credential is not None
    assert credential.get_token(SCOPE).token
    assert "client_id" not in seen[0]


OUTAGES: tuple[Effect, ...] = (
    *(Answer(status) for status in (408, 429, 500, 502, 503, 504)),
    *(
        Answer(status, body=body)
        for status in (429, 500, 502, 503)
        for body in (json.dumps({"statusCode": status, "message": "later"}), "<html>", "text")
    ),
    Answer(429, {"Retry-After": "3600"}, body="{}"),
    Answer(404, body="<html>"),
    Answer(200),
    *(Answer(200, body=body) for body in ("<html>", "text", "[]", '"text"', "null", "7")),
    Answer(200, body='{"access_token":"x","expires_on":"soon"}'),
    Answer(200, body='{"access_token":"x","expires_on":[1]}'),
    Answer(200, body="[" * 100_000),
    Answer(200, body=" " * (2 << 20)),
    *(Answer(status, {"Location": "https://127.0.0.1:1/"}) for status in (301, 302, 307, 308)),
    Reset(),
    Cut(after_bytes=1),
)


@pytest.mark.parametrize("effect", OUTAGES, ids=lambda effect: repr(effect)[:70])
@pytest.mark.parametrize("of", ["sentinel", "storage"])
def test_an_identity_endpoint_that_does_not_answer_usably_is_an_outage(
    entra: Entra, effect: Effect, of: str
) -> None:
    """In words that name the endpoint, after one request; and the next call starts afresh."""
    if of == "sentinel":
        ask = sentinel_tokens(settings(entra, CLIENT_SECRET=""), clock=FakeClock()).token
    else:
        credential = StorageIdentity(CLIENT, clock=FakeClock())

        def ask() -> str:
            return credential.get_token(SCOPE).token

    entra.inject(Fault(effect=effect))
    with pytest.raises(UnavailableError, match="the managed identity endpoint") as caught:
        ask()
    setting = "CLIENT_ID" if of == "sentinel" else "PipelineStorage__clientId"
    assert setting in str(caught.value) or "too large" in str(caught.value)
    assert entra.requests == 1
    assert ask()


@pytest.mark.parametrize(
    "effect", [Delay(60), Trickle(0.05), Trickle(0.05, with_head=True)], ids=repr
)
@pytest.mark.parametrize("of", ["secret", "identity", "storage"])
def test_a_token_is_had_within_the_time_limit_or_not_at_all(
    entra: Entra, effect: Effect, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that does not come, or never comes to its end, is given up."""
    assert 2 * identity._TIMEOUT <= TIME_LIMIT <= 20
    monkeypatch.setattr(identity, "_TIMEOUT", 0.3)
    entra.inject(Fault(effect=effect, times=None))
    secret = SECRET if of == "secret" else ""
    tokens = sentinel_tokens(settings(entra, CLIENT_SECRET=secret), clock=SystemClock())
    ask = partial(storage_identity().get_token, SCOPE) if of == "storage" else tokens.token
    with pytest.raises(UnavailableError, match="did not answer usably"):
        ask()


def test_an_identity_that_is_not_assigned_is_a_wrong_setting(entra: Entra) -> None:
    """The endpoint answers in its own words that it does not know the client id."""
    with pytest.raises(CredentialError, match="PipelineStorage__clientId"):
        StorageIdentity(TENANT, clock=FakeClock()).get_token(SCOPE)


@pytest.mark.parametrize("secret", [SECRET, ""], ids=["secret", "managed-identity"])
def test_a_query_is_signed_in_for_the_workspace(entra: Entra, secret: str) -> None:
    """The same identity asks for another audience, and an outage names that one's setting."""
    audience = "https://api.loganalytics.io"
    good = settings(entra, CLIENT_SECRET=secret)
    assert QueryTokens(good, audience=audience, clock=FakeClock()).get_token("any").token
    assert [scope.removesuffix("/.default") for scope in entra.scopes] == [audience]
    entra.inject(Fault(effect=Answer(500), times=None))
    with pytest.raises(UnavailableError, match="SENTINEL_QUERY_AUDIENCE"):
        QueryTokens(good, audience=audience, clock=FakeClock()).get_token("any")


def test_the_storage_clients_pass_the_error_on_as_it_is(
    entra: Entra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queues and tables ask once, wait for nothing, and raise the words of the identity."""
    entra.inject(Fault(effect=Answer(503, {"Retry-After": "3600"}), times=None))
    calls: dict[str, Callable[[], object]] = {
        "queue": lambda: AzureQueue("q", STORAGE, credential=storage_identity()).send("x", delay=0),
        "table": lambda: (
            AzureTables(STORAGE, credential=storage_identity()).table("t").get("p", "k")
        ),
    }
    for name, call in calls.items():
        before = entra.requests
        with pytest.raises(UnavailableError, match=r"managed identity endpoint .*503"):
            call()
        assert entra.requests == before + 1, name


def test_the_identity_endpoint_is_asked_without_a_proxy(
    entra: Entra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on the machine itself; a proxy in the environment is for the rest of the world."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert storage_identity().get_token(SCOPE).token
    tokens = sentinel_tokens(settings(entra, CLIENT_SECRET=""), clock=FakeClock())
    assert entra.token_is_valid(tokens.token()) == CLIENT
    with pytest.raises(UnavailableError, match="ProxyError"):
        sentinel_tokens(settings(entra), clock=FakeClock()).token()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", [DISCOVERY, "oauth2/v2.0/token"])
def test_a_redirect_of_entra_is_not_followed(entra: Entra, status: int, path: str) -> None:
    """The secret goes to the address in the settings and nowhere else."""
    elsewhere = {"Location": f"{entra.url}/elsewhere"}
    entra.inject(Fault(effect=Answer(status, elsewhere), path=path))
    with pytest.raises(UnavailableError, match="redirect, which is not followed"):
        sentinel_tokens(settings(entra), clock=FakeClock()).token()
    assert entra.count(path="elsewhere") == 0
