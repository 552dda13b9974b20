"""Who the pipeline is: tokens for Sentinel, and the credential for its own storage.

MSAL asks, caches and renews; only this module knows it. Each source of tokens has one client. MSAL
repeats a refused answer from an internal cache for a minute or more, so a fresh client is made
after every failure and for every forced refresh. Instance discovery is off: it would call a public
host that a private network need not allow. An identity endpoint or Entra that does not answer
usably is an outage, reported within `TIME_LIMIT`; it is never mistaken for a wrong setting.
"""

import re
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msal
import requests
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential

from common.clock import Clock, SystemClock
from common.errors import CredentialError, UnavailableError
from common.settings import Secret, StorageSettings, StorageSignIn
from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, within

_TIMEOUT: Final = 10.0
"""Seconds for one call with its answer, for each address of a host name."""

TIME_LIMIT: Final = 20.0
"""Seconds for a token: at most two calls, including the discovery of Entra's addresses."""

_CLI_TIMEOUT: Final = 15
"""Seconds for the Azure CLI, which may have to ask Entra."""

_MAX_ANSWER: Final = 1 << 20
"""Bytes of an answer: a token takes a few thousand."""

REMEMBER_FAILURE: Final = 30.0
"""Most seconds for which a failure is remembered. It is remembered for as long as it took, so that
threads that waited get it, too, instead of asking one after the other. A failure that came at once
is not remembered, so a renewed secret works at once."""

_NO_ANSWER: Final = (
    *TRANSPORT_ERRORS,
    msal.exceptions.MsalError,  # a server error, as MSAL's own HTTP layer reports it
    ValueError,  # not JSON; an unknown tenant; msal.ManagedIdentityError
    LookupError,  # JSON, but no discovery document
    AttributeError,  # JSON, but a list or a text
    TypeError,
    RuntimeError,  # neither an answer nor an error
)

_PASSING: Final = frozenset({"temporarily_unavailable", "server_error", "timeout"})

_ERROR: Final = re.compile(r"[A-Za-z0-9_]{1,40}")
"""The beginning of an error's name (RFC 6749 section 5.2) or status; nothing else is shown."""

_CODE: Final = re.compile(r"\bAADSTS(\d{1,9})\b")

_CORRECT_AUDIENCE: Final = (
    "SENTINEL_AUDIENCE or SENTINEL_QUERY_AUDIENCE is not a resource of this cloud: set the one of "
    "your cloud, or unset it"
)
_CORRECT_TENANT: Final = (
    "TENANT_ID does not exist in this cloud: correct it, or ENTRA_AUTHORITY_HOST"
)
_REMEDIES: Final = {
    "7000215": "CLIENT_SECRET is wrong: set the secret's value, not its id",
    "7000222": "CLIENT_SECRET has expired: make a new secret and set it",
    "700016": "CLIENT_ID is not an application of TENANT_ID: correct one of the two",
    "90002": _CORRECT_TENANT,
    "900023": _CORRECT_TENANT,
    "500011": _CORRECT_AUDIENCE,
    "70011": _CORRECT_AUDIENCE,
    "7000112": "the application is disabled: enable its sign-in under Enterprise applications",
    "7000229": "the application has no service principal in the tenant: "
    "create it with `az ad sp create --id CLIENT_ID`",
    "53003": "a Conditional Access policy blocks the application: exclude it from the policy",
}
"""Entra error codes that an operator can act on
(learn.microsoft.com/entra/identity-platform/reference-error-codes, read 2026-11-28)."""

_CHECK_SENTINEL: Final = (
    "check TENANT_ID, CLIENT_ID, ENTRA_AUTHORITY_HOST and the secret or managed identity"
)
_CHECK_IDENTITY: Final = (
    "check that the managed identity is assigned to the app, CLIENT_ID and SENTINEL_AUDIENCE"
)
_CHECK_QUERY: Final = (
    "check TENANT_ID, CLIENT_ID, the secret or managed identity, and SENTINEL_QUERY_AUDIENCE"
)
_CHECK_STORAGE: Final = (
    "check that the managed identity is assigned to the app, and PipelineStorage__clientId; "
    "outside Azure sign in with `az login` and set PipelineStorage__credential to azurecli"
)


class TokenSource(Protocol):
    """A source of bearer tokens for Sentinel."""

    def token(self) -> str:
        """Return a valid token, from the cache where possible."""
        ...

    def refresh(self, *, refused: str) -> str:
        """Return a token other than `refused`, which the service did not accept."""
        ...


class SignIn(Protocol):
    """The settings by which the pipeline signs in, whatever it asks for."""

    @property
    def tenant_id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def client_secret(self) -> Secret | None: ...
    @property
    def entra_authority_host(self) -> str: ...


class SentinelTokens:
    """Tokens by client secret, or by managed identity when there is no secret.

    Safe to use from several threads, see `_Tokens`.
    Raises: `CredentialError` with the remedy; `UnavailableError` when Entra does not answer.
    """

    def __init__(self, settings: SignIn, *, audience: str, clock: Clock) -> None:
        check = _CHECK_SENTINEL if settings.client_secret else _CHECK_IDENTITY
        self._tokens = _tokens_of(settings, audience, clock=clock, check=check)

    def token(self) -> str:
        return self._tokens.ask().token

    def refresh(self, *, refused: str) -> str:
        return self._tokens.ask(refused=refused).token


