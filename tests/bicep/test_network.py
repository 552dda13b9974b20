"""The network in code: what is closed, what leads in, what has to be there first."""

import ipaddress
from typing import Any

from tests.bicep.template import (
    BICEP,
    MAIN,
    ModuleCall,
    dotted,
    load,
    names_in,
    resources,
    templates,
)

MAIN_TEMPLATE = load(MAIN)
APP = load(BICEP / "modules/function-app.bicep")
ENDPOINT = BICEP / "modules/private-endpoint.bicep"
ZONE = BICEP / "modules/private-dns-zone.bicep"

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


def only(resource_type: str) -> dict[str, Any]:
    """Return the body of the one resource of a type."""
    ((_, resource),) = resources(resource_type)
    return resource.body


def calls(path: object) -> dict[str, ModuleCall]:
    """Return the uses of a module in main.bicep."""
    return {name: call for name, call in MAIN_TEMPLATE.modules.items() if call.path == path}


def zone_condition(service: str) -> str:
    """Return when the zone of a service is made: that of the app only where it has an endpoint."""
    return "makeSitesZone" if service == "sites" else "createPrivateDnsZones"


def test_storage_has_no_public_door() -> None:
    """No public network, no shared keys, no anonymous blobs, no old TLS, no exceptions."""
    properties = only("Microsoft.Storage/storageAccounts")["properties"]
    assert properties["publicNetworkAccess"] == "Disabled"
    assert properties["networkAcls"] == {"bypass": "None", "defaultAction": "Deny"}
    assert properties["allowSharedKeyAccess"] is False
    assert properties["allowBlobPublicAccess"] is False
    assert properties["isLocalUserEnabled"] is False
    assert properties["minimumTlsVersion"] == "TLS1_2"
    assert properties["supportsHttpsTrafficOnly"] is True


def test_deleted_code_can_be_had_back() -> None:
    """Blobs and their containers are kept for a week after deletion, and are nobody else's."""
    blobs = only("Microsoft.Storage/storageAccounts/blobServices")["properties"]
    for policy in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        assert blobs[policy] == {"enabled": True, "days": 7}
    container = only("Microsoft.Storage/storageAccounts/blobServices/containers")
    assert container["properties"] == {"publicAccess": "None"}


def test_the_vault_has_no_public_door() -> None:
    """No public network, roles instead of access policies, nothing purged before its time."""
    properties = only("Microsoft.KeyVault/vaults")["properties"]
    assert properties["publicNetworkAccess"] == "Disabled"
    assert properties["networkAcls"] == {
        "bypass": "None",
        "defaultAction": "Deny",
        "ipRules": [],
        "virtualNetworkRules": [],
    }
    assert properties["enableRbacAuthorization"] is True
    assert properties["enableSoftDelete"] is True
    assert properties["enablePurgeProtection"] is True


def test_the_app_takes_https_with_entra_only() -> None:
    """No HTTP, no FTP, no user name and password to publish with."""
    app = only("Microsoft.Web/sites")["properties"]
    assert app["httpsOnly"] is True
    assert app["siteConfig"]["minTlsVersion"] == "1.2"
    policies = list(resources("Microsoft.Web/sites/basicPublishingCredentialsPolicies"))
    assert {(item.body["name"], item.body["properties"]["allow"]) for _, item in policies} == {
        ("ftp", False),
        ("scm", False),
    }


def test_flex_is_given_nothing_that_it_refuses() -> None:
    """Runtime and scale stand in functionAppConfig; FTP and routing are not ours to set."""
    assert not REFUSED_BY_FLEX & set(only("Microsoft.Web/sites")["properties"]["siteConfig"])


def test_telemetry_needs_a_token() -> None:
    """The connection string of Application Insights opens nothing by itself."""
    assert only("Microsoft.Insights/components")["properties"]["DisableLocalAuth"] is True


def test_every_part_of_storage_and_vault_has_its_endpoint() -> None:
    """Five endpoints always; the app's own only when its public address is closed."""
    endpoints = calls(ENDPOINT)
    groups = {call.arguments["groupId"]: call for call in endpoints.values()}
    assert set(groups) == {"blob", "queue", "table", "file", "vault", "sites"}
    assert len(groups) == len(endpoints)
    conditional = {group for group, call in groups.items() if call.condition is not None}
    assert conditional == {"sites"}
    assert groups["sites"].condition == "privateInbound"


