"""Who the pipeline is: tokens for Sentinel, and the credential for its own storage.

One token source a process, cached by MSAL. A failed answer must not be held against us: MSAL
replays a refused token request from an internal cache for a minute or more, so a fresh client
is made after every failure and for every forced refresh. Instance discovery is off: it would
call a public host that a private network need not allow. Nothing of MSAL passes this module.
"""

import subprocess
import threading
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msal
import requests
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.identity import AzureCliCredential, ManagedIdentityCredential

from common.clock import Clock
from common.errors import CredentialError, UnavailableError
from common.settings import Settings, StorageSettings, StorageSignIn
from common.transport import TRANSPORT_ERRORS

_TIMEOUT: Final = 20.0
"""Seconds for one call to Entra, to each of the addresses that its name has."""

REMEMBER_FAILURE: Final = 30.0
"""Seconds that a failure is remembered at most. It is remembered for as long as it took to come, so
that those who waited meanwhile get it too instead of asking in turn. One that came at once is not:
a renewed secret is noticed at once."""

_NO_ANSWER: Final = (
    *TRANSPORT_ERRORS,
    msal.exceptions.MsalError,  # a server error, as MSAL's own HTTP layer puts it
    ValueError,  # not JSON; an unknown tenant; msal.ManagedIdentityError
    KeyError,  # JSON, but no discovery document
    RuntimeError,  # neither an answer nor an error, say a redirect to nowhere
)

_PASSING: Final = frozenset({"temporarily_unavailable", "server_error", "timeout"})

_REMEDIES: Final = {
    "AADSTS7000215": "CLIENT_SECRET is wrong: set the secret's value, not its id",
    "AADSTS7000222": "CLIENT_SECRET has expired: make a new secret and set it",
    "AADSTS700016": "CLIENT_ID is not an application of TENANT_ID: correct one of the two",
    "AADSTS90002": "TENANT_ID does not exist in this cloud: correct it, or ENTRA_AUTHORITY_HOST",
}
"""Entra error codes that an operator can act on
(learn.microsoft.com/entra/identity-platform/reference-error-codes, read 2026-11-22)."""


class TokenSource(Protocol):
    """Where bearer tokens for Sentinel come from."""

    def token(self) -> str:
        """Return a valid token, from the cache where possible."""
        ...

    def refresh(self, *, refused: str) -> str:
        """Return a token other than `refused`, which the service did not accept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """What was raised, and until which moment of the monotonic clock it is not asked again."""

    error: CredentialError | UnavailableError
    until: float


class SentinelTokens:
    """Tokens by client secret, or by managed identity when there is no secret.

    Safe to use from several threads; one of them asks while the others wait for its answer, be it
    a token or a failure. So nobody waits longer than two calls take, however many wait.
    Raises: `CredentialError` with the remedy; `UnavailableError` when Entra does not answer.
    """

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._client: Any = None
        self._last = ""
        self._failure: _Failure | None = None

    def token(self) -> str:
        with self._lock:
            return self._acquire()

    def refresh(self, *, refused: str) -> str:
        with self._lock:
            if self._last == refused:
                self._client = None
            return self._acquire()

    def _acquire(self) -> str:
        """Ask for a token, unless that has just failed for long."""
        began = self._clock.monotonic()
        if self._failure is not None and began < self._failure.until:
            # A new object for each caller: a shared one would collect all their tracebacks.
            raise type(self._failure.error)(str(self._failure.error))
        try:
            return self._ask()
        except (CredentialError, UnavailableError) as error:
            now = self._clock.monotonic()
            until = now + min(now - began, REMEMBER_FAILURE)
            self._failure = _Failure(error=error, until=until)
            raise

    def _ask(self) -> str:
        try:
            if self._client is None:
                self._client = _make_client(self._settings)
            answer = _ask(self._client, self._settings)
        except _NO_ANSWER as error:
            self._client = None
            raise UnavailableError(
                f"no token: Entra did not answer usably ({type(error).__name__}); check the "
                "network path, ENTRA_AUTHORITY_HOST and TENANT_ID"
            ) from None
        if "access_token" not in answer:
            self._client = None
            raise explain_token_error(answer)
        self._last = str(answer["access_token"])
        return self._last


def explain_token_error(answer: dict[str, Any]) -> CredentialError | UnavailableError:
    """Return the error for MSAL's error answer: `error`, `error_description` (AADSTS…)."""
    error = str(answer.get("error", "unknown"))
    description = str(answer.get("error_description", ""))
    for code, remedy in _REMEDIES.items():
        if f"{code}:" in description or f"{code} " in description:
            return CredentialError(f"no token ({code}): {remedy}")
    code = description.partition(":")[0]
    shown = code if code.startswith("AADSTS") and code.isalnum() else error[:40]
    if error in _PASSING or error.startswith("5"):
        return UnavailableError(f"no token: Entra is unavailable ({shown})")
    return CredentialError(
        f"no token ({shown}): check TENANT_ID, CLIENT_ID and the secret or managed identity"
    )


