"""The workspace and the sign-in as operators' tools use them, made from the few settings they take.

So each can be tried while other settings are wrong; reading only the ledger needs none of them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from common.clock import Clock
from common.settings import Secret, read_setting
from common.workspace import AzureWorkspace, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInSettings:
    """Who signs in, and where."""

    tenant_id: str
    client_id: str
    client_secret: Secret | None
    entra_authority_host: str


def read_sign_in_settings(environ: Mapping[str, str]) -> SignInSettings:
    """Return the settings of the sign-in; raises `SettingsError`."""
    return SignInSettings(
        tenant_id=read_setting("TENANT_ID", environ),
        client_id=read_setting("CLIENT_ID", environ),
        client_secret=read_setting("CLIENT_SECRET", environ),
        entra_authority_host=read_setting("ENTRA_AUTHORITY_HOST", environ),
    )


def open_workspace(clock: Clock, environ: Mapping[str, str] | None = None) -> Workspace:
    """Return the workspace that the environment names; raises `SettingsError`."""
    environ = os.environ if environ is None else environ
    return AzureWorkspace(
        read_sign_in_settings(environ),
        workspace_id=read_setting("WORKSPACE_ID", environ),
        url=read_setting("SENTINEL_QUERY_URL", environ),
        audience=read_setting("SENTINEL_QUERY_AUDIENCE", environ),
        clock=clock,
    )
