"""Names and ids at the edge of what is allowed give names that Azure takes."""

import re
from pathlib import Path
from typing import Any

import pytest

from scripts.compiler import Compiler, RefusedError
from tests.compiler.inputs import GUID, NETWORK, WORKSPACE, predict

NAMES = {
    "Microsoft.Storage/storageAccounts": r"[a-z0-9]{3,24}",
    "Microsoft.KeyVault/vaults": r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,22}[a-zA-Z0-9]",
    "Microsoft.Web/sites": r"[a-z0-9](?!.*--)[a-z0-9-]{0,58}[a-z0-9]",
    "Microsoft.Web/serverfarms": r"[a-zA-Z0-9-]{1,60}",
    "Microsoft.ManagedIdentity/userAssignedIdentities": r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}",
    "Microsoft.Network/networkSecurityGroups": r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,78}[a-zA-Z0-9_]",
    "Microsoft.Network/natGateways": r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,78}[a-zA-Z0-9_]",
    "Microsoft.Network/publicIPAddresses": r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,78}[a-zA-Z0-9_]",
    "Microsoft.Network/virtualNetworks": r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}[a-zA-Z0-9_]",
    "Microsoft.Network/privateEndpoints": r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,78}[a-zA-Z0-9_]",
    "Microsoft.OperationalInsights/workspaces": r"[a-zA-Z0-9][a-zA-Z0-9-]{2,61}[a-zA-Z0-9]",
}
"""learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules, read
2026-11-22; an app's first 32 characters are its host id, so no more are used."""

LONGEST_HOST_ID = 32
PROVIDER = NETWORK.partition("/virtualNetworks/")[0]
WORKSPACE_TYPE = "Microsoft.OperationalInsights/workspaces"
PREFIXES = ["abc", "abcdefghijk", "lumen2026", "1lumen", "123", "LumenFeed", "LUMENFEED"]


def names(snapshot: dict[str, Any], type_: str) -> list[str]:
    """Return the names of a type."""
    return [item["name"] for item in snapshot["predictedResources"] if item["type"] == type_]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_gives_names_that_azure_takes(
    prefix: str, compiler: Compiler, tmp_path: Path
) -> None:
    """Shortest, longest, digits first and last, capitals."""
    found = predict(compiler, tmp_path, {"functionNamePrefix": prefix, "createNatGateway": True})
    for type_, pattern in NAMES.items():
        assert names(found, type_)
        for name in names(found, type_):
            assert re.fullmatch(pattern, name), f"{type_}: {name}"
    (app,) = names(found, "Microsoft.Web/sites")
    assert app.startswith(prefix.lower() + "-")
    assert len(app) <= LONGEST_HOST_ID


@pytest.mark.parametrize(
    ("network", "subnets"),
    [("vn", ("f", "e")), ("v" * 64, ("f" * 11, "e" * 11)), ("net2026", ("snet.1", "snet_2"))],
    ids=["shortest", "longest", "digits-last"],
)
def test_every_network_gives_names_that_azure_takes(
    network: str, subnets: tuple[str, str], compiler: Compiler, tmp_path: Path
) -> None:
    """Network, subnets, and what is named after both of them."""
    inputs: dict[str, object] = {
        "virtualNetworkName": network,
        "functionSubnetName": subnets[0],
        "endpointSubnetName": subnets[1],
        "createNatGateway": True,
    }
    found = predict(compiler, tmp_path, inputs)
    assert names(found, "Microsoft.Network/virtualNetworks") == [network]
    for type_ in ("networkSecurityGroups", "natGateways", "publicIPAddresses", "virtualNetworks"):
        made = names(found, f"Microsoft.Network/{type_}")
        assert made
        for name in made:
            assert re.fullmatch(NAMES[f"Microsoft.Network/{type_}"], name), name


LONGEST_GROUP = "g" * 88 + "_1"
"""Ninety characters, the most that the name of a resource group may have."""


@pytest.mark.parametrize("name", ["soc1", "w" * 61 + "-1"], ids=["shortest", "longest"])
def test_every_workspace_is_found(name: str, compiler: Compiler, tmp_path: Path) -> None:
    """Its role and page go to its own group, whatever the two are called."""
    workspace = WORKSPACE.replace("/soc/", f"/{LONGEST_GROUP}/").replace("soc-sentinel", name)
    inputs: dict[str, object] = {"sentinelWorkspaceResourceId": workspace}
    found = predict(compiler, tmp_path, inputs)["predictedResources"]
    assert len([item for item in found if item["id"].startswith(f"{workspace}/")]) == 2


