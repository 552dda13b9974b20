"""Rules that a portal form must obey: Microsoft's own, and what those miss.

The first seventeen are those of Microsoft's template test toolkit
(github.com/Azure/arm-ttk, testcases/CreateUIDefinition, read 2026-11-28), in our own code. The
others read every reference in the form, and hold form and template together. Each rule yields what
is wrong, as a sentence.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

Form = dict[str, Any]
Rule = Callable[[Form, Form], Iterator[str]]

SCHEMA: Final = (
    "https://schema.management.azure.com/schemas/0.1.2-preview/CreateUIDefinition.MultiVm.json#"
)
HANDLERS: Final = {"Microsoft.Azure.CreateUIDef", "Microsoft.Compute.MultiVm"}
MANAGED_APP: Final = {"applicationresourcename", "managedresourcegroupid", "managedidentity"}
WITHOUT_TOOLTIP: Final = {
    "ArmApiControl",
    "EditableGrid",
    "GraphApiControl",
    "InfoBox",
    "JitConfigurator",
    "Section",
    "TextBlock",
}
NEW_OR_EXISTING: Final = {"VirtualNetworkCombo", "StorageAccountSelector", "PublicIpAddressCombo"}
CONTROLS: Final = {
    "Microsoft.Common": {
        "CheckBox",
        "DropDown",
        "EditableGrid",
        "InfoBox",
        "OptionsGroup",
        "PasswordBox",
        "Section",
        "Slider",
        "TagsByResource",
        "TextBlock",
        "TextBox",
    },
    "Microsoft.Network": {"PublicIpAddressCombo", "VirtualNetworkCombo"},
    "Microsoft.Solutions": {"ArmApiControl", "ResourceSelector"},
    "Microsoft.Storage": {"StorageAccountSelector"},
}
FUNCTIONS: Final = {
    "and", "basics", "coalesce", "concat", "contains", "empty", "equals", "filter", "first", "if",
    "location", "map", "not", "or", "parse", "resourceGroup", "steps", "string", "subscription",
}  # fmt: skip

PROPERTIES: Final = {
    "VirtualNetworkCombo": {
        "addressPrefix", "addressPrefixes", "name", "newOrExisting", "resourceGroup", "subnets",
    },
    "ResourceSelector": {"id", "location", "name"},
}  # fmt: skip
"""What can be read behind a control that gives an object
(learn.microsoft.com/azure/azure-resource-manager/managed-applications, read 2026-11-28)."""


def elements(form: Form) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each control with its place: `basics`, or the name of its step."""
    for element in form["parameters"]["basics"]:
        yield "basics", element
    for step in form["parameters"]["steps"]:
        for element in step["elements"]:
            yield step["name"], element


def kind(element: dict[str, Any]) -> str:
    """Return the last part of a control's type."""
    return str(element["type"].rpartition(".")[2])


