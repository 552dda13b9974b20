"""What changes between two situations is what the parameters promise, and nothing else."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bicep.compiled import Resource, resources

STORAGE_PARTS = ("blob", "file", "queue", "table")
DATA_PARTS = (*STORAGE_PARTS, "vault")


def label(resource: Resource) -> str:
    """Return a name that is the same in every situation: no suffixes, no GUIDs, no cloud."""
    kind = resource.type.rpartition("/")[2]
    name = resource.name
    if kind in {"diagnosticSettings", "roleAssignments"}:  # their names are alike: say of what
        name = resource.id.split("/providers/")[1]
    if kind == "workbooks":  # a GUID, too
        name = str(resource.properties["displayName"]).replace(": ", " ")
    for pattern, short in (
        (r"lumenfeed-?\w{13}", "app"),
        (r"kv-\w{13}", "vault"),
        (r"link-\w{13}", "link"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "guid"),
        (r"core\.(windows|usgovcloudapi)\.net", "core"),
        (r"vaultcore\.(azure|usgovcloudapi)\.net", "vaultcore"),
        (r"lumen-threatfeed-vnet", "vnet"),
    ):
        name = re.sub(pattern, short, name)
    return f"{kind} {name}"


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each value of a body with its path; app settings by their names."""
    match value:
        case dict():
            for key, item in value.items():
                yield from leaves(item, f"{path}.{key}")
        case list() if path.endswith(".appSettings"):
            for item in value:
                yield f"setting {item['name']}", item["value"]
        case list():
            for index, item in enumerate(value):
                yield from leaves(item, f"{path}.{index}")
        case _:
            yield path.removeprefix(".properties."), value


def by_label(example: str) -> dict[str, dict[str, Any]]:
    """Return the bodies of an example's resources by label."""
    found = {label(resource): dict(leaves(resource.body)) for resource in resources(example)}
    assert len(found) == len(resources(example)), "two resources have one label"
    return found


def difference(one: str, other: str) -> dict[str, set[str]]:
    """Return what is removed, added, and changed (`label: path`) from one example to the other.

    Ids and names that hold another id or a hash of it are not compared twice.
    """
    before, after = by_label(one), by_label(other)
    changed = set()
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        paths = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
        changed |= {f"{name}: {path}" for path in paths - {".id", ".name"}}
    return {
        "removed": set(before.keys() - after.keys()),
        "added": set(after.keys() - before.keys()),
        "changed": changed,
    }


def endpoints(*parts: str) -> set[str]:
    """Return the labels of the endpoints of these parts."""
    return {f"privateEndpoints app-{part}-pe" for part in parts}


def zone_groups(*parts: str) -> set[str]:
    """Return the labels of the endpoints' entries in DNS."""
    return {f"privateDnsZoneGroups app-{part}-pe/default" for part in parts}


def zones(*parts: str) -> set[str]:
    """Return the labels of the zones of these parts."""
    names = {part: f"privatelink.{part}.core" for part in STORAGE_PARTS}
    names |= {"vault": "privatelink.vaultcore", "sites": "privatelink.azurewebsites.net"}
    return {f"privateDnsZones {names[part]}" for part in parts}


def links(*parts: str) -> set[str]:
    """Return the labels of the zones' links to the network."""
    return {
        f"virtualNetworkLinks {zone.removeprefix('privateDnsZones ')}/link"
        for zone in zones(*parts)
    }


def changes(labels: set[str], *paths: str) -> set[str]:
    """Return what is changed, of each of these resources."""
    return {f"{name}: {path}" for name in labels for path in paths}


GROUPS = {"networkSecurityGroups vnet-privateendpoint-subnet-nsg"}
NETWORK = GROUPS | {
    "networkSecurityGroups vnet-functionapp-subnet-nsg",
    "virtualNetworks vnet",
}
ZONE = "privateDnsZoneConfigs.0.properties.privateDnsZoneId"
SUBNETS = tuple(
    f"subnets.1.{path}"
    for path in (
        "name",
        "properties.addressPrefix",
        "properties.defaultOutboundAccess",
        "properties.networkSecurityGroup.id",
        "properties.privateEndpointNetworkPolicies",
    )
)

