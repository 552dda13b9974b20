"""Who calls: keys are the host's, Entra's principal counts only where App Service checks tokens."""

import base64
import json

import pytest

from common.errors import SettingsError
from ops.callers import Caller, SignIn, asks_for_keys, caller_of, read_sign_in

GUID = "33333333-3333-3333-3333-333333333333"
LONG_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


def principal(*claims: tuple[str, str], role_typ: str = LONG_ROLE) -> dict[str, str]:
    """Return the header that App Service sends for a token with these claims."""
    listed = [{"typ": name, "val": value} for name, value in claims]
    text = json.dumps({"auth_typ": "aad", "claims": listed, "role_typ": role_typ})
    return {"x-ms-client-principal": base64.b64encode(text.encode()).decode()}


ANA = ("preferred_username", "ana@example.com")


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        (principal(ANA), Caller(name=ANA[1], may_read=False, may_act=False)),
        (principal(ANA, ("roles", "reader")), Caller(name=ANA[1], may_act=False)),
        (principal(ANA, ("roles", "operator")), Caller(name=ANA[1])),
        (principal(ANA, (LONG_ROLE, "operator")), Caller(name=ANA[1])),
        (principal(("roles", "reader"), ("roles", "operator"), ANA), Caller(name=ANA[1])),
        (principal(ANA, ("roles", "Operator")), Caller(name=ANA[1], may_read=False, may_act=False)),
        (
            principal(ANA, ("groups", "operator")),
            Caller(name=ANA[1], may_read=False, may_act=False),
        ),
        (principal(("name", "Ana"), ("upn", "ana@x"), ("roles", "operator")), Caller(name="ana@x")),
        (principal(("azp", GUID), ("roles", "operator")), Caller(name=GUID)),
        (principal(("roles", "operator")), Caller(name="somebody without a name")),
        (
            principal(ANA) | {"x-operator": "eve"},
            Caller(name=ANA[1], may_read=False, may_act=False),
        ),
        ({}, None),
        ({"x-operator": "eve"}, None),
        ({"x-ms-client-principal": "rubbish"}, None),
        ({"x-ms-client-principal": base64.b64encode(b"[]").decode()}, None),
        ({"x-ms-client-principal": base64.b64encode(b'{"claims":[7]}').decode()}, None),
        ({"x-ms-client-principal": base64.b64encode(b'{"claims":{"a":1}}').decode()}, None),
    ],
)
def test_with_entra_the_roles_of_the_token_decide(
    headers: dict[str, str], caller: Caller | None
) -> None:
    """A person without a role may do nothing; without a principal there is nobody at all."""
    assert caller_of(headers, sign_in=SignIn.ENTRA, may_act=True) == caller


@pytest.mark.parametrize("may_act", [True, False])
@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, "a key"),
        ({"x-operator": "Ana"}, "Ana"),
        ({"x-operator": "J%C3%B6rg%0A Maier"}, "J\u00f6rg Maier"),
        ({"x-operator": " \t"}, "a key"),
        (principal(ANA, ("roles", "operator")), "a key"),
        (principal(ANA, ("roles", "operator")) | {"x-operator": "Ana"}, "Ana"),
    ],
)
def test_with_keys_a_principal_is_not_looked_at(
    headers: dict[str, str], name: str, may_act: bool
) -> None:
    """Anybody can send that header; the key alone says what its holder may do."""
    found = caller_of(headers, sign_in=SignIn.KEYS, may_act=may_act)
    assert found == Caller(name=name, may_act=may_act)


@pytest.mark.parametrize(
    ("environ", "sign_in"),
    [
        ({}, SignIn.KEYS),
        ({"WEBSITE_AUTH_ENABLED": "True"}, SignIn.KEYS),
        ({"OPERATOR_CLIENT_ID": " "}, SignIn.KEYS),
        ({"OPERATOR_CLIENT_ID": GUID, "WEBSITE_AUTH_ENABLED": "True"}, SignIn.ENTRA),
        ({"OPERATOR_CLIENT_ID": GUID}, None),
        ({"OPERATOR_CLIENT_ID": GUID, "WEBSITE_AUTH_ENABLED": "False"}, None),
        ({"OPERATOR_CLIENT_ID": "ops", "WEBSITE_AUTH_ENABLED": "True"}, None),
        ({"OPERATOR_CLIENT_ID": "@Microsoft.KeyVault(x)", "WEBSITE_AUTH_ENABLED": "True"}, None),
    ],
)
def test_a_setting_alone_opens_nothing(environ: dict[str, str], sign_in: SignIn | None) -> None:
    """The host asks for no key wherever the setting is there, so all else must be right, too."""
    assert asks_for_keys(environ) is (sign_in is SignIn.KEYS)
    if sign_in is not None:
        assert read_sign_in(environ) is sign_in
        return
    with pytest.raises(SettingsError, match="OPERATOR_CLIENT_ID"):
        read_sign_in(environ)
