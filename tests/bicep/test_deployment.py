"""What deploys the template: parameter files, azd, the workflow. They name what exists."""

import re
from pathlib import Path

import pytest

from tests.bicep.compiled import BICEP, EXAMPLES, ROOT, only, template

ENVIRONMENT = BICEP / "main.bicepparam"
WORKFLOWS = ROOT / ".github" / "workflows"
WORKFLOW = (WORKFLOWS / "deploy.yml").read_text(encoding="utf-8")
SECURE = {
    name for name, item in template()["parameters"].items() if item.get("type") == "securestring"
}


def parameters(path: Path) -> dict[str, str]:
    """Return what a parameter file sets: the text behind each `param name =`."""
    _, *parts = re.split(r"^param ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [part.partition(" = ") for part in parts]
    return {name: value.strip().partition("\n\n")[0] for name, _, value in found}


def variables() -> list[tuple[str, str | None]]:
    """Return the environment variables that main.bicepparam reads, with their defaults."""
    text = ENVIRONMENT.read_text(encoding="utf-8")
    found = re.findall(r"readEnvironmentVariable\('(\w+)'(?:, '(.*?)')?\)", text)
    return [(name, default) for name, default in found]


@pytest.mark.parametrize(
    "path",
    [ENVIRONMENT, *(BICEP / "examples" / f"{example}.bicepparam" for example in EXAMPLES)],
    ids=lambda path: path.name,
)
def test_no_parameter_file_holds_a_secret(path: Path) -> None:
    """Secure parameters come from the environment, and none of them has a value in the file."""
    given = parameters(path)
    assert "lumenApiKey" in given
    for name in given.keys() & SECURE:
        assert re.fullmatch(r"readEnvironmentVariable\('\w+', ''\)", given[name]), name


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_shows_its_situation_and_no_more(example: str) -> None:
    """Each starts with why one would take it, and has what every deployment needs."""
    path = BICEP / "examples" / f"{example}.bicepparam"
    assert path.read_text(encoding="utf-8").startswith("// ")
    common = {"alertEmail", "cloud", "lumenApiKey", "sentinelWorkspaceResourceId", "tags"}
    given = set(parameters(path))
    assert given >= common
    assert (given == common) == (example == "all-new")


def test_defaults_from_the_environment_are_the_templates() -> None:
    """An environment variable that is not set means what the template means."""
    known = template()["parameters"]
    compared = 0
    for name, value in parameters(ENVIRONMENT).items():
        found = re.fullmatch(r"(?:\w+\()?readEnvironmentVariable\('\w+', '(.*?)'\)\)?", value)
        if found is not None:
            default = known[name]["defaultValue"]
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert found[1] == shown, name
            compared += 1
    assert compared > 12


def test_a_variable_is_named_after_its_parameter() -> None:
    """Whoever knows a parameter knows its variable."""
    for name, value in parameters(ENVIRONMENT).items():
        if name in {"assignSentinelRole", "privateDnsZoneIds"}:
            continue  # made of several
        (variable, *_) = re.findall(r"readEnvironmentVariable\('(\w+)'", value)
        words = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
        assert variable.removeprefix("AZURE_") == words


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_variable_has_one_name(example: str) -> None:
    """An example reads what main.bicepparam reads, so that one table explains both."""
    text = (BICEP / "examples" / f"{example}.bicepparam").read_text(encoding="utf-8")
    read = re.findall(r"param (\w+) = readEnvironmentVariable\('(\w+)'", text)
    given = parameters(ENVIRONMENT)
    assert read
    for name, variable in read:
        assert given[name] == f"readEnvironmentVariable('{variable}', '')"


def test_the_workflow_passes_every_variable() -> None:
    """The workflow gives what main.bicepparam reads, with the same defaults, and no more."""
    given = set(
        re.findall(r"^ +([A-Z0-9_]+): \$\{\{ (?:vars|secrets)\.\w+", WORKFLOW, re.MULTILINE)
    )
    defaults = dict(variables())
    assert given - {"AZURE_RESOURCE_GROUP"} == set(defaults)
    for name, default in re.findall(r"([A-Z_]+): \$\{\{ vars\.\w+ \|\| '(.*?)' \}\}", WORKFLOW):
        assert defaults[name] == default, name


def test_the_workflow_signs_in_without_a_password() -> None:
    """A federated credential; the only secrets are those that go into the vault."""
    assert "id-token: write" in WORKFLOW
    assert set(re.findall(r"secrets\.(\w+)", WORKFLOW)) == {
        "LUMEN_API_KEY",
        "APPLICATION_CLIENT_SECRET",
    }
    assert not re.search(r"(?i)client-secret:|creds:|publish-profile", WORKFLOW)


def test_publishing_waits_for_the_roles() -> None:
    """A 403 right after the template is tried again, six times; any other fault is not."""
    (step,) = re.findall(r"- name: Publish the code\n(.*?)(?=\n      - name:)", WORKFLOW, re.DOTALL)
    assert "for try in 1 2 3 4 5 6; do" in step
    assert "grep -qE '403|InaccessibleStorage|AuthorizationFailure' publish.log || exit 1" in step
    assert step.rstrip().endswith("exit 1")


def test_dependencies_are_installed_where_they_are_missing() -> None:
    """The package without them is published by a remote build, the release goes without."""
    document = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    published = re.findall(
        r"config-zip[^\n]*(?:\\\n[^\n]*)?--src (\S+) (?:\\\n *)?--build-remote (\w+)",
        WORKFLOW + document,
    )
    assert {build for source, build in published if source == "dist/app.zip"} == {"true"}
    releases = {build for source, build in published if source.startswith("dist/release/")}
    assert releases == {"false"}
    assert len(published) >= 3


def test_no_expression_is_pasted_into_a_script() -> None:
    """Inputs reach scripts through the environment, so that none of them can be run."""
    for path in WORKFLOWS.glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        scripts = re.findall(
            r"^ +(?:- )?run: (?:\|\n((?:^ {10}.*\n|\n)+)|(.*))", text, re.MULTILINE
        )
        assert scripts
        assert not [item for pair in scripts for item in pair if "${{" in item], path.name


def test_actions_are_pinned() -> None:
    """By commit, with the tag beside it: a tag can be moved to other code."""
    for path in WORKFLOWS.glob("*.yml"):
        uses = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
        assert uses
        assert not [
            item for item in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\S+", item)
        ]


def test_continuous_integration_compiles() -> None:
    """GitHub's installs the compiler and checks; the script says so where there is none."""
    workflow = (WORKFLOWS / "ci.yml").read_text(encoding="utf-8")
    assert workflow.index("az bicep install") < workflow.index("- run: make check-template")
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "make check-template" in script
    assert "check-template was left out" in script
    assert script.rstrip().endswith("make test")


def azure_yaml() -> str:
    """Return azd's file."""
    return (ROOT / "azure.yaml").read_text(encoding="utf-8")


def test_the_app_is_found_by_its_tag() -> None:
    """azd and the workflow find the app by its tag; azd knows the group by an output's name."""
    assert "AZURE_RESOURCE_GROUP" in template()["outputs"]
    (service,) = re.findall(r"^services:\n  (\w+):", azure_yaml(), re.MULTILINE)
    tags = only("all-new", "Microsoft.Web/sites").body["tags"]
    assert tags == {"owner": "soc", "azd-service-name": service}
    assert f"=='{service}'].name" in WORKFLOW


def test_azd_finds_the_template() -> None:
    """Path and module in azure.yaml lead to main.bicep."""
    (path,) = re.findall(r"^  path: (\S+)$", azure_yaml(), re.MULTILINE)
    (module,) = re.findall(r"^  module: (\S+)$", azure_yaml(), re.MULTILINE)
    assert ROOT / path / f"{module}.bicep" == BICEP / "main.bicep"
