"""docs/deploy.md names what exists, and its sums are right."""

import json
import math
import re

import pytest

from common.events import Event
from common.settings import describe_settings
from tests.bicep.compiled import BICEP, EXAMPLES, ROOT, template

TEXT = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
FORM = {"createUiDefinition"}
PARAMETERS = template()["parameters"]


def part(heading: str) -> str:
    """Return what stands under a heading, up to the next one."""
    return TEXT.partition(f"\n{heading}\n")[2].partition("\n##")[0]


def test_parameters_in_the_document_exist() -> None:
    """What looks like a parameter (`camelCase`) is one of the template's."""
    named = set(re.findall(r"`([a-z]+(?:[A-Z][a-zA-Z0-9]*)+)`", TEXT)) - {"resolutionPolicy"}
    assert len(named) > 20
    assert named <= set(PARAMETERS)


def test_outputs_in_the_document_exist() -> None:
    """The ids that are to be handed on are outputs."""
    assert set(re.findall(r"\bPIPELINE_[A-Z_]+\b", TEXT)) <= set(template()["outputs"])


def test_every_variable_is_explained() -> None:
    """The table names each environment variable that deploys, and no other."""
    table = TEXT.partition("| variables | for |")[2].partition("\n\n")[0]
    text = (BICEP / "main.bicepparam").read_text(encoding="utf-8")
    read = re.findall(r"readEnvironmentVariable\('(\w+)'", text)
    assert set(re.findall(r"`([A-Z][A-Z_]+)`", table)) == {"AZURE_RESOURCE_GROUP", *read}


def test_commands_name_files_that_exist() -> None:
    """What a command of ours reads is in the repository, or made by a command before it."""
    release = "dist/release/lumen-sentinel-pipeline-<version>.zip"
    made = {"bicep/examples/mine.bicepparam", "dist/app.zip", release}
    commands = "\n".join(re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL))
    named = set(re.findall(r"(?:bicep|dist)/[\w./<>-]+\.(?:bicepparam|bicep|zip)", commands))
    assert made <= named
    assert [name for name in named - made if not (ROOT / name).is_file()] == []


def test_every_example_is_introduced() -> None:
    """Each parameter file is linked."""
    for example in EXAMPLES:
        assert f"| [{example}](../bicep/examples/{example}.bicepparam) |" in TEXT


def test_every_way_out_is_listed() -> None:
    """A network that exists lets out what the app calls, its own host among it."""
    hosts = part("### A network that exists").partition("| host |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([^`]+)`", hosts))
    assert named == {
        "<app>.azurewebsites.net",
        "AppService",
        "AzureActiveDirectory",
        "AzureMonitor",
        "api.loganalytics.azure.com",
        "api.ti.sentinel.azure.com",
        "cdn.functions.azure.com",
        "login.microsoftonline.com",
        "microsoft-sentinel-api.us1.mss.lumen.com",
    }
    clouds = json.loads((BICEP / "clouds.json").read_text(encoding="utf-8"))["AzureCloud"]
    (lumen,) = (item.default for item in describe_settings() if item.name == "LUMEN_BASE_URL")
    assert lumen is not None
    ours = ("sentinelBaseUrl", "sentinelQueryUrl", "entraAuthorityHost")
    for address in (lumen, *(clouds[name] for name in ours)):
        assert address.removeprefix("https://") in named


def test_an_existing_subnet_gets_its_service_endpoint() -> None:
    """What the template makes in a new network is asked for in one that exists."""
    assert "--service-endpoints Microsoft.Web" in part("### A network that exists")
    assert "Microsoft.Web Microsoft.Storage Microsoft.KeyVault" in TEXT


def test_a_tear_down_frees_the_subnet_first() -> None:
    """App and role go before the group and the identity; the vault comes back into a new group."""
    assert "azd down" not in TEXT
    order = [
        "az role assignment delete",
        "az functionapp vnet-integration remove",
        "az group delete",
        "az group create",
        "az keyvault recover -n <name> -g ",
        "az deployment group create",
    ]
    places = [part("## Tear down").find(command) for command in order]
    assert places == sorted(places)
    assert -1 not in places


def test_a_tear_down_takes_the_role_of_one_identity_only() -> None:
    """Without an assignee, the command removes the role of everybody: an empty name stops it."""
    (line,) = re.findall(r"az role assignment delete .*", part("## Tear down"))
    assert '--assignee "${principal:?}"' in line
    assert "--scope <workspace resource id>" in line


def test_a_roll_back_loses_nothing_that_newer_code_queued() -> None:
    """The document says of a later envelope what the consumer does with it."""
    section = part("## Upgrade and roll back")
    assert Event.MESSAGE_PUT_BACK in section
    assert "oison" not in section


