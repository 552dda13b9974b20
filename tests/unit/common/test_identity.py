"""Tokens, asked of a simulated Entra by the real MSAL: cached, renewed, never a held grudge."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from common import identity
from common.errors import CredentialError, UnavailableError
from common.identity import (
    REMEMBER_FAILURE,
    SentinelTokens,
    explain_token_error,
    storage_credential,
)
from common.settings import Secret, Settings, StorageSettings, read_settings
from local.entra import Entra
from local.faults import Answer, Call, Cut, Delay, Effect, Fault, Reset
from local.tls import LocalCertificates
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


@pytest.fixture(params=[SECRET, ""], ids=["secret", "managed-identity"])
def tokens(request: pytest.FixtureRequest, entra: Entra) -> SentinelTokens:
    """A source of tokens, for both ways to sign in."""
    return SentinelTokens(settings(entra, CLIENT_SECRET=request.param), clock=FakeClock())


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
    tokens = SentinelTokens(settings(entra), clock=FakeClock())
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
        SentinelTokens(settings(entra, **changes), clock=FakeClock()).token()
    assert "wrong-secret" not in str(caught.value)


def test_an_unknown_tenant_is_named(entra: Entra) -> None:
    """A tenant that does not exist leads to a message that names the setting."""
    tokens = SentinelTokens(settings(entra, TENANT_ID=CLIENT), clock=FakeClock())
    with pytest.raises(UnavailableError, match="TENANT_ID"):
        tokens.token()


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
    tokens = SentinelTokens(settings(entra), clock=FakeClock())
    entra.inject(Fault(effect=effect, path=path))
    with pytest.raises(UnavailableError):
        tokens.token()
    assert entra.token_is_valid(tokens.token()) == CLIENT


def test_a_stranger_s_answer_is_an_outage(entra: Entra) -> None:
    """JSON that is no discovery document, as from a proxy's welcome page, is an outage too."""
    tokens = SentinelTokens(settings(entra), clock=FakeClock())
    entra.inject(Fault(effect=Answer(200, body="{}"), path=DISCOVERY))
    with pytest.raises(UnavailableError):
        tokens.token()
    assert entra.token_is_valid(tokens.token()) == CLIENT


@pytest.mark.parametrize("effect", [Answer(502, body="<html>"), Reset(), Cut(after_bytes=1)])
def test_an_outage_of_the_managed_identity_passes(entra: Entra, effect: Effect) -> None:
    """The identity endpoint may fail too, without a lasting mark."""
    tokens = SentinelTokens(settings(entra, CLIENT_SECRET=""), clock=FakeClock())
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
    tokens = SentinelTokens(settings(entra, CLIENT_SECRET=secret), clock=clock)
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
        tokens = SentinelTokens(settings(entra), clock=clock)
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
    tokens = SentinelTokens(settings(entra), clock=clock)
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
    assert len(str(error)) < 200
    assert "secret-like" not in str(error)


def test_a_connection_string_needs_no_credential() -> None:
    """Storage reached by a connection string is not asked to by identity."""
    assert storage_credential(StorageSettings(connection_string=Secret("x"))) is None


def test_storage_is_reached_by_the_configured_identity(entra: Entra) -> None:
    """Storage by endpoints gets the managed identity that its own client id names."""
    credential = storage_credential(
        StorageSettings(queue_endpoint="https://q", table_endpoint="https://t", client_id=CLIENT)
    )
    assert credential is not None
    token = credential.get_token("https://storage.azure.com/.default")
    assert token.token
    assert entra.scopes == ["https://storage.azure.com"]
