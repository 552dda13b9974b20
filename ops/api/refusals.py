"""Why a request is not done: each refusal has an HTTP status, and says what to do instead."""

from http import HTTPStatus


class Refusal(Exception):
    """The request is not done; the text says why."""

    status = HTTPStatus.BAD_REQUEST


class BadRequest(Refusal):
    """A parameter is missing, unknown or out of its limits."""


class NotFound(Refusal):
    """There is no such path or thing."""

    status = HTTPStatus.NOT_FOUND


class NotAllowed(Refusal):
    """The path is there, for another method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED


class Forbidden(Refusal):
    """The caller may not do this."""

    status = HTTPStatus.FORBIDDEN


def one_of[T](found: list[T], *, names: list[str], given: str, what: str) -> T:
    """Return the only thing found by the beginning of its name; raises `Refusal`."""
    if not found:
        raise NotFound(f"there is no {what} called {given}")
    exact = [item for item, name in zip(found, names, strict=True) if name == given]
    if len(found) > 1 and len(exact) != 1:
        some = ", ".join(names[:3])
        raise BadRequest(f"{len(found)} begin with {given} ({some} …): give more of the name")
    return exact[0] if exact else found[0]