@pytest.mark.parametrize(
    ("prefix", "sentence"), [("ab", "length is 3"), ("abcdefghijkl", "length is 11")]
)
def test_the_length_of_the_prefix_is_bounded(
    prefix: str, sentence: str, compiler: Compiler, tmp_path: Path
) -> None:
    """One letter less or more than the parameter says is refused."""
    with pytest.raises(RefusedError, match=sentence):
        predict(compiler, tmp_path, {"functionNamePrefix": prefix})


def test_case_makes_no_second_set_of_resources(compiler: Compiler, tmp_path: Path) -> None:
    """LumenFeed and lumenfeed are one pipeline."""
    small = predict(compiler, tmp_path, {"functionNamePrefix": "lumenfeed"})
    large = predict(compiler, tmp_path, {"functionNamePrefix": "LumenFeed"})
    assert small["predictedResources"] == large["predictedResources"]


def test_ids_may_be_in_any_case(compiler: Compiler, tmp_path: Path) -> None:
    """The portal, the CLI and people write resource ids differently."""
    inputs: dict[str, object] = {
        "sentinelWorkspaceResourceId": WORKSPACE.lower(),
        "virtualNetworkResourceId": NETWORK.upper(),
        "sentinelWorkspaceId": GUID.upper(),
    }
    found = predict(compiler, tmp_path, inputs)
    assert names(found, "Microsoft.Web/sites")


def test_an_id_in_another_case_makes_nothing_twice(compiler: Compiler, tmp_path: Path) -> None:
    """Azure refuses a second assignment of the role, and a second link of a network to a zone."""
    made = []
    for workspace, network in ((WORKSPACE, NETWORK), (WORKSPACE.upper(), NETWORK.lower())):
        inputs: dict[str, object] = {
            "sentinelWorkspaceResourceId": workspace,
            "virtualNetworkResourceId": network,
        }
        found = predict(compiler, tmp_path, inputs)
        types = ("roleAssignments", "privateDnsZones/virtualNetworkLinks", "dataConnectors")
        made.append(
            sorted(
                item["id"].lower()
                for item in found["predictedResources"]
                if item["type"].endswith(types)
            )
        )
    assert made[0] == made[1]
    assert any("/virtualnetworklinks/" in name for name in made[0])
    assert any("/workspaces/soc-sentinel/" in name for name in made[0])


def test_everything_that_is_named_may_exist(compiler: Compiler, tmp_path: Path) -> None:
    """Zones, action groups, ranges of both kinds and a package pass, in any case."""
    parts = ("blob", "queue", "table", "file", "vault")
    zone = f"{PROVIDER}/privateDnsZones/privatelink.example"
    inputs: dict[str, object] = {
        "privateDns": "existing",
        "privateDnsZoneIds": dict.fromkeys(parts, zone.replace("resourceGroups", "resourcegroups")),
        "alertActionGroupIds": [
            WORKSPACE.replace(WORKSPACE_TYPE, "microsoft.insights/actiongroups")
        ],
        "allowedIpRanges": ["192.0.2.0/24", "2001:DB8::/32"],
        "packageUri": "HTTPS://example.com/package.zip",
    }
    assert names(predict(compiler, tmp_path, inputs), "Microsoft.Web/sites")


def test_the_smallest_network_that_fits_is_taken(compiler: Compiler, tmp_path: Path) -> None:
    """/27 and /28 side by side, at the end of the network."""
    inputs: dict[str, object] = {
        "virtualNetworkPrefix": "192.168.255.0/26",
        "functionSubnetPrefix": "192.168.255.0/27",
        "endpointSubnetPrefix": "192.168.255.48/28",
    }
    assert names(predict(compiler, tmp_path, inputs), "Microsoft.Network/virtualNetworks")


def test_an_override_is_added(compiler: Compiler, tmp_path: Path) -> None:
    """A setting without a parameter goes into the app's settings, once."""
    found = predict(compiler, tmp_path, {"settingOverrides": {"MAX_PAGES": "500"}})
    (app,) = [i for i in found["predictedResources"] if i["type"] == "Microsoft.Web/sites"]
    entries = app["properties"]["siteConfig"]["appSettings"]
    assert [entry["value"] for entry in entries if entry["name"] == "MAX_PAGES"] == ["500"]


