"""Azure's own table client with its connection left out: what the client itself costs.

It is the client of the ledger as deployed: HTTPS, and the token of an identity, which is at hand.
An adapter at the border of `requests` answers each call at once as the service would, so entities,
policies and requests are made as ever, and nothing waits.
"""

import time
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import orjson
import requests
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from common.ledger.tables import AzureTables, Row
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
    """Stands where the connection is: takes every write, and a read finds one of `rows` or nothing.

    `written` is the last body by address.
    """

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.written: dict[str, str | bytes] = {}
        self._found = {
            f"(PartitionKey='{row.partition}',RowKey='{row.key}')": _as_json(row) for row in rows
        }

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer one call."""
        answer = requests.Response()
        answer.request = request
        answer.url = str(request.url)
        answer.raw = HTTPResponse(b"", preload_content=False)  # azure-core looks at it
        answer.headers.update(_HEADERS)
        if request.method == "GET":
            asked = unquote(answer.url)
            keys = asked[asked.find("(") : asked.find(")") + 1]
            is_query = keys in ("", "()")
            found = b'{"value":[]}' if is_query else self._found.get(keys, _NOT_FOUND)
            is_there = found is not _NOT_FOUND
            answer.status_code = HTTPStatus.OK if is_there else HTTPStatus.NOT_FOUND
            answer.headers["Content-Type"] = "application/json;odata=fullmetadata"
            answer._content = found
        else:
            self.written[answer.url] = request.body or b""
            answer.status_code = HTTPStatus.NO_CONTENT
            answer.headers["ETag"] = "W/\"datetime'2026-11-22T06%3A00%3A00.0000000Z'\""
            answer._content = b""
        return answer

    def close(self) -> None:
        """Nothing is open."""


_NOT_FOUND: Final = b'{"odata.error":{"code":"ResourceNotFound","message":{"value":"none"}}}'


def _as_json(row: Row) -> bytes:
    """Return a row as the service sends it."""
    entity: dict[str, object] = {
        "odata.etag": "W/\"datetime'2026-11-22T06%3A00%3A00.0000000Z'\"",
        "PartitionKey": row.partition,
        "RowKey": row.key,
        "Timestamp": "2026-11-22T06:00:00.0000000Z",
        "Timestamp@odata.type": "Edm.DateTime",
    }
    for name, value in row.data.items():
        match value:
            case bytes():
                entity |= {name: b64encode(value).decode(), f"{name}@odata.type": "Edm.Binary"}
            case datetime():
                text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
                entity |= {name: text, f"{name}@odata.type": "Edm.DateTime"}
            case _:
                entity[name] = value
    return orjson.dumps(entity)


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
