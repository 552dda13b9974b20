"""Where indicators are uploaded to, and as whose (learn.microsoft.com, stix-objects-api)."""

from typing import Final

API_VERSION: Final = "2024-02-01-preview"

SOURCE_SYSTEM: Final = "Lumen"
"""Must stay exactly this: published analytic rules filter on `SourceSystem == 'Lumen'`."""


def upload_url(base_url: str, workspace_id: str) -> str:
    """Return the address that a workspace takes uploads at."""
    return (
        f"{base_url}/workspaces/{workspace_id}/threat-intelligence-stix-objects:upload"
        f"?api-version={API_VERSION}"
    )


def upload_body(objects: bytes) -> bytes:
    """Return the body of an upload of a JSON array of indicators, which stays as it is."""
    return b'{"sourcesystem":"%s","stixobjects":%s}' % (SOURCE_SYSTEM.encode(), objects)
