"""Each value arrives where it belongs: from module to module, and into the app's settings.

A template in which two addresses are swapped parses, fits every type, and uses every name. So the
rule is that a value keeps its name on its way; where it cannot, it is listed here.
"""

import re
from collections.abc import Iterator

import pytest

from tests.bicep.template import (
    BICEP,
    MAIN,
    ModuleCall,
    Name,
    Value,
    dotted,
    load,
    names_behind,
    names_in,
)

MAIN_TEMPLATE = load(MAIN)
APP = load(BICEP / "modules/function-app.bicep")
VAULT = load(BICEP / "modules/key-vault.bicep")

RENAMED = {
    "applicationInsightsConnectionString": {"monitoring.outputs.connectionString"},
    "clientId": {"applicationClientId", "identity.outputs.clientId"},
    "clientSecret": {"applicationClientSecret"},
    "emailAddress": {"alertEmail"},
    "functionAppName": {"functionApp.outputs.appName"},
    "identityClientId": {"identity.outputs.clientId"},
    "logRequests": {"logStorageRequests"},
    "logWorkspaceId": {"logWorkspaceResourceId"},
    "virtualNetworkId": {"networkId"},
    "workspaceId": {"existingSentinelWorkspace.properties.customerId", "sentinelWorkspaceId"},
    "workspaceName": {"sentinelWorkspace"},
}
"""Arguments whose value has another name in main.bicep."""

ELSEWHERE = {"actionGroupIds", "dnsZoneId", "principalId", "subnetId", "targetId", "zoneName"}
"""Arguments that differ from use to use: below, or in test_network and test_roles."""

OUTPUTS = {
    "identity": {
        "identityId": "identity.id",
        "clientId": "identity.properties.clientId",
        "principalId": "identity.properties.principalId",
    },
    "storage": {
        "accountId": "account.id",
        "accountName": "account.name",
        "blobEndpoint": "account.properties.primaryEndpoints.blob",
        "queueEndpoint": "account.properties.primaryEndpoints.queue",
        "tableEndpoint": "account.properties.primaryEndpoints.table",
        "deploymentContainerName": "deploymentContainer.name",
    },
    "monitoring": {
        "componentId": "component.id",
        "connectionString": "component.properties.ConnectionString",
    },
    "function-app": {
        "appId": "app.id",
        "appName": "app.name",
        "hostName": "app.properties.defaultHostName",
    },
    "private-dns-zone": {"zoneId": "zone.id"},
    "action-group": {"actionGroupId": "actionGroup.id"},
}
"""What modules hand on, by file."""


def branches(value: Value) -> Iterator[Value]:
    """Yield what a value may become: itself, or each branch of a condition."""
    match value:
        case {"operator": {"type": "conditional", "operands": operands}}:
            yield from branches(operands["true_value"])
            yield from branches(operands["false_value"])
        case _:
            yield value


def choice(value: Value) -> tuple[Value, str, str]:
    """Return a condition and the names in its branches."""
    operands = value["operator"]["operands"]
    return operands["condition"], dotted(operands["true_value"]), dotted(operands["false_value"])


@pytest.mark.parametrize("call", MAIN_TEMPLATE.modules.values(), ids=lambda call: call.symbol)
def test_a_value_keeps_its_name(call: ModuleCall) -> None:
    """A module's argument is the value of the same name, or the one listed above."""
    for name, value in call.arguments.items():
        if name in ELSEWHERE:
            continue
        names = [dotted(item) for item in branches(value) if isinstance(item, Name | dict)]
        for source in filter(None, names):
            known = RENAMED.get(name, {source if source.endswith(f".{name}") else name})
            assert source in known, f"{name}: {source}"


def test_constants_are_written_once() -> None:
    """A module is told a fixed text only where that is the one place for it."""
    written = {
        (call.symbol, name): value
        for call in MAIN_TEMPLATE.modules.values()
        for name, value in call.arguments.items()
        if isinstance(value, str) and not isinstance(value, Name) and "${" not in value
        if name != "groupId"
    }
    assert written == {("storage", "deploymentContainerName"): "deployments"}


@pytest.mark.parametrize("module", OUTPUTS)
def test_an_output_is_what_its_name_says(module: str) -> None:
    """Each output is the property of the resource that it is named after."""
    outputs = load(BICEP / f"modules/{module}.bicep").outputs
    assert {name: dotted(value) for name, value in outputs.items()} == OUTPUTS[module]


