"""The OpenAPI 3.1 document of the operators' API, made from the table of operations.

`python -m ops.api.openapi` prints it; `docs/openapi.json` is the copy in the repository.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from common.version import VERSION
from ops.api import answers
from ops.api.answers import Given
from ops.api.parameters import Parameters, Way, written
from ops.api.table import READS, WRITES, Read, Write

_REFERENCE: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"

_ERRORS: Final = {
    "400": "A parameter is wrong: the error names it",
    "401": "No key, or a wrong one",
    "403": "The caller may not do this",
    "404": "There is no such thing",
    "500": "A setting is wrong: the error names it",
    "503": "Storage is unavailable: the error says why",
}
_ERRORS_OF_ACTS: Final = {
    "409": "Something changed at that moment: try again",
    "413": "The body is too large",
    "415": "The body is not JSON",
}


def document() -> dict[str, Any]:
    """Return the document as plain JSON values."""
    operations = (*READS, *WRITES)
    paths: dict[str, Any] = {f"/api/{read.path}": {"get": _read(read)} for read in READS}
    paths |= {f"/api/{write.path}": {"post": _write(write)} for write in WRITES}
    paths["/api/act"] = {"get": _acts()}
    paths["/api/health"] = {"get": _health()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lumen to Sentinel pipeline: operators' API",
            "version": VERSION,
            "description": _DESCRIPTION,
        },
        "security": [{"key": []}, {"entra": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "entra": {"type": "http", "scheme": "bearer"},
            },
            "schemas": dict(sorted(_schemas(operations).items())),
        },
    }


_DESCRIPTION: Final = (
    "What `lumen-sentinel` and the page call (docs/operate.md). Two functions, each with keys of "
    "its own: `read` looks, `act` changes something; with Entra sign-in the roles reader and "
    "operator decide instead. A call ends within 30 s; long work is done in slices: call again, "
    "with `next` as `after` where there is one, until `remaining` is 0. Ignore fields that you do "
    "not know."
)


def _schemas(operations: Sequence[Read | Write]) -> dict[str, Any]:
    """Return the schemas of parameters, which are strict, and of answers, which may grow."""
    taken = {write.takes for write in operations if isinstance(write, Write)}
    given = {operation.answers for operation in operations} | _OTHER_ANSWERS
    _, taken_schemas = msgspec.json.schema_components(
        sorted(taken, key=lambda each: each.__name__), ref_template=_REFERENCE
    )
    _, given_schemas = msgspec.json.schema_components(
        sorted(given, key=lambda each: each.__name__), ref_template=_REFERENCE
    )
    for one in taken:
        taken_schemas[one.__name__] |= _choice(one)
    for schema in given_schemas.values():
        schema.pop("additionalProperties", None)
    return taken_schemas | given_schemas


def _choice(takes: type[Parameters]) -> dict[str, Any]:
    """Return in JSON Schema that a choice is made in exactly one way, or not in two. Pure."""
    if takes.ways:
        return {"oneOf": [_chosen(takes, way) for way in takes.ways]}
    if takes.excluding:
        names = [written(name) for name in takes.excluding]
        both = {"required": names, "properties": {name: {"const": True} for name in names}}
        return {"not": both}
    return {}


def _chosen(takes: type[Parameters], way: Way) -> dict[str, Any]:
    """Return the schema of a choice in one way: a parameter of it says something, no other does."""
    others = [name for other in takes.ways if other != way for name in other]
    said = [{"required": [name], "properties": {name: _SAID[name]}} for name in way]
    return {
        "title": "by " + ", ".join(way),
        "anyOf": said,
        "properties": {name: _UNSAID[name] for name in others},
    }


_SAID: Final[Mapping[str, Mapping[str, object]]] = {
    "names": {"minItems": 1},
    "runs": {"minItems": 1},
    "reason": {"minLength": 1},
    "run": {"minLength": 1},
    "indicator": {"minLength": 1},
    "all": {"const": True},
}
_UNSAID: Final[Mapping[str, Mapping[str, object]]] = {
    "names": {"maxItems": 0},
    "runs": {"maxItems": 0},
    "reason": {"maxLength": 0},
    "run": {"maxLength": 0},
    "indicator": {"maxLength": 0},
    "all": {"const": False},
}
"""What says nothing may be left out, or be as its default is."""


def _read(read: Read) -> dict[str, Any]:
    return {
        "operationId": _id(read.path),
        "summary": _summary(read),
        "parameters": [_parameter(read, field) for field in msgspec.structs.fields(read.takes)],
        "responses": _responses(read.answers, errors=_ERRORS, csv=bool(read.csv)),
    }


def _parameter(read: Read, field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    schema = msgspec.json.schema(field.type)
    in_path = "{" + field.encode_name + "}" in read.path
    if field.default is not msgspec.NODEFAULT:
        schema = {**schema, "default": field.default}
    return {
        "name": field.encode_name,
        "in": "path" if in_path else "query",
        "required": in_path or field.required,
        "schema": schema,
    }


def _write(write: Write) -> dict[str, Any]:
    return {
        "operationId": _id(write.path),
        "summary": _summary(write),
        "requestBody": {"required": True, "content": {_JSON: {"schema": _reference(write.takes)}}},
        "responses": _responses(write.answers, errors={**_ERRORS, **_ERRORS_OF_ACTS}),
    }


def _acts() -> dict[str, Any]:
    return {
        "operationId": "acts",
        "summary": "Return the acts that the caller may do.",
        "responses": _responses(answers.Acts, errors=_ERRORS),
    }


def _health() -> dict[str, Any]:
    word = {_JSON: {"schema": _reference(answers.Health)}}
    return {
        "operationId": "health",
        "summary": "One word from the last pulse; needs no key.",
        "security": [],
        "responses": {
            "200": {"description": "healthy, degraded or paused", "content": word},
            "503": {"description": "down or unknown", "content": word},
        },
    }


def _responses(
    answer: type[Given], *, errors: Mapping[str, str], csv: bool = False
) -> dict[str, Any]:
    good: dict[str, Any] = {_JSON: {"schema": _reference(answer)}}
    if csv:
        good["text/csv"] = {"schema": {"type": "string"}}
    error = {_JSON: {"schema": _reference(answers.Error)}}
    failures = {status: {"description": what, "content": error} for status, what in errors.items()}
    return {"200": {"description": "The answer", "content": good}, **dict(sorted(failures.items()))}


def _reference(schema: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=schema.__name__)}


def _summary(operation: Read | Write) -> str:
    return (operation.do.__doc__ or "").split("\n", maxsplit=1)[0]


def _id(path: str) -> str:
    return path.replace("/{id}", "-one").replace("/", "-")


_OTHER_ANSWERS: Final = {answers.Acts, answers.Health, answers.Error}

if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
