"""The compiled outputs are those of the sources, and can be read without Azure."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from scripts.compiler import BICEP_VERSION
from scripts.template import CHECKSUMS, checksums, stale
from tests.bicep.compiled import BICEP, EXAMPLES, ROOT, resources, snapshot, template, texts

LONGEST_LINE = 120
SOURCES = sorted([*BICEP.rglob("*.bicep"), *BICEP.rglob("*.bicepparam")])

AZURE_DECIDES = (
    r"\[reference\(.*\)[\w.]*\]",
    r"\[format\('ClientId=\{0\};Authorization=AAD', reference\(.*\)\]",
    r"\[parameters\('(lumenApiKey|clientSecret|applicationClientSecret)'\)\]",
    r"\[not\(empty\(parameters\('(lumenApiKey|clientSecret|applicationClientSecret)'\)\)\)\]",
)
"""What stays an expression in a snapshot: properties of resources, and secrets."""


def test_no_output_is_stale() -> None:
    """Sources and outputs are those of the last `make template`; needs no compiler."""
    assert list(stale(BICEP)) == []


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    """One byte in one source, and the test above names it."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "vault.bicep").write_text("one", encoding="utf-8")
    (tmp_path / "compiled").mkdir()
    (tmp_path / CHECKSUMS).write_text(checksums(tmp_path), encoding="utf-8")
    assert list(stale(tmp_path)) == []
    (tmp_path / "modules" / "vault.bicep").write_text("two", encoding="utf-8")
    assert {fault.split()[0] for fault in stale(tmp_path)} == {"modules/vault.bicep"}


def test_the_outputs_are_of_the_pinned_compiler() -> None:
    """Another version writes other outputs, and every pull request would change them."""
    for name in ("main", "network"):
        generator = template(name)["metadata"]["_generator"]
        assert generator["version"].startswith(f"{BICEP_VERSION}.")
    for workflow in ("ci", "release"):
        text = (ROOT / f".github/workflows/{workflow}.yml").read_text(encoding="utf-8")
        assert re.findall(r"az bicep install --version v(\S+)", text) == [BICEP_VERSION]


def test_every_rule_of_the_linter_is_an_error() -> None:
    """No finding passes as a warning."""
    config = json.loads((BICEP / "bicepconfig.json").read_text(encoding="utf-8"))
    rules = config["analyzers"]["core"]["rules"]
    assert {rule["level"] for rule in rules.values()} == {"error"}
    wanted = {"no-explicit-any", "use-user-defined-types", "no-module-name"}
    assert wanted | {"what-if-short-circuiting"} <= rules.keys()


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_snapshot_can_be_read(example: str) -> None:
    """Every value is worked out but what Azure decides; nothing was diagnosed."""
    assert snapshot(example)["diagnostics"] == []
    known = re.compile("|".join(AZURE_DECIDES))
    for resource in resources(example):
        unresolved = [text for text in texts(resource.body) if text.startswith("[")]
        assert [text for text in unresolved if not known.fullmatch(text)] == [], resource.id


def test_there_is_an_example_for_each_situation() -> None:
    """Each says something that no other does: test_situations compares them."""
    assert EXAMPLES == (
        "all-new",
        "application",
        "dns-by-policy",
        "existing-network",
        "hub-dns",
        "private-inbound",
        "us-government",
        "without-endpoints",
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(BICEP)))
def test_lines_are_short(path: Path) -> None:
    """Lines fit into 120 columns, but for resource ids."""
    lines = path.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > LONGEST_LINE]
    assert [line for line in long if "'/subscriptions/" not in line] == []


def test_main_is_short() -> None:
    """The switchboard stays one that can be read."""
    assert len((BICEP / "main.bicep").read_text(encoding="utf-8").splitlines()) < 450


def test_every_parameter_is_described() -> None:
    """Each parameter of each file says what it is for."""
    for name in ("main", "network"):
        for parameter, item in template(name)["parameters"].items():
            assert item["metadata"]["description"].strip(), parameter
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        bare = re.findall(r"^param (\w+)", text, re.MULTILINE)
        described = re.findall(r"@description\(.*\)\n(?:@.*\n)*param (\w+)", text)
        assert path.suffix == ".bicepparam" or bare == described, path.name


def test_the_version_is_one() -> None:
    """Project and templates name the same version; test_release has the package and the tag."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in ("main", "network"):
        assert template(name)["metadata"]["version"] == project["version"]
