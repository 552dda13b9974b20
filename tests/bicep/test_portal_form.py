"""The portal's form obeys Microsoft's rules and feeds the template what it takes."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.bicep import form_rules
from tests.bicep.compiled import BICEP, template
from tests.bicep.form_rules import MICROSOFTS, OURS, Form, Rule, elements, outputs

FORM: Form = json.loads((BICEP / "portal" / "createUiDefinition.json").read_text(encoding="utf-8"))

NOT_ASKED = {
    "alertChanges": "by name, against what a month of alerts has shown",
    "alertsInSentinel": "needs telemetry in Sentinel's workspace, which costs: think it over",
    "daysWithoutEnd": "90 days suit a feed whose indicators mostly have an end",
    "matchAllowedOnly": "blocked traffic floods an incident queue; a parameter file turns it on",
    "applicationCredentialEnds": "a day that changes with each new secret: in a parameter file",
    "alertActionGroupIds": "a customer with action groups has a parameter file, too",
    "alwaysReadyUploadInstances": "0 until messages are seen to wait; then a parameter file",
    "cloud": "the portal's own: the template takes it from where it is deployed",
    "instanceMemoryMB": "measured: 2 GB serve any feed",
    "logDetails": "for the search after a fault",
    "maximumInstanceCount": "send slots pace the uploads: more instances gain nothing",
    "operatorClientId": "needs a registration with roles, made before by hand",
    "sentinelWorkspaceId": "only for a workspace that the deployer may not read",
    "settingOverrides": "tuned against measurements, by name",
    "tenantId": "the workspace that is picked is in the deployer's tenant",
}
"""Parameters of the template that the form leaves to their defaults, with the reason."""


@pytest.mark.parametrize("rule", MICROSOFTS, ids=lambda rule: rule.__name__)
def test_the_form_obeys_microsofts_rules(rule: Rule) -> None:
    """Each of the seventeen, on the form and the compiled template."""
    assert list(rule(FORM, template())) == []


@pytest.mark.parametrize("rule", OURS, ids=lambda rule: rule.__name__)
def test_the_form_obeys_what_those_miss(rule: Rule) -> None:
    """References anywhere, types, ranges, defaults, secrets, names, unused controls."""
    assert list(rule(FORM, template())) == []


def test_there_are_seventeen_rules() -> None:
    """None of Microsoft's is left out, and each says which it is."""
    numbers = [int((rule.__doc__ or "").partition(".")[0]) for rule in MICROSOFTS]
    assert numbers == list(range(1, 18))


def test_every_parameter_is_asked_for_or_left_out_with_a_reason() -> None:
    """A new parameter of the template goes into the form, or into the list above."""
    asked = set(outputs(FORM)) - {"location"}
    parameters = set(template()["parameters"]) - {"location"}
    assert parameters == asked | NOT_ASKED.keys()
    assert not asked & NOT_ASKED.keys()
    assert all(len(reason.split()) > 3 for reason in NOT_ASKED.values())


def test_permissions_are_checked_before_the_deployment() -> None:
    """Resources, endpoints and roles: what would fail a quarter of an hour later."""
    basics = FORM["parameters"]["config"]["basics"]
    asked = {
        item["permission"]
        for part in ("subscription", "resourceGroup")
        for item in basics[part]["constraints"]["validations"]
    }
    assert asked == {
        "Microsoft.Resources/deployments/write",
        "Microsoft.Web/sites/write",
        "Microsoft.Network/privateEndpoints/write",
        "Microsoft.Authorization/roleAssignments/write",
    }