def test_the_cloud_is_the_chosen_one() -> None:
    """What differs between the clouds is looked up by the parameter, in every place."""
    uses = re.findall(r": clouds(.*)\.(\w+)$", MAIN_TEMPLATE.source, re.MULTILINE)
    assert {index for index, _ in uses} == {"[cloud]"}
    assert {key for _, key in uses} == set(MAIN_TEMPLATE.variables["clouds"]["AzureCloud"])


def test_main_hands_on_what_it_says() -> None:
    """What is read after a deployment, by people and by azd, is what its name says."""
    outputs = {name: dotted(value) for name, value in MAIN_TEMPLATE.outputs.items()}
    assert {name: outputs[name] for name in sorted(outputs) if "." in outputs[name]} == {
        "AZURE_FUNCTION_NAME": "functionApp.outputs.appName",
        "AZURE_FUNCTION_URL": "https://${functionApp.outputs.hostName}",
        "AZURE_KEY_VAULT_NAME": "vault.outputs.vaultName",
        "AZURE_STORAGE_NAME": "storage.outputs.accountName",
        "PIPELINE_CLIENT_ID": "identity.outputs.clientId",
        "PIPELINE_PRINCIPAL_ID": "identity.outputs.principalId",
    }


def test_each_secret_has_its_place() -> None:
    """The Lumen key and the client secret: parameter, secret, address and setting belong together.

    An empty one is not written, so that a deployment without it keeps what the vault has.
    """
    names = {"lumenApiKey": "lumen-api-key", "clientSecret": "sentinel-client-secret"}
    for parameter, secret in names.items():
        resource = VAULT.resources[f"{parameter}Secret"]
        assert VAULT.variables[f"{parameter}Name"] == secret
        assert resource.body["name"] == f"{parameter}Name"
        assert resource.body["properties"]["value"] == parameter
        assert resource.condition["operator"]["type"] == "not"
        assert names_in(VAULT, resource.condition) == {parameter}
        address = f"${{vault.properties.vaultUri}}secrets/${{{parameter}Name}}"
        assert VAULT.outputs[f"{parameter}Uri"] == address


def test_who_uploads_is_who_signs_in() -> None:
    """With an application its id and its secret, without one the app's identity and no secret."""
    arguments = MAIN_TEMPLATE.modules["functionApp"].arguments
    application, identity = "applicationClientId", "identity.outputs.clientId"
    assert choice(arguments["clientId"]) == ("useApplication", application, identity)
    assert choice(arguments["clientSecretUri"]) == (
        "useApplication",
        "vault.outputs.clientSecretUri",
        "",
    )
    chosen = MAIN_TEMPLATE.variables["useApplication"]
    assert chosen["operator"]["type"] == "not"
    assert names_in(MAIN_TEMPLATE, chosen) == {application}


def test_the_workspaces_guid_is_read_only_where_it_is_not_given() -> None:
    """Whoever may not read the workspace gives its GUID."""
    condition, read, given = choice(MAIN_TEMPLATE.modules["functionApp"].arguments["workspaceId"])
    assert condition["function"]["type"] == "empty"
    assert names_in(MAIN_TEMPLATE, condition) == {given} == {"sentinelWorkspaceId"}
    assert read == "existingSentinelWorkspace.properties.customerId"


def test_the_hosts_settings_have_their_values() -> None:
    """Host, queue triggers and telemetry reach storage and sign in as the app's own identity.

    Names and forms: learn.microsoft.com/azure/azure-functions/functions-reference#connections and
    learn.microsoft.com/azure/azure-functions/functions-app-settings, read 2026-11-22.
    """
    settings = {
        entry["name"]: entry["value"]
        for name in ("hostSettings", "storageSettings")
        for entry in APP.variables[name]
    }
    assert settings == {
        "AzureWebJobsStorage__blobServiceUri": "blobEndpoint",
        "AzureWebJobsStorage__queueServiceUri": "queueEndpoint",
        "AzureWebJobsStorage__tableServiceUri": "tableEndpoint",
        "AzureWebJobsStorage__credential": "managedidentity",
        "AzureWebJobsStorage__clientId": "identityClientId",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": "applicationInsightsConnectionString",
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": (
            "ClientId=${identityClientId};Authorization=AAD"
        ),
        "PYTHON_THREADPOOL_THREAD_COUNT": "24",
        "PipelineStorage__queueServiceUri": "queueEndpoint",
        "PipelineStorage__tableServiceUri": "tableEndpoint",
        "PipelineStorage__credential": "managedidentity",
        "PipelineStorage__clientId": "identityClientId",
    }


