"""The HTTP functions for operators; each needs a function key.

Importing needs no setting, and these functions need no other settings than the storage's: they
work while the rest is misconfigured.
"""

import json
from functools import cache

import azure.functions as func

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
    asked = request.params.get("runs", str(DEFAULT_RUNS))
    if not asked.isdecimal() or not 1 <= int(asked[:9]) <= MAX_RUNS:
        return func.HttpResponse(f"runs must be a number from 1 to {MAX_RUNS}\n", status_code=400)
    report = describe(_toolbox().look(runs=int(asked)))
    return func.HttpResponse(json.dumps(report), mimetype="application/json")


@cache
def _toolbox() -> Toolbox:
    return open_toolbox()