def test_an_application_needs_its_ids() -> None:
    """Neither the client id nor, where a role is assigned, the principal's may be left blank."""
    for name in ("clientId", "principalId"):
        constraints = element(FORM, name)["constraints"]
        assert constraints["required"] is True
        assert re.fullmatch(constraints["regex"], "11111111-1111-1111-1111-111111111111")
        assert not re.fullmatch(constraints["regex"], "")
    chosen = "equals(steps('sentinel').uploader, 'application')"
    assigned = f"and({chosen}, steps('sentinel').assignToApplication)"
    assert element(FORM, "clientId")["visible"] == f"[{chosen}]"
    assert element(FORM, "principalId")["visible"] == f"[{assigned}]"
    given = outputs(FORM)["applicationPrincipalId"]
    assert given == f"[if({assigned}, steps('sentinel').principalId, '')]"
    for name in ("Id", "Secret"):  # what was typed before the choice of the identity is dropped
        given = outputs(FORM)[f"applicationClient{name}"]
        assert given == f"[if({chosen}, steps('sentinel').client{name}, '')]"


GUID = "11111111-1111-1111-1111-111111111111"
ZONES = ("blob", "queue", "table", "file", "vault", "sites")


def written(name: str) -> list[str]:
    """Return the id of a resource of Microsoft.Network as the portal and the CLI write it."""
    group = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/hub"
    whole = f"{group}/providers/Microsoft.Network/{name}"
    return [whole, whole.lower(), whole.replace("resourceGroups", "resourcegroups")]


TAKEN = {
    "functionNamePrefix": ["abc", "abcdefghijk", "lumen2026", "1lumen", "LUMENFEED"],
    "schedule": ["0 */15 * * * *", "0 0,30 8-18 * 1-12 MON-FRI"],
    "clientId": [GUID],
    "principalId": [GUID.replace("1", "F")],
    "natGatewayId": ["", *written("natGateways/corp-nat")],
    "routeTableId": ["", *written("routeTables/to-firewall")],
    **{f"{part}Zone": written("privateDnsZones/privatelink.example") for part in ZONES},
    "packageUri": ["", "https://example.com/package.zip?sig=a%2Fb"],
}
"""What a person may type, by control: the template takes it (tests/compiler)."""

REFUSED = {
    "functionNamePrefix": [
        "ab",
        "abcdefghijkl",
        "lumen-feed",
        "lumen_feed",
        "lumen feed",
        "l\u00fc1",
    ],
    "schedule": ["*/15 * * * *", "never", ""],
    "clientId": ["", "lumen", GUID + "1"],
    "principalId": ["", "lumen"],
    "natGatewayId": ["corp-nat", "/subscriptions/x/resourceGroups/y/providers/z/natGateways/n"],
    "routeTableId": ["to-firewall", *written("natGateways/corp-nat")],
    **{f"{part}Zone": ["", "zone", *written("virtualNetworks/corp")] for part in ZONES},
    "packageUri": ["http://example.com/package.zip", "dist/app.zip"],
}
"""What the template, or Azure, would refuse: the form does so while it is typed."""


@pytest.mark.parametrize("name", TAKEN)
def test_the_form_takes_what_the_template_takes(name: str) -> None:
    """Neither less nor more, so that what passes the form is not refused behind it."""
    regex = element(FORM, name)["constraints"]["regex"]
    assert [text for text in TAKEN[name] if not re.search(regex, text)] == []
    assert [text for text in REFUSED[name] if re.search(regex, text)] == []


def test_code_is_published_when_its_way_is_there() -> None:
    """With DNS by policy the first deployment publishes nothing, though a release has a package."""
    policy = "steps('network').usePrivateEndpoints, equals(steps('network').privateDns, 'policy')"
    early = f"and(and({policy}), not(steps('access').dnsIsReady))"
    assert outputs(FORM)["packageUri"] == f"[if({early}, '', steps('access').packageUri)]"
    assert element(FORM, "dnsIsReady")["defaultValue"] is False
    assert element(FORM, "publishAfterwards")["visible"] == f"[{early}]"
    without = element(FORM, "rolesTakeTime")
    assert without["visible"] == "[not(steps('network').usePrivateEndpoints)]"
    assert "Deploy again" in without["options"]["text"]


