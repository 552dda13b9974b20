"""A customer's wrong input is refused in words, before any resource is made."""

import shutil
from pathlib import Path

import pytest

from scripts.compiler import Compiler, RefusedError
from tests.bicep.compiled import BICEP
from tests.compiler.inputs import GUID, NETWORK, WORKSPACE, predict

STORAGE = WORKSPACE.replace(
    "Microsoft.OperationalInsights/workspaces", "Microsoft.Storage/storageAccounts"
)
NO_WORKSPACE = (
    "is not the resource id of a Microsoft.OperationalInsights/workspaces: /subscriptions"
)
NO_NETWORK = (
    f'virtualNetworkResourceId "{WORKSPACE}" is not the resource id of a '
    "Microsoft.Network/virtualNetworks"
)
ROLE = (
    "assignSentinelRole is true for an application, and applicationPrincipalId is empty: give the "
    "object id of its service principal, or set assignSentinelRole to false"
)
ALONE = "is given and applicationClientId is empty: give both, or none for the managed identity"
TAKEN = "the template sets that from a parameter of its own, or Flex Consumption does not allow it"
ZONE = NETWORK.replace("virtualNetworks", "privateDnsZones")
ZONES = dict.fromkeys(("blob", "queue", "table", "vault"), "/subscriptions/x")

REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "credential: not a day": (
        {"applicationCredentialEnds": "31.01.2027"},
        'applicationCredentialEnds "31.01.2027" is not a day: write it as 2027-01-31',
    ),
    "alerts in Sentinel: telemetry elsewhere": (
        {"alertsInSentinel": True},
        "alertsInSentinel needs telemetry in Sentinel's workspace: give its id as logWorkspaceRes",
    ),
    "prefix: hyphen": (
        {"functionNamePrefix": "lumen-feed"},
        'functionNamePrefix "lumen-feed" holds something else than letters and digits',
    ),
    "prefix: underscore": ({"functionNamePrefix": "lumen_feed"}, 'Prefix "lumen_feed" holds'),
    "prefix: blank": ({"functionNamePrefix": "lumen feed"}, 'Prefix "lumen feed" holds'),
    "prefix: umlaut": ({"functionNamePrefix": "l\u00fcmen"}, "holds something else than letters"),
    "prefix: hyphens": ({"functionNamePrefix": "---"}, 'functionNamePrefix "---" holds'),
    "cloud": ({"cloud": "AzureChinaCloud"}, 'cloud "AzureChinaCloud" is not one of AzureCloud, '),
    "workspace: a storage account": (
        {"sentinelWorkspaceResourceId": STORAGE},
        f'sentinelWorkspaceResourceId "{STORAGE}" {NO_WORKSPACE}',
    ),
    "workspace: a name": (
        {"sentinelWorkspaceResourceId": "soc-sentinel"},
        f'sentinelWorkspaceResourceId "soc-sentinel" {NO_WORKSPACE}',
    ),
    "workspace: empty": (
        {"sentinelWorkspaceResourceId": ""},
        f'sentinelWorkspaceResourceId "" {NO_WORKSPACE}',
    ),
    "workspace: no slash": ({"sentinelWorkspaceResourceId": WORKSPACE[1:]}, NO_WORKSPACE),
    "workspace: a blank that was copied along": (
        {"sentinelWorkspaceResourceId": f"{WORKSPACE} "},
        f'sentinelWorkspaceResourceId "{WORKSPACE} " {NO_WORKSPACE}',
    ),
    "workspace: a slash behind it": (
        {"sentinelWorkspaceResourceId": f"{WORKSPACE}/"},
        f'sentinelWorkspaceResourceId "{WORKSPACE}/" {NO_WORKSPACE}',
    ),
    "workspace: empty group": (
        {"sentinelWorkspaceResourceId": WORKSPACE.replace("/soc/", "//")},
        NO_WORKSPACE,
    ),
    "log workspace": ({"logWorkspaceResourceId": NETWORK}, f'"{NETWORK}" {NO_WORKSPACE}'),
    "network: a workspace": (
        {"virtualNetworkResourceId": WORKSPACE},
        NO_NETWORK,
    ),
    "network: a name": (
        {"virtualNetworkResourceId": "corp-spoke-vnet"},
        'virtualNetworkResourceId "corp-spoke-vnet" is not',
    ),
    "workspace GUID": (
        {"sentinelWorkspaceId": "soc"},
        "sentinelWorkspaceId is not a GUID: copy the id from the Azure portal",
    ),
    "tenant": ({"tenantId": "contoso.com"}, "tenantId is not a GUID"),
    "operators": ({"operatorClientId": "api://ops"}, "operatorClientId is not a GUID"),
    "client id": ({"applicationClientId": "lumen"}, "applicationClientId is not a GUID"),
    "principal id": ({"applicationPrincipalId": "lumen"}, "applicationPrincipalId is not a GUID"),
    "application without its principal": (
        {"applicationClientId": GUID, "assignSentinelRole": True},
        ROLE,
    ),
    "principal without its application": (
        {"applicationPrincipalId": GUID},
        f"applicationPrincipalId {ALONE}",
    ),
    "schedule: five fields": (
        {"lumenSchedule": "*/15 * * * *"},
        'lumenSchedule "*/15 * * * *" does not have six fields',
    ),
    "override of ours": (
        {"settingOverrides": {"LUMEN_SCHEDULE": "0 0 * * * *"}},
        f"settingOverrides holds LUMEN_SCHEDULE: {TAKEN}",
    ),
    "override in other case": (
        {"settingOverrides": {"lumen_schedule": "0 0 * * * *"}},
        f"settingOverrides holds lumen_schedule: {TAKEN}",
    ),
    "override that Flex refuses": (
        {"settingOverrides": {"WEBSITE_RUN_FROM_PACKAGE": "1", "MAX_PAGES": "500"}},
        f"settingOverrides holds WEBSITE_RUN_FROM_PACKAGE: {TAKEN}",
    ),
    "override of a part of the host's storage": (
        {"settingOverrides": {"AzureWebJobsStorage__accountName": "other"}},
        f"settingOverrides holds AzureWebJobsStorage__accountName: {TAKEN}",
    ),
    "override of a part of the pipeline's storage": (
        {"settingOverrides": {"pipelinestorage__serviceUri": "https://other"}},
        f"settingOverrides holds pipelinestorage__serviceUri: {TAKEN}",
    ),
    "override of a whole connection": (
        {"settingOverrides": {"PipelineStorage": "UseDevelopmentStorage=true"}},
        f"settingOverrides holds PipelineStorage: {TAKEN}",
    ),
    "private inbound without endpoints": (
        {"privateInbound": True, "usePrivateEndpoints": False},
        "privateInbound needs a private endpoint: set usePrivateEndpoints to true",
    ),
    "zones: none": (
        {"privateDns": "existing"},
        "privateDnsZoneIds has no id for blob, queue, table, file, vault: with privateDns existing",
    ),
    "zones: no file": (
        {"privateDns": "existing", "privateDnsZoneIds": ZONES},
        "privateDnsZoneIds has no id for file:",
    ),
    "zones: no sites": (
        {
            "privateDns": "existing",
            "privateDnsZoneIds": ZONES,
            "createFileEndpoint": False,
            "privateInbound": True,
        },
        "privateDnsZoneIds has no id for sites:",
    ),
    "zones: a workspace": (
        {
            "privateDns": "existing",
            "createFileEndpoint": False,
            "privateDnsZoneIds": ZONES | {"queue": ZONE, "table": ZONE},
        },
        "privateDnsZoneIds names no zone for blob, vault: give /subscriptions/<id>",
    ),
    "NAT gateway: a name": (
        {"natGatewayId": "corp-nat"},
        'natGatewayId "corp-nat" is not the resource id of a Microsoft.Network/natGateways',
    ),
    "route table: a network": (
        {"routeTableId": NETWORK},
        f'routeTableId "{NETWORK}" is not the resource id of a Microsoft.Network/routeTables',
    ),
    "action group: a name": (
        {"alertActionGroupIds": ["soc"]},
        'alertActionGroupIds "soc" is not the resource id of a Microsoft.Insights/actionGroups',
    ),
    "callers: a name and an address": (
        {"allowedIpRanges": ["192.0.2.0/24", "office", "192.0.2.1"]},
        'allowedIpRanges holds "office", "192.0.2.1": write each as 192.0.2.0/24',
    ),
    "package: a file": (
        {"packageUri": "dist/app.zip"},
        "packageUri is not an https address: give that of a release package",
    ),
    "two NAT gateways": (
        {"createNatGateway": True, "natGatewayId": "/subscriptions/x"},
        "createNatGateway is true and natGatewayId names a gateway: choose one of the two",
    ),
    "subnet outside": (
        {"functionSubnetPrefix": "10.1.0.0/24"},
        "functionSubnetPrefix 10.1.0.0/24 is not within virtualNetworkPrefix 10.0.0.0/16",
    ),
    "endpoint subnet outside": (
        {"endpointSubnetPrefix": "10.1.0.0/24"},
        "endpointSubnetPrefix 10.1.0.0/24 is not within virtualNetworkPrefix 10.0.0.0/16",
    ),
    "subnet too small": (
        {"functionSubnetPrefix": "10.0.1.0/28"},
        "functionSubnetPrefix 10.0.1.0/28 is too small: /27 or larger is needed",
    ),
    "endpoint subnet too small": (
        {"endpointSubnetPrefix": "10.0.2.0/29"},
        "endpointSubnetPrefix 10.0.2.0/29 is too small: /28 or larger is needed",
    ),
    "subnets overlap": (
        {"endpointSubnetPrefix": "10.0.1.128/25"},
        "functionSubnetPrefix 10.0.1.0/24 and endpointSubnetPrefix 10.0.1.128/25 overlap",
    ),
    "subnets of one name": (
        {"endpointSubnetName": "FunctionApp-Subnet"},
        'functionSubnetName and endpointSubnetName are both "functionapp-subnet"',
    ),
    "underscore in the subnet's name": (
        {"functionSubnetName": "snet_functions"},
        'functionSubnetName "snet_functions" holds an underscore',
    ),
    "subnets of one name in an existing network": (
        {
            "virtualNetworkResourceId": NETWORK,
            "functionSubnetName": "snet-one",
            "endpointSubnetName": "Snet-One",
        },
        'functionSubnetName and endpointSubnetName are both "snet-one": name two subnets',
    ),
    "underscore in the name of an existing subnet": (
        {"virtualNetworkResourceId": NETWORK, "functionSubnetName": "snet_functions"},
        'functionSubnetName "snet_functions" holds an underscore',
    ),
    "host bits in the network": (
        {"virtualNetworkPrefix": "10.0.0.1/16"},
        "virtualNetworkPrefix 10.0.0.1/16 does not begin where its range does: write 10.0.0.0/16",
    ),
    "host bits in the function subnet": (
        {"functionSubnetPrefix": "10.0.1.5/24"},
        "functionSubnetPrefix 10.0.1.5/24 does not begin where its range does: write 10.0.1.0/24",
    ),
    "host bits in the endpoint subnet": (
        {"endpointSubnetPrefix": "10.0.2.128/24"},
        "endpointSubnetPrefix 10.0.2.128/24 does not begin where its range does: write 10.0.2.0/24",
    ),
    "names too long for a security group": (
        {"virtualNetworkName": "v" * 64, "endpointSubnetName": "snet-endpoints"},
        "virtualNetworkName and endpointSubnetName are too long: together they may have 75",
    ),
    "IPv6": (
        {"endpointSubnetPrefix": "fd00:1::/64"},
        "a prefix of the new network is of IPv6: write all of them as IPv4",
    ),
    "no length": (
        {"functionSubnetPrefix": "10.0.1.0"},
        "a prefix of the new network has no length: write each as an address with its length",
    ),
    "no range": (
        {"functionSubnetPrefix": "large/24"},
        "The specified CIDR 'large/24' is not valid",
    ),
    "an int as a setting": (
        {"settingOverrides": {"MAX_PAGES": 500}},
        '"MAX_PAGES" expected a value of type "string" but the provided value is of type "500"',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_input_is_refused_in_words(case: str, compiler: Compiler, tmp_path: Path) -> None:
    """The error names the parameter and the remedy."""
    inputs, sentence = REFUSED[case]
    with pytest.raises(RefusedError) as refused:
        predict(compiler, tmp_path, inputs)
    assert sentence in str(refused.value)


def test_all_that_is_wrong_is_in_one_error(compiler: Compiler, tmp_path: Path) -> None:
    """A customer corrects everything at once."""
    inputs: dict[str, object] = {
        "functionNamePrefix": "a_b",
        "lumenSchedule": "never",
        "functionSubnetPrefix": "10.9.0.0/30",
    }
    with pytest.raises(RefusedError) as refused:
        predict(compiler, tmp_path, inputs)
    for part in ('"a_b" holds', '"never" does not have six', "is not within", "is too small"):
        assert part in str(refused.value)


def test_a_secret_without_its_application_is_refused(compiler: Compiler, tmp_path: Path) -> None:
    """Azure knows the secret when it works out conditions; a snapshot must be shown it as text."""
    main = BICEP / "compiled" / "main.json"
    open_text = main.read_text(encoding="utf-8").replace('"securestring"', '"string"')
    given: dict[str, object] = {"applicationClientSecret": "hidden"}
    with pytest.raises(RefusedError) as refused:
        predict(compiler, tmp_path, given, template=open_text)
    assert f"applicationClientSecret {ALONE}" in str(refused.value)
    with_application = given | {"applicationClientId": GUID}
    assert predict(compiler, tmp_path, with_application, template=open_text)["predictedResources"]


def test_the_network_alone_refuses_the_same(compiler: Compiler, tmp_path: Path) -> None:
    """Deployed by its own button, it has no main.bicep before it."""
    path = tmp_path / "inputs.bicepparam"
    shutil.copy(BICEP / "compiled" / "network.json", tmp_path)
    path.write_text(
        "using 'network.json'\nparam functionSubnetPrefix = '10.0.1.5/28'\n", encoding="utf-8"
    )
    with pytest.raises(RefusedError) as refused:
        compiler.snapshot(path)
    for part in ("does not begin where its range does", "is too small"):
        assert part in str(refused.value)
