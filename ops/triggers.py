"""The HTTP functions for operators; each needs a function key.

Importing needs no setting, and these functions need no other settings than the storage's and the
request rate: they work while the rest is misconfigured, and say what is wrong with these.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any

import azure.functions as func

from common.errors import HaltError, SettingsError, TryLaterError
from ops.status import describe
from ops.toolbox import Toolbox, open_toolbox

DEFAULT_RUNS = 5
MAX_RUNS = 50

blueprint = func.Blueprint()


@blueprint.route(
    route="status",
    methods=["GET"],
    auth_level=func.AuthLevel.FUNCTION,
    trigger_arg_name="request",
)
def pipeline_status(request: func.HttpRequest) -> func.HttpResponse:
    """Return the health, the queue and the latest runs, reconciled; `?runs=N` says how many."""
    runs = read_runs(request.params.get("runs", str(DEFAULT_RUNS)))
    if runs is None:
        error = f"runs must be a number from 1 to {MAX_RUNS}"
        return _response({"error": error}, HTTPStatus.BAD_REQUEST)
    return status_response(_toolbox, runs=runs)


def read_runs(text: str) -> int | None:
    """Return how many runs `?runs=` asks for; None unless it is a number from 1 to `MAX_RUNS`."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_RUNS:
        return None
    return int(text)


def status_response(toolbox: Callable[[], Toolbox], *, runs: int) -> func.HttpResponse:
    """Return the report, or why there is none.

    500 names the settings that are wrong; 503: storage is unavailable; `error` says why.
    """
    try:
        report, status = describe(toolbox().look(runs=runs)), HTTPStatus.OK
    except SettingsError as error:
        report, status = {"error": str(error)}, HTTPStatus.INTERNAL_SERVER_ERROR
    except (HaltError, TryLaterError) as error:
        report, status = {"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE
    return _response(report, status)


def _response(report: dict[str, Any], status: HTTPStatus) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(report), status_code=status, mimetype="application/json")


@cache
def _toolbox() -> Toolbox:
    return open_toolbox()