def test_ranges_in_an_existing_network_are_looked_at() -> None:
    """The form asks Azure for the function subnet, and names the endpoint that is missing."""
    path = element(FORM, "functionSubnet")["request"]["path"]
    assert "'/subnets/', steps('network').virtualNetwork.subnets.functionSubnet.name" in path
    visible = element(FORM, "noServiceEndpoint")["visible"]
    for part in (
        "equals(steps('network').virtualNetwork.newOrExisting, 'existing')",
        "not(empty(steps('access').allowedIpRanges))",
        "steps('access').functionSubnet.properties.serviceEndpoints",
        "equals(item.service, 'Microsoft.Web')",
    ):
        assert part in visible


def element(form: Form, name: str) -> dict[str, Any]:
    """Return a control by its name."""
    (found,) = [item for _, item in elements(form) if item["name"] == name]
    return found


def drop(form: Form, name: str) -> None:
    """Take an output away."""
    del outputs(form)[name]


def put(form: Form, name: str, value: object) -> None:
    """Set an output."""
    outputs(form)[name] = value


def change(form: Form, name: str, **items: object) -> None:
    """Change a control."""
    element(form, name).update(items)


def constrain(form: Form, name: str, **items: object) -> None:
    """Change a control's constraints."""
    element(form, name)["constraints"].update(items)


def step(form: Form, name: str) -> dict[str, Any]:
    """Return a step."""
    (found,) = [item for item in form["parameters"]["steps"] if item["name"] == name]
    assert isinstance(found, dict)
    return found


DNS = "[equals(steps('network').privateDns, 'existing')]"

