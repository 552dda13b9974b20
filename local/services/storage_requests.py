"""Names for the storage requests that pass through the proxy: what is counted and matched.

Pure. Paths are Azurite's, `/<account>/<resource>`; operation names follow the REST references of
Queue and Table Storage in snake case, such as `put_message`, `get_messages` or `query_entities`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

type Service = Literal["queue", "table"]

_QUEUE_OPERATIONS = (
    ("POST", r"/[^/]+/messages", "put_message"),
    ("GET", r"/[^/]+/messages\?.*peekonly=true.*", "peek_messages"),
    ("GET", r"/[^/]+/messages", "get_messages"),
    ("DELETE", r"/[^/]+/messages", "clear_messages"),
    ("PUT", r"/[^/]+/messages/.+", "update_message"),
    ("DELETE", r"/[^/]+/messages/.+", "delete_message"),
    ("PUT", r"/[^/]+", "create_queue"),
    ("DELETE", r"/[^/]+", "delete_queue"),
    ("GET|HEAD", r"/[^/]+\?.*comp=metadata.*", "get_queue_properties"),
)
_TABLE_OPERATIONS = (
    ("POST", r"/\$batch", "batch"),
    ("POST", r"/Tables", "create_table"),
    ("GET", r"/Tables", "query_tables"),
    ("DELETE", r"/Tables\(.+\)", "delete_table"),
    ("POST", r"/[^/(]+", "insert_entity"),
    ("GET", r"/[^/(]+(\(\))?", "query_entities"),
    ("GET", r"/[^/(]+\(.+\)", "get_entity"),
    ("PUT", r"/[^/(]+\(.+\)", "put_entity"),
    ("PATCH|MERGE", r"/[^/(]+\(.+\)", "merge_entity"),
    ("DELETE", r"/[^/(]+\(.+\)", "delete_entity"),
)
_OPERATIONS = {"queue": _QUEUE_OPERATIONS, "table": _TABLE_OPERATIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageRequest:
    """One request as the client sent it; `target` is its path with the query."""

    service: Service
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """The REST operation's name, or `other`."""
        _, _, rest = self.target.lstrip("/").partition("/")
        path, query = "/" + urlsplit("/" + rest).path.lstrip("/"), urlsplit(self.target).query
        for methods, pattern, name in _OPERATIONS[self.service]:
            subject = f"{path}?{query}" if r"\?" in pattern else path
            if self.method in methods.split("|") and re.fullmatch(pattern, subject):
                return name
        return "other"


def error_body(service: Service, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of an error as Azure words it: XML for queues, JSON for tables."""
    if service == "queue":
        text = (
            '<?xml version="1.0" encoding="utf-8"?>'
            f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
        return "application/xml", text.encode()
    document = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": message}}}
    return "application/json;odata=minimalmetadata", json.dumps(document).encode()
