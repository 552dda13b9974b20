"""What every command needs of the API: one call, whatever way it goes.

An answer is what `ops.api` returns: plain JSON values. Both ways raise the same failures in the
same words, so that a command cannot tell them apart.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from ops.cli.ending import BAD_NEWS, WRONG, Failure, MissingError

type Answer = dict[str, Any]

_NOT_DONE: Final = frozenset({HTTPStatus.CONFLICT})
"""The request was right, and is worth another try."""


class Transport(Protocol):
    """A way to the operators' API."""

    @property
    def seen_from(self) -> str:
        """Whose settings and identity an answer is about, in words."""
        ...

    def call(self, method: str, path: str, params: Mapping[str, Any]) -> Answer:
        """Return the answer to one request; raises `Failure`."""
        ...


def read(transport: Transport, path: str, **params: object) -> Answer:
    """Ask for something. Parameters that are None or empty are left out."""
    return transport.call("GET", f"read/{path}", _given(params))


def act(transport: Transport, path: str, **params: object) -> Answer:
    """Do something. Parameters that are None or empty are left out."""
    return transport.call("POST", f"act/{path}", _given(params))


def accept(status: int, body: object) -> Answer:
    """Return the body of a good answer; raises `Failure` with the error that another one names."""
    if status == HTTPStatus.OK and isinstance(body, dict):
        return body
    error = body.get("error") if isinstance(body, dict) else None
    text = str(error) if error else f"the answer is {status}, without an error of the API in it"
    if status == HTTPStatus.NOT_FOUND and error:
        raise MissingError(text)
    raise Failure(text, status=BAD_NEWS if status in _NOT_DONE else WRONG)


def _given(params: Mapping[str, object]) -> dict[str, Any]:
    return {
        _camel(name): value for name, value in params.items() if value not in (None, "", (), [])
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