class QueryTokens:
    """Tokens for the workspace's query API, of the identity that uploads: a `TokenCredential`.

    Safe to use from several threads, see `_Tokens`; raises what `SentinelTokens` raises.
    """

    def __init__(self, settings: SignIn, *, audience: str, clock: Clock) -> None:
        self._tokens = _tokens_of(settings, audience, clock=clock, check=_CHECK_QUERY)
        self._last = self._refused = ""

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return a token for the audience, whatever an SDK asks for."""
        found = self._tokens.ask(refused=self._refused)
        self._last = found.token
        return found

    def refuse_last(self) -> None:
        """Make the next call return a new token, because the last one was not accepted."""
        self._refused = self._last


class StorageIdentity:
    """The managed identity for the storage clients: a `TokenCredential`.

    azure-identity's own has no useful time limit: 300 s a request, and it waits for as long as a
    `Retry-After` says. Safe to use from several threads, see `_Tokens`. Raises: `CredentialError`
    with the remedy; `UnavailableError` if the endpoint does not answer. The storage clients pass
    both on unchanged, and do not retry.
    """

    def __init__(self, client_id: str | None, *, clock: Clock) -> None:
        self._client_id = client_id
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, _Tokens] = {}

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        """Return a token for the one scope; an SDK's other arguments are ignored."""
        (scope,) = scopes
        resource = scope.removesuffix("/.default")
        with self._lock:
            tokens = self._tokens.get(resource)
            if tokens is None:
                tokens = self._tokens[resource] = _Tokens(
                    lambda: _identity_asker(self._client_id, resource, check=_CHECK_STORAGE),
                    clock=self._clock,
                    asked=_ENDPOINT,
                    check=_CHECK_STORAGE,
                )
        return tokens.ask()


class CliSignIn:
    """The person who has signed in with the Azure CLI on this machine."""

    def __init__(self) -> None:
        self._inner = AzureCliCredential(process_timeout=_CLI_TIMEOUT)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token of the person's."""
        try:
            token: AccessToken = self._inner.get_token(*scopes, **options)
        except ClientAuthenticationError as error:
            if isinstance(error.__cause__, subprocess.TimeoutExpired):
                raise UnavailableError(
                    f"storage: the Azure CLI gave no token within {_CLI_TIMEOUT} s; check the "
                    "network"
                ) from None
            raise CredentialError(
                "storage: the Azure CLI gave no token; sign in with `az login`, and choose the "
                "subscription's tenant with `az account set`"
            ) from None
        return token


def storage_credential(storage: StorageSettings) -> TokenCredential | None:
    """Return the credential for the pipeline's storage; None with a connection string.

    Asking it for a token raises `CredentialError` or `UnavailableError`, within seconds. The
    storage clients pass these on at once; an error of their own they would retry.
    """
    if storage.connection_string is not None:
        return None
    if storage.sign_in is StorageSignIn.AZURE_CLI:
        return CliSignIn()
    return StorageIdentity(storage.client_id, clock=SystemClock())


def explain_token_error(
    answer: Mapping[str, Any], *, asked: str = "Entra", check: str = _CHECK_SENTINEL
) -> CredentialError | UnavailableError:
    """Return the error for MSAL's error answer: `error`, `error_description` (AADSTS…)."""
    error = str(answer.get("error", "unknown"))
    code = _CODE.search(str(answer.get("error_description", "")))
    if code is not None and code[1] in _REMEDIES:
        return CredentialError(f"no token ({code[0]}): {_REMEDIES[code[1]]}")
    named = code or _ERROR.match(error)
    shown = "unknown" if named is None else named[0]
    if error in _PASSING or error.startswith("5"):
        return UnavailableError(f"no token: {asked} is unavailable ({shown})")
    return CredentialError(f"no token ({shown}): {check}")


_ENDPOINT: Final = "the managed identity endpoint"

