"""Wrong input is refused before any resource is made: all that is made needs the refusals."""

import re
from typing import Any

import pytest

from tests.bicep.compiled import modules, template, texts

NEVER_MADE = "none"
"""The module that only carries a condition: what is refused about a secret."""


def needed(value: object) -> set[str]:
    """Return the variables of main.json that a value needs, and those that these need."""
    variables: dict[str, Any] = template()["variables"]
    found: set[str] = set()
    waiting = [value]
    while waiting:
        for text in texts(waiting.pop()):
            new = set(re.findall(r"variables\('(\w+)'\)", text)) - found
            found |= new
            waiting += [variables[name] for name in new]
    return found


@pytest.mark.parametrize("name", sorted(modules().keys() - {NEVER_MADE}))
def test_every_module_needs_the_refusals(name: str) -> None:
    """Azure works out scope and parameters first, and fails there."""
    module = modules()[name]
    scope = [module.get("resourceGroup"), module.get("subscriptionId")]
    assert "refused" in needed([scope, module["properties"]["parameters"]])


def test_nothing_is_made_but_by_modules() -> None:
    """A resource of main.bicep itself would be seen by no test above."""
    assert set(template()["resources"]) == set(modules())


def test_a_refused_secret_fails_in_a_condition() -> None:
    """A module that makes nothing carries it: no condition reads what a resource gives."""
    module = modules()[NEVER_MADE]
    assert "failSecret" in module["condition"]
    assert "reference(" not in module["condition"]
    assert module["properties"]["template"]["resources"] == []
