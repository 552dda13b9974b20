"""What Checkov finds is fixed or accepted with a reason; `make check-template` runs it."""

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement

from scripts.checkov import ACCEPTED, LEAST_PASSED, is_looked_at, judge, lists
from tests.bicep.compiled import EXAMPLES, ROOT
from tests.repo.lock_files import requirements_of


def report(*failed: str, passed: int = LEAST_PASSED) -> dict[str, Any]:
    """Return a report in which these checks failed."""
    items = [
        {"check_id": check, "check_name": "name", "file_path": "/main.json", "resource": "vault"}
        for check in failed
    ]
    return {"results": {"failed_checks": items}, "summary": {"passed": passed}}


def test_its_lock_is_exact_and_names_no_host() -> None:
    """Checkov and all that it needs are pinned, in a version that pyproject.toml allows."""
    text = (ROOT / "requirements-checkov.txt").read_text(encoding="utf-8")
    pins = {item.name: item.specifier for item in requirements_of("requirements-checkov.txt")}
    assert all([pin.operator for pin in specifier] == ["=="] for specifier in pins.values())
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (wanted,) = map(Requirement, groups["dependency-groups"]["checkov"])
    (pinned,) = pins["checkov"]
    assert pinned.version in wanted.specifier
    assert not re.search(r"://|--index|--find-links|(?m:^-)", text)


def test_the_ordinary_set_up_goes_without_it() -> None:
    """Only check-template needs its environment."""
    script = (ROOT / "scripts/setup.sh").read_text(encoding="utf-8")
    assert "all) steps='dev node' ;;" in script
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^check-template:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert "setup.sh checkov" in recipe
    assert makefile.count("setup.sh checkov") == 1


def test_what_is_accepted_passes() -> None:
    """Findings with a reason are no faults."""
    assert list(judge(report(*ACCEPTED))) == []
    assert all(len(reason.split()) >= 5 for reason in ACCEPTED.values())


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (report(*ACCEPTED, "CKV_AZURE_1"), "CKV_AZURE_1 name (main.json: vault)"),
        (report(*[c for c in ACCEPTED if c != "CKV_AZURE_17"]), "CKV_AZURE_17 is accepted and"),
        (report(*ACCEPTED, passed=0), "only 0 checks passed"),
    ],
    ids=["new finding", "acceptance that nothing needs", "nothing looked at"],
)
def test_what_is_not_accepted_fails(found: dict[str, Any], fault: str) -> None:
    """A new finding, an acceptance that nothing needs any more, a run that saw nothing."""
    (said,) = judge(found)
    assert said.startswith(fault)


def test_it_looks_at_everything() -> None:
    """main.json with what is nested in it, and every snapshot."""
    found = dict(lists())
    assert set(found) == {"main", *EXAMPLES}
    assert len(found["main"]) > 45
    types = {item["type"] for item in found["main"]}
    assert {"Microsoft.Storage/storageAccounts", "Microsoft.KeyVault/vaults"} <= types
    assert "Microsoft.Resources/deployments" not in types


@pytest.mark.parametrize(
    ("kind", "name", "is_read"),
    [
        ("Microsoft.Web/sites/config", "app/authsettingsV2", False),
        ("Microsoft.Web/sites/config", "[format('{0}/{1}', 'app', 'authsettingsV2')]", False),
        ("Microsoft.Web/sites/config", "app/web", True),
        ("Microsoft.Web/sites", "authsettingsV2", True),
    ],
)
def test_the_settings_of_sign_in_are_no_web_server(kind: str, name: str, is_read: bool) -> None:
    """Checkov would judge them as if they were; everything else it reads."""
    assert is_looked_at({"type": kind, "name": name}) is is_read
