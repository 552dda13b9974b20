"""Every resource is what Azure Resource Manager says that its type is."""

from dataclasses import replace
from typing import Any

import pytest

from tests.bicep.arm_types import WRITTEN_TYPES, ResourceType
from tests.bicep.schema_check import BEYOND, BICEP_ONLY, Checker
from tests.bicep.template import BICEP, Name, Resource, Template, load, resources, templates
from tests.bicep.written_types import WRITTEN

SCALAR_PARAMETERS = {"string", "int", "bool", "array", "object"}


@pytest.mark.parametrize("template", templates(), ids=lambda item: item.name)
def test_resources_fit_their_types(template: Template, arm_types: dict[str, ResourceType]) -> None:
    """No property is unknown, misspelt, missing, read-only or of the wrong kind."""
    faults = [
        fault
        for resource in template.resources.values()
        if not resource.existing
        for fault in Checker(template=template, kind=arm_types[resource.type]).check(resource)
    ]
    assert faults == []


@pytest.mark.parametrize("template", templates(), ids=lambda item: item.name)
def test_existing_resources_are_read_in_the_described_version(
    template: Template, arm_types: dict[str, ResourceType]
) -> None:
    """A reference names its resource, where it is, and nothing that it cannot change."""
    for resource in template.resources.values():
        if resource.existing:
            assert resource.api_version == arm_types[resource.type].api_version
            assert set(resource.body) <= {"name", *BICEP_ONLY}


def account_with(**changes: Any) -> tuple[Template, Resource]:
    """Return the storage account with some properties of its body changed."""
    template = load(BICEP / "modules/storage.bicep")
    account = template.resources["account"]
    properties = {**account.body["properties"], **changes.pop("properties", {})}
    body = {**account.body, "properties": properties, **changes}
    return template, replace(account, body={k: v for k, v in body.items() if v is not ...})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"properties": {"minimumTlsVersoin": "TLS1_2"}}, "properties.minimumTlsVersoin is unkn"),
        ({"properties": {"primaryEndpoints": {}}}, "properties.primaryEndpoints is read-only"),
        ({"properties": {"allowSharedKeyAccess": "no"}}, "allowSharedKeyAccess is no bool"),
        ({"properties": {"minimumTlsVersion": "TLS1_4"}}, "minimumTlsVersion is 'TLS1_4'"),
        ({"properties": {"networkAcls": {"bypass": "None"}}}, "networkAcls.defaultAction is miss"),
        ({"properties": {"accessTier": Name("queueNames")}}, "the parameter queueNames is array"),
        ({"sku": ...}, "sku is missing"),
        ({"sku": {"name": "Standard_LSR"}}, "sku.name is 'Standard_LSR'"),
        ({"id": "x"}, "id is read-only"),
    ],
)
def test_the_check_finds_what_it_should(
    changes: dict[str, Any], fault: str, arm_types: dict[str, ResourceType]
) -> None:
    """Each kind of mistake in a storage account is found, and is the only one."""
    template, account = account_with(**changes)
    kind = arm_types["Microsoft.Storage/storageAccounts"]
    (found,) = Checker(template=template, kind=kind).check(account)
    assert fault in found


def test_another_version_than_the_described_one_is_found(
    arm_types: dict[str, ResourceType],
) -> None:
    """A resource is checked in the version it is deployed in, or not at all."""
    template, account = account_with()
    kind = arm_types["Microsoft.Storage/storageAccounts"]
    old = replace(account, api_version="2019-06-01")
    assert Checker(template=template, kind=kind).check(account) == []
    assert len(Checker(template=template, kind=kind).check(old)) == 1


def test_types_written_by_hand_are_whole() -> None:
    """Each part that such a type names is written down too, and each type is in use."""
    for kind in WRITTEN_TYPES.values():
        for node in [kind.body, *kind.parts.values()]:
            for item in node["properties"]:
                word = item["type"].removesuffix("[]")
                assert (
                    word in {"string", "int", "bool", "any", *kind.parts}
                    or " | " in word
                    or word == "GenericUI"
                )
    used = {resource.type for item in templates() for resource in item.resources.values()}
    assert set(WRITTEN) <= used


def test_what_goes_beyond_the_types_is_in_use() -> None:
    """An exception that no resource needs any more is struck off."""
    for name, path in BEYOND:
        (_, resource), *_ = resources(name)
        value: Any = resource.body
        for step in path.split("."):
            value = value[step]
        assert value


def test_the_update_strategy_is_one_that_is_documented() -> None:
    """What no type describes is held to the documentation here."""
    template = load(BICEP / "modules/function-app.bicep")
    config = template.resources["app"].body["properties"]["functionAppConfig"]
    assert config["siteUpdateStrategy"] == {"type": "siteUpdateStrategy"}
    allowed = template.parameters["siteUpdateStrategy"].decorators["allowed"]
    assert sorted(allowed) == ["Recreate", "RollingUpdate"]


@pytest.mark.parametrize("template", templates(), ids=lambda item: item.name)
def test_parameters_have_plain_types(template: Template) -> None:
    """Parameters use the types that every reader of Bicep knows, and say what they are for."""
    for name, parameter in template.parameters.items():
        assert parameter.type in SCALAR_PARAMETERS, name
        assert parameter.decorators.get("description", "").endswith("."), name
