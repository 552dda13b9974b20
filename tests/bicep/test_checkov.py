"""Checkov finds no weakness in the template, and each finding that we accept has its reason."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.bicep.template import BICEP, ROOT, files
from tests.patience import PATIENCE
from tests.repo.lock_files import requirements_of

CHECKOV = ROOT / ".setup" / "checkov-env" / "bin" / "checkov"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Checkov says; skips where it is not installed, but fails in CI."""
    if not CHECKOV.is_file():
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("Checkov is not installed: run make setup")
    # Through its Python: the script's first line cannot name one in a path with blanks.
    python = CHECKOV.with_name("python")
    command = [
        str(python),
        str(CHECKOV),
        "--directory",
        str(BICEP),
        "--framework",
        "bicep",
        "--output",
        "json",
    ]
    done = subprocess.run(
        [*command, "--skip-download", "--quiet"],
        cwd=tmp_path_factory.mktemp("checkov"),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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


def test_both_parse_with_the_same_pycep() -> None:
    """What our tests read of the template is what Checkov reads."""
    locks = ("requirements-dev.txt", "requirements-checkov.txt")
    texts = [(ROOT / lock).read_text(encoding="utf-8") for lock in locks]
    pins = [re.findall(r"^pycep-parser==(\S+)", text, re.MULTILINE) for text in texts]
    assert pins[0] == pins[1] != []


def test_checkov_finds_nothing(report: dict[str, Any]) -> None:
    """No check fails, no file fails to parse, and it did look."""
    results = report["results"]
    failed = [(item["check_id"], item["resource"]) for item in results["failed_checks"]]
    assert failed == []
    assert results.get("parsing_errors", []) == []
    assert report["summary"]["passed"] > 30


def test_every_suppression_is_in_use(report: dict[str, Any]) -> None:
    """A finding that is gone takes its suppression with it."""
    written = sum(path.read_text(encoding="utf-8").count("checkov:skip=") for path in files())
    assert report["summary"]["skipped"] == written


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_every_suppression_has_a_reason(path: Path) -> None:
    """Beside each accepted finding stands, in a sentence, why."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if "checkov:skip" in line:
            assert re.fullmatch(r"  // checkov:skip=CKV_AZURE_\d+: \S+( \S+){4,}", line)
