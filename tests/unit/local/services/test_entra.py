"""The simulated Entra ID, asked by the real MSAL and azure-identity."""

from collections.abc import Iterator
from typing import Any

import msal
import pytest
import requests
from azure.identity import ManagedIdentityCredential

from local.services.entra import Entra
from local.services.tls import LocalCertificates
from tests.patience import PATIENCE
from tests.unit.local.conftest import Clock

TENANT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
CLIENT = "99999999-8888-7777-6666-555555555555"
SCOPE = "https://management.azure.com/.default"
RESOURCE = "https://management.azure.com"


@pytest.fixture
def entra(certificates: LocalCertificates, clock: Clock) -> Iterator[Entra]:
    """A running tenant whose application has the secret ``right``."""
    with Entra(
        tenant_id=TENANT,
        client_id=CLIENT,
        client_secret="right",
        certificates=certificates,
        clock=clock,
    ) as simulator:
        yield simulator


def ask(
    entra: Entra,
    client: requests.Session,
    *,
    secret: str = "right",
    client_id: str = CLIENT,
    scope: str = SCOPE,
) -> dict[str, Any]:
    """Ask for a token with a new MSAL application, which has nothing cached."""
    application = msal.ConfidentialClientApplication(
        client_id,
        client_credential=secret,
        authority=entra.authority,
        instance_discovery=False,
        http_client=client,
    )
    found: dict[str, Any] = application.acquire_token_for_client(scopes=[scope])
    return found


def test_msal_gets_a_token_that_is_good(entra: Entra, client: requests.Session) -> None:
    """The token names the application, lives as long as told, and its scope is on record."""
    found = ask(entra, client)
    assert entra.token_is_valid(found["access_token"]) == CLIENT
    assert (found["expires_in"], found["token_type"]) == (3600, "Bearer")
    assert entra.scopes == [SCOPE]


def test_tokens_are_random_and_never_kept(entra: Entra, client: requests.Session) -> None:
    """No two are alike, and none can be read from the simulator's memory."""
    tokens = [ask(entra, client)["access_token"] for _ in range(2)]
    assert len(set(tokens)) == entra.tokens_issued == 2
    assert not any(token in repr(vars(entra)) for token in tokens)
    assert entra.token_is_valid("anything") is None
    assert entra.token_is_valid("") is None


@pytest.mark.parametrize(
    ("asked", "error", "code"),
    [
        ({"secret": "wrong"}, "invalid_client", "AADSTS7000215"),
        ({"client_id": "unknown"}, "unauthorized_client", "AADSTS700016"),
        ({"scope": RESOURCE}, "invalid_scope", "AADSTS1002012"),
    ],
)
def test_msal_is_told_what_is_wrong(
    entra: Entra, client: requests.Session, asked: dict[str, str], error: str, code: str
) -> None:
    """MSAL returns the error and the code that operators know."""
    found = ask(entra, client, **asked)
    assert found["error"] == error
    assert found["error_description"].startswith(f"{code}:")
    assert found["error_codes"] == [int(code.removeprefix("AADSTS"))]
    assert entra.tokens_issued == 0


def test_a_secret_expires_and_is_renewed(entra: Entra, client: requests.Session) -> None:
    """The old secret is refused as expired, then as wrong; the new one is good."""
    entra.secret_expired = True
    assert "AADSTS7000222" in ask(entra, client)["error_description"]
    entra.set_secret("renewed")
    assert "AADSTS7000215" in ask(entra, client)["error_description"]
    assert "access_token" in ask(entra, client, secret="renewed")


def test_another_tenant_is_unknown(entra: Entra, client: requests.Session) -> None:
    """MSAL cannot even discover it, and its token endpoint says why."""
    with pytest.raises(ValueError, match="tenant"):
        msal.ConfidentialClientApplication(
            CLIENT,
            client_credential="right",
            authority=f"{entra.url}/11111111-0000-0000-0000-000000000000",
            instance_discovery=False,
            http_client=client,
        )
    answer = client.post(f"{entra.url}/nobody/oauth2/v2.0/token", timeout=PATIENCE)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_tenant")


