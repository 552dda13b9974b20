"""The workspace as operators' tools ask it, made from the few settings that it takes.

So it can be asked while other settings are wrong; reading only the ledger needs none of them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from common.clock import Clock
from common.settings import Secret, read_setting
from common.workspace import AzureWorkspace, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySettings:
    """Who asks which workspace, and where."""

    workspace_id: str
    tenant_id: str
    client_id: str
    client_secret: Secret | None
    entra_authority_host: str
    sentinel_query_url: str
    sentinel_query_audience: str


def open_workspace(clock: Clock, environ: Mapping[str, str] | None = None) -> Workspace:
    """Return the workspace that the environment names; raises `SettingsError`."""
    environ = os.environ if environ is None else environ
    return AzureWorkspace(
        QuerySettings(
            workspace_id=read_setting("WORKSPACE_ID", environ),
            tenant_id=read_setting("TENANT_ID", environ),
            client_id=read_setting("CLIENT_ID", environ),
            client_secret=read_setting("CLIENT_SECRET", environ),
            entra_authority_host=read_setting("ENTRA_AUTHORITY_HOST", environ),
            sentinel_query_url=read_setting("SENTINEL_QUERY_URL", environ),
            sentinel_query_audience=read_setting("SENTINEL_QUERY_AUDIENCE", environ),
        ),
        clock=clock,
    )
