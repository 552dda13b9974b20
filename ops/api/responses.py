"""The answer of one call, before it becomes one of HTTP. Small: each cold start imports it."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer: plain JSON values, or CSV."""

    status: HTTPStatus
    body: dict[str, Any] | str
