"""Azure's own table client with its connection left out: what the client itself costs.

It is the client of the ledger as deployed: HTTPS, and the token of an identity, which is at hand.
An adapter at the border of `requests` answers each call at once as the service would, so entities,
policies and requests are made as ever, and nothing waits.
"""

import time
from http import HTTPStatus
from typing import Any, Final

import requests
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from common.ledger.tables import AzureTables
from common.settings import StorageSettings

_ENDPOINT: Final = "https://account.table.core.windows.net"
_TOKEN: Final = "a-token-as-long-as-they-are" * 50
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Server": "Windows-Azure-Table/1.0 Microsoft-HTTPAPI/2.0",
    "x-ms-request-id": "00000000-0002-0000-0000-000000000000",
    "x-ms-version": "2019-02-02",
    "Date": "Sun, 22 Nov 2026 06:00:00 GMT",
}


class TableAcceptor(BaseAdapter):
    """Stands where the connection is: takes every write, and every query finds nothing.

    `written` is the last body by address.
    """

    def __init__(self) -> None:
        self.written: dict[str, str | bytes] = {}

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer one call."""
        answer = requests.Response()
        answer.request = request
        answer.url = str(request.url)
        answer.raw = HTTPResponse(b"", preload_content=False)  # azure-core looks at it
        answer.headers.update(_HEADERS)
        if request.method == "GET":
            answer.status_code = HTTPStatus.OK
            answer.headers["Content-Type"] = "application/json;odata=minimalmetadata"
            answer._content = b'{"value":[]}'
        else:
            self.written[answer.url] = request.body or b""
            answer.status_code = HTTPStatus.NO_CONTENT
            answer.headers["ETag"] = "W/\"datetime'2026-11-22T06%3A00%3A00.0000000Z'\""
            answer._content = b""
        return answer

    def close(self) -> None:
        """Nothing is open."""


class _Identity:
    def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        return AccessToken(_TOKEN, int(time.time()) + 24 * 3600)


def tables_without_connection(acceptor: TableAcceptor) -> AzureTables:
    """Return the tables of an account that `acceptor` stands for."""
    tables = AzureTables(StorageSettings(table_endpoint=_ENDPOINT), credential=_Identity())
    transport = tables._service._client._client._pipeline._transport
    assert isinstance(transport, RequestsTransport)
    assert transport.session is not None
    transport.session.mount("https://", acceptor)
    return tables