def test_only_client_credentials_are_granted(entra: Entra, client: requests.Session) -> None:
    """Other grants, and other paths, are refused."""
    url = f"{entra.authority}/oauth2/v2.0/token"
    answer = client.post(url, data={"grant_type": "password"}, timeout=PATIENCE)
    assert answer.json()["error"] == "unsupported_grant_type"
    assert client.get(f"{entra.authority}/elsewhere", timeout=PATIENCE).status_code == 404


def test_a_token_ends_with_its_time(entra: Entra, client: requests.Session, clock: Clock) -> None:
    """It is good until its lifetime is over."""
    token = ask(entra, client)["access_token"]
    clock.now += 3599
    assert entra.token_is_valid(token) == CLIENT
    clock.now += 1
    assert entra.token_is_valid(token) is None


def test_tokens_can_be_ended_early(entra: Entra, client: requests.Session) -> None:
    """Those issued so far are refused, a later one is good."""
    token = ask(entra, client)["access_token"]
    entra.expire_tokens()
    assert entra.token_is_valid(token) is None
    assert entra.token_is_valid(ask(entra, client)["access_token"]) == CLIENT


def test_a_token_for_another_audience_is_no_good(entra: Entra, client: requests.Session) -> None:
    """It is issued all the same; only the resource finds out."""
    found = ask(entra, client, scope="https://graph.example/.default")
    assert entra.token_is_valid(found["access_token"]) is None


@pytest.fixture
def app_service(
    entra: Entra, certificates: LocalCertificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of a process in App Service."""
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_SERVER_THUMBPRINT", "MSI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    variables = {
        **entra.managed_identity_environment(),
        **certificates.environment(),
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("app_service")
@pytest.mark.parametrize("client_id", [None, CLIENT])
def test_msal_gets_a_managed_identity_token(
    entra: Entra, client: requests.Session, client_id: str | None
) -> None:
    """MSAL finds the App Service endpoint, for either kind of identity."""
    identity: Any = msal.SystemAssignedManagedIdentity()
    if client_id:
        identity = msal.UserAssignedManagedIdentity(client_id=client_id)
    found = msal.ManagedIdentityClient(identity, http_client=client).acquire_token_for_client(
        resource=RESOURCE
    )
    assert entra.token_is_valid(found["access_token"]) == CLIENT
    assert entra.scopes == [RESOURCE]
    assert 3500 < found["expires_in"] <= 3600


@pytest.mark.usefixtures("app_service")
def test_azure_identity_gets_a_managed_identity_token(entra: Entra) -> None:
    """The credential that the product uses, found by the environment alone."""
    with ManagedIdentityCredential(client_id=CLIENT) as credential:
        token = credential.get_token(SCOPE).token
    assert entra.token_is_valid(token) == CLIENT


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        ("api-version=2019-08-01&resource=x", "", 401),
        ("api-version=2019-08-01&resource=x", "wrong", 401),
        ("resource=x", None, 400),
        ("api-version=2019-08-01", None, 400),
        ("api-version=2019-08-01&resource=x&client_id=unknown", None, 400),
    ],
)
def test_the_managed_identity_refuses(
    entra: Entra, client: requests.Session, query: str, header: str | None, status: int
) -> None:
    """The secret header, the version, a resource and a known identity are all required."""
    environment = entra.managed_identity_environment()
    sent = environment["IDENTITY_HEADER"] if header is None else header
    answer = client.get(
        f"{environment['IDENTITY_ENDPOINT']}?{query}",
        headers={"X-IDENTITY-HEADER": sent},
        timeout=PATIENCE,
    )
    assert answer.status_code == status
    assert entra.tokens_issued == 0
