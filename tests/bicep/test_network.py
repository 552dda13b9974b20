"""The network: what is closed, what leads in, and what has to be there first."""

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bicep.compiled import EXAMPLES, modules, only, resources, template

ENDPOINT = "Microsoft.Network/privateEndpoints"
GROUP = "Microsoft.Network/privateEndpoints/privateDnsZoneGroups"
ZONE = "Microsoft.Network/privateDnsZones"
LINK = "Microsoft.Network/privateDnsZones/virtualNetworkLinks"
ACCOUNT = "Microsoft.Storage/storageAccounts"
VAULT = "Microsoft.KeyVault/vaults"
SITE = "Microsoft.Web/sites"

WITH_ENDPOINTS = [name for name in EXAMPLES if name != "without-endpoints"]

REFUSED_BY_FLEX = {
    "alwaysOn",
    "ftpsState",
    "functionAppScaleLimit",
    "functionsRuntimeScaleMonitoringEnabled",
    "javaContainer",
    "javaContainerVersion",
    "javaVersion",
    "linuxFxVersion",
    "netFrameworkVersion",
    "nodeVersion",
    "phpVersion",
    "powerShellVersion",
    "preWarmedInstanceCount",
    "pythonVersion",
    "use32BitWorkerProcess",
    "vnetRouteAllEnabled",
    "windowsFxVersion",
}
"""What Flex Consumption refuses in siteConfig: with error 51021 on newer stamps, not on older ones.

github.com/microsoft/azure-pipelines-tasks/issues/21032, and issue 360 and pull request 345 of
github.com/Azure/terraform-azurerm-avm-res-web-site, read 2026-11-22.
"""


def subnets(example: str) -> list[dict[str, Any]]:
    """Return the subnets of a new network."""
    found: list[dict[str, Any]] = only(example, "Microsoft.Network/virtualNetworks").properties[
        "subnets"
    ]
    return found