def storage_credential(storage: StorageSettings) -> TokenCredential | None:
    """Return the credential for the pipeline's storage; None with a connection string.

    Asking it for a token raises `CredentialError` or `UnavailableError`, in seconds. The storage
    clients pass these on at once: what they know as an error of theirs they would try again.
    """
    if storage.connection_string is not None:
        return None
    if storage.sign_in is StorageSignIn.AZURE_CLI:
        return _CliSignIn()
    return _StorageIdentity(storage.client_id)


_CONNECT: Final = 5.0
_ANSWER: Final = 10.0
"""Seconds for the identity endpoint, which is on the instance's own machine. The SDK's own limit is
300 s a try, and it tries four times."""

_CLI: Final = 15
"""Seconds for the Azure CLI, which may have to ask Entra."""

_ELSEWHERE: Final = (
    "on Azure that passes; elsewhere sign in with `az login` and set PipelineStorage__credential "
    "to azurecli"
)

_TRY_LATER: Final = frozenset({404, 408, 410, 429})
"""Statuses that the identity endpoint gives while it starts or is busy, beside 5xx
(learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token,
read 2026-11-28)."""


class _StorageIdentity:
    """The app's managed identity. Safe to use from several threads."""

    def __init__(self, client_id: str | None) -> None:
        self._seen = threading.local()
        self._inner = ManagedIdentityCredential(
            client_id=client_id,
            connection_timeout=_CONNECT,
            read_timeout=_ANSWER,
            retry_total=0,  # a retry would wait for as long as a `Retry-After` says
            proxies={"http": "", "https": ""},  # whatever the environment says
            raw_response_hook=self._note,
        )

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token, from the cache where possible."""
        self._seen.status = 0
        try:
            token: AccessToken = self._inner.get_token(*scopes, **options)
        except ClientAuthenticationError:
            status = self._seen.status
            if status < 400 or status >= 500 or status in _TRY_LATER:  # noqa: PLR2004 - HTTP
                raise UnavailableError(
                    f"storage: the identity endpoint gave no token ({status or 'no answer'}); "
                    f"{_ELSEWHERE}"
                ) from None
            raise CredentialError(
                f"storage: the app's managed identity gave no token ({status}); check that it is "
                "assigned, and PipelineStorage__clientId"
            ) from None
        except AzureError as error:
            raise UnavailableError(
                f"storage: the identity endpoint cannot be reached ({type(error).__name__}); "
                f"{_ELSEWHERE}"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            # No JSON, or JSON of another form: what MSAL trips over when a gateway answers.
            raise UnavailableError(
                f"storage: the identity endpoint gave no usable answer ({self._seen.status}); "
                f"{_ELSEWHERE}"
            ) from None
        return token

    def _note(self, response: Any) -> None:
        self._seen.status = response.http_response.status_code


class _CliSignIn:
    """The person that has signed in with the Azure CLI on this machine."""

    def __init__(self) -> None:
        self._inner = AzureCliCredential(process_timeout=_CLI)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token of the person's."""
        try:
            token: AccessToken = self._inner.get_token(*scopes, **options)
        except ClientAuthenticationError as error:
            if isinstance(error.__cause__, subprocess.TimeoutExpired):
                raise UnavailableError(
                    f"storage: the Azure CLI gave no token within {_CLI} s; check the network"
                ) from None
            raise CredentialError(
                "storage: the Azure CLI gave no token; sign in with `az login`, and choose the "
                "subscription's tenant with `az account set`"
            ) from None
        return token


class _BoundedSession(requests.Session):
    """A session whose calls end: no retries, and a timeout on each.

    MSAL's own session waits as long as a `Retry-After` of the discovery document asks, be it an
    hour, and for a managed identity it sets no timeout.
    """

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", _TIMEOUT)
        return super().request(*args, **kwargs)


def _make_client(settings: Settings) -> Any:
    if settings.client_secret is None:
        return msal.ManagedIdentityClient(
            msal.UserAssignedManagedIdentity(client_id=settings.client_id),
            http_client=_BoundedSession(),
        )
    return msal.ConfidentialClientApplication(
        settings.client_id,
        client_credential=settings.client_secret.reveal(),
        authority=f"{settings.entra_authority_host}/{settings.tenant_id}",
        instance_discovery=False,
        http_client=_BoundedSession(),
    )


def _ask(client: Any, settings: Settings) -> dict[str, Any]:
    answer: Any
    if isinstance(client, msal.ManagedIdentityClient):
        answer = client.acquire_token_for_client(resource=settings.sentinel_audience)
    else:
        scope = f"{settings.sentinel_audience}/.default"
        answer = client.acquire_token_for_client(scopes=[scope])
    return answer if isinstance(answer, dict) else {}