def test_every_endpoint_has_its_dns_zone() -> None:
    """Endpoint and zone group come from one module, and the zone is that of the same service."""
    module = load(ENDPOINT)
    assert {resource.type for resource in module.resources.values()} == {
        "Microsoft.Network/privateEndpoints",
        "Microsoft.Network/privateEndpoints/privateDnsZoneGroups",
    }
    group = module.resources["zoneGroup"].body
    assert group["parent"] == "endpoint"
    (config,) = group["properties"]["privateDnsZoneConfigs"]
    assert config["properties"]["privateDnsZoneId"] == "dnsZoneId"
    for call in calls(ENDPOINT).values():
        choice = call.arguments["dnsZoneId"]["operator"]["operands"]
        service = call.arguments["groupId"]
        assert choice["condition"] == zone_condition(service)
        assert dotted(choice["true_value"]) == f"{service}Dns.outputs.zoneId"
        assert choice["false_value"] == f"{service}DnsZoneId"
    endpoints = [item for item in templates() if item.path != ENDPOINT]
    kinds = {resource.type for item in endpoints for resource in item.resources.values()}
    assert "Microsoft.Network/privateEndpoints" not in kinds


def test_every_endpoint_leads_to_its_service() -> None:
    """It takes its address from the endpoints' subnet and ends at the resource that it is for."""
    targets = dict.fromkeys(("blob", "queue", "table", "file"), "storage.outputs.accountId")
    targets |= {"vault": "vault.outputs.vaultId", "sites": "functionApp.outputs.appId"}
    for call in calls(ENDPOINT).values():
        assert call.arguments["subnetId"] == "endpointSubnetId"
        assert dotted(call.arguments["targetId"]) == targets[call.arguments["groupId"]]
    endpoint = load(ENDPOINT).resources["endpoint"].body["properties"]
    assert endpoint["subnet"]["id"] == "subnetId"
    (connection,) = endpoint["privateLinkServiceConnections"]
    assert connection["properties"] == {"privateLinkServiceId": "targetId", "groupIds": ["groupId"]}


def test_the_app_calls_out_from_the_delegated_subnet() -> None:
    """New or existing, it is the function subnet and never that of the endpoints."""
    assert MAIN_TEMPLATE.modules["functionApp"].arguments["subnetId"] == "functionSubnetId"
    assert MAIN_TEMPLATE.modules["network"].condition == "createVirtualNetwork"
    network = MAIN_TEMPLATE.variables["networkId"]["operator"]["operands"]
    assert network["condition"] == "createVirtualNetwork"
    assert dotted(network["true_value"]) == "network.outputs.virtualNetworkId"
    assert network["false_value"] == "existingNetworkId"
    for kind in ("function", "endpoint"):
        operands = MAIN_TEMPLATE.variables[f"{kind}SubnetId"]["operator"]["operands"]
        assert operands["condition"] == "createVirtualNetwork"
        assert dotted(operands["true_value"]) == f"network.outputs.{kind}SubnetId"
        assert operands["false_value"] == f"existing{kind.title()}SubnetId"
        existing = MAIN_TEMPLATE.variables[f"existing{kind.title()}SubnetId"]
        assert existing == f"${{existingNetworkId}}/subnets/${{{kind}SubnetName}}"
        made = load(BICEP / "modules/network.bicep").outputs[f"{kind}SubnetId"]
        assert made["function"]["parameters"]["resource_name_2"] == f"{kind}SubnetName"


def test_every_zone_is_linked_to_the_network() -> None:
    """A zone that no network asks answers nobody."""
    link = load(ZONE).resources["link"].body
    assert link["properties"]["virtualNetwork"]["id"] == "virtualNetworkId"
    assert link["properties"]["registrationEnabled"] is False
    zones = calls(ZONE)
    assert set(zones) == {f"{s}Dns" for s in ("blob", "queue", "table", "file", "vault", "sites")}
    for name, call in zones.items():
        zone = f"{name.removesuffix('Dns')}Zone"
        assert dotted(call.arguments["zoneName"]) in {zone, f"clouds.{zone}"}
        assert call.arguments["virtualNetworkId"] == "networkId"
        assert call.condition == zone_condition(name.removesuffix("Dns"))
    assert names_in(MAIN_TEMPLATE, MAIN_TEMPLATE.variables["makeSitesZone"]) == {
        "createPrivateDnsZones",
        "privateInbound",
    }


