"""What deploys the template: parameter files, azd, the workflow. They name what exists."""

import re
from pathlib import Path

import pytest

from tests.bicep.template import BICEP, MAIN, ROOT, load, parameter_files

PARAMETER_FILES = parameter_files()
SIMPLE = {"string": r"'[^']*'|readEnvironmentVariable\(.*\)", "bool": r"true|false|bool\(.*\)"}
SIMPLE |= {"int": r"\d+|int\(.*\)", "array": r"\[", "object": r"\{"}
WORKFLOW = (ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8")


def parameters(path: Path) -> dict[str, str]:
    """Return what a parameter file sets: the text behind each `param name =`."""
    return dict(re.findall(r"^param (\w+) = (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))


def variables(path: Path) -> set[str]:
    """Return the environment variables that a parameter file reads."""
    text = path.read_text(encoding="utf-8")
    return set(re.findall(r"readEnvironmentVariable\('(\w+)'", text))


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda path: path.name)
def test_parameter_files_fit_the_template(path: Path) -> None:
    """Each parameter exists and has a value of its kind; none that is required is left out."""
    using = re.findall(r"^using '(.*)'$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(path.parent / name).resolve() for name in using] == [MAIN]
    known = load(MAIN).parameters
    given = parameters(path)
    assert {name for name, item in known.items() if not item.has_default} <= set(given)
    for name, value in given.items():
        assert re.match(SIMPLE[known[name].type], value), name
        allowed = known[name].decorators.get("allowed")
        assert not allowed or value.strip("'") in allowed, name


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda path: path.name)
def test_no_parameter_file_holds_a_secret(path: Path) -> None:
    """Secure parameters come from the environment, and none of them has a value in the file."""
    for name, value in parameters(path).items():
        if load(MAIN).parameters[name].decorators.get("secure"):
            assert re.fullmatch(r"readEnvironmentVariable\('\w+', ''\)", value), name


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda path: path.name)
def test_central_zones_are_given_whole(path: Path) -> None:
    """Without zones of our own, each endpoint's zone is named, and is the one of its service."""
    given = parameters(path)
    if given.get("createPrivateDnsZones") != "false":
        return
    services = {"blob", "queue", "table", "file", "vault"}
    services |= {"sites"} if given.get("privateInbound") == "true" else set()
    zones = {"vault": "vaultcore", "sites": "azurewebsites"}
    for service in services:
        assert f"privatelink.{zones.get(service, service)}." in given[f"{service}DnsZoneId"]


def test_there_is_an_example_of_each_kind() -> None:
    """New, existing network, central DNS, US Government; and the one that azd reads."""
    assert {path.stem for path in PARAMETER_FILES} == {
        "main",
        "all-new",
        "existing-network",
        "hub-dns",
        "us-government",
    }
    examples = {path.stem: parameters(path) for path in PARAMETER_FILES}
    assert "createVirtualNetwork" not in examples["all-new"]
    assert examples["existing-network"]["createVirtualNetwork"] == "false"
    assert examples["hub-dns"]["createPrivateDnsZones"] == "false"
    assert examples["us-government"]["cloud"] == "'AzureUSGovernment'"


def test_defaults_from_the_environment_are_the_templates() -> None:
    """An environment variable that is not set means what the template means."""
    known = load(MAIN).parameters
    for name, value in parameters(BICEP / "main.bicepparam").items():
        found = re.fullmatch(r"(?:\w+\()?readEnvironmentVariable\('\w+', '(.*?)'\)\)?", value)
        if found is not None:
            default = known[name].default
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert found[1] == shown, name


def test_a_variable_is_named_after_its_parameter() -> None:
    """Whoever knows a parameter knows its variable."""
    for name, value in parameters(BICEP / "main.bicepparam").items():
        (variable, *_) = re.findall(r"readEnvironmentVariable\('(\w+)'", value)
        words = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
        assert variable.removeprefix("AZURE_") == words


def test_the_workflow_passes_every_variable() -> None:
    """The workflow gives what main.bicepparam reads, with the same defaults, and no more."""
    given = set(re.findall(r"^ +([A-Z_]+): \$\{\{ (?:vars|secrets)\.\w+", WORKFLOW, re.MULTILINE))
    assert given == variables(BICEP / "main.bicepparam")
    for name, default in re.findall(r"([A-Z_]+): \$\{\{ vars\.\w+ \|\| '(.*?)' \}\}", WORKFLOW):
        text = (BICEP / "main.bicepparam").read_text(encoding="utf-8")
        assert f"readEnvironmentVariable('{name}', '{default}')" in text, name


def test_the_workflow_signs_in_without_a_password() -> None:
    """A federated credential; the only secrets are those that go into the vault."""
    assert "id-token: write" in WORKFLOW
    assert set(re.findall(r"secrets\.(\w+)", WORKFLOW)) == {
        "LUMEN_API_KEY",
        "APPLICATION_CLIENT_SECRET",
    }
    assert not re.search(r"(?i)client-secret:|creds:|publish-profile", WORKFLOW)


def test_dependencies_are_installed_where_they_are_missing() -> None:
    """The package holds none, so a remote build publishes it; the one with them goes without."""
    document = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    published = re.findall(
        r"config-zip[^\n]*(?:\\\n[^\n]*)?--src (\S+) --build-remote (\w+)", WORKFLOW + document
    )
    assert published == [
        ("dist/app.zip", "true"),
        ("dist/app.zip", "true"),
        ("dist/app-with-packages.zip", "false"),
    ]


def test_no_expression_is_pasted_into_a_script() -> None:
    """Inputs reach scripts through the environment, so that none of them can be run."""
    scripts = re.findall(r"^ +(?:- )?run: (?:\|\n((?:^ {10}.*\n)+)|(.*))", WORKFLOW, re.MULTILINE)
    assert len(scripts) >= 6
    assert not [text for pair in scripts for text in pair if "${{" in text]


def test_the_app_is_found_by_its_tag() -> None:
    """azd and the workflow find the app by its tag; azd knows the group by an output's name."""
    assert "AZURE_RESOURCE_GROUP" in load(MAIN).outputs
    (service,) = re.findall(r"^services:\n  (\w+):", azure_yaml(), re.MULTILINE)
    app = load(BICEP / "modules/function-app.bicep")
    assert f"'azd-service-name': '{service}'" in app.source
    assert f"=='{service}'].name" in WORKFLOW


def azure_yaml() -> str:
    """Return azd's file."""
    return (ROOT / "azure.yaml").read_text(encoding="utf-8")


def test_azd_finds_the_template() -> None:
    """Path and module in azure.yaml lead to main.bicep."""
    (path,) = re.findall(r"^  path: (\S+)$", azure_yaml(), re.MULTILINE)
    (module,) = re.findall(r"^  module: (\S+)$", azure_yaml(), re.MULTILINE)
    assert ROOT / path / f"{module}.bicep" == MAIN
    assert load(MAIN).scope == "resourceGroup"