def strings(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text of a JSON value with its path."""
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                yield from strings(item, f"{path}.{key}")
        case list():
            for index, item in enumerate(value):
                yield from strings(item, f"{path}.{index}")


def references(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield place, control and the properties behind it of each reference in an expression."""
    if not text.startswith("["):
        return
    for name, rest in re.findall(r"basics\('(\w+)'\)((?:\.\w+)*)", text):
        yield "basics", name, rest.split(".")[1:]
    for step, rest in re.findall(r"steps\('(\w+)'\)((?:\.\w+)*)", text):
        name, *properties = rest.split(".")[1:] or [""]
        yield step, name, properties


def outputs(form: Form) -> dict[str, Any]:
    """Return the outputs of a form."""
    found: dict[str, Any] = form["parameters"]["outputs"]
    return found


def feeds(form: Form, place: str, element: dict[str, Any]) -> list[str]:
    """Return the parameters whose outputs take a control's value; to compare it takes nothing."""
    compared = re.compile(r"equals\((?:basics|steps)\('\w+'\)[.\w]*, '[^']*'\)")
    return [
        name
        for name, value in outputs(form).items()
        for _, text in strings(value)
        for where, control, _ in references(compared.sub("true", text))
        if (where, control) == (place, element["name"])
    ]


def allowed(element: dict[str, Any]) -> list[Any]:
    """Return the values that a control offers."""
    return [item["value"] for item in element.get("constraints", {}).get("allowedValues", [])]


def values_of(parameter: dict[str, Any], template: Form) -> list[Any]:
    """Return the values that a parameter takes, its type resolved; none: any."""
    if "$ref" in parameter:
        parameter = template["definitions"][parameter["$ref"].rpartition("/")[2]]
    found: list[Any] = parameter.get("allowedValues", [])
    return found


# --- Microsoft's ----------------------------------------------------------------------------


def allowed_values_are_allowed(form: Form, template: Form) -> Iterator[str]:
    """1. What a control offers, the parameter that it feeds takes; exactly, not as a part."""
    for place, element in elements(form):
        for name in feeds(form, place, element) if kind(element) == "DropDown" else []:
            wanted = values_of(template["parameters"][name], template)
            strange = [item for item in allowed(element) if item not in wanted]
            yield from (f"{element['name']}: {item} is no value of {name}" for item in strange)


def outputs_read_controls(form: Form, _template: Form) -> Iterator[str]:
    """2. A control that an output begins with exists."""
    known = {(place, element["name"]) for place, element in elements(form)}
    for name, value in outputs(form).items():
        for _, text in strings(value):
            for place, control, _ in list(references(text))[:1]:
                if (place, control) not in known:
                    yield f"output {name} reads {place}.{control}, which is not there"


def nothing_is_blank(form: Form, _template: Form) -> Iterator[str]:
    """3. No empty object, list or text outside of basics, steps and default values."""

    def blanks(value: object, path: str) -> Iterator[str]:
        if value in ({}, [], "", None, [{}], [""]):
            if not re.search(r"\.(basics|steps|defaultValue)$", path):
                yield f"{path} is blank"
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from blanks(item, f"{path}.{key}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from blanks(item, f"{path}.{index}")

    yield from blanks(form, "")


def the_schema_is_named(form: Form, _template: Form) -> Iterator[str]:
    """4. Schema and version are the one that the portal knows."""
    if form.get("$schema") != SCHEMA or form.get("version") != "0.1.2-preview":
        yield "schema or version is not 0.1.2-preview"


def secrets_are_confirmed(form: Form, _template: Form) -> Iterator[str]:
    """5. A secret is typed twice."""
    for _, element in elements(form):
        if kind(element) == "PasswordBox" and element.get("options", {}).get("hideConfirmation"):
            yield f"{element['name']} hides its confirmation"


def the_handler_is_known(form: Form, _template: Form) -> Iterator[str]:
    """6. The portal knows the handler."""
    if form.get("handler") not in HANDLERS:
        yield f"handler {form.get('handler')}"


def existing_resources_are_handled(form: Form, _template: Form) -> Iterator[str]:
    """7. Where a control offers existing resources, outputs read which, and where it is."""
    for place, element in elements(form):
        if kind(element) in NEW_OR_EXISTING and not element["options"].get("hideExisting"):
            read = {
                item
                for _, text in strings(outputs(form))
                for where, name, properties in references(text)
                if (where, name) == (place, element["name"])
                for item in properties
            }
            for wanted in sorted({"resourceGroup", "newOrExisting"} - read):
                yield f"{element['name']}: no output reads {wanted}"


def the_location_is_an_output(form: Form, _template: Form) -> Iterator[str]:
    """8. The region is the one that the form asks for."""
    if outputs(form).get("location") != "[location()]":
        yield "output location is not [location()]"


def outputs_are_parameters(form: Form, template: Form) -> Iterator[str]:
    """9. Every output is a parameter, in the same case."""
    for name in outputs(form):
        if name not in template["parameters"] and name.lower() not in MANAGED_APP:
            yield f"output {name} is no parameter"


def required_parameters_are_outputs(form: Form, template: Form) -> Iterator[str]:
    """10. What has no default is asked for."""
    for name, parameter in template["parameters"].items():
        if not {"defaultValue", "nullable"} & parameter.keys() and name not in outputs(form):
            yield f"parameter {name} has no default and is no output"


def passwords_feed_secure_parameters(form: Form, template: Form) -> Iterator[str]:
    """11. What is typed as a secret stays one, and is used."""
    for place, element in elements(form):
        if kind(element) == "PasswordBox":
            found = feeds(form, place, element)
            if not found:
                yield f"{element['name']} feeds nothing"
            for name in found:
                if template["parameters"].get(name, {}).get("type") != "securestring":
                    yield f"{element['name']} feeds {name}, which is not secure"


def passwords_have_a_least_length(form: Form, _template: Form) -> Iterator[str]:
    """12. A secret's regex is valid and asks for twelve characters."""
    for _, element in elements(form):
        if kind(element) == "PasswordBox":
            regex = element.get("constraints", {}).get("regex", "")
            least = sum(int(number) for number in re.findall(r"\{(\d+)", regex))
            if not is_regex(regex) or least < 12:
                yield f"{element['name']}: {regex!r} asks for {least} characters"


def text_boxes_are_constrained(form: Form, _template: Form) -> Iterator[str]:
    """13. A text has a valid regex with bounds, and a message."""
    for _, element in elements(form):
        if kind(element) == "TextBox":
            constraints = element.get("constraints", {})
            regex = constraints.get("regex", "")
            if not is_regex(regex) or not re.search(r"\{\d", regex):
                yield f"{element['name']}: no valid regex with a length"
            if not constraints.get("validationMessage"):
                yield f"{element['name']}: no validationMessage"


def controls_have_tool_tips(form: Form, _template: Form) -> Iterator[str]:
    """14. Every control that is filled in says what it is for."""
    for _, element in elements(form):
        if kind(element) not in WITHOUT_TOOLTIP and not element.get("toolTip"):
            yield f"{element['name']} has no toolTip"


def user_names_have_no_default(form: Form, _template: Form) -> Iterator[str]:
    """15. A user name has no default."""
    for _, element in elements(form):
        if kind(element) == "UserNameTextBox" and "defaultValue" in element:
            yield f"{element['name']} has a default"


def sizes_match_the_template(form: Form, template: Form) -> Iterator[str]:
    """16. A size that the template prefers is among those that are offered."""
    for place, element in elements(form):
        if kind(element) == "SizeSelector":
            sizes = element.get("constraints", {}).get("allowedSizes", [])
            for name in feeds(form, place, element):
                if template["parameters"][name].get("defaultValue") not in sizes:
                    yield f"{element['name']} does not offer the default of {name}"


def validations_have_messages(form: Form, _template: Form) -> Iterator[str]:
    """17. Whatever is refused is refused in words."""

    def lists(value: object) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            yield from value.get("validations", [])
            for item in value.values():
                yield from lists(item)
        elif isinstance(value, list):
            for item in value:
                yield from lists(item)

    for validation in lists(form):
        if not validation.get("message"):
            yield f"{sorted(validation)} has no message"


# --- what they miss -------------------------------------------------------------------------


def every_reference_leads_somewhere(form: Form, _template: Form) -> Iterator[str]:
    """Anywhere in the form: the control exists, is no later step's, and has that property."""
    known = {(place, element["name"]): element for place, element in elements(form)}
    order = ["basics", *(step["name"] for step in form["parameters"]["steps"]), "outputs"]
    places = [("basics", form["parameters"]["basics"]), ("outputs", outputs(form))]
    places += [(step["name"], step) for step in form["parameters"]["steps"]]
    for here, part in places:
        for path, text in strings(part):
            for place, control, properties in references(text):
                element = known.get((place, control))
                if element is None:
                    yield f"{here}{path}: {place}.{control} is not there"
                    continue
                if order.index(place) > order.index(here):
                    yield f"{here}{path} reads the later step {place}"
                if properties and not has(element, properties):
                    yield f"{here}{path}: {control} has no {'.'.join(properties)}"


def has(element: dict[str, Any], properties: list[str]) -> bool:
    """Whether a control gives what is read behind it."""
    if kind(element) == "ArmApiControl":
        return True  # what Azure answers
    first, *more = properties
    if first not in PROPERTIES.get(kind(element), set()):
        return False
    if first != "subnets":
        return not more
    name, *rest = more or [""]
    return name in element["subnets"] and rest in ([], ["name"], ["addressPrefix"], ["id"])


def expressions_are_well_formed(form: Form, _template: Form) -> Iterator[str]:
    """Brackets and quotes close, and every function is one that forms have."""
    for path, text in strings(form):
        if not text.startswith("["):
            continue
        bare = re.sub(r"'(?:[^']|'')*'", "''", text)
        pairs = [("[", "]"), ("(", ")")]
        if not text.endswith("]") or any(bare.count(a) != bare.count(b) for a, b in pairs):
            yield f"{path}: {text} does not close"
        if bare.replace("''", "").count("'"):
            yield f"{path}: a quote does not close"
        for name in re.findall(r"\b([a-zA-Z]+)\(", bare):
            if name not in FUNCTIONS:
                yield f"{path}: there is no function {name}"


def names_are_unique(form: Form, _template: Form) -> Iterator[str]:
    """No two steps, and no two controls of a step, have one name, in whatever case."""
    names = Counter((place, element["name"].lower()) for place, element in elements(form))
    names += Counter(("steps", step["name"].lower()) for step in form["parameters"]["steps"])
    yield from (f"{place}.{name} is there {n} times" for (place, name), n in names.items() if n > 1)


def every_control_is_known(form: Form, _template: Form) -> Iterator[str]:
    """Its type is one that the portal has; every step has a label."""
    for _, element in elements(form):
        namespace, _, name = element["type"].rpartition(".")
        if name not in CONTROLS.get(namespace, set()):
            yield f"{element['name']} is of the unknown type {element['type']}"
    for step in form["parameters"]["steps"]:
        if not step.get("label"):
            yield f"step {step['name']} has no label"


def every_control_is_used(form: Form, _template: Form) -> Iterator[str]:
    """What is asked for is read by an output or by another control."""
    read = {(place, name) for _, text in strings(form) for place, name, _ in references(text)}
    for place, element in elements(form):
        used = (place, element["name"]) in read
        if not used and kind(element) not in {"InfoBox", "TextBlock", "Section"}:
            yield f"{element['name']} is asked for and not used"


def secure_parameters_are_typed_as_secrets(form: Form, template: Form) -> Iterator[str]:
    """A secret is never in a plain text box, nor shown in a text."""
    boxes = {(p, e["name"]) for p, e in elements(form) if kind(e) == "PasswordBox"}
    for name, value in outputs(form).items():
        if template["parameters"].get(name, {}).get("type") == "securestring":
            read = {
                (place, control)
                for _, text in strings(value)
                for place, control, _ in references(text)
            }
            plain = {item for item in read - boxes if item[1] != "uploader"}
            yield from (f"{name} is typed in the plain {control}" for _, control in sorted(plain))
    for place, element in elements(form):
        for path, text in strings(element):
            shown = {(where, control) for where, control, _ in references(text)} & boxes
            yield from (
                f"{place}.{element['name']}{path} shows {item[1]}" for item in sorted(shown)
            )


def types_are_the_parameters(form: Form, template: Form) -> Iterator[str]:
    """An output that is one control gives what its parameter takes."""
    gives = {
        "CheckBox": "bool",
        "Slider": "int",
        "TextBox": "string",
        "PasswordBox": "securestring",
    }
    for place, element in elements(form):
        for name in feeds(form, place, element):
            value = outputs(form)[name]
            parameter = template["parameters"].get(name, {})
            wanted = parameter.get("type")
            if value == direct(place, element["name"]) and wanted != gives.get(
                kind(element), wanted
            ):
                yield f"{element['name']} gives no {wanted}, as {name} wants"
    for name, value in outputs(form).items():
        wanted = template["parameters"].get(name, {}).get("type")
        if isinstance(value, str) and value.startswith("[string(") and wanted != "string":
            yield f"{name} is given a text"
        if wanted in {"bool", "int"} and isinstance(value, str) and not value.startswith("["):
            yield f"{name} is given a text"


def direct(place: str, name: str) -> str:
    """Return the expression that reads one control and nothing else."""
    return f"[basics('{name}')]" if place == "basics" else f"[steps('{place}').{name}]"


def ranges_are_the_parameters(form: Form, template: Form) -> Iterator[str]:
    """A slider's ends and a text's length are those of the parameter that they feed."""
    for place, element in elements(form):
        for name in feeds(form, place, element):
            parameter = template["parameters"].get(name, {})
            if kind(element) == "Slider":
                ends = (parameter.get("minValue"), parameter.get("maxValue"))
                if (element["min"], element["max"]) != ends:
                    yield f"{element['name']} is not from {ends[0]} to {ends[1]}"
            if kind(element) == "TextBox" and "minLength" in parameter:
                bounds = f"{{{parameter['minLength']},{parameter['maxLength']}}}"
                if not element["constraints"]["regex"].endswith(f"{bounds}$"):
                    yield f"{element['name']} takes other lengths than {bounds}"


def defaults_are_the_parameters(form: Form, template: Form) -> Iterator[str]:
    """A form left as it is gives the template's defaults; each default matches its regex."""
    for place, element in elements(form):
        default = element.get("defaultValue")
        if kind(element) == "TextBox" and (default or not required(element)):
            regex = element.get("constraints", {}).get("regex", "")
            if not re.fullmatch(regex.removeprefix("^").removesuffix("$"), default or ""):
                yield f"{element['name']}: its default {default!r} is refused by its regex"
        labels = {
            item["label"]: item["value"]
            for item in element.get("constraints", {}).get("allowedValues", [])
        }
        if labels and default not in labels:
            yield f"{element['name']}: its default is not among its values"
        for name in feeds(form, place, element):
            plain = outputs(form)[name] == direct(place, element["name"])
            plain = plain and kind(element) != "PasswordBox"  # which has no default
            wanted = template["parameters"].get(name, {}).get("defaultValue")
            given = labels.get(default, default) if labels else default
            computed = isinstance(wanted, str) and wanted.startswith("[")
            if plain and wanted is not None and not computed and given != wanted:
                yield f"{element['name']}: default {given!r}, the template's is {wanted!r}"
            if kind(element) == "DropDown" and given != wanted:
                yield f"{element['name']}: default {given!r}, the template's is {wanted!r}"


def required(element: dict[str, Any]) -> bool:
    """Whether a control must be filled in."""
    return bool(element.get("constraints", {}).get("required"))


def is_regex(text: str) -> bool:
    """Whether a text is a regular expression, and not empty."""
    try:
        re.compile(text)
    except re.error:
        return False
    return bool(text)


MICROSOFTS: Final[tuple[Rule, ...]] = (
    allowed_values_are_allowed,
    outputs_read_controls,
    nothing_is_blank,
    the_schema_is_named,
    secrets_are_confirmed,
    the_handler_is_known,
    existing_resources_are_handled,
    the_location_is_an_output,
    outputs_are_parameters,
    required_parameters_are_outputs,
    passwords_feed_secure_parameters,
    passwords_have_a_least_length,
    text_boxes_are_constrained,
    controls_have_tool_tips,
    user_names_have_no_default,
    sizes_match_the_template,
    validations_have_messages,
)

OURS: Final[tuple[Rule, ...]] = (
    every_reference_leads_somewhere,
    expressions_are_well_formed,
    names_are_unique,
    every_control_is_known,
    every_control_is_used,
    secure_parameters_are_typed_as_secrets,
    types_are_the_parameters,
    ranges_are_the_parameters,
    defaults_are_the_parameters,
)