def test_the_zones_have_the_names_that_azure_asks() -> None:
    """learn.microsoft.com/azure/private-link/private-endpoint-dns, read 2026-11-22."""
    suffix = "${environment().suffixes.storage}"
    for service in ("blob", "queue", "table", "file"):
        assert MAIN_TEMPLATE.variables[f"{service}Zone"] == f"privatelink.{service}.{suffix}"
    clouds = MAIN_TEMPLATE.variables["clouds"]
    assert clouds["AzureCloud"]["vaultZone"] == "privatelink.vaultcore.azure.net"
    assert clouds["AzureUSGovernment"]["vaultZone"] == "privatelink.vaultcore.usgovcloudapi.net"
    assert clouds["AzureCloud"]["sitesZone"] == "privatelink.azurewebsites.net"
    assert clouds["AzureUSGovernment"]["sitesZone"] == "privatelink.azurewebsites.us"


def test_the_function_subnet_is_delegated_and_the_other_is_not() -> None:
    """Flex Consumption joins a subnet that is delegated to it; endpoints need one that is not."""
    function, endpoint = only("Microsoft.Network/virtualNetworks")["properties"]["subnets"]
    (delegation,) = function["properties"]["delegations"]
    assert delegation["properties"]["serviceName"] == "Microsoft.App/environments"
    assert "delegations" not in endpoint["properties"]
    assert (function["name"], endpoint["name"]) == ("functionSubnetName", "endpointSubnetName")
    for subnet, kind in ((function, "function"), (endpoint, "endpoint")):
        group = dotted(subnet["properties"]["networkSecurityGroup"]["id"])
        assert group == f"{kind}SecurityGroup.id"


def test_the_function_subnet_has_a_way_out() -> None:
    """Azure's own unless told otherwise; a NAT gateway and a route table where they are named."""
    function, _ = only("Microsoft.Network/virtualNetworks")["properties"]["subnets"]
    properties = function["properties"]
    assert properties["defaultOutboundAccess"] is True
    for part, parameter in (("natGateway", "natGatewayId"), ("routeTable", "routeTableId")):
        assert MAIN_TEMPLATE.parameters[parameter].default == ""
        assert MAIN_TEMPLATE.modules["network"].arguments[parameter] == parameter
        choice = properties[part]["operator"]["operands"]
        assert choice["condition"]["function"]["type"] == "empty"
        assert choice["condition"]["function"]["parameters"] == {"item_to_test": parameter}
        assert (choice["true_value"], choice["false_value"]) == (None, {"id": parameter})


def test_the_rules_hold_for_the_endpoints_too() -> None:
    """Without this policy a subnet's security group passes private endpoints by."""
    _, endpoint = only("Microsoft.Network/virtualNetworks")["properties"]["subnets"]
    policy = endpoint["properties"]["privateEndpointNetworkPolicies"]
    assert policy == "NetworkSecurityGroupEnabled"


def test_the_default_network_fits_together() -> None:
    """The default subnets lie in the default network, apart, large enough and rightly named."""
    defaults = {name: item.default for name, item in MAIN_TEMPLATE.parameters.items()}
    assert defaults["virtualNetworkName"] == "lumen-threatfeed-vnet"
    assert defaults["functionSubnetName"] == "functionapp-subnet"
    assert defaults["endpointSubnetName"] == "privateendpoint-subnet"
    assert "_" not in defaults["functionSubnetName"]
    network = ipaddress.ip_network(defaults["virtualNetworkPrefix"])
    function = ipaddress.ip_network(defaults["functionSubnetPrefix"])
    endpoint = ipaddress.ip_network(defaults["endpointSubnetPrefix"])
    assert isinstance(network, ipaddress.IPv4Network)
    assert isinstance(function, ipaddress.IPv4Network)
    assert isinstance(endpoint, ipaddress.IPv4Network)
    assert function.subnet_of(network)
    assert endpoint.subnet_of(network)
    assert not function.overlaps(endpoint)
    assert function.prefixlen <= 27