def test_a_pipeline_setting_is_made_of_the_parameter_of_its_name() -> None:
    """LUMEN_SCHEDULE of lumenSchedule, and so on; secrets of their addresses."""
    for entry in [*APP.variables["pipelineSettings"], *APP.variables["applicationSettings"]]:
        words = entry["name"].split("_")
        parameter = words[0].lower() + "".join(word.title() for word in words[1:])
        (name,) = names_in(APP, entry["value"])
        assert name.removesuffix("Uri") == parameter, entry["name"]


def test_switches_are_not_turned_round() -> None:
    """What is true in the template is `true` in the settings."""
    settings = {entry["name"]: entry["value"] for entry in APP.variables["pipelineSettings"]}
    for name in ("LUMEN_ENABLE_IPV4", "LUMEN_ENABLE_DOMAIN"):
        assert choice(settings[name])[1:] == ("true", "false")


def test_the_app_fetches_its_code_as_its_own_identity() -> None:
    """The one identity is the app's, reads its package and resolves its references.

    learn.microsoft.com/azure/azure-functions/flex-consumption-how-to, read 2026-11-22.
    """
    body = APP.resources["app"].body
    assert body["identity"] == {
        "type": "UserAssigned",
        "userAssignedIdentities": {"'${identityId}'": {}},
    }
    assert APP.resources["plan"].body["sku"] == {"name": "FC1", "tier": "FlexConsumption"}
    properties = body["properties"]
    assert dotted(properties["serverFarmId"]) == "plan.id"
    assert properties["functionAppConfig"]["deployment"]["storage"] == {
        "type": "blobContainer",
        "value": "${blobEndpoint}${deploymentContainerName}",
        "authentication": {
            "type": "UserAssignedIdentity",
            "userAssignedIdentityResourceId": "identityId",
        },
    }
    assert properties["keyVaultReferenceIdentity"] == "identityId"
    assert properties["virtualNetworkSubnetId"] == "subnetId"


def test_always_ready_instances_are_the_uploaders() -> None:
    """`function:<name>` names one function's scale group; none is asked for by default."""
    assert APP.variables["alwaysReady"] == [
        {"name": "function:sentinel_upload", "instanceCount": "alwaysReadyUploadInstances"}
    ]
    scale = APP.resources["app"].body["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    operands = scale["alwaysReady"]["operator"]["operands"]
    assert (operands["true_value"], operands["false_value"]) == ("alwaysReady", [])
    assert MAIN_TEMPLATE.parameters["alwaysReadyUploadInstances"].default == 0


def test_zone_redundancy_reaches_plan_and_storage() -> None:
    """One switch spreads both: an app in three zones on storage in one would be no gain."""
    storage = load(BICEP / "modules/storage.bicep").resources["account"]
    condition, yes, no = choice(storage.body["sku"]["name"])
    assert (condition, yes, no) == ("zoneRedundant", "Standard_ZRS", "Standard_LRS")
    assert APP.resources["plan"].body["properties"]["zoneRedundant"] == "zoneRedundant"


def test_names_are_short_enough_and_unlike() -> None:
    """11 characters of prefix and 13 of `uniqueString` are the 24 that a storage account takes;
    and no two resources of a kind get the same name."""
    assert MAIN_TEMPLATE.parameters["functionNamePrefix"].decorators["max_length"] == 11
    names = [
        (call.path.stem, value)
        for call in MAIN_TEMPLATE.modules.values()
        for value in call.arguments.values()
        if isinstance(value, str) and "${suffix}" in value
    ]
    assert len(names) == len(set(names)) == len(MAIN_TEMPLATE.source.split("${suffix}")) - 1


def test_what_is_behind_a_value_is_found() -> None:
    """The search follows variables, interpolations and conditions to the parameters."""
    vault = MAIN_TEMPLATE.modules["vault"].arguments
    assert names_behind(MAIN_TEMPLATE, vault["vaultName"]) >= {"suffix", "functionNamePrefix"}
    assert "createVirtualNetwork" in names_behind(
        MAIN_TEMPLATE, MAIN_TEMPLATE.variables["functionSubnetId"]
    )
