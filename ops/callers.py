"""Who calls the operators' functions, and what they may do.

With function keys the host has already checked the key: the key of `read` allows reading, that of
`act` acting. With Entra sign-in App Service has checked a token and names its holder in a header,
which callers cannot send then. Without sign-in any caller can send that header, so it is ignored.
"""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote

from common.errors import SettingsError
from common.settings import read_setting
from common.text import cut

SETTING: Final = "OPERATOR_CLIENT_ID"

_PLATFORM: Final = "WEBSITE_AUTH_ENABLED"
"""App Service sets it only if its authentication is on
(learn.microsoft.com/azure/app-service/reference-app-settings, read 2026-11-29)."""

PRINCIPAL: Final = "x-ms-client-principal"
"""JSON in base64: the claims of the token, as a list of `typ` and `val`, and in `role_typ` the name
of those that are roles. App Service removes it from what callers send
(learn.microsoft.com/azure/app-service/configure-authentication-user-identities,
read 2026-11-29)."""

_ROLES: Final = "roles"
"""The claim of an Entra token that has the roles of a registration
(learn.microsoft.com/entra/identity-platform/access-token-claims-reference, read 2026-11-29)."""

_NAMES: Final = (
    "preferred_username",
    "upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    "name",
    "oid",
    "http://schemas.microsoft.com/identity/claims/objectidentifier",
    "azp",
    "appid",
)
"""Claims that name a person or a program, the best first; App Service maps some to long names."""

OPERATOR_HEADER: Final = "x-operator"
"""With a key: the name that the operator's program sends, percent-encoded. It proves nothing."""

UNNAMED: Final = "a key"


class Role(StrEnum):
    """The roles of the Entra registration."""

    READER = "reader"
    OPERATOR = "operator"


class SignIn(StrEnum):
    """How callers show who they are."""

    KEYS = "keys"
    ENTRA = "entra"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: a name for the records, and whether they may read and act."""

    name: str
    may_read: bool = True
    may_act: bool = True


def asks_for_keys(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether the host asks for keys; called at import, so it never raises."""
    environ = os.environ if environ is None else environ
    return not environ.get(SETTING, "").strip()


def read_sign_in(environ: Mapping[str, str] | None = None) -> SignIn:
    """Return how callers sign in.

    Raises `SettingsError` if the host asks for no key and App Service checks no token: then every
    call is refused, because any caller could claim to be an operator.
    """
    environ = os.environ if environ is None else environ
    if asks_for_keys(environ):
        return SignIn.KEYS
    read_setting(SETTING, environ)
    if environ.get(_PLATFORM, "").strip().lower() != "true":
        fault = (
            f"{SETTING}: is set, but the app's authentication by App Service is off; deploy the "
            "template with operatorClientId, or remove the setting to use function keys"
        )
        raise SettingsError([fault])
    return SignIn.ENTRA


def caller_of(headers: Mapping[str, str], *, sign_in: SignIn, may_act: bool) -> Caller | None:
    """Return who calls, or None if no one has signed in. Pure.

    `headers` have names in lower case. `may_act`: with a key, whether it is the acting one.
    """
    if sign_in is SignIn.KEYS:
        given = cut(unquote(headers.get(OPERATOR_HEADER, "")))
        return Caller(name=given or UNNAMED, may_act=may_act)
    claims = _claims(headers.get(PRINCIPAL, ""))
    if claims is None:
        return None
    roles = claims.get(_ROLES, [])
    may_act = Role.OPERATOR in roles
    names = (value for claim in _NAMES for value in claims.get(claim, []) if value.strip())
    return Caller(
        name=cut(next(names, "somebody without a name")),
        may_read=may_act or Role.READER in roles,
        may_act=may_act,
    )


def _claims(principal: str) -> dict[str, list[str]] | None:
    """Return the values of each claim; None for a header that is missing or cannot be read."""
    try:
        found: Any = json.loads(base64.b64decode(principal, validate=True))
        listed = [(str(claim["typ"]), str(claim["val"])) for claim in found["claims"]]
        role_type = found.get("role_typ")
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    claims: dict[str, list[str]] = {}
    for name, value in listed:
        claims.setdefault(_ROLES if name == role_type else name, []).append(value)
    return claims
