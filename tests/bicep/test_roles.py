"""Who may do what: each role once, as narrow as its calls allow, with the call that needs it."""

import re

import pytest

from common.queues import _ROLE
from tests.bicep.template import BICEP, MAIN, Resource, Template, dotted, load, resources

ROLES = {
    "storageBlobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "storageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "monitoringMetricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "keyVaultSecretsUser": "4633458b-17de-408a-b874-0445c86b69e6",
    "microsoftSentinelContributor": "ab8e14d6-4a74-4a29-9ba8-549422addade",
}
"""learn.microsoft.com/azure/role-based-access-control/built-in-roles, read 2026-11-22."""

SCOPES = {
    "storageBlobDataOwner": "account",
    "storageQueueDataContributor": "queues",
    "storageTableDataContributor": "tables",
    "monitoringMetricsPublisher": "component",
    "keyVaultSecretsUser": "vault",
    "microsoftSentinelContributor": "workspace",
}

ASSIGNMENTS = list(resources("Microsoft.Authorization/roleAssignments"))


def role_of(resource: Resource) -> str:
    """Return the variable that names the role."""
    definition = resource.body["properties"]["roleDefinitionId"]["function"]
    assert definition["type"] == "subscription_resource_id"
    return str(definition["parameters"]["resource_name_1"])


def scope_of(resource: Resource) -> str:
    """Return the resource, or the loop's list of them, that the role is for."""
    scope = resource.body["scope"]
    if isinstance(scope, dict):
        scope = scope["operator"]["operands"]["operand_1"]
    return str(scope)


def test_the_roles_are_the_ones_that_are_needed() -> None:
    """Six roles, each assigned in one place, for one kind of thing."""
    assert {role_of(item): scope_of(item) for _, item in ASSIGNMENTS} == SCOPES
    assert len(ASSIGNMENTS) == len(SCOPES)
    assert all(item.condition is None for _, item in ASSIGNMENTS)


def test_they_are_all_for_the_apps_identity() -> None:
    """Its object id, not its client id; only the role on the workspace may be somebody else's."""
    for symbol in ("storageAccess", "vault", "monitoring"):
        call = load(MAIN).modules[symbol]
        assert call.condition is None
        assert dotted(call.arguments["principalId"]) == "identity.outputs.principalId"


def test_the_ids_are_those_of_the_roles() -> None:
    """A role is named by its id; a wrong digit would be another role or none."""
    declared = {
        name: value
        for template, _ in ASSIGNMENTS
        for name, value in template.variables.items()
        if name in ROLES
    }
    assert declared == ROLES


@pytest.mark.parametrize(
    ("template", "resource"), ASSIGNMENTS, ids=[item.symbol for _, item in ASSIGNMENTS]
)
def test_an_assignment_is_stable_and_says_why(template: Template, resource: Resource) -> None:
    """Its name derives from scope, identity and role; a comment names the call that needs it."""
    properties = resource.body["properties"]
    assert properties["principalId"] == "principalId"
    assert properties["principalType"] == "ServicePrincipal"
    name = resource.body["name"]["function"]
    assert name["type"] == "guid"
    parts = [str(part) for part in name["parameters"].values() if part]
    assert parts[1:] == ["principalId", role_of(resource)]
    before = template.source.split(f"resource {resource.symbol} ")[0].rstrip("\n")
    assert before.splitlines()[-1].startswith("//")


def test_queues_and_tables_get_their_roles_one_by_one() -> None:
    """What else is in the account is none of the pipeline's business."""
    access = load(BICEP / "modules/storage-access.bicep")
    assert access.resources["pipelineQueues"].loops_over == "queueNames"
    assert access.resources["ledgerTables"].loops_over == "tableNames"
    calls = load(MAIN).modules
    for name in ("queueNames", "tableNames"):
        assert calls["storageAccess"].arguments[name] == calls["storage"].arguments[name] == name


def test_the_code_names_the_role_that_the_template_assigns() -> None:
    """An error about a queue tells the operator the same role."""
    words = re.sub(r"(?<!^)([A-Z])", r" \1", "storageQueueDataContributor").title()
    assert words == _ROLE


def test_the_workspace_may_be_anywhere() -> None:
    """Its role is assigned where the workspace is, to who uploads, and only if wanted."""
    call = load(MAIN).modules["sentinelAccess"]
    # /subscriptions/<2>/resourceGroups/<4>/providers/Microsoft.OperationalInsights/workspaces/<8>
    place = "resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])"
    source = load(MAIN).source
    assert source.count(f"  scope: {place}\n") == source.count("  scope: ") == 3
    assert set(re.findall(r"(\w*[nN]ame): sentinelWorkspace\[(\d)\]", source)) == {
        ("name", "8"),
        ("workspaceName", "8"),
    }
    assert "if (assignSentinelRole && uploaderIsKnown)" in source
    assert "var uploaderIsKnown = (!useApplication) || (!empty(applicationPrincipalId))\n" in source
    who = call.arguments["principalId"]["operator"]["operands"]
    assert (who["condition"], who["true_value"]) == ("useApplication", "applicationPrincipalId")
    assert dotted(who["false_value"]) == "identity.outputs.principalId"