PROMISES: dict[tuple[str, str], dict[str, set[str]]] = {
    # a network that exists, in another subscription: no network is made, everything joins it
    ("all-new", "existing-network"): {
        "removed": NETWORK,
        "added": set(),
        "changed": changes(endpoints(*DATA_PARTS), "subnet.id")
        | changes(links(*DATA_PARTS), "virtualNetwork.id", "resolutionPolicy")
        | {"sites app: virtualNetworkSubnetId"},
    },
    # zones of a hub: none is made, the endpoints' entries go there
    ("existing-network", "hub-dns"): {
        "removed": zones(*DATA_PARTS) | links(*DATA_PARTS),
        "added": set(),
        "changed": changes(zone_groups(*DATA_PARTS), ZONE),
    },
    # DNS by policy: neither zones nor entries are made
    ("existing-network", "dns-by-policy"): {
        "removed": zones(*DATA_PARTS) | links(*DATA_PARTS) | zone_groups(*DATA_PARTS),
        "added": set(),
        "changed": set(),
    },
    # an application uploads: its secret is kept, and it is who signs in; an alert before it ends.
    # Operators sign in, too
    ("all-new", "application"): {
        "removed": set(),
        "added": {"config app/authsettingsV2", "scheduledQueryRules app-secret"},
        "changed": {
            "roleAssignments Microsoft.OperationalInsights/workspaces/soc-sentinel: principalId",
            "secrets vault/sentinel-client-secret: .condition",
            "secrets vault/sentinel-client-secret: value",
            "sites app: setting CLIENT_ID",
            "sites app: setting CLIENT_SECRET",
            "sites app: setting OPERATOR_CLIENT_ID",
        },
    },
    # without endpoints: storage and vault let in one subnet, which has service endpoints
    ("all-new", "without-endpoints"): {
        "removed": GROUPS
        | zones(*DATA_PARTS)
        | links(*DATA_PARTS)
        | endpoints(*DATA_PARTS)
        | zone_groups(*DATA_PARTS),
        "added": set(),
        "changed": changes(
            {"virtualNetworks vnet"},
            "subnets.0.properties.serviceEndpoints.1.service",
            "subnets.0.properties.serviceEndpoints.2.service",
            *SUBNETS,
        )
        | changes(
            {"storageAccounts app", "vaults vault"},
            "publicNetworkAccess",
            "networkAcls.virtualNetworkRules.0.id",
        )
        | {"storageAccounts app: networkAcls.virtualNetworkRules.0.action"},
    },
    # no public address: the app has an endpoint with its zone
    ("all-new", "private-inbound"): {
        "removed": set(),
        "added": zones("sites") | links("sites") | endpoints("sites") | zone_groups("sites"),
        "changed": {"sites app: publicNetworkAccess"},
    },
}


@pytest.mark.parametrize("pair", PROMISES, ids="-to-".join)
def test_nothing_changes_but_what_is_promised(pair: tuple[str, str]) -> None:
    """The difference of two snapshots is the one that is written above."""
    assert difference(*pair) == PROMISES[pair]


def test_us_government_is_the_same_elsewhere() -> None:
    """Region, zones and the addresses of storage, Entra and Sentinel; nothing else."""
    found = difference("all-new", "us-government")
    assert found["removed"] == found["added"] == set()
    paths = {change.partition(": ")[2] for change in found["changed"]}
    assert paths == {
        ".location",
        ZONE,
        "functionAppConfig.deployment.storage.value",
        "setting AzureWebJobsStorage__blobServiceUri",
        "setting ENTRA_AUTHORITY_HOST",
        "setting PipelineStorage__queueServiceUri",
        "setting PipelineStorage__tableServiceUri",
        "setting SENTINEL_AUDIENCE",
        "setting SENTINEL_BASE_URL",
        "setting SENTINEL_QUERY_AUDIENCE",
        "setting SENTINEL_QUERY_URL",
    }


def test_the_comparison_sees_a_change() -> None:
    """Two situations that differ are not called equal."""
    assert difference("all-new", "all-new") == {"removed": set(), "added": set(), "changed": set()}
    assert difference("all-new", "private-inbound")["changed"]
