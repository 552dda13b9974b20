"""Compares a resource's body with its type; every difference is one line of text.

What can be known without deploying is checked: names of properties, those that are required,
those that are Azure's own to write, kinds of values, allowed values, numbers' ranges. A name is
followed to its variable or parameter, a condition into both its branches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bicep.arm_types import Node, ResourceType
from tests.bicep.template import Name, Resource, Template, Value

BICEP_ONLY = frozenset({"parent", "scope", "dependsOn"})
"""What Bicep adds to a resource's body and no type knows."""

BEYOND = {
    ("Microsoft.Web/sites", "properties.functionAppConfig.siteUpdateStrategy"): (
        "accepted from API version 2024-11-01 on (learn.microsoft.com/azure/azure-functions/"
        "flex-consumption-site-updates, read 2026-11-22), and not in that version's type"
    ),
}
"""Properties that the service documents and its type lacks, each with the source."""

KINDS = {"string": str, "int": int, "bool": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """One file's resources against one type."""

    template: Template
    kind: ResourceType

    def check(self, resource: Resource) -> list[str]:
        """Return what is wrong with the resource."""
        faults = []
        if resource.api_version != self.kind.api_version:
            faults.append(f"version {resource.api_version}, described: {self.kind.api_version}")
        body = {key: value for key, value in resource.body.items() if key not in BICEP_ONLY}
        if "parent" in resource.body and "name" not in body:
            faults.append("name is missing")
        faults += self._object(body, self.kind.body, "")
        return [f"{self.template.name}: {resource.symbol}: {fault}" for fault in faults]

    def _object(self, value: dict[str, Value], node: Node, path: str) -> Iterator[str]:
        if node["$type"] == "DiscriminatedObject":
            yield from self._variant(value, node, path)
            return
        known = {item["name"]: item for item in node["properties"]}
        others = node.get("additionalPropertiesType")
        for key, item in value.items():
            place = f"{path}{key.strip(chr(39))}"
            if key in known:
                if "ReadOnly" in known[key].get("flags", "").split(", "):
                    yield f"{place} is read-only"
                    continue
                yield from self._value(item, known[key], place)
            elif others is not None:
                yield from self._value(item, {"type": others}, place)
            elif (self.kind.name, place) not in BEYOND:
                yield f"{place} is unknown"
        for name, item in known.items():
            flags = item.get("flags", "").split(", ")
            if "Required" in flags and "ReadOnly" not in flags and name not in value:
                yield f"{path}{name} is missing"

    def _variant(self, value: dict[str, Value], node: Node, path: str) -> Iterator[str]:
        discriminator = node["discriminator"]
        chosen = value.get(discriminator)
        for element in node["elements"]:
            names = {item["name"]: item for item in element["properties"]}
            if names[discriminator]["type"] == chosen:
                merged = {
                    "$type": "Object",
                    "properties": [*node["baseProperties"], *element["properties"]],
                }
                yield from self._object(value, merged, path)
                return
        yield f"{path}{discriminator} {chosen!r} is not one of its variants"

    def _value(self, value: Value, item: Node, path: str) -> Iterator[str]:
        kind = item["type"] if isinstance(item["type"], str) else "any"
        match value:
            case {"operator": {"type": "conditional", "operands": operands}}:
                yield from self._value(operands["true_value"], item, path)
                yield from self._value(operands["false_value"], item, path)
            case {"function": {"type": "union" | "concat", "parameters": parts}}:
                for part in parts.values():
                    yield from self._value(part, item, path)
            case {"loop_type": _, "config": element} if kind.endswith("[]"):
                yield from self._value(element, {"type": kind.removesuffix("[]")}, path)
            case Name() if value in self.template.variables:
                yield from self._value(self.template.variables[value], item, path)
            case Name() if value in self.template.parameters:
                yield from self._parameter(value, kind, path)
            case {"operator": {"type": _}} | {"function": {"type": _}} | Name() | None:
                pass  # known only once it is deployed
            case _:
                yield from self._literal(value, item, kind, path)

    def _parameter(self, name: str, kind: str, path: str) -> Iterator[str]:
        parameter = self.template.parameters[name]
        for allowed in parameter.decorators.get("allowed", ()):
            yield from self._literal(allowed, {"type": kind}, kind, path)
        if parameter.type != self._simple(kind) != "any":
            yield f"{path} is {self._simple(kind)}, the parameter {name} is {parameter.type}"

    def _simple(self, kind: str) -> str:
        """Return the Bicep word for a type."""
        if kind in {"string", "int", "bool", "any"}:
            return kind
        if kind.endswith("[]"):
            return "array"
        return "object" if kind in self.kind.parts else "string"

    def _literal(self, value: Value, item: Node, kind: str, path: str) -> Iterator[str]:
        if kind.endswith("[]"):
            yield from self._list(value, kind.removesuffix("[]"), path)
        elif kind in KINDS:
            if not isinstance(value, KINDS[kind]) or (kind == "int" and isinstance(value, bool)):
                yield f"{path} is no {kind}: {value!r}"
            else:
                yield from self._modifiers(value, item.get("modifiers", ""), path)
        elif kind in self.kind.parts:
            if not isinstance(value, dict):
                yield f"{path} is no object: {value!r}"
            else:
                yield from self._object(value, self.kind.parts[kind], f"{path}.")
        elif kind != "any" and str(value) not in kind.split(" | ") and "${" not in str(value):
            # A choice that is open (`… | string`) is held to the known ones: else slips pass.
            yield f"{path} is {value!r}, known: {kind}"

    def _list(self, value: Value, kind: str, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{path} is not a list"
            return
        for number, element in enumerate(value):
            yield from self._value(element, {"type": kind}, f"{path}[{number}]")

    def _modifiers(self, value: Value, modifiers: str, path: str) -> Iterator[str]:
        limits = dict(part.split(": ") for part in modifiers.split(", ") if "Value: " in part)
        if isinstance(value, int) and not (
            int(limits.get("minValue", value)) <= value <= int(limits.get("maxValue", value))
        ):
            yield f"{path} is {value}, allowed: {modifiers}"
