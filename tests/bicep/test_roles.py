"""Who may do what: each role once, as narrow as its calls allow, for the app's identity."""

import re
import uuid

import pytest

from common.queues import _ROLE
from tests.bicep.compiled import BICEP, EXAMPLES, Resource, resources, template

ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "ab8e14d6-4a74-4a29-9ba8-549422addade": "Microsoft Sentinel Contributor",
}
"""learn.microsoft.com/azure/role-based-access-control/built-in-roles, read 2026-11-22."""

SCOPES = {
    "Storage Blob Data Owner": "storageAccounts",
    "Storage Queue Data Contributor": "queueServices/queues",
    "Storage Table Data Contributor": "tableServices/tables",
    "Monitoring Metrics Publisher": "components",
    "Key Vault Secrets User": "vaults",
    "Microsoft Sentinel Contributor": "workspaces",
}
"""What a role is assigned on: queues and tables one by one, as what else is there is not ours."""

ASSIGNMENT = "Microsoft.Authorization/roleAssignments"


def role(assignment: Resource) -> str:
    """Return the role's name."""
    return ROLES[assignment.properties["roleDefinitionId"].rpartition("/")[2]]


def scope(assignment: Resource) -> list[str]:
    """Return the parts of what the role is for, as Microsoft.Web, sites, name."""
    return assignment.id.split("/providers/")[1].split("/")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_roles_are_the_ones_that_are_needed(example: str) -> None:
    """Each role on what it is for; on every queue and table of ours, and on no more."""
    found = resources(example, ASSIGNMENT)
    for assignment in found:
        _, *parts = scope(assignment)
        kinds = "/".join(parts[::2])
        assert kinds.removeprefix("storageAccounts/") == SCOPES[role(assignment)]
    kinds_of = [role(assignment) for assignment in found]
    queues = resources(example, "Microsoft.Storage/storageAccounts/queueServices/queues")
    tables = resources(example, "Microsoft.Storage/storageAccounts/tableServices/tables")
    for name in ROLES.values():
        number = {"Storage Queue Data Contributor": len(queues)}
        number |= {"Storage Table Data Contributor": len(tables)}
        assert kinds_of.count(name) == number.get(name, 1), name
    assert len({assignment.id for assignment in found}) == len(found)


@pytest.mark.parametrize("example", EXAMPLES)
def test_they_are_all_for_the_apps_identity(example: str) -> None:
    """Its object id, not its client id; only the role on the workspace may be an application's."""
    (identity,) = resources(example, "Microsoft.ManagedIdentity/userAssignedIdentities")
    for assignment in resources(example, ASSIGNMENT):
        assert assignment.properties["principalType"] == "ServicePrincipal"
        principal = assignment.properties["principalId"]
        if example == "application" and role(assignment) == "Microsoft Sentinel Contributor":
            assert principal == "22222222-2222-2222-2222-222222222222"
        else:
            assert principal.startswith(f"[reference('{identity.id}'")
            assert principal.endswith(").principalId]")


def test_an_assignment_has_a_name_of_its_own() -> None:
    """A GUID that another deployment makes again, from scope, role and who it is for."""
    names = {
        example: sorted(item.name for item in resources(example, ASSIGNMENT))
        for example in EXAMPLES
    }
    assert all(uuid.UUID(name) for found in names.values() for name in found)
    assert names["all-new"] == names["private-inbound"]
    assert len(set(names["application"]) - set(names["all-new"])) == 1  # the uploader's


@pytest.mark.parametrize("file", ["storage", "key-vault", "monitoring", "sentinel"])
def test_an_assignment_says_why(file: str) -> None:
    """A comment names the call that needs it."""
    source = (BICEP / "modules" / f"{file}.bicep").read_text(encoding="utf-8")
    before = re.findall(r"(.*)\nresource \w+ 'Microsoft.Authorization/roleAssignments@", source)
    assert before
    assert all(line.startswith("// ") for line in before)


def test_an_application_gets_its_role_only_when_asked() -> None:
    """It may have the role already, as after the official connector: a second one is refused."""
    parameter = template()["parameters"]["assignSentinelRole"]
    assert parameter["defaultValue"] == "[empty(parameters('applicationClientId'))]"


def test_the_code_names_the_role_that_the_template_assigns() -> None:
    """An error about a queue tells the operator the same role."""
    assert _ROLE in ROLES.values()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_workspace_may_be_anywhere(example: str) -> None:
    """Role, page and workbook are made in the workspace's own subscription and group."""
    workspace = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/"
    there = [item for item in resources(example) if item.id.startswith(workspace)]
    assert {item.type for item in there} == {
        ASSIGNMENT,
        "Microsoft.SecurityInsights/dataConnectors",
        "Microsoft.Insights/workbooks",
    }