WAYS_OUT: dict[str, dict[str, object]] = {
    "a new NAT gateway": {"createNatGateway": True},
    "an existing NAT gateway": {"natGatewayId": f"{PROVIDER}/natGateways/corp-nat"},
    "a route table": {"routeTableId": f"{PROVIDER}/routeTables/to-firewall"},
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_way_out_makes_the_subnet_private(way: str, compiler: Compiler, tmp_path: Path) -> None:
    """With a way out of its own the function subnet has no default one."""
    found = predict(compiler, tmp_path, WAYS_OUT[way])
    (network,) = [
        item
        for item in found["predictedResources"]
        if item["type"] == "Microsoft.Network/virtualNetworks"
    ]
    function, endpoint = (item["properties"] for item in network["properties"]["subnets"])
    assert function["defaultOutboundAccess"] is endpoint["defaultOutboundAccess"] is False
    if way == "a route table":
        assert function["routeTable"]["id"].endswith("/to-firewall")
    else:
        (gateway,) = names(found, "Microsoft.Network/natGateways") or ["corp-nat"]
        assert function["natGateway"]["id"].endswith(f"/{gateway}")


def test_the_file_endpoint_may_be_left_out(compiler: Compiler, tmp_path: Path) -> None:
    """Neither its endpoint nor its zone is made then."""
    found = predict(compiler, tmp_path, {"createFileEndpoint": False})
    endpoints = names(found, "Microsoft.Network/privateEndpoints")
    assert sorted(name.split("-")[2] for name in endpoints) == ["blob", "queue", "table", "vault"]
    assert len(names(found, "Microsoft.Network/privateDnsZones")) == 4


def test_a_package_is_published_by_the_template(compiler: Compiler, tmp_path: Path) -> None:
    """Its address goes to the deployment service, and nothing is built."""
    address = "https://example.com/package.zip"
    found = predict(compiler, tmp_path, {"packageUri": address})
    (package,) = [
        item
        for item in found["predictedResources"]
        if item["type"] == "Microsoft.Web/sites/extensions"
    ]
    assert package["name"].endswith("/onedeploy")
    assert package["properties"] == {"packageUri": address, "remoteBuild": False}


def test_ranges_let_the_app_call_itself(compiler: Compiler, tmp_path: Path) -> None:
    """Where ranges decide who may call, the app's own subnet comes first, and all others last."""
    found = predict(compiler, tmp_path, {"allowedIpRanges": ["192.0.2.0/24"]})
    (app,) = [i for i in found["predictedResources"] if i["type"] == "Microsoft.Web/sites"]
    config = app["properties"]["siteConfig"]
    own, other = config["ipSecurityRestrictions"]
    assert own["vnetSubnetResourceId"] == app["properties"]["virtualNetworkSubnetId"]
    assert own["priority"] < other["priority"]
    assert other["ipAddress"] == "192.0.2.0/24"
    assert config["ipSecurityRestrictionsDefaultAction"] == "Deny"


@pytest.mark.parametrize("ranges", [[], ["192.0.2.0/24"]], ids=["any", "ranges"])
def test_ranges_in_an_existing_network_come_with_a_warning(
    ranges: list[str], compiler: Compiler, tmp_path: Path
) -> None:
    """Whether its subnet has the service endpoint cannot be known beforehand."""
    inputs: dict[str, object] = {"allowedIpRanges": ranges, "virtualNetworkResourceId": NETWORK}
    found = predict(compiler, tmp_path, inputs)["outputs"]["PIPELINE_WARNING"]
    assert ("needs the service endpoint Microsoft.Web" in found) == bool(ranges)


def test_an_application_may_have_its_role_already(compiler: Compiler, tmp_path: Path) -> None:
    """Without a word about the role, none is assigned to it: a second one would be refused."""
    found = predict(compiler, tmp_path, {"applicationClientId": GUID})
    roles = [
        item["id"]
        for item in found["predictedResources"]
        if item["type"] == "Microsoft.Authorization/roleAssignments"
    ]
    assert roles
    assert not [role for role in roles if "/workspaces/" in role]


def test_zone_redundancy_reaches_plan_and_storage(compiler: Compiler, tmp_path: Path) -> None:
    """One switch spreads both: an app in three zones on storage in one would be no gain."""
    found = predict(compiler, tmp_path, {"zoneRedundant": True})["predictedResources"]
    (account,) = [item for item in found if item["type"] == "Microsoft.Storage/storageAccounts"]
    (plan,) = [item for item in found if item["type"] == "Microsoft.Web/serverfarms"]
    assert account["sku"] == {"name": "Standard_ZRS"}
    assert plan["properties"]["zoneRedundant"] is True


def test_two_pipelines_on_one_workspace_have_a_page_each(
    compiler: Compiler, tmp_path: Path
) -> None:
    """Neither writes over the other's page or role."""
    made = []
    for prefix in ("first", "second"):
        found = predict(compiler, tmp_path, {"functionNamePrefix": prefix})
        made.append(
            {
                item["id"]
                for item in found["predictedResources"]
                if "/workspaces/soc-sentinel" in item["id"]
            }
        )
    assert len(made[0]) == len(made[1]) == 2
    assert not made[0] & made[1]