def test_us_government_is_looked_at_first() -> None:
    """Document and example ask for the plan and the version, in so many places, before all else."""
    example = (BICEP / "examples/us-government.bicepparam").read_text(encoding="utf-8")
    section = part("### In US Government")
    for text in (example, section):
        assert "az functionapp list-flexconsumption-locations" in text
        assert "az provider show -n Microsoft.Web --query" in text
    for text in (example, section):
        assert "version 2024-11-01 of" in text
    for file, words in (("function-app", "five times"), ("code", "twice")):
        source = (BICEP / f"modules/{file}.bicep").read_text(encoding="utf-8")
        versions = re.findall(r"'Microsoft.Web/[\w/]+@(.*?)'", source)
        assert set(versions) == {"2024-11-01"}
        assert len(versions) == {"five times": 5, "twice": 2}[words]
        assert f"[{file}.bicep](../bicep/modules/{file}.bicep), {words}" in section


def test_instances_are_counted_by_scale_group() -> None:
    """No description says that the limit is the app's; the quota is reckoned with the defaults."""
    words = PARAMETERS["maximumInstanceCount"]["metadata"]["description"]
    assert words.startswith("Most instances of a scale group: ")
    ((*factors, product),) = re.findall(r"(6) . (\d+) . ([\d,]+) MB = ([\d,]+) MB", TEXT)
    reckoned = [
        6,
        PARAMETERS["maximumInstanceCount"]["defaultValue"],
        PARAMETERS["instanceMemoryMB"]["defaultValue"],
    ]
    assert [int(factor.replace(",", "")) for factor in factors] == reckoned
    assert int(product.replace(",", "")) == math.prod(reckoned)


def rows_of(table: str) -> list[tuple[str, str, float]]:
    """Return title, arithmetic and amount of the rows that have one."""
    found = re.findall(r"^\| ([^|]+?) \| ?([^|]*?) ?\| \**(-?[\d.]+)\** \|$", table, re.MULTILINE)
    return [(title, reckoned, float(amount)) for title, reckoned, amount in found]


def test_the_costs_add_up() -> None:
    """The last line of the estimate is the sum of those above it."""
    table = part("## What it costs").partition("\nNot in it:")[0]
    *items, (title, _, total) = rows_of(table)
    assert title == "**Together**"
    assert round(sum(amount for _, _, amount in items), 2) == total
    assert len(items) >= 7


def test_what_a_parameter_adds_is_reckoned_right() -> None:
    """Each amount is the product beside it; what is saved is what the table above has for it."""
    estimate, _, options = part("## What it costs").partition("\nNot in it:")
    endpoints = round(sum(amount for _, _, amount in rows_of(estimate)[:3]), 2)
    amounts = {}
    for title, reckoned, amount in rows_of(options):
        amounts[title] = amount
        if "instance" in reckoned:
            numbers = re.findall(r"(?<![\w.])[\d,.]*\d", reckoned)
            product = math.prod(float(number.replace(",", "")) for number in numbers)
            assert round(product, 2) == amount, title
    named = set(re.findall(r"`([a-zA-Z]+)`", " ".join(amounts))) - {"false"}
    assert named <= set(PARAMETERS)
    assert {"zoneRedundant", "alwaysReadyUploadInstances"} <= named
    assert amounts["`usePrivateEndpoints` `false`"] == -endpoints
    assert amounts["`zoneRedundant`, instances"] == max(amounts.values())


def test_a_bill_is_named_where_it_is_chosen() -> None:
    """The descriptions in the template say what costs, and that another parameter may."""
    words = {name: item["metadata"]["description"] for name, item in PARAMETERS.items()}
    assert "Bills two always-ready instances per scale group" in words["zoneRedundant"]
    assert "two where zoneRedundant" in words["alwaysReadyUploadInstances"]


def test_only_a_list_of_numbers_takes_no_variable() -> None:
    """The sentence names each such parameter; one with a list of words is read as it is."""
    (sentence,) = re.findall(r"Only\s(.*?), with a list of numbers, takes no", TEXT)
    numbers = {n for n, item in PARAMETERS.items() if item.get("type") == "int"}
    listed = {name for name in numbers if "allowedValues" in PARAMETERS[name]}
    assert set(re.findall(r"`(\w+)`", sentence)) == listed
    text = (BICEP / "main.bicepparam").read_text(encoding="utf-8")
    assert "param privateDns = readEnvironmentVariable('PRIVATE_DNS', 'create')" in text
    assert not [name for name in listed if f"param {name} " in text]


SIGNS = {
    "`RoleAssignmentExists`": "`assignSentinelRole` false",
    "`RoleAssignmentUpdateNotPermitted`": "delete that assignment",
    "`RequestDisallowedByPolicy`": "`createNatGateway` true",
    "`InaccessibleStorage`": "publish again",
    "messages wait (`queue_depth` above 0)": "`alwaysReadyUploadInstances` 1",
    "secret, role and DNS are right": "no longer say so",
    "`…/$batch` only": "a role on the table is enough",
    "`Update request should provide ETag`": "unlikely for a data connector",
    "`BlobUploadFailed`": "Reports differ",
}
"""What only Azure can tell, by the sign that a deployer sees; each with words of its row."""


@pytest.mark.parametrize("sign", SIGNS)
def test_what_only_azure_can_tell_has_a_row(sign: str) -> None:
    """Cause and remedy stand beside the sign."""
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and sign in line]
    assert any(SIGNS[sign] in row for row in rows)
