"""The Bicep template as the tests see it: parsed by pycep, loops and conditions taken off.

pycep gives a name (`a`) as a text of a class of its own and leaves what a text interpolates
(`'${a}'`) unparsed, so `names_used` reads the source itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pycep import BicepParser
from pycep.transformer import BicepElement

ROOT = Path(__file__).parents[2]
BICEP = ROOT / "bicep"
MAIN = BICEP / "main.bicep"

Name = BicepElement
"""A name where a value may stand: of a parameter, a variable, a resource, a loop."""

Value = Any
"""What pycep makes of an expression: text, number, list, object, `{"operator": …}`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter: its type, its default (when it has one) and its decorators."""

    type: str
    has_default: bool
    default: Value
    decorators: dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource, its loop and condition taken off; `loops` names the list it goes over."""

    symbol: str
    type: str
    api_version: str
    existing: bool
    body: dict[str, Value]
    loops_over: str | None
    condition: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCall:
    """A use of a module."""

    symbol: str
    path: Path
    body: dict[str, Value]
    condition: Value

    @property
    def arguments(self) -> dict[str, Value]:
        """What the module is given."""
        arguments: dict[str, Value] = self.body.get("params", {})
        return arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One `.bicep` file."""

    path: Path
    source: str
    scope: str
    parameters: dict[str, Parameter]
    variables: dict[str, Value]
    resources: dict[str, Resource]
    modules: dict[str, ModuleCall]
    outputs: dict[str, Value]

    @property
    def name(self) -> str:
        """The path below bicep/, for messages."""
        return self.path.relative_to(BICEP).as_posix()


@cache
def _parser() -> BicepParser:
    return BicepParser()


@cache
def load(path: Path) -> Template:
    """Parse one file."""
    source = path.read_text(encoding="utf-8")
    tree: dict[str, Any] = _parser().parse(text=source)  # type: ignore[assignment]
    return Template(
        path=path,
        source=source,
        scope=tree["globals"]["scope"]["value"] if "scope" in tree["globals"] else "resourceGroup",
        parameters={name: _parameter(item) for name, item in tree.get("parameters", {}).items()},
        variables={name: item["value"] for name, item in tree.get("variables", {}).items()},
        resources={name: _resource(name, i) for name, i in tree.get("resources", {}).items()},
        modules={name: _module(path, name, i) for name, i in tree.get("modules", {}).items()},
        outputs={name: item["value"] for name, item in tree.get("outputs", {}).items()},
    )


def files() -> list[Path]:
    """Return every `.bicep` file."""
    return sorted(BICEP.rglob("*.bicep"))


def parameter_files() -> list[Path]:
    """Return every parameter file but the copy that docs/deploy.md lets a reader make."""
    return sorted(path for path in BICEP.rglob("*.bicepparam") if path.stem != "mine")


def templates() -> list[Template]:
    """Return every `.bicep` file, parsed."""
    return [load(path) for path in files()]


def resources(resource_type: str) -> Iterator[tuple[Template, Resource]]:
    """Yield every resource of a type that the template makes, with its file."""
    for template in templates():
        for resource in template.resources.values():
            if resource.type == resource_type and not resource.existing:
                yield template, resource


def parse_values(value: Value) -> Iterator[Value]:
    """Yield a value and everything in it."""
    yield value
    match value:
        case dict():
            for item in value.values():
                yield from parse_values(item)
        case list():
            for item in value:
                yield from parse_values(item)


def dotted(value: Value) -> str:
    """Return `a.b.c` for a chain of property accesses, else an empty text."""
    match value:
        case str():
            return value
        case {"operator": {"type": "property_accessor", "operands": operands}}:
            parts = [dotted(operands["operand_1"]), dotted(operands["operand_2"])]
            return ".".join(parts) if all(parts) else ""
        case {"operator": {"type": "index_accessor", "operands": operands}}:
            return dotted(operands["operand_1"])
    return ""


def names_in(template: Template, value: Value) -> set[str]:
    """Return the declared names that a value is made of; of `a.b`, that is `a`."""
    match value:
        case {"operator": {"type": "property_accessor", "operands": operands}}:
            return names_in(template, operands["operand_1"])
        case Name():
            return {str(value)} & names_declared(template)
        case str():
            inside = " ".join(re.findall(r"\$\{([^}]*)\}", value))
            return set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", inside)) & names_declared(template)
        case dict():
            return {name for item in value.values() for name in names_in(template, item)}
        case list():
            return {name for item in value for name in names_in(template, item)}
    return set()


def names_behind(template: Template, value: Value) -> set[str]:
    """Return the names that a value is made of, those behind its variables included."""
    found: set[str] = set()
    fresh = names_in(template, value)
    while fresh:
        found |= fresh
        values = [template.variables[name] for name in fresh if name in template.variables]
        fresh = names_in(template, values) - found
    return found


def names_declared(template: Template) -> set[str]:
    """Return what the file declares, loop variables included."""
    loops = re.findall(r"\bfor\s+\(?(\w+)(?:\s*,\s*(\w+))?\)?\s+in\b", template.source)
    return {
        *template.parameters,
        *template.variables,
        *template.resources,
        *template.modules,
        *(name for pair in loops for name in pair if name),
    }


def names_used(template: Template) -> list[str]:
    """Return each use of a name in the file: no text, no property, no key, no function."""
    code = _without_texts(template.source)
    declarations = r"^(?:param|var|resource|module|output)\s+\w+(?:\s+\w+\s*=|\s+\w+$|\s*=)?"
    code = re.sub(declarations, "=", code, flags=re.MULTILINE)
    code = re.sub(r"^targetScope\b", "", code, flags=re.MULTILINE)
    code = re.sub(r"^@\w+\(.*?\)$", "", code, flags=re.MULTILINE)
    words = re.finditer(r"(?<![\w.])([A-Za-z_]\w*)(?!\w)(?!\s*\()(?!\s*:(?!:))", code)
    before_colon = re.finditer(r"(?:\?|\bin\b)\s*([A-Za-z_]\w*)\s*:", code)
    keywords = {"true", "false", "null", "for", "in", "if", "existing"}
    found = [match[1] for match in words] + [match[1] for match in before_colon]
    return [name for name in found if name not in keywords]


def _without_texts(source: str) -> str:
    """Replace texts by what they interpolate, and drop comments."""
    code = re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE)
    literal = re.compile(r"'((?:\\'|\\\\|[^'\\]|\\.)*?)'")

    def interpolated(match: re.Match[str]) -> str:
        return "".join(f"({name})" for name in re.findall(r"\$\{([^}]*)\}", match[1]))

    # The one interpolation with texts of its own would end its text too early.
    code = re.sub(r"replace\((\w+), '-', ''\)", r"\1", code)
    return literal.sub(interpolated, code)


def _parameter(item: dict[str, Any]) -> Parameter:
    return Parameter(
        type=item["type"],
        has_default=item["default"] is not None,
        default=item["default"],
        decorators={deco["type"]: deco.get("argument", True) for deco in item["decorators"] or []},
    )


def _resource(symbol: str, item: dict[str, Any]) -> Resource:
    body, condition, loops_over = _unwrap(item["config"])
    return Resource(
        symbol=symbol,
        type=item["type"],
        api_version=item["api_version"],
        existing=item["existing"],
        body=body,
        loops_over=loops_over,
        condition=condition,
    )


def _module(path: Path, symbol: str, item: dict[str, Any]) -> ModuleCall:
    body, condition, _ = _unwrap(item["config"])
    target = (path.parent / item["detail"]["path"]).resolve()
    return ModuleCall(symbol=symbol, path=target, body=body, condition=condition)


def _unwrap(config: dict[str, Any]) -> tuple[dict[str, Any], Value, str | None]:
    """Take condition and loop off a body."""
    condition, loops_over = None, None
    while "config" in config and ("condition" in config or "loop_type" in config):
        if (loop := config.get("loop_type")) is not None:
            loops_over = loop["detail"].get("array_name") or loop["detail"].get("object_name")
        condition = condition or config.get("condition")
        config = config["config"]
    return config, condition, loops_over
