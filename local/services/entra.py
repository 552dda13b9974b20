"""A simulated Microsoft Entra ID: client credentials, and the managed identity of App Service.

Promise: MSAL and azure-identity get tokens from it without knowing the difference (MSAL with
``instance_discovery=False``), its errors carry the AADSTS codes that operators meet, and
:meth:`Entra.token_is_valid` is what a resource asks about the tokens it is shown.
Not obvious: a token for another audience than the expected one is still issued, as Entra
would, and turns out invalid at the resource. The clients cache tokens by the wall clock, whatever
the simulator's clock says.
It must not keep a token in readable form: only hashes are stored, nothing is logged.
"""

import hashlib
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from local.services.http_simulator import HttpSimulator, Request, Response, json_response
from local.services.tls import LocalCertificates

MANAGED_IDENTITY_PATH = "/msi/token"
MANAGED_IDENTITY_API_VERSION = "2019-08-01"
DEFAULT_AUDIENCE = "https://management.azure.com"

_DEFAULT_SCOPE = "/.default"


@dataclass(frozen=True, slots=True)
class _Issued:
    identity: str
    audience: str
    until: float


class Entra(HttpSimulator):
    """One tenant with one application, and one managed identity."""

    def __init__(
        self,
        *,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        certificates: LocalCertificates,
        token_lifetime: int = 3600,
        audience: str = DEFAULT_AUDIENCE,
        managed_identity_client_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``token_lifetime`` is in seconds; ``audience`` is the resource whose tokens are good.

        The managed identity goes by the application's ``client_id`` unless it has its own.
        """
        super().__init__(certificates=certificates, clock=clock)
        self.secret_expired = False
        """Set it, and the secret is refused as one past its date (AADSTS7000222)."""
        self.token_lifetime = token_lifetime
        self.scopes: list[str] = []
        """What tokens were asked for, in order, refused requests included."""
        self.tokens_issued = 0
        self._tenant_id = tenant_id
        self._client_id = client_id
        self._client_secret = client_secret
        self._audience = audience.rstrip("/")
        self._managed_identity = managed_identity_client_id or client_id
        self._identity_header = secrets.token_hex(16)
        self._issued: dict[bytes, _Issued] = {}

    @property
    def authority(self) -> str:
        """What MSAL is given as authority."""
        return f"{self.url}/{self._tenant_id}"

    def managed_identity_environment(self) -> dict[str, str]:
        """The variables that name a process's identity endpoint, as in App Service."""
        return {
            "IDENTITY_ENDPOINT": f"{self.url}{MANAGED_IDENTITY_PATH}",
            "IDENTITY_HEADER": self._identity_header,
        }

    def set_secret(self, client_secret: str) -> None:
        """Change the application's secret; the new one has not expired."""
        with self._changed:
            self._client_secret = client_secret
            self.secret_expired = False

    def expire_tokens(self) -> None:
        """Let every token issued so far be refused, though its holder thinks it good."""
        with self._changed:
            self._issued.clear()

    def token_is_valid(self, token: str, *, audience: str | None = None) -> str | None:
        """The client id of whom this token was issued to; ``None`` if it is not good (any more).

        Good for ``audience``, or for that of the tenant when it is ``None``.
        """
        with self._changed:
            issued = self._issued.get(_digest(token))
            if issued is None or issued.until <= self._clock():
                return None
            return issued.identity if issued.audience == (audience or self._audience) else None

    def answer(self, request: Request) -> Response:
        """See :class:`HttpSimulator`."""
        if request.path == MANAGED_IDENTITY_PATH:
            return self._managed_identity_token(request)
        tenant, _, rest = request.path.removeprefix("/").partition("/")
        if rest not in {"v2.0/.well-known/openid-configuration", "oauth2/v2.0/token"}:
            return json_response({"error": "not_found"}, status=404)
        if tenant.lower() != self._tenant_id.lower():
            return _refusal("invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found.")
        if rest == "oauth2/v2.0/token" and request.method == "POST":
            return self._client_credentials_token(request)
        return json_response(self._discovery_document())

    def _discovery_document(self) -> dict[str, object]:
        base = f"{self.authority}/oauth2/v2.0"
        return {
            "issuer": f"{self.authority}/v2.0",
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "device_authorization_endpoint": f"{base}/devicecode",
            "jwks_uri": f"{self.authority}/discovery/v2.0/keys",
            "response_types_supported": ["code", "id_token", "token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def _client_credentials_token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        scope, client = form.get("scope", ""), form.get("client_id", "")
        with self._changed:
            self.scopes.append(scope)
            if form.get("grant_type") != "client_credentials":
                return _refusal("unsupported_grant_type", "AADSTS70003: The grant is unsupported.")
            if client != self._client_id:
                description = (
                    f"AADSTS700016: Application '{client}' was not found in the directory."
                )
                return _refusal("unauthorized_client", description)
            if form.get("client_secret") != self._client_secret:
                description = "AADSTS7000215: Invalid client secret provided."
                return _refusal("invalid_client", description, status=401)
            if self.secret_expired:
                description = "AADSTS7000222: The provided client secret keys are expired."
                return _refusal("invalid_client", description, status=401)
            if not scope.endswith(_DEFAULT_SCOPE):
                description = "AADSTS1002012: The scope must end with /.default."
                return _refusal("invalid_scope", description)
            token = self._issue(client, scope.removesuffix(_DEFAULT_SCOPE))
        lifetime = self.token_lifetime
        return json_response(
            {
                "token_type": "Bearer",
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                "access_token": token,
            }
        )

    def _managed_identity_token(self, request: Request) -> Response:
        if request.headers.get("x-identity-header") != self._identity_header:
            return _identity_problem(401, "The X-IDENTITY-HEADER is missing or wrong.")
        query = request.query
        if query.get("api-version") != MANAGED_IDENTITY_API_VERSION:
            return _identity_problem(400, "The api-version is not supported.")
        resource = query.get("resource", "")
        if not resource:
            return _identity_problem(400, "The resource is missing.")
        if query.get("client_id", self._managed_identity) != self._managed_identity:
            return _identity_problem(
                400, "No User Assigned or Delegated Managed Identity found for specified ClientId."
            )
        with self._changed:
            self.scopes.append(resource)
            token = self._issue(self._managed_identity, resource)
        return json_response(
            {
                "access_token": token,
                "client_id": self._managed_identity,
                "expires_on": str(int(time.time()) + self.token_lifetime),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    def _issue(self, identity: str, audience: str) -> str:
        token = secrets.token_urlsafe(48)
        until = self._clock() + self.token_lifetime
        self._issued[_digest(token)] = _Issued(identity, audience.rstrip("/"), until)
        self.tokens_issued += 1
        return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refusal(error: str, description: str, *, status: int = 400) -> Response:
    code = int(description.removeprefix("AADSTS").partition(":")[0])
    return json_response(
        {
            "error": error,
            "error_description": description,
            "error_codes": [code],
            "trace_id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
        },
        status=status,
    )


def _identity_problem(status: int, message: str) -> Response:
    return json_response({"statusCode": status, "message": message}, status=status)