def parts(example: str) -> dict[str, str]:
    """Return what the endpoints of an example lead to, by part."""
    found = {}
    for endpoint in resources(example, ENDPOINT):
        (connection,) = endpoint.properties["privateLinkServiceConnections"]
        (part,) = connection["properties"]["groupIds"]
        found[part] = connection["properties"]["privateLinkServiceId"]
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_storage_takes_tokens_only(example: str) -> None:
    """No shared key, no public blob, no other tenant, TLS 1.2; what is there is encrypted twice."""
    properties = only(example, ACCOUNT).properties
    assert properties["allowSharedKeyAccess"] is False
    assert properties["allowBlobPublicAccess"] is False
    assert properties["allowCrossTenantReplication"] is False
    assert properties["allowedCopyScope"] == "AAD"
    assert properties["isLocalUserEnabled"] is False
    assert properties["minimumTlsVersion"] == "TLS1_2"
    assert properties["supportsHttpsTrafficOnly"] is True
    assert properties["encryption"]["requireInfrastructureEncryption"] is True


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("type_", [ACCOUNT, VAULT])
def test_storage_and_vault_are_closed_to_the_internet(example: str, type_: str) -> None:
    """Public access is off; without endpoints one subnet is let in, and nothing else."""
    properties = only(example, type_).properties
    rules = properties["networkAcls"]
    assert (rules["bypass"], rules["defaultAction"]) == ("None", "Deny")
    assert "ipRules" not in rules
    if example in WITH_ENDPOINTS:
        assert properties["publicNetworkAccess"] == "Disabled"
        assert rules["virtualNetworkRules"] is None
    else:
        (rule,) = rules["virtualNetworkRules"]
        assert rule["id"] == only(example, SITE).properties["virtualNetworkSubnetId"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_vault_keeps_what_is_deleted(example: str) -> None:
    """Roles instead of access policies, nothing purged before its time."""
    properties = only(example, VAULT).properties
    assert properties["enableRbacAuthorization"] is True
    assert properties["enableSoftDelete"] is True
    assert properties["enablePurgeProtection"] is True
    assert "accessPolicies" not in properties


def test_deleted_code_can_be_had_back() -> None:
    """Blobs and their containers are kept for a week after deletion, and are nobody else's."""
    blobs = only("all-new", f"{ACCOUNT}/blobServices").properties
    for policy in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        assert blobs[policy] == {"enabled": True, "days": 7}
    container = only("all-new", f"{ACCOUNT}/blobServices/containers")
    assert container.properties == {"publicAccess": "None"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_app_takes_https_with_entra_only(example: str) -> None:
    """No HTTP, no FTP, no user name and password to publish with."""
    app = only(example, SITE).properties
    assert app["httpsOnly"] is True
    assert (app["siteConfig"]["minTlsVersion"], app["siteConfig"]["scmMinTlsVersion"]) == (
        "1.2",
        "1.2",
    )
    policies = resources(example, f"{SITE}/basicPublishingCredentialsPolicies")
    assert {(item.name.rpartition("/")[2], item.properties["allow"]) for item in policies} == {
        ("ftp", False),
        ("scm", False),
    }


@pytest.mark.parametrize("example", EXAMPLES)
def test_flex_is_given_nothing_that_it_refuses(example: str) -> None:
    """Runtime and scale stand in functionAppConfig; updates recreate the instances, the default."""
    properties = only(example, SITE).properties
    assert not REFUSED_BY_FLEX & set(properties["siteConfig"])
    assert "siteUpdateStrategy" not in properties["functionAppConfig"]


def test_telemetry_needs_a_token() -> None:
    """The connection string of Application Insights opens nothing by itself."""
    assert only("all-new", "Microsoft.Insights/components").properties["DisableLocalAuth"] is True


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_part_of_storage_and_vault_has_its_endpoint(example: str) -> None:
    """Five endpoints, the app's own only when its public address is closed; each to its target."""
    account, vault = only(example, ACCOUNT).id, only(example, VAULT).id
    expected = dict.fromkeys(("blob", "queue", "table", "file"), account) | {"vault": vault}
    if example == "private-inbound":
        expected["sites"] = only(example, SITE).id
    assert parts(example) == (expected if example in WITH_ENDPOINTS else {})


@pytest.mark.parametrize("example", WITH_ENDPOINTS)
def test_every_endpoint_has_its_entry_in_dns(example: str) -> None:
    """The zone is that of the same part; with DNS by policy there is no entry of ours."""
    zones = {"vault": "privatelink.vaultcore.", "sites": "privatelink.azurewebsites."}
    groups = {group.name.partition("/")[0]: group for group in resources(example, GROUP)}
    if example == "dns-by-policy":
        assert not groups
        return
    assert set(groups) == {endpoint.name for endpoint in resources(example, ENDPOINT)}
    made = {zone.id for zone in resources(example, ZONE)}
    for group in groups.values():
        (config,) = group.properties["privateDnsZoneConfigs"]
        zone = config["properties"]["privateDnsZoneId"]
        prefix = zones.get(config["name"], f"privatelink.{config['name']}.core.")
        assert zone.rpartition("/")[2].startswith(prefix)
        assert (zone in made) == (example != "hub-dns")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_zone_is_linked_to_the_network(example: str) -> None:
    """Each zone is linked; in a shared network the link falls back to public DNS."""
    network = only(example, SITE).properties["virtualNetworkSubnetId"].partition("/subnets/")[0]
    zones = {zone.name for zone in resources(example, ZONE)}
    assert {link.name.partition("/")[0] for link in resources(example, LINK)} == zones
    for link in resources(example, LINK):
        assert link.properties["virtualNetwork"]["id"] == network
        assert link.properties["registrationEnabled"] is False
        shared = example == "existing-network"
        assert link.properties["resolutionPolicy"] == ("NxDomainRedirect" if shared else "Default")


def test_the_zones_have_the_names_that_azure_asks() -> None:
    """learn.microsoft.com/azure/private-link/private-endpoint-dns, read 2026-11-22."""
    public = {zone.name for zone in resources("private-inbound", ZONE)}
    assert public == {
        "privatelink.blob.core.windows.net",
        "privatelink.file.core.windows.net",
        "privatelink.queue.core.windows.net",
        "privatelink.table.core.windows.net",
        "privatelink.vaultcore.azure.net",
        "privatelink.azurewebsites.net",
    }
    government = {zone.name for zone in resources("us-government", ZONE)}
    assert government == {
        "privatelink.blob.core.usgovcloudapi.net",
        "privatelink.file.core.usgovcloudapi.net",
        "privatelink.queue.core.usgovcloudapi.net",
        "privatelink.table.core.usgovcloudapi.net",
        "privatelink.vaultcore.usgovcloudapi.net",
    }


def test_an_existing_network_may_be_in_another_subscription() -> None:
    """App and endpoints join the network that is named, and none is made."""
    network = (
        "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/corp-network"
        "/providers/Microsoft.Network/virtualNetworks/corp-spoke-vnet"
    )
    app = only("existing-network", SITE).properties
    assert app["virtualNetworkSubnetId"] == f"{network}/subnets/snet-lumen-functions"
    for endpoint in resources("existing-network", ENDPOINT):
        subnet = endpoint.properties["subnet"]["id"]
        assert subnet == f"{network}/subnets/snet-private-endpoints"
    assert not resources("existing-network", "Microsoft.Network/virtualNetworks")


def test_the_function_subnet_is_delegated_and_the_other_is_not() -> None:
    """Flex Consumption joins a subnet that is delegated to it; endpoints need one that is not."""
    function, endpoint = subnets("all-new")
    (delegation,) = function["properties"]["delegations"]
    assert delegation["properties"]["serviceName"] == "Microsoft.App/environments"
    assert "delegations" not in endpoint["properties"]
    for subnet in (function, endpoint):
        group = subnet["properties"]["networkSecurityGroup"]["id"]
        assert group.endswith(f"/lumen-threatfeed-vnet-{subnet['name']}-nsg")
    app = only("all-new", SITE).properties["virtualNetworkSubnetId"]
    assert app.endswith(f"/subnets/{function['name']}")


def test_subnets_are_private_where_they_can_be() -> None:
    """The endpoints' always; the function subnet's only without another way out: see test_edges."""
    function, endpoint = subnets("all-new")
    assert endpoint["properties"]["defaultOutboundAccess"] is False
    assert function["properties"]["defaultOutboundAccess"] is True
    assert function["properties"]["natGateway"] is None


@pytest.mark.parametrize("example", ["all-new", "without-endpoints"])
def test_the_function_subnet_is_known_by_service_endpoints(example: str) -> None:
    """To the app itself always, to storage and vault where there are no private endpoints.

    github.com/Azure/Azure-Functions/issues/2635, read 2026-11-22: with the app's call to itself
    blocked, triggers do not fire; the service endpoint, by which a rule knows the subnet, cured it.
    """
    function = subnets(example)[0]["properties"]
    services = [item["service"] for item in function["serviceEndpoints"]]
    more = [] if example == "all-new" else ["Microsoft.Storage", "Microsoft.KeyVault"]
    assert services == ["Microsoft.Web", *more]


def test_the_rules_hold_for_the_endpoints_too() -> None:
    """Without this policy a subnet's security group passes private endpoints by."""
    _, endpoint = subnets("all-new")
    policy = endpoint["properties"]["privateEndpointNetworkPolicies"]
    assert policy == "NetworkSecurityGroupEnabled"


def test_the_default_network_fits_together() -> None:
    """The default subnets lie in the default network, apart, large enough and rightly named."""
    network = only("all-new", "Microsoft.Network/virtualNetworks")
    assert network.name == "lumen-threatfeed-vnet"
    (whole,) = map(ipaddress.IPv4Network, network.properties["addressSpace"]["addressPrefixes"])
    function, endpoint = subnets("all-new")
    assert (function["name"], endpoint["name"]) == ("functionapp-subnet", "privateendpoint-subnet")
    first = ipaddress.IPv4Network(function["properties"]["addressPrefix"])
    second = ipaddress.IPv4Network(endpoint["properties"]["addressPrefix"])
    assert first.subnet_of(whole)
    assert second.subnet_of(whole)
    assert not first.overlaps(second)
    assert first.prefixlen <= 27


def rules(name: str, direction: str) -> list[dict[str, Any]]:
    """Return a security group's rules of one direction, by priority."""
    (group,) = [
        item
        for item in resources("all-new", "Microsoft.Network/networkSecurityGroups")
        if name in item.name
    ]
    found = [rule["properties"] for rule in group.properties["securityRules"]]
    chosen = [rule for rule in found if rule["direction"] == direction]
    return sorted(chosen, key=lambda rule: int(rule["priority"]))


@pytest.mark.parametrize("name", ["functionapp-subnet", "privateendpoint-subnet"])
def test_security_groups_let_nothing_in_from_outside(name: str) -> None:
    """Each group ends in a refusal of what comes in; what it lets in comes from the network."""
    *allowed, last = rules(name, "Inbound")
    assert last["access"] == "Deny"
    assert last["sourceAddressPrefix"] in {"*", "Internet"}
    for rule in allowed:
        assert (rule["sourceAddressPrefix"], rule["destinationPortRange"]) == (
            "VirtualNetwork",
            "443",
        )


def test_only_https_leaves_the_function_subnet() -> None:
    """To the internet, HTTPS and nothing else."""
    allowed, denied = rules("functionapp-subnet", "Outbound")
    assert (allowed["access"], allowed["destinationPortRange"]) == ("Allow", "443")
    assert (denied["access"], denied["destinationAddressPrefix"]) == ("Deny", "Internet")


def test_a_closed_app_is_closed() -> None:
    """With privateInbound the public address is off; without, keys and ranges decide."""
    for example in EXAMPLES:
        access = only(example, SITE).properties["publicNetworkAccess"]
        assert access == ("Disabled" if example == "private-inbound" else "Enabled")


def test_endpoints_are_made_one_after_the_other() -> None:
    """Side by side, on one account and one subnet, they fail at random."""
    inner = modules()["dataEndpoints"]["properties"]["template"]["resources"]
    assert (inner["endpoints"]["copy"]["mode"], inner["endpoints"]["copy"]["batchSize"]) == (
        "serial",
        1,
    )
    assert inner["endpoints"]["dependsOn"] == ["zones"]
    assert modules()["appEndpoint"]["dependsOn"] == ["functionApp"]  # which waits for the others


def test_the_app_waits_for_all_that_it_starts_with() -> None:
    """Network, roles, endpoints and DNS exist before the app, so before the first publish."""
    found = modules()
    assert set(found["functionApp"]["dependsOn"]) == {
        "dataEndpoints",
        "monitoring",
        "network",
        "sentinel",
        "storage",
        "vault",
    }
    assert set(found["dataEndpoints"]["dependsOn"]) == {"network", "storage", "vault"}
    assert {"identity", "network"} <= set(found["storage"]["dependsOn"])
    assert set(found["code"]["dependsOn"]) == {"appEndpoint", "functionApp"}


def all_modules(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each module of a template, and those of its modules."""
    if isinstance(found["resources"], dict):
        for name, module in modules(found).items():
            yield name, module
            yield from all_modules(module["properties"]["template"])


def test_no_module_has_a_fixed_name() -> None:
    """Two pipelines that are deployed to one group at once do not meet."""
    found = list(all_modules(template()))
    assert {"network", "zones", "endpoints"} <= {name for name, _ in found}
    for name, module in found:
        assert "deployment().name" in module["name"], name


def test_the_network_alone_is_the_same_network() -> None:
    """The button that makes only the network makes the one that main.bicep makes."""
    whole, alone = template("main")["parameters"], template("network")["parameters"]
    own = {"createEndpointSubnet"}
    assert set(alone) - own <= set(whole)
    for name in set(alone) - own - {"tags", "location"}:
        assert whole[name].get("defaultValue") == alone[name].get("defaultValue"), name
    used = modules()["network"]["properties"]["template"]["resources"]
    assert used == template("network")["resources"]