def test_security_groups_let_nothing_in_from_outside() -> None:
    """Each group ends in a refusal of what comes in; what it lets in comes from the network."""
    for _, group in resources("Microsoft.Network/networkSecurityGroups"):
        rules = [rule["properties"] for rule in group.body["properties"]["securityRules"]]
        inbound = sorted(
            (rule for rule in rules if rule["direction"] == "Inbound"),
            key=lambda rule: int(rule["priority"]),
        )
        assert inbound[-1]["access"] == "Deny"
        assert inbound[-1]["sourceAddressPrefix"] in {"*", "Internet"}
        for rule in inbound[:-1]:
            assert rule["sourceAddressPrefix"] == "VirtualNetwork"
            assert rule["destinationPortRange"] == "443"


def test_only_https_leaves_the_function_subnet() -> None:
    """To the internet, HTTPS and nothing else."""
    group = load(BICEP / "modules/network.bicep").resources["functionSecurityGroup"]
    outbound = [
        rule["properties"]
        for rule in group.body["properties"]["securityRules"]
        if rule["properties"]["direction"] == "Outbound"
    ]
    allowed = [rule for rule in outbound if rule["access"] == "Allow"]
    assert [rule["destinationPortRange"] for rule in allowed] == ["443"]
    assert any(
        r["access"] == "Deny" and r["destinationAddressPrefix"] == "Internet" for r in outbound
    )


def test_the_app_waits_for_all_that_it_starts_with() -> None:
    """Endpoints, DNS links and roles exist before the app, so before the first deployment."""
    app = MAIN_TEMPLATE.modules["functionApp"]
    awaited = {str(name) for name in app.body["dependsOn"]}
    unconditional = {name for name, call in calls(ENDPOINT).items() if call.condition is None}
    zones = {name for name in calls(ZONE) if name != "sitesDns"}
    assert awaited == {*unconditional, *zones, "storageAccess", "sentinelAccess"}
    read = set()
    for value in app.arguments.values():
        read.add(dotted(value).partition(".")[0])
    assert {"identity", "storage", "vault", "monitoring"} <= read  # their roles are inside them


def test_a_closed_app_is_closed() -> None:
    """With privateInbound the public address is off; without, ranges decide who may call."""
    app = only("Microsoft.Web/sites")["properties"]
    choice = app["publicNetworkAccess"]["operator"]["operands"]
    assert (choice["condition"], choice["true_value"]) == ("privateInbound", "Disabled")
    default = app["siteConfig"]["ipSecurityRestrictionsDefaultAction"]["operator"]["operands"]
    assert (default["true_value"], default["false_value"]) == ("Allow", "Deny")
    rule = APP.variables["ipRestrictions"]
    assert rule["loop_type"]["detail"]["array_name"] == "allowedIpRanges"
    assert rule["config"]["action"] == "Allow"
    assert rule["config"]["ipAddress"] == rule["loop_type"]["detail"]["item_name"]


def test_the_app_may_always_call_itself() -> None:
    """The host registers its triggers there: where ranges decide, its subnet is let in by name.

    github.com/Azure/Azure-Functions/issues/2635, read 2026-11-22: with that call blocked triggers
    do not fire; the service endpoint, by which the rule knows the subnet, mended it.
    """
    config = only("Microsoft.Web/sites")["properties"]["siteConfig"]
    choice = config["ipSecurityRestrictions"]["operator"]["operands"]
    assert choice["condition"]["function"]["parameters"] == {"item_to_test": "allowedIpRanges"}
    assert choice["true_value"] == []
    rules = choice["false_value"]["function"]
    assert (rules["type"], [*rules["parameters"].values()]) == (
        "concat",
        ["ownSubnet", "ipRestrictions"],
    )
    (rule,) = APP.variables["ownSubnet"]
    assert (rule["action"], rule["vnetSubnetResourceId"]) == ("Allow", "subnetId")
    assert rule["priority"] < 100  # where the priorities of the ranges begin
    function, endpoint = only("Microsoft.Network/virtualNetworks")["properties"]["subnets"]
    assert function["properties"]["serviceEndpoints"] == [{"service": "Microsoft.Web"}]
    assert "serviceEndpoints" not in endpoint["properties"]
