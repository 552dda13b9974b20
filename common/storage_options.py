"""How the storage clients connect: time limits, and enough connections for every thread.

The SDK's own pool holds ten connections a client; an instance has more threads than that, and
each connection beyond the pool would be made and thrown away again.
"""

from typing import Any, Final

import requests
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter

from common.transport import PlainSession

CONNECTION_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 30.0
"""Seconds; the SDK retries on its own within a call."""

POOL_SIZE: Final = 64
"""Connections kept a client: more than the threads of any instance here."""


class _ImpatientSession(PlainSession):
    """A session whose answers do not say how long to wait.

    The table client sleeps for as long as a `Retry-After` says, be it an hour; its own waits and
    the later tries of the work itself are bounded.
    """

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        response = super().send(request, **kwargs)
        response.headers.pop("Retry-After", None)
        return response


def client_options() -> dict[str, Any]:
    """Return the keyword arguments that every storage client is made with."""
    session = _ImpatientSession()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=POOL_SIZE))
    return {
        "connection_timeout": CONNECTION_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "permit_redirects": False,
        "transport": RequestsTransport(session=session, session_owner=True),
    }
