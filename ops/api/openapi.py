"""The OpenAPI 3.1 document of the operators' API, made from the table of operations.

`python -m ops.api.openapi` prints it; `docs/openapi.json` is the copy in the repository.
"""

import json
import sys
from typing import Any, Final

import msgspec

from common.version import VERSION
from ops.api.table import READS, WRITES, Read, Write

_REFERENCE: Final = "#/components/schemas/{name}"
_ERRORS: Final = {
    "400": "A parameter is wrong: the error names it",
    "401": "No key, or a wrong one",
    "403": "The caller may not do this",
    "404": "There is no such thing",
    "413": "The body of an act is too large",
    "415": "The body of an act is not JSON",
    "409": "Something changed at that moment: try again",
    "500": "A setting is wrong: the error names it",
    "503": "Storage is unavailable: the error says why",
}


def document() -> dict[str, Any]:
    """Return the document as plain JSON values."""
    types = [one.takes for one in (*READS, *WRITES)]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schemas["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    }
    paths: dict[str, Any] = {f"/api/{read.path}": {"get": _read(read)} for read in READS}
    paths |= {f"/api/{write.path}": {"post": _write(write)} for write in WRITES}
    paths["/api/act"] = {"get": _acts()}
    paths["/api/health"] = {"get": _health()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lumen to Sentinel pipeline: operators' API", "version": VERSION},
        "security": [{"key": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-functions-key"}
            },
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _read(read: Read) -> dict[str, Any]:
    return {
        "operationId": _id(read.path),
        "summary": _summary(read),
        "parameters": [_parameter(read, field) for field in msgspec.structs.fields(read.takes)],
        "responses": _responses(csv=bool(read.csv)),
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
    reference = _REFERENCE.format(name=write.takes.__name__)
    return {
        "operationId": _id(write.path),
        "summary": _summary(write),
        "requestBody": {"content": {"application/json": {"schema": {"$ref": reference}}}},
        "responses": _responses(),
    }


def _acts() -> dict[str, Any]:
    return {
        "operationId": "acts",
        "summary": "Return the acts that the caller may do.",
        "responses": _responses(),
    }


def _health() -> dict[str, Any]:
    word = {"application/json": {"schema": {"type": "object", "required": ["health"]}}}
    return {
        "operationId": "health",
        "summary": "One word from the last pulse; needs no key.",
        "security": [],
        "responses": {
            "200": {"description": "healthy, degraded or paused", "content": word},
            "503": {"description": "down or unknown", "content": word},
        },
    }


def _responses(*, csv: bool = False) -> dict[str, Any]:
    good: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if csv:
        good["text/csv"] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": {"$ref": _REFERENCE.format(name="Error")}}}
    failures = {status: {"description": what, "content": error} for status, what in _ERRORS.items()}
    return {"200": {"description": "The answer", "content": good}, **failures}


def _summary(operation: Read | Write) -> str:
    return (operation.do.__doc__ or "").split("\n", maxsplit=1)[0]


def _id(path: str) -> str:
    return path.replace("/{id}", "-one").replace("/", "-")


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    sys.stdout.write("\n")
