"""The files fit together: names are declared, modules get what they ask for, outputs exist."""

import re
from pathlib import Path

import pytest

from tests.bicep.conditions import reads_of_modules, worlds_without
from tests.bicep.template import (
    MAIN,
    ModuleCall,
    Template,
    files,
    load,
    names_behind,
    names_declared,
    names_used,
    templates,
)

CALLS = [(item, call) for item in templates() for call in item.modules.values()]


@pytest.mark.parametrize("template", templates(), ids=lambda item: item.name)
def test_every_name_is_declared(template: Template) -> None:
    """No expression uses a name that its file does not declare."""
    assert set(names_used(template)) - names_declared(template) == set()


@pytest.mark.parametrize("template", templates(), ids=lambda item: item.name)
def test_every_parameter_and_variable_is_used(template: Template) -> None:
    """What is declared has a use."""
    used = set(names_used(template))
    assert {*template.parameters, *template.variables} - used == set()


def test_the_search_for_names_finds_them() -> None:
    """Names are told from texts, keys, properties and functions; interpolations count."""
    template = load(MAIN)
    used = set(names_used(template))
    assert {"prefix", "suffix", "createVirtualNetwork", "network", "cloud", "clouds"} <= used
    assert not used & {"name", "params", "outputs", "uniqueString", "AzureCloud", "modules"}


@pytest.mark.parametrize(("template", "call"), CALLS, ids=lambda item: getattr(item, "symbol", ""))
def test_modules_get_what_they_ask_for(template: Template, call: ModuleCall) -> None:
    """Every argument is a parameter of the module; every parameter without default is given."""
    module = load(call.path)
    required = {name for name, item in module.parameters.items() if not item.has_default}
    assert required <= set(call.arguments) <= set(module.parameters)


@pytest.mark.parametrize(("template", "call"), CALLS, ids=lambda item: getattr(item, "symbol", ""))
def test_arguments_have_the_parameters_types(template: Template, call: ModuleCall) -> None:
    """A parameter that is handed on has the same type, range and secrecy on both sides."""
    module = load(call.path)
    for name, value in call.arguments.items():
        outer = template.parameters.get(value) if isinstance(value, str) else None
        if outer is None:
            continue
        inner = module.parameters[name]
        assert outer.type == inner.type, name
        for decorator in ("allowed", "min_value", "max_value", "secure"):
            assert outer.decorators.get(decorator) == inner.decorators.get(decorator), name


@pytest.mark.parametrize("template", templates(), ids=lambda item: item.name)
def test_outputs_that_are_read_exist(template: Template) -> None:
    """Each `module.outputs.x` names an output of that module."""
    found = set(re.findall(r"\b(\w+)!?\.outputs\.(\w+)", template.source))
    for symbol, output in found:
        assert output in load(template.modules[symbol].path).outputs, f"{symbol}.{output}"
    assert found or not template.modules


def test_every_module_is_used() -> None:
    """No file lies about that nothing deploys."""
    assert {MAIN, *(call.path for _, call in CALLS)} == set(files())


def test_a_condition_guards_each_use_of_a_conditional_module() -> None:
    """Outputs of a module that may not be deployed are read with `!`, behind a condition."""
    template = load(MAIN)
    for symbol, call in template.modules.items():
        marks = set(re.findall(rf"\b{symbol}(!?)\.outputs\.", template.source))
        assert marks <= ({"!"} if call.condition is not None else {""}), symbol


def test_that_condition_is_the_modules_whole_one() -> None:
    """Whatever the parameters, no output is read of a module that is not deployed then."""
    template = load(MAIN)
    reads = list(reads_of_modules(template))
    assert {name for name, _ in reads} == set(re.findall(r"\b(\w+)!\.outputs\.", template.source))
    gaps = [(name, next(worlds_without(template, name, guards), None)) for name, guards in reads]
    assert [gap for gap in gaps if gap[1] is not None] == []


@pytest.mark.parametrize(
    ("condition", "guard", "safe"),
    [
        ("a && b", "a", False),
        ("a && b", "b && a", True),
        ("a && b", "both", True),
        ("both", "either", False),
        ("either", "a", True),
        ("a && !empty(text)", "!empty(text)", False),
        ("a && !empty(text)", "hasText && a", True),
        ("!empty(text)", "empty(text)", False),
    ],
)
def test_a_condition_that_is_not_whole_is_found(
    condition: str, guard: str, *, safe: bool, tmp_path: Path
) -> None:
    """The check tells a guard that implies the condition from one that does not."""
    path = tmp_path / "main.bicep"
    path.write_text(
        f"""param a bool
param b bool
param text string
var both = a && b
var either = a || b
var hasText = !empty(text)
var condition = {condition}
var guard = {guard}
module x 'x.bicep' = if (condition) {{
  name: 'x'
}}
output y string = guard ? x!.outputs.y : ''
""",
        encoding="utf-8",
    )
    ((name, guards),) = reads_of_modules(load(path))
    assert (next(worlds_without(load(path), name, guards), None) is None) is safe


def test_no_secret_leaves_the_deployment() -> None:
    """Secrets are secure parameters without a value, and no output is made of one."""
    for template in templates():
        secrets = {name for name in template.parameters if re.search("(?i)secret$|apiKey$", name)}
        for name in secrets:
            parameter = template.parameters[name]
            assert parameter.decorators.get("secure"), name
            assert parameter.default in {None, ""}
        for name, value in template.outputs.items():
            assert not names_behind(template, value) & secrets, name
            assert not re.search(r"(?i)list\w*\(|(key|secret|password)s?$", name), name
