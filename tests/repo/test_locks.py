"""The lock files say exactly what is installed, and nothing about where it came from.

`pyproject.toml` is what people edit; `make lock` writes requirements.txt (what Azure's remote
build installs, the extra `azure`), requirements-local.txt (the program and the demo) and
requirements-dev.txt (tests and checks); npm writes package-lock.json. No test here needs the
network.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.repo.lock_files import read_lock, requirements_of

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-local.txt", "requirements-dev.txt")


def pyproject() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def wanted(lock: str) -> list[Requirement]:
    """Return the requirements that people wrote down for this lock."""
    project = pyproject()
    if lock == "requirements.txt":
        return [Requirement(line) for line in project["project"]["optional-dependencies"]["azure"]]
    groups = project["dependency-groups"]
    lines = list(groups[lock.removeprefix("requirements-").removesuffix(".txt")])
    if {"include-group": "local"} in lines:
        lines.remove({"include-group": "local"})
        lines += groups["local"]
    lines += project["project"]["dependencies"]
    return [Requirement(line) for line in lines]


def pins(lock: str) -> dict[str, Version]:
    """Return the locked version of each package, by canonical name."""
    return {canonicalize_name(r.name): pinned_version(r) for r in requirements_of(lock)}


def pinned_version(requirement: Requirement) -> Version:
    """Return the one version a requirement allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def applies_here(requirement: Requirement) -> bool:
    """Tell whether a requirement holds on this platform, without extras."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def locked_here() -> dict[str, Version]:
    """Return what both locks together install on this platform."""
    return {
        canonicalize_name(r.name): pinned_version(r)
        for lock in LOCKS
        for r in requirements_of(lock)
        if applies_here(r)
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_what_pyproject_asks_for(lock: str) -> None:
    """Every dependency in pyproject.toml is locked at a version it allows."""
    versions = pins(lock)
    unmet = [
        str(requirement)
        for requirement in wanted(lock)
        if (version := versions.get(canonicalize_name(requirement.name))) is None
        or version not in requirement.specifier
    ]
    assert not unmet, f"run make lock: {lock} does not meet {unmet}"


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_is_pinned_once(lock: str) -> None:
    """A lock names each package once, at one exact version."""
    requirements = requirements_of(lock)
    loose = [
        str(r)
        for r in requirements
        if r.url or [s.operator for s in r.specifier] != ["=="] or "*" in str(r.specifier)
    ]
    assert not loose
    names = [canonicalize_name(r.name) for r in requirements]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("one", "other"), list(combinations(LOCKS, 2)))
def test_locks_agree(one: str, other: str) -> None:
    """A package in two locks has one version in both, and the same hashes: pip takes both."""
    first, second = (
        {canonicalize_name(item.requirement.name): item for item in read_lock(lock)}
        for lock in (one, other)
    )
    differing = {
        name
        for name in first.keys() & second.keys()
        if pinned_version(first[name].requirement) != pinned_version(second[name].requirement)
        or set(first[name].hashes) != set(second[name].hashes)
    }
    assert not differing


def test_the_demo_installs_no_tools() -> None:
    """What only tests and checks need is in the lock on top, not in that of the local cloud."""
    local, dev = pins("requirements-local.txt").keys(), pins("requirements-dev.txt").keys()
    assert local < dev
    assert not {"pytest", "hypothesis", "mypy", "ruff", "uv"} & local


def test_installed_packages_are_the_locked_ones() -> None:
    """The environment the tests run in is the one the locks describe."""
    expected = locked_here()
    installed = {name: Version(distribution(name).version) for name in expected}
    assert installed == expected, "run make setup"


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_are_closed(lock: str) -> None:
    """What a locked package needs here is in the same lock, so an install adds nothing."""
    versions = pins(lock)
    missing = {
        f"{name} needs {requirement}"
        for name in versions.keys() & locked_here().keys()
        for requirement in needs(name)
        if (version := versions.get(canonicalize_name(requirement.name))) is None
        or version not in requirement.specifier
    }
    assert not missing


def needs(name: str) -> Iterator[Requirement]:
    """Yield what an installed package requires on this platform, without its extras."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if applies_here(requirement):
            yield requirement


def test_nothing_for_tests_is_deployed() -> None:
    """No package of the groups or of the program alone has slipped into what Azure installs."""
    asked_for = {canonicalize_name(r.name) for r in wanted("requirements-dev.txt")}
    in_azure = {canonicalize_name(r.name) for r in wanted("requirements.txt")}
    assert not (asked_for - in_azure) & pins("requirements.txt").keys()


def test_what_both_ask_for_is_asked_for_alike() -> None:
    """A package that app and program need has the same limits in pyproject.toml for both."""
    azure, program = (
        {canonicalize_name(r.name): r.specifier for r in wanted(lock)}
        for lock in ("requirements.txt", "requirements-local.txt")
    )
    assert {name for name in azure.keys() & program.keys() if azure[name] != program[name]} == set()


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-page.txt"])
def test_python_locks_name_no_host(lock: str) -> None:
    """A lock can be installed from any index: it holds no address, no index option, no path."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.findall(r"://|--index|--extra-index|--find-links|--trusted-host|@ |(?m:^-)", text)


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-page.txt", "requirements-checkov.txt"])
def test_every_python_package_has_its_hashes(lock: str) -> None:
    """pip refuses a file that is not the one that was locked, wherever it comes from."""
    bare = [
        str(item.requirement)
        for item in read_lock(lock)
        if not item.hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in item.hashes)
    ]
    assert not bare, f"run make lock: {bare} have no hashes"


def test_make_lock_writes_hashes() -> None:
    """The next lock has them, too."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^COMPILE := .* --generate-hashes ", makefile, re.MULTILINE)


ACTION = re.compile(r"^\s*(?:- )?uses:\s*(\S+)(.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/workflows").glob("*.y*ml")), ids=lambda path: path.name
)
def test_workflow_actions_are_pinned_by_commit(path: Path) -> None:
    """A tag can be moved to other code; a commit cannot. The tag is told beside it."""
    used = ACTION.findall(path.read_text(encoding="utf-8"))
    assert used
    loose = [
        name
        for name, comment in used
        if not re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40}", name)
        or not re.fullmatch(r" # v\d[\w.]*", comment)
    ]
    assert not loose


def test_an_action_has_one_commit() -> None:
    """Each action is pinned to the same commit, under the same tag, wherever it is used."""
    texts = [p.read_text(encoding="utf-8") for p in (ROOT / ".github/workflows").glob("*.y*ml")]
    pinned: dict[str, set[tuple[str, str]]] = {}
    for name, comment in (found for text in texts for found in ACTION.findall(text)):
        action, _, commit = name.partition("@")
        pinned.setdefault(action, set()).add((commit, comment))
    assert {action: found for action, found in pinned.items() if len(found) > 1} == {}


def test_node_lock_is_exact_and_names_no_registry() -> None:
    """Every Node package has an integrity hash and none says where it was downloaded from."""
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert packages
    assert not [path for path, entry in packages.items() if "integrity" not in entry]
    assert not [path for path, entry in packages.items() if "resolved" in entry]


def test_azurite_is_exact_and_locked() -> None:
    """package.json asks for one version of Azurite and the lock holds that one."""
    manifest = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    version = manifest["dependencies"]["azurite"]
    assert str(Version(version)) == version, "not a range"
    assert lock["packages"]["node_modules/azurite"]["version"] == version
    assert lock["packages"][""]["dependencies"] == manifest["dependencies"]
