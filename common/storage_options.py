"""How the storage clients connect: time limits, and enough connections for every thread.

The SDK's own pool holds ten connections a client; an instance has more threads than that, and
each connection beyond the pool would be made and thrown away again.
"""

from typing import Any, Final

import requests
from azure.core.pipeline.transport import RequestsTransport

from common.storage_errors import NotStorageError, TooLate, note_answer
from common.transport import PlainSession, time_left

CONNECTION_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 8.0
"""Seconds without a byte; the SDK tries again on its own within a call, and
`storage_errors.CALL_WITHIN` bounds all tries together. The table service itself ends a query after
5 s and goes on with the next page
(learn.microsoft.com/rest/api/storageservices/query-timeout-and-pagination, read 2026-11-28)."""

POOL_SIZE: Final = 64
"""Connections kept a client: more than the threads of any instance here."""

_REQUEST_ID: Final = "x-ms-request-id"
"""Every answer of the storage has it
(learn.microsoft.com/rest/api/storageservices/get-messages and others, read 2026-11-22)."""


class _ImpatientSession(PlainSession):
    """A session that hides `Retry-After`, and whose calls end in time.

    The table client sleeps for as long as a `Retry-After` says, even an hour; its own waits and
    the later tries of the work itself are bounded. A call that has used up its time is not tried
    again by the SDK: `TooLate` is no error that it knows. Nor is `NotStorageError`: the clients
    would take the page of a proxy, answered with 200, for a queue or a table without content.
    """

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException:
            if time_left() <= 0:
                raise TooLate from None
            raise
        note_answer()
        if response.ok and _REQUEST_ID not in response.headers:
            response.close()
            raise NotStorageError
        response.headers.pop("Retry-After", None)
        return response


def client_options() -> dict[str, Any]:
    """Return the keyword arguments for every storage client.

    The time limits belong to the transport: those of a client that is given one do nothing.
    """
    transport = RequestsTransport(
        session=_ImpatientSession(connections=POOL_SIZE),
        session_owner=True,
        connection_timeout=CONNECTION_TIMEOUT,
        read_timeout=READ_TIMEOUT,
    )
    return {"permit_redirects": False, "transport": transport}
