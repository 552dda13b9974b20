"""How Azure Storage's errors become the pipeline's: one place for queues and tables.

A conflict is told apart by the caller that asked for it (compare-and-swap, insert); what is left
here is access, throttling and trouble, each with the remedy. Nothing else may pass: what we do not
fit must not use up a message.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)

from common.errors import (
    CredentialError,
    StorageRefusedError,
    ThrottledError,
    UnavailableError,
)

CONFLICTS: Final = frozenset({409, 412})
"""Statuses of an insert of what exists, and of a compare-and-swap that came too late."""

_COPY_ANEW: Final = "copy the connection string in PipelineStorage anew from the storage account"

_REMEDIES: Final = {
    "AuthenticationFailed": (
        f"the key or signature is not this account's, or has ended: {_COPY_ANEW}"
    ),
    "AuthorizationFailure": (
        "the account's network rules refuse this place (its name must lead to the private "
        f"endpoint), or the key is another account's: {_COPY_ANEW}"
    ),
    "KeyBasedAuthenticationNotPermitted": (
        "the account takes no keys: set PipelineStorage__queueServiceUri and so on, not "
        "PipelineStorage"
    ),
}
"""What to do about a refusal that is not a missing role, by the service's code
(learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes, read 2026-11-22)."""

_CODE_IN_BODY = re.compile(r'"code":\s*"(\w+)')


@contextmanager
def storage_errors(what: str, *, role: str) -> Iterator[None]:
    """Translate errors of calls to `what` ("table runs"); `role` is the role it needs."""
    try:
        yield
    except HttpResponseError as error:
        status = error.status_code or 0
        code = error_code(error) or status
        if status in {401, 403}:
            remedy = _REMEDIES.get(str(code), f"give the app's identity the role {role}")
            raise CredentialError(f"{what} refused access ({code}); {remedy}") from error
        if status in {429, 503}:
            raise ThrottledError(f"{what} is throttled ({code})") from error
        if status >= 500 or status == 408:  # noqa: PLR2004 - HTTP status classes
            raise UnavailableError(f"{what} is unavailable ({code})") from error
        if type(error).__name__ == "AzureSigningError":  # each SDK has its own, both private
            # Without the cause: what cannot be read as a key may be shown by its text.
            raise CredentialError(f"{what}: the account key cannot be read; {_COPY_ANEW}") from None
        if isinstance(error, ClientAuthenticationError):  # of azure-identity, before any request
            raise CredentialError(
                f"{what}: the app's managed identity gave no token ({type(error).__name__}); "
                "check that it is assigned, and PipelineStorage__clientId"
            ) from error
        if status < 400:  # noqa: PLR2004 - the answer was cut short or is not the service's
            raise UnavailableError(
                f"{what} gave no usable answer ({type(error).__name__})"
            ) from None
        if status in CONFLICTS or isinstance(error, ResourceNotFoundError):
            raise
        raise StorageRefusedError(
            f"{what} refused the request ({code}): check that the endpoint in the storage "
            "settings is that of this service"
        ) from error
    except AzureError as error:
        # Without the cause: its text may hold the URL, and that a signature (SAS).
        raise UnavailableError(f"{what} cannot be reached ({type(error).__name__})") from None


def error_code(error: HttpResponseError) -> str:
    """Return the service's own code for `error` ("QueueNotFound"); empty when it has none.

    The SDKs set `error_code` on some paths only; the code also stands in a header or the body.
    """
    code = getattr(error, "error_code", None)
    if code is None:
        code = getattr(error.response, "headers", {}).get("x-ms-error-code")
    if code is None:
        found = _CODE_IN_BODY.search(str(error.message))
        code = found[1] if found else ""
    return str(getattr(code, "value", code))
