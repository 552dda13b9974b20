"""The HTTP functions for operators: `read` and `act` need a key each, `health` needs none.

Importing needs no setting, and these functions need no other settings than the storage's and the
request rate: they work while the rest is misconfigured, and say what is wrong with these.
"""

import json
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import azure.functions as func

from common.clock import SystemClock
from ops.api.acting import Caller
from ops.api.answering import Response, answer
from ops.health_word import HealthWord, status_of
from ops.toolbox import Toolbox, open_toolbox

MAX_BODY: Final = 1024 * 1024
"""Largest body of an act, in bytes: a thousand names."""

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

blueprint = func.Blueprint()


@blueprint.route(
    route="read/{*path}",
    methods=["GET"],
    auth_level=func.AuthLevel.FUNCTION,
    trigger_arg_name="request",
)
def read(request: func.HttpRequest) -> func.HttpResponse:
    """Answer what an operator wants to know: `GET /api/read/…`."""
    return _respond(
        answer(
            _toolbox,
            method="GET",
            path=_path(request, "read"),
            given=_query(request),
            caller=_caller(request, may_act=False),
            wants_csv="text/csv" in request.headers.get("accept", ""),
        )
    )


@blueprint.route(
    route="act/{*path}",
    methods=["GET", "POST"],
    auth_level=func.AuthLevel.FUNCTION,
    trigger_arg_name="request",
)
def act(request: func.HttpRequest) -> func.HttpResponse:
    """Do what an operator asks for: `POST /api/act/…`; `GET /api/act/` lists what may be done."""
    given = _query(request) if request.method == "GET" else _body(request)
    if given is None:
        return _respond(
            Response(
                status=HTTPStatus.BAD_REQUEST,
                body={"error": "the body must be a JSON object, and the query string empty"},
            )
        )
    caller = _caller(request, may_act=True)
    return _respond(
        answer(
            _toolbox,
            method=request.method,
            path=_path(request, "act"),
            given=given,
            caller=caller,
        )
    )


@blueprint.route(
    route="health",
    methods=["GET"],
    auth_level=func.AuthLevel.ANONYMOUS,
    trigger_arg_name="request",
)
def health(request: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """Answer one word, without a key: 200 for healthy, degraded and paused, else 503."""
    word = _health_word().get()
    return _respond(Response(status=status_of(word), body={"health": word.value}))


def _path(request: func.HttpRequest, first: str) -> str:
    return f"{first}/{request.route_params.get('path') or ''}".rstrip("/")


def _query(request: func.HttpRequest) -> dict[str, Any]:
    """Return the query string without `code`, which is a key."""
    return {name: value for name, value in request.params.items() if name != "code"}


def _body(request: func.HttpRequest) -> dict[str, Any] | None:
    """Return the parameters of an act; None where they are no JSON object."""
    raw = request.get_body()
    if _query(request) or len(raw) > MAX_BODY:
        return None
    try:
        found = json.loads(raw or b"{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _caller(request: func.HttpRequest, *, may_act: bool) -> Caller:
    """Return who calls: the name that the operator's program gives, as a key has none."""
    return Caller(name=request.headers.get("x-operator", "") or "a key", may_act=may_act)


def _respond(response: Response) -> func.HttpResponse:
    body = response.body
    is_csv = isinstance(body, str)
    return func.HttpResponse(
        body if isinstance(body, str) else json.dumps(body),
        status_code=response.status,
        mimetype="text/csv" if is_csv else "application/json",
        headers=SECURITY_HEADERS,
    )


@cache
def _toolbox() -> Toolbox:
    return open_toolbox()


@cache
def _health_word() -> HealthWord:
    return HealthWord(_toolbox, clock=SystemClock())