FAULTS: list[tuple[str, Callable[[Form], object]]] = [
    (
        "allowed_values_are_allowed",
        lambda f: element(f, "privateDns")["constraints"]["allowedValues"].append(
            {"label": "Polic", "value": "polic"}  # a part of a value is none
        ),
    ),
    ("outputs_read_controls", lambda f: put(f, "alertEmail", "[steps('nowhere').alertEmail]")),
    ("outputs_read_controls", lambda f: put(f, "alertEmail", "[steps('access').nothing]")),
    ("nothing_is_blank", lambda f: put(f, "tags", {})),
    ("the_schema_is_named", lambda f: f.update(version="0.1.0")),
    ("secrets_are_confirmed", lambda f: change(f, "apiKey", options={"hideConfirmation": True})),
    ("the_handler_is_known", lambda f: f.update(handler="Microsoft.Azure.Other")),
    (
        "existing_resources_are_handled",
        lambda f: put(f, "virtualNetworkResourceId", "[steps('network').virtualNetwork.name]"),
    ),
    ("the_location_is_an_output", lambda f: put(f, "location", "[resourceGroup().location]")),
    ("outputs_are_parameters", lambda f: put(f, "alertemail", "[steps('access').alertEmail]")),
    ("required_parameters_are_outputs", lambda f: drop(f, "sentinelWorkspaceResourceId")),
    ("passwords_feed_secure_parameters", lambda f: put(f, "alertEmail", "[steps('lumen').apiKey]")),
    ("passwords_feed_secure_parameters", lambda f: drop(f, "lumenApiKey")),
    ("passwords_have_a_least_length", lambda f: constrain(f, "apiKey", regex="^.{1,}$")),
    ("text_boxes_are_constrained", lambda f: element(f, "schedule").pop("constraints")),
    ("text_boxes_are_constrained", lambda f: constrain(f, "schedule", regex="([")),
    ("text_boxes_are_constrained", lambda f: constrain(f, "schedule", regex="^.*$")),
    ("text_boxes_are_constrained", lambda f: constrain(f, "schedule", validationMessage="")),
    ("controls_have_tool_tips", lambda f: element(f, "threshold").pop("toolTip")),
    (
        "user_names_have_no_default",
        lambda f: change(f, "alertEmail", type="Microsoft.Compute.UserNameTextBox"),
    ),
    (
        "sizes_match_the_template",
        lambda f: change(f, "threshold", type="Microsoft.Compute.SizeSelector"),
    ),
    (
        "validations_have_messages",
        lambda f: f["parameters"]["config"]["basics"]["resourceGroup"]["constraints"][
            "validations"
        ][0].pop("message"),
    ),
    (
        "every_reference_leads_somewhere",
        lambda f: put(f, "createAlerts", "[equals(steps('nowhere').x, 'y')]"),
    ),
    (
        "every_reference_leads_somewhere",
        lambda f: change(f, "natGatewayId", visible="[equals(steps('network').nothing, 'new')]"),
    ),
    ("every_reference_leads_somewhere", lambda f: change(f, "schedule", visible=DNS)),
    (
        "every_reference_leads_somewhere",
        lambda f: put(f, "endpointSubnetName", "[steps('network').virtualNetwork.subnets.no.name]"),
    ),
    (
        "every_reference_leads_somewhere",
        lambda f: put(f, "virtualNetworkName", "[steps('network').virtualNetwork.title]"),
    ),
    ("expressions_are_well_formed", lambda f: put(f, "alertEmail", "[steps('access').alertEmail")),
    ("expressions_are_well_formed", lambda f: put(f, "alertEmail", "[trim(steps('access').x)]")),
    (
        "names_are_unique",
        lambda f: step(f, "lumen")["elements"].append(
            {**element(f, "schedule"), "name": "Schedule"}
        ),
    ),
    ("every_control_is_known", lambda f: change(f, "threshold", type="Microsoft.Common.Slide")),
    ("every_control_is_known", lambda f: step(f, "lumen").pop("label")),
    ("every_control_is_used", lambda f: drop(f, "lumenSchedule")),
    (
        "secure_parameters_are_typed_as_secrets",
        lambda f: put(f, "lumenApiKey", "[steps('lumen').schedule]"),
    ),
    (
        "secure_parameters_are_typed_as_secrets",
        lambda f: step(f, "lumen")["elements"].append(
            {
                "name": "shown",
                "type": "Microsoft.Common.TextBlock",
                "options": {"text": "[steps('lumen').apiKey]"},
            }
        ),
    ),
    (
        "types_are_the_parameters",
        lambda f: put(f, "lumenConfidenceThreshold", "[steps('lumen').schedule]"),
    ),
    (
        "types_are_the_parameters",
        lambda f: put(f, "lumenConfidenceThreshold", "[string(steps('lumen').threshold)]"),
    ),
    ("types_are_the_parameters", lambda f: put(f, "lumenEnableIpv4", "true")),
    ("ranges_are_the_parameters", lambda f: change(f, "threshold", max=90)),
    (
        "ranges_are_the_parameters",
        lambda f: constrain(f, "functionNamePrefix", regex="^[a-z]{1,20}$"),
    ),
    ("defaults_are_the_parameters", lambda f: change(f, "threshold", defaultValue=60)),
    ("defaults_are_the_parameters", lambda f: change(f, "enableIpv4", defaultValue=False)),
    ("defaults_are_the_parameters", lambda f: change(f, "privateDns", defaultValue="Other")),
    ("defaults_are_the_parameters", lambda f: change(f, "schedule", defaultValue="*/15 * * * *")),
]
"""Faults that a form can have, each with the rule that finds it."""


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=lambda n: f"{n + 1}-{FAULTS[n][0]}")
def test_a_fault_is_found(number: int) -> None:
    """A form with one fault fails the rule that is for it."""
    name, spoil = FAULTS[number]
    rule: Rule = getattr(form_rules, name)
    form = copy.deepcopy(FORM)
    spoil(form)
    assert list(rule(form, template()))


def test_every_rule_finds_a_fault() -> None:
    """No rule is there that cannot fail."""
    assert {name for name, _ in FAULTS} == {rule.__name__ for rule in (*MICROSOFTS, *OURS)}
