"""One call of the operators' API: find the operation, check its parameters, do it, record acts.

`answer` never raises for a fault of the caller or of a service: each becomes an HTTP status and a
text that says what to do. A call ends within `ANSWER_WITHIN`, even if storage never answers.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import msgspec

from common.errors import ConflictError, HaltError, SettingsError, TryLaterError
from common.ledger import acts
from common.text import cut
from common.transport import within
from ops.api.acting import words
from ops.api.parameters import Act, DryAct, Parameters
from ops.api.refusals import BadRequest, Forbidden, NotAllowed, NotFound, Refusal
from ops.api.responses import Response
from ops.api.table import READS, WRITES, Read, Write
from ops.callers import Caller
from ops.csv_text import to_csv
from ops.toolbox import Toolbox

ANSWER_WITHIN: Final = 24.0
"""Seconds after which no request to storage continues. A client that starts waiting for a retry
right before that adds 5 s (`storage_errors.CALL_WITHIN`); 30 s are promised."""

ACTS_PATH: Final = "act"
"""`GET` lists the acts that the caller may do."""


def answer(
    toolbox: Callable[[], Toolbox],
    *,
    method: str,
    path: str,
    given: Mapping[str, Any],
    caller: Caller,
    wants_csv: bool = False,
) -> Response:
    """Do one operation; `given` are its parameters as they came, from a query or a JSON body.

    400, 403, 404, 405: the caller can fix it; 409: something changed at that moment, retry; 500:
    settings are wrong; 503: storage is unavailable. `error` says why.
    """
    try:
        with within(ANSWER_WITHIN):
            return _answer(toolbox, method, path.strip("/"), given, caller, wants_csv=wants_csv)
    except Refusal as refusal:
        return _failed(refusal.status, refusal)
    except SettingsError as error:
        return _failed(HTTPStatus.INTERNAL_SERVER_ERROR, error)
    except ConflictError as error:
        return _failed(HTTPStatus.CONFLICT, error)
    except (HaltError, TryLaterError) as error:
        return _failed(HTTPStatus.SERVICE_UNAVAILABLE, error)


def _failed(status: HTTPStatus, error: Exception) -> Response:
    return Response(status=status, body={"error": str(error)})


def _answer(
    toolbox: Callable[[], Toolbox],
    method: str,
    path: str,
    given: Mapping[str, Any],
    caller: Caller,
    *,
    wants_csv: bool,
) -> Response:
    if (method, path) == ("GET", ACTS_PATH):
        _take(given, Parameters)
        return _ok({"name": caller.name, "acts": acts_of(caller)})
    write = next((one for one in WRITES if one.path == path), None)
    if write is not None:
        _must_be(method, "POST")
        if not caller.may_act:
            raise Forbidden("this needs the role operator, or the acting key")
        return _ok(_act(toolbox(), write, _take(given, write.takes, is_text=False), caller))
    read, found = _find(path)
    _must_be(method, "GET")
    if not caller.may_read:
        raise Forbidden("this needs the role reader or operator, or a key")
    asked = _take({**given, **found}, read.takes)
    result = read.do(toolbox() if read.needs_toolbox else None, asked)
    if wants_csv and read.csv:
        return Response(status=HTTPStatus.OK, body=to_csv(result[read.csv]))
    return _ok(result)


def _find(path: str) -> tuple[Read, dict[str, str]]:
    """Return what is read at a path, and what the path says; raises `NotFound`."""
    for read in READS:
        found = match(read.path, path)
        if found is not None:
            return read, found
    raise NotFound(f"there is nothing at {path}")


def acts_of(caller: Caller) -> list[str]:
    """Return the paths of the acts that a caller may do. Pure."""
    return [write.path for write in WRITES] if caller.may_act else []


def match(template: str, path: str) -> dict[str, str] | None:
    """Return the value of the name in braces at the path's end; None if the path differs. Pure."""
    start, brace, name = template.partition("{")
    if not brace:
        return {} if path == template else None
    rest = path.removeprefix(start)
    return {name.rstrip("}"): rest} if rest != path and rest else None


def _must_be(method: str, right: str) -> None:
    if method != right:
        raise NotAllowed(f"use {right}, not {method}")


def _take[P: Parameters](given: Mapping[str, Any], takes: type[P], *, is_text: bool = True) -> P:
    """Return the parameters as they are declared; raises `BadRequest` that names the wrong one.

    `is_text`: they are of a query string, where a number or a flag is written out.
    """
    try:
        taken = msgspec.convert(dict(given), takes, strict=not is_text)
        msgspec.json.encode(taken)
    except msgspec.ValidationError as error:
        raise BadRequest(_said(error)) from error
    except UnicodeEncodeError as error:  # JSON may spell half a character, which storage refuses
        raise BadRequest(f"{cut(error.object)!r} is not text that UTF-8 can encode") from error
    return taken


def _said(error: Exception) -> str:
    """Return the library's message in a caller's words: `$.runs` is the parameter `runs`."""
    what, at, where = str(error).partition(" - at `$.")
    what = what.replace("Object contains unknown field", "there is no parameter")
    what = what.replace("Object missing required field", "there must be a parameter")
    return f"parameter {where.rstrip('`')}: {what[:1].lower()}{what[1:]}" if at else what


def _act(toolbox: Toolbox, write: Write, asked: Act, caller: Caller) -> dict[str, Any]:
    """Do an act and record it; a dry run is not recorded."""
    if isinstance(asked, DryAct) and asked.dry_run:
        return write.do(toolbox, asked, caller)
    begun = acts.Act(
        act=write.path.removeprefix("act/").replace("/", " "),
        by=caller.name,
        at=toolbox.clock.now(),
        note=asked.note,
        on=_chosen(asked),
    )
    key = toolbox.ledger.acts.begin(begun)
    try:
        result = write.do(toolbox, asked, caller)
    except Exception as error:
        toolbox.ledger.acts.end(key, result=f"failed: {error}")
        raise
    # The act is done even if its record fails: a row without a result says that it may be repeated.
    with suppress(HaltError, TryLaterError):
        toolbox.ledger.acts.end(key, result=words(result))
    return result


def _chosen(asked: Act) -> str:
    """Return the subject of an act in words: the parameters that were given."""
    given = msgspec.to_builtins(asked)
    return ", ".join(
        _said_of(name, value)
        for name, value in given.items()
        if value and name not in ("note", "after")
    )


def _said_of(name: str, value: object) -> str:
    """Return a parameter in words: a flag by its name, names by themselves. Pure."""
    match value:
        case True:
            return name
        case [*texts]:
            return " ".join(map(str, texts))
        case _:
            return f"{name} {value}"


def _ok(body: dict[str, Any]) -> Response:
    return Response(status=HTTPStatus.OK, body=body)
