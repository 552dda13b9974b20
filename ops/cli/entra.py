"""Signing in with Entra, where the app asks for roles instead of a key.

The Azure CLI's sign-in is used where there is one, else a browser, else a code for another device.
The app's registration must let these public clients ask for its scope (docs/deploy.md#with-entra).
"""

import os
import sys
from collections.abc import Mapping
from typing import Final

from ops.cli.ending import Failure

ENTRA_WITHIN: Final = 30
"""Seconds for the Azure CLI."""


class EntraProof:
    """Asks for a token of the app with this client id, as the credential's cache allows."""

    def __init__(self, client_id: str) -> None:
        self._scope = f"api://{client_id}/.default"
        self._credential: object = None

    def __call__(self) -> Mapping[str, str]:
        """Return the header that proves who calls; raises `Failure`."""
        from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - slow
        from azure.identity import (  # noqa: PLC0415
            AzureCliCredential,
            ChainedTokenCredential,
            DeviceCodeCredential,
            InteractiveBrowserCredential,
        )

        if not isinstance(self._credential, ChainedTokenCredential):
            person = InteractiveBrowserCredential() if _has_screen() else DeviceCodeCredential()
            self._credential = ChainedTokenCredential(
                AzureCliCredential(process_timeout=ENTRA_WITHIN), person
            )
        try:
            token = self._credential.get_token(self._scope).token
        except ClientAuthenticationError as error:
            first = str(error).strip().splitlines()[0][:300]
            raise Failure(f"Entra gives no token for {self._scope}: {first}") from error
        return {"Authorization": f"Bearer {token}"}


def _has_screen() -> bool:
    """Whether a browser can be opened here."""
    if sys.platform in {"win32", "darwin"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
