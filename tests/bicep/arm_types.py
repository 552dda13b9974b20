"""What Azure Resource Manager says of its resource types: properties, required or its own.

`azmcp` of the npm package `@azure/mcp` carries the types that Bicep itself is checked against and
needs no network. Starting it takes seconds, so it is asked for all types in one go and the answers
are kept in pytest's cache until the package changes. A few types it cannot describe: those stand
in `written_types`.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bicep.template import ROOT
from tests.bicep.written_types import WRITTEN

Node = dict[str, Any]

PACKAGES = ROOT / "node_modules" / "@azure"


class SchemaToolMissingError(Exception):
    """The npm package is not installed, or not for this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """One resource type: the version it was described in, its body, the types its body uses."""

    name: str
    api_version: str
    body: Node
    parts: dict[str, Node]


def describe(names: Iterable[str], *, cache: Path) -> dict[str, ResourceType]:
    """Return the types of these names; raises `SchemaToolMissingError`."""
    wanted = sorted(set(names) - WRITTEN.keys())
    tool, version = find_tool()
    kept = cache / f"azmcp-{version}.json"
    answers: dict[str, list[Node]] = json.loads(kept.read_text()) if kept.is_file() else {}
    if missing := [name for name in wanted if name not in answers]:
        answers |= ask(tool, missing)
        _replace(kept, json.dumps(answers))
    described = {name: read_answer(answers[name]) for name in wanted}
    return described | {name: WRITTEN_TYPES[name] for name in set(names) & WRITTEN.keys()}


def _replace(path: Path, text: str) -> None:
    """Write a file at once: another worker may read it, or write it too, at any moment."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False
    ) as written:
        written.write(text)
    Path(written.name).replace(path)


def find_tool() -> tuple[Path, str]:
    """Return the program for this machine and its version; raises `SchemaToolMissingError`."""
    for manifest in sorted(PACKAGES.glob("mcp-*/package.json")):
        package = json.loads(manifest.read_text(encoding="utf-8"))
        programs = [manifest.parent / path for path in package.get("bin", {}).values()]
        if programs and os.access(programs[0], os.X_OK):
            return programs[0], package["version"]
    raise SchemaToolMissingError("@azure/mcp is not installed: run make setup")


def ask(tool: Path, names: list[str]) -> dict[str, list[Node]]:
    """Ask the tool for several types in one process; fails on one that it does not know."""
    requests: list[Node] = [
        {
            "jsonrpc": "2.0",
            "id": "start",
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-03-26",
                "capabilities": {},
                "clientInfo": {"name": "tests", "version": "1"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ]
    requests += [
        {
            "jsonrpc": "2.0",
            "id": name,
            "method": "tools/call",
            "params": {"name": "bicepschema_get", "arguments": {"resource-type": name}},
        }
        for name in names
    ]
    with subprocess.Popen(
        [tool, "server", "start", "--mode", "all", "--namespace", "bicepschema"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AZURE_MCP_COLLECT_TELEMETRY": "false"},
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write("".join(json.dumps(request) + "\n" for request in requests))
            process.stdin.flush()
            answers: dict[str, list[Node]] = {}
            while len(answers) < len(names):
                line = process.stdout.readline()
                assert line, "the schema tool ended early"
                answer = json.loads(line)
                if answer.get("id") in names:
                    answers[answer["id"]] = read_reply(answer)
        finally:
            process.kill()
    return answers


def read_reply(answer: Node) -> list[Node]:
    """Return the types in one reply."""
    reply = json.loads(answer["result"]["content"][0]["text"])
    assert reply["status"] == 200, f"{answer['id']}: {reply['message']}"
    found: list[Node] = reply["results"]["BicepSchemaResult"]
    return found


def read_answer(nodes: list[Node]) -> ResourceType:
    """Return the resource among the types of an answer, with the others as its parts."""
    (resource,) = (node for node in nodes if node["$type"] == "Resource")
    name, _, version = resource["name"].partition("@")
    parts = {
        node["name"]: node for node in nodes if node["$type"] in {"Object", "DiscriminatedObject"}
    }
    return ResourceType(name=name, api_version=version, body=resource["bodyType"], parts=parts)


def read_written(name: str) -> ResourceType:
    """Return a type of `written_types` in the tool's own form."""
    version, *objects = WRITTEN[name].strip().split("\n\n")
    parts: dict[str, Node] = {}
    for text in objects:
        title, *lines = text.split("\n")
        fields = [line.strip().partition(": ") for line in lines]
        properties = [
            {
                "name": field.rstrip("!<"),
                "type": kind,
                "flags": "Required" if field.endswith("!") else "",
            }
            | ({"flags": "ReadOnly"} if field.endswith("<") else {})
            for field, _, kind in fields
            if field != "*"
        ]
        parts[title] = {"$type": "Object", "name": title, "properties": properties}
        if others := [kind for field, _, kind in fields if field == "*"]:
            parts[title]["additionalPropertiesType"] = others[0]
    return ResourceType(name=name, api_version=version, body=parts.pop(name), parts=parts)


WRITTEN_TYPES = {name: read_written(name) for name in WRITTEN}