_Asker = Callable[[], Any]
"""Asks MSAL for a token, from its cache where possible; returns MSAL's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """What was raised, and until when (monotonic clock) nothing is asked again."""

    error: CredentialError | UnavailableError
    until: float


class _Tokens:
    """One source of tokens for one resource.

    One thread asks while the others wait for its answer, a token or a failure. So no thread waits
    longer than twice `TIME_LIMIT`, however many wait.
    """

    def __init__(self, make: Callable[[], _Asker], *, clock: Clock, asked: str, check: str) -> None:
        self._make = make
        self._clock = clock
        self._asked = asked
        self._check = check
        self._lock = threading.Lock()
        self._asker: _Asker | None = None
        self._last = ""
        self._failure: _Failure | None = None

    def ask(self, *, refused: str = "") -> AccessToken:
        """Return a token other than `refused`; raises a recent failure again without asking."""
        with self._lock:
            if refused and self._last == refused:
                self._asker = None
            began = self._clock.monotonic()
            if self._failure is not None and began < self._failure.until:
                # A new object for each caller: a shared one would collect all their tracebacks.
                raise type(self._failure.error)(str(self._failure.error))
            try:
                found = self._ask()
            except (CredentialError, UnavailableError) as error:
                now = self._clock.monotonic()
                until = now + min(now - began, REMEMBER_FAILURE)
                self._asker = None
                self._failure = _Failure(error=error, until=until)
                raise
            self._last = found.token
            return found

    def _ask(self) -> AccessToken:
        try:
            if self._asker is None:
                self._asker = self._make()
            with within(TIME_LIMIT):
                answer = self._asker()
            if isinstance(answer, dict) and "access_token" in answer:
                lasts = int(answer.get("expires_in", 0))
                until = int(self._clock.now().timestamp()) + lasts
                return AccessToken(str(answer["access_token"]), until)
        except _NO_ANSWER as error:
            # An unknown tenant has no discovery document: the answer is in MSAL's first error.
            code = _CODE.search(f"{error} {error.__context__}")
            if code is not None and code[1] in _REMEDIES:
                raise explain_token_error({"error_description": code[0]}) from None
            raise UnavailableError(
                f"no token: {self._asked} did not answer usably ({type(error).__name__}); "
                f"check the network path; {self._check}"
            ) from None
        fields = answer if isinstance(answer, dict) else {}
        raise explain_token_error(fields, asked=self._asked, check=self._check)


def _tokens_of(settings: SignIn, audience: str, *, clock: Clock, check: str) -> _Tokens:
    """Return the tokens of the pipeline for a service; `check` is the remedy of a failure."""
    return _Tokens(
        lambda: _asker_of(settings, audience, check=check),
        clock=clock,
        asked="Entra" if settings.client_secret else _ENDPOINT,
        check=check,
    )


def _asker_of(settings: SignIn, audience: str, *, check: str) -> _Asker:
    if settings.client_secret is None:
        return _identity_asker(settings.client_id, audience, check=check)
    client = msal.ConfidentialClientApplication(
        settings.client_id,
        client_credential=settings.client_secret.reveal(),
        authority=f"{settings.entra_authority_host}/{settings.tenant_id}",
        instance_discovery=False,
        http_client=_TokenHttp(PlainSession(), asked="Entra", check=check),
    )
    scopes = [f"{audience}/.default"]
    return lambda: client.acquire_token_for_client(scopes=scopes)


def _identity_asker(client_id: str | None, resource: str, *, check: str) -> _Asker:
    """Return the function that asks for the managed identity `client_id`; None: the app's own."""
    identity = (
        msal.UserAssignedManagedIdentity(client_id=client_id)
        if client_id
        else msal.SystemAssignedManagedIdentity()
    )
    client = msal.ManagedIdentityClient(
        identity, http_client=_TokenHttp(_NearSession(), asked=_ENDPOINT, check=check)
    )
    return lambda: client.acquire_token_for_client(resource=resource)


class _NearSession(PlainSession):
    """A session to the identity endpoint, which is on this machine: never through a proxy."""

    def merge_environment_settings(self, *args: Any, **kwargs: Any) -> Any:
        return {**super().merge_environment_settings(*args, **kwargs), "proxies": {}}


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer in the form that MSAL reads."""

    status_code: int
    text: str
    headers: Mapping[str, str]

    def raise_for_status(self) -> None:
        """Raise for a status that MSAL cannot use."""
        if self.status_code >= 400:  # noqa: PLR2004 - HTTP status classes
            raise requests.HTTPError(f"answered {self.status_code}: {self.text}")


class _TokenHttp:
    """The HTTP client that MSAL calls: each call ends in time, and an outage is our own error.

    MSAL's own client waits as long as a `Retry-After` of the discovery document asks, even an hour;
    it sets no time limit for a managed identity, and mistakes its 429s and 5xxs for a wrong
    resource.
    """

    def __init__(self, session: PlainSession, *, asked: str, check: str) -> None:
        self._session = session
        self._asked = asked
        self._check = check

    def get(self, url: str, **options: Any) -> _Answer:
        return self._call("GET", url, **options)

    def post(self, url: str, **options: Any) -> _Answer:
        return self._call("POST", url, **options)

    def close(self) -> None:
        self._session.close()

    def _call(self, method: str, url: str, **options: Any) -> _Answer:
        options = {**options, "timeout": _TIMEOUT, "stream": True}
        with (
            within(_TIMEOUT),
            self._session.request(method, url, **options) as response,
        ):
            status = response.status_code
            if status in {408, 429} or status >= 500 or 300 <= status < 400:  # noqa: PLR2004 - HTTP status classes
                why = ", a redirect, which is not followed" if status < 400 else ""  # noqa: PLR2004
                raise UnavailableError(
                    f"no token: {self._asked} is unavailable ({status}{why}); if that lasts, "
                    f"{self._check}"
                )
            content = read_body(response, limit=_MAX_ANSWER)
        if content is None:
            raise UnavailableError(f"no token: {self._asked} gave an answer that is too large")
        return _Answer(status, content.decode("utf-8", "replace"), response.headers)
