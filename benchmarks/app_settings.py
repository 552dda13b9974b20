"""The settings with which the app runs in a process of its own, where nothing answers.

Nothing here is a secret, and no name leads anywhere: a benchmark puts something of its own in the
place of each service, or does not get as far as to call it.
"""

from typing import Final

APP_SETTINGS: Final = {
    "LUMEN_API_KEY": "a-key",
    "LUMEN_BASE_URL": "https://lumen.invalid",
    "WORKSPACE_ID": "00000000-0000-4000-8000-000000000001",
    "TENANT_ID": "00000000-0000-4000-8000-000000000002",
    "CLIENT_ID": "00000000-0000-4000-8000-000000000003",
    "CLIENT_SECRET": "a-secret",
}
"""Without the storage, which each benchmark has of its own."""
