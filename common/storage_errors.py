"""How Azure Storage's errors become the pipeline's: one place for queues and tables.

A conflict is told apart by the caller that asked for it (compare-and-swap, insert); what is left
here is access, throttling and trouble, each with the remedy. Anything else is a bug of ours and
passes unchanged.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from common.errors import CredentialError, ThrottledError, UnavailableError

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
            raise CredentialError(
                f"{what} refused access ({code}); give the app's identity the role {role}"
            ) from error
        if status in {429, 503}:
            raise ThrottledError(f"{what} is throttled ({code})") from error
        if status >= 500 or status == 408:  # noqa: PLR2004 - HTTP status classes
            raise UnavailableError(f"{what} is unavailable ({code})") from error
        if isinstance(error, ClientAuthenticationError):  # of azure-identity, before any request
            raise CredentialError(
                f"{what}: the app's managed identity gave no token ({type(error).__name__}); "
                "check that it is assigned, and PipelineStorage__clientId"
            ) from error
        if status < 400:  # noqa: PLR2004 - the answer was cut short or is not the service's
            raise UnavailableError(
                f"{what} gave no usable answer ({type(error).__name__})"
            ) from error
        raise
    except AzureError as error:
        raise UnavailableError(f"{what} cannot be reached ({type(error).__name__})") from error


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
