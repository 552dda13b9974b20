"""The HTTP functions for operators: `read` and `act` need a key each, `health` and the page none.

One more function is a timer, which looks in the workspace for what Sentinel has accepted.

What they need is imported on the first call: an instance that only uploads never pays for it.

If operators sign in with Entra, no key is needed, and a person's roles decide. Importing reads only
that choice, from a setting that may be missing. These functions need only the storage settings and
the request rate: they work while other settings are wrong, and report faults in these.
"""

import json
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import azure.functions as func

from common.clock import SystemClock
from common.errors import PipelineError, SettingsError
from common.events import Event, emit
from common.settings import read_setting
from ops.api.responses import Response
from ops.callers import asks_for_keys, caller_of, read_sign_in

if TYPE_CHECKING:
    from ops.arrival import ArrivalTools
    from ops.health_word import HealthWord
    from ops.toolbox import Toolbox

MAX_BODY: Final = 1024 * 1024
"""Largest body of an act, in bytes: that of 500 names is far smaller."""

SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}

JSON: Final = "application/json"

_LEVEL: Final = func.AuthLevel.FUNCTION if asks_for_keys() else func.AuthLevel.ANONYMOUS

ARRIVAL_SCHEDULE: Final = "0 7,22,37,52 * * * *"
"""NCRONTAB with seconds: every 15 minutes, 7 minutes behind the sync of the default schedule."""

blueprint = func.Blueprint()


@blueprint.route(
    route="read/{*path}",
    methods=["GET"],
    auth_level=_LEVEL,
    trigger_arg_name="request",
)
def read(request: func.HttpRequest) -> func.HttpResponse:
    """Answer what an operator wants to know: `GET /api/read/…`."""
    wants_csv = "text/csv" in request.headers.get("accept", "")
    return _respond(
        _answer(request, "read", given=_query(request), may_act=False, wants_csv=wants_csv)
    )


@blueprint.route(
    route="act/{*path}",
    methods=["GET", "POST"],
    auth_level=_LEVEL,
    trigger_arg_name="request",
)
def act(request: func.HttpRequest) -> func.HttpResponse:
    """Do what an operator asks for: `POST /api/act/…`; `GET /api/act/` lists what may be done."""
    given = _query(request) if request.method == "GET" else _body(request)
    if isinstance(given, Response):
        return _respond(given)
    return _respond(_answer(request, "act", given=given, may_act=True))


@blueprint.route(
    route="health",
    methods=["GET"],
    auth_level=func.AuthLevel.ANONYMOUS,
    trigger_arg_name="request",
)
def health(request: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """Answer one word, without a key: 200 for healthy, degraded and paused, else 503."""
    from ops.health_word import status_of  # noqa: PLC0415

    word = _health_word().get()
    return _respond(Response(status=status_of(word), body={"health": word.value}))


@blueprint.route(
    route="dashboard",
    methods=["GET"],
    auth_level=func.AuthLevel.ANONYMOUS,
    trigger_arg_name="request",
)
def dashboard(request: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """Serve the page that shows and repairs; it holds no data, so it needs no key."""
    from ops.dashboard.document import document  # noqa: PLC0415

    page = document()
    return func.HttpResponse(
        page.html, status_code=HTTPStatus.OK, mimetype="text/html", headers=page.headers
    )


@blueprint.timer_trigger(arg_name="timer", schedule=ARRIVAL_SCHEDULE, run_on_startup=False)
def arrival_check(timer: func.TimerRequest) -> None:  # noqa: ARG001
    """Look in the workspace for what Sentinel has accepted; one that cannot be asked fails nothing.

    `ARRIVAL_CHECK` is read at each call: switched off, that is noted and nothing is asked.
    """
    from ops.arrival import run_check  # noqa: PLC0415

    try:
        run_check(_arrival_tools(), is_on=bool(read_setting("ARRIVAL_CHECK")))
    except PipelineError as error:
        emit(Event.ARRIVAL_CHECKED, reason=str(error), asked=0)


def _answer(
    request: func.HttpRequest,
    first: str,
    *,
    given: dict[str, Any],
    may_act: bool,
    wants_csv: bool = False,
) -> Response:
    """Return the answer for the caller; 401 if no one has signed in."""
    try:
        caller = caller_of(request.headers, sign_in=read_sign_in(), may_act=may_act)
    except SettingsError as error:
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    if caller is None:
        return _refusal(HTTPStatus.UNAUTHORIZED, "sign in with Entra: send a token of it")
    from ops.api.answering import answer  # noqa: PLC0415

    return answer(
        _toolbox,
        method=request.method,
        path=f"{first}/{request.route_params.get('path') or ''}",
        given=given,
        caller=caller,
        wants_csv=wants_csv,
    )


def _query(request: func.HttpRequest) -> dict[str, Any]:
    """Return the query string without `code`, which is a key."""
    return {name: value for name, value in request.params.items() if name != "code"}


def _body(request: func.HttpRequest) -> dict[str, Any] | Response:
    """Return the parameters of an act, or why there are none.

    Only the content type of JSON is accepted: a page of another site cannot send that with the
    cookie of a signed-in person.
    """
    raw = request.get_body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        return _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send a body of the type {JSON}")
    if len(raw) > MAX_BODY:
        return _refusal(HTTPStatus.CONTENT_TOO_LARGE, f"the body is larger than {MAX_BODY} bytes")
    if _query(request):
        return _refusal(HTTPStatus.BAD_REQUEST, "put all parameters into the body, none behind `?`")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    return _refusal(HTTPStatus.BAD_REQUEST, "the body is not a JSON object: without parameters {}")


def _refusal(status: HTTPStatus, why: str) -> Response:
    return Response(status=status, body={"error": why})


def _respond(response: Response) -> func.HttpResponse:
    body = response.body
    is_csv = isinstance(body, str)
    return func.HttpResponse(
        body if isinstance(body, str) else json.dumps(body),
        status_code=response.status,
        mimetype="text/csv" if is_csv else JSON,
        headers=SECURITY_HEADERS,
    )


@cache
def _toolbox() -> "Toolbox":
    from ops.toolbox import open_toolbox  # noqa: PLC0415

    return open_toolbox()


@cache
def _arrival_tools() -> "ArrivalTools":
    from ops.arrival import ArrivalTools  # noqa: PLC0415

    toolbox = _toolbox()
    return ArrivalTools(
        ledger=toolbox.ledger,
        workspace=toolbox.workspace,
        clock=toolbox.clock,
        destination=toolbox.destination,
    )


@cache
def _health_word() -> "HealthWord":
    from ops.health_word import HealthWord  # noqa: PLC0415

    return HealthWord(_toolbox, clock=SystemClock())
