"""Where outputs of conditional modules are read, and whether the module is there whenever they are.

Arguments of a module are evaluated even where its own condition is false
(github.com/Azure/bicep/issues/8022, read 2026-11-22). So nothing but the choices (`a ? b : c`) in
front of a read decide whether it happens; variables are followed. Conditions are compared by trying
out every value of the switches they are made of, a few parameters and `empty(…)`.
"""

import itertools
from collections.abc import Iterator

from tests.bicep.template import Name, Template, Value, dotted, names_in

World = dict[str, bool]
"""A value for each switch."""

Guards = tuple[tuple[Value, bool], ...]
"""Conditions, each with the value that it has in the branch that a value stands in."""


def reads_of_modules(template: Template) -> Iterator[tuple[str, Guards]]:
    """Yield each conditional module of which an output is read, with the guards of the read."""
    calls = [call.body for call in template.modules.values()]
    resources = [resource.body for resource in template.resources.values()]
    yield from _reads(template, [*calls, *resources, *template.outputs.values()], ())


def worlds_without(template: Template, module: str, guards: Guards) -> Iterator[World]:
    """Yield the worlds in which the guards let a read through and the module is not deployed."""
    condition = template.modules[module].condition
    switches = sorted(_switches(template, [condition, *(guard for guard, _ in guards)]))
    for values in itertools.product((True, False), repeat=len(switches)):
        world = dict(zip(switches, values, strict=True))
        let_through = all(_holds(template, guard, world) is wanted for guard, wanted in guards)
        if let_through and not _holds(template, condition, world):
            yield world


def _reads(template: Template, value: Value, guards: Guards) -> Iterator[tuple[str, Guards]]:
    match value:
        case {"operator": {"type": "conditional", "operands": operands}}:
            condition = operands["condition"]
            yield from _reads(template, condition, guards)
            yield from _reads(template, operands["true_value"], (*guards, (condition, True)))
            yield from _reads(template, operands["false_value"], (*guards, (condition, False)))
        case _:
            for name in _modules_read_by(template, value):
                yield name, guards
            for part in _parts(template, value):
                yield from _reads(template, part, guards)


def _modules_read_by(template: Template, value: Value) -> set[str]:
    match value:
        case {"operator": {"type": "property_accessor"}} if ".outputs." in dotted(value):
            names = {dotted(value).partition(".")[0]}
        case str() if not isinstance(value, Name):
            names = names_in(template, value)  # what the text interpolates
        case _:
            return set()
    modules = template.modules
    return {name for name in names if name in modules and modules[name].condition is not None}


def _parts(template: Template, value: Value) -> list[Value]:
    match value:
        case {"operator": {"type": "property_accessor", "operands": operands}}:
            return [operands["operand_1"]]  # the other one is a property, whatever it is called
        case dict():
            return list(value.values())
        case list():
            return value
        case str():
            return [
                template.variables[i] for i in names_in(template, value) & {*template.variables}
            ]
    return []


def _switches(template: Template, value: Value) -> set[str]:
    match value:
        case list():
            return {name for item in value for name in _switches(template, item)}
        case {"operator": {"type": "and" | "or" | "not", "operands": operands}}:
            return _switches(template, list(operands.values()))
        case Name() if value in template.variables:
            return _switches(template, template.variables[value])
    return {str(value)}


def _holds(template: Template, value: Value, world: World) -> bool:
    match value:
        case {"operator": {"type": "and", "operands": operands}}:
            return all(_holds(template, item, world) for item in operands.values())
        case {"operator": {"type": "or", "operands": operands}}:
            return any(_holds(template, item, world) for item in operands.values())
        case {"operator": {"type": "not", "operands": {"bool_value": item}}}:
            return not _holds(template, item, world)
        case Name() if value in template.variables:
            return _holds(template, template.variables[value], world)
    return world[str(value)]
