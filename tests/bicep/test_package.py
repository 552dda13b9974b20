"""What `make package` builds: the product alone, the same bytes each time, and it runs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local.functions_host.process import child_environment
from local.services.azurite import Azurite
from scripts.package import deployed, main, pack, read_patterns
from tests.bicep.compiled import ROOT
from tests.patience import PATIENCE
from tests.repo.git_files import listed, repository_files
from tests.repo.lock_files import requirements_of

FUNCTIONS = {"lumen_sync", "sentinel_upload", "keep_poison", "read", "act", "health", "dashboard"}

HOST_ALONE = """
import importlib.abc, json, runpy, sys

class Refuse(importlib.abc.MetaPathFinder):
    def __init__(self, names):
        self.names = frozenset(names)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed in production", name=name)
        return None

refused, arguments = json.loads(sys.argv[1])
sys.meta_path.insert(0, Refuse(refused))
sys.argv = ["functions_host", *arguments]
runpy.run_module("local.functions_host", run_name="__main__")
"""
"""The local host in a process that has production's packages, the worker's and no others."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, unpacked into an empty folder."""
    folder = tmp_path_factory.mktemp("package")
    pack(ROOT, folder / "app.zip")
    with zipfile.ZipFile(folder / "app.zip") as package:
        package.extractall(folder / "wwwroot")
    return folder / "wwwroot"


def files_of(folder: Path) -> set[Path]:
    """Return the files of a folder, relative to it."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def copy_product(folder: Path) -> list[Path]:
    """Copy what is deployed, and .funcignore; return the copies."""
    copies = [folder / name for name in sorted([*deployed(ROOT), ".funcignore"], reverse=True)]
    for copy in copies:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / copy.relative_to(folder)).read_bytes())
    return copies


def locked() -> set[str]:
    """Return the names of the packages that Azure installs."""
    return {canonicalize_name(item.name) for item in requirements_of("requirements.txt")}


def needed_by(name: str) -> set[str]:
    """Return a package and all that it needs here."""
    found: set[str] = set()
    open_names = [name]
    while open_names:
        current = canonicalize_name(open_names.pop())
        if current not in found:
            found.add(current)
            needs = [Requirement(line) for line in distribution(current).requires or ()]
            open_names += [
                need.name
                for need in needs
                if not need.marker or need.marker.evaluate({"extra": ""})
            ]
    return found


def refused() -> list[str]:
    """Return every importable name that neither production nor the worker itself has."""
    available = locked() | needed_by("azure-functions-runtime")
    return [
        package
        for package, owners in packages_distributions().items()
        if package.isidentifier() and not available & set(map(canonicalize_name, owners))
    ]


@contextmanager
def host_running(app: Path, environment: dict[str, str], log: Path) -> Iterator[dict[str, object]]:
    """Run the local host on a folder that holds the app; give the line that says it is ready."""
    lonely = log.parent / "host"
    lonely.mkdir()
    (lonely / "local").symlink_to(ROOT / "local")  # so that nothing else of ours can be imported
    arguments = ["--app", str(app), "--host-key=key", "--no-timers"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", HOST_ALONE, json.dumps([refused(), arguments])],
            cwd=app,
            env={**child_environment(environment), "PYTHONPATH": str(lonely)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text(encoding="utf-8")
        yield json.loads(line)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_the_package_is_the_product(unpacked: Path) -> None:
    """It holds the files that .funcignore leaves, as git reads that file, and no others."""
    ignored = set(listed("--ignored", "--exclude-from=.funcignore"))
    assert files_of(unpacked) == set(repository_files()) - ignored
    assert {Path("function_app.py"), Path("host.json"), Path("requirements.txt")} <= files_of(
        unpacked
    )


@pytest.mark.parametrize(
    "stray",
    [
        ".azure/production/.env",
        ".env",
        ".vscode/settings.json",
        "common/.env",
        "common/__pycache__/clock.pyc",
        "common/lumen.key",
        "common/notes.md",
        "common/.hidden/clock.py",
        "common/clock (copy).py",
        "common/.#clock.py",
        "common/clock.py.orig",
        "common/clock.pyi",
        "consumer/dump.json",
        "consumer/host.json",
        "consumer/function_app.txt",
        "ops/data/export.csv",
        "producer/requirements.txt",
        "producer/sync",
        "notes.txt",
        "unknown/key.pem",
    ],
)
def test_what_lies_about_is_not_packed(stray: str, tmp_path: Path) -> None:
    """A file that is not the product's stays here, in the root or inside, known or not."""
    root = tmp_path / "root"
    copy_product(root)
    (root / stray).parent.mkdir(parents=True, exist_ok=True)
    (root / stray).write_text("secret", encoding="utf-8")
    assert set(pack(root, tmp_path / "app.zip")) == set(deployed(ROOT))


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("common/stolen.py", "outside.py"),
        ("common/stolen", "folder"),
        ("common/stolen.py", "root/common/clock.py"),
        ("common/stolen.key", "outside.py"),
        ("common/gone.py", "nowhere"),
        ("host.json", "outside.py"),
        ("ops", "folder"),
    ],
)
def test_a_link_is_refused(place: str, target: str, tmp_path: Path) -> None:
    """Wherever it leads, and whatever its name: what it leads to is not ours to deploy."""
    root = tmp_path / "root"
    copy_product(root)
    (tmp_path / "folder").mkdir()
    for name in ("outside.py", "folder/inside.py"):
        (tmp_path / name).write_text("SECRET = 1", encoding="utf-8")
    link = root / place
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=f"{place} is a symbolic link"):
        pack(root, tmp_path / "app.zip")
    assert not (tmp_path / "app.zip").exists()


def test_half_a_product_is_not_packed(tmp_path: Path) -> None:
    """A part that is missing stops the packing: Azure would find out late."""
    copy_product(tmp_path)
    shutil.rmtree(tmp_path / "ops")
    with pytest.raises(FileNotFoundError, match="ops"):
        pack(tmp_path, tmp_path / "app.zip")


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Neither the time nor the owner nor the order of the files is in the package."""
    copy = tmp_path / "copy"
    for target in copy_product(copy):
        os.utime(target, (0, 0))
        target.chmod(0o600)
    pack(ROOT, tmp_path / "one.zip")
    pack(copy, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_the_command_says_what_it_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the number of files and the digest that a deployment can be compared by."""
    assert main(["--output", str(tmp_path / "new" / "app.zip")]) == 0
    assert " files, " in (said := capsys.readouterr().out)
    assert "sha256 " in said


@pytest.mark.parametrize("line", ["!common/", "docs/adr", "/tests", "**/x"])
def test_syntax_that_the_packer_does_not_know_is_refused(line: str) -> None:
    """A pattern that git would read otherwise must not pass silently."""
    with pytest.raises(ValueError, match="more than a name"):
        read_patterns(f"# comment\n*.md\n{line}\n")


def test_the_package_runs_on_the_worker(
    unpacked: Path, azurite: Azurite, account: str, tmp_path: Path
) -> None:
    """Unpacked, with production's packages alone, all functions are there and one answers."""
    storage = azurite.connection_string(account=account)
    settings = {"AzureWebJobsStorage": storage, "PipelineStorage": storage}
    with host_running(unpacked, settings, tmp_path / "host.log") as ready:
        functions = ready["functions"]
        assert isinstance(functions, list)
        assert set(functions) >= FUNCTIONS
        answer = requests.get(
            f"http://127.0.0.1:{ready['port']}/api/read/status",
            headers={"x-functions-key": "key"},
            timeout=PATIENCE,
        )
    assert (answer.status_code, answer.json()["runs"]) == (200, [])


def test_the_worker_alone_would_notice_a_missing_file(
    unpacked: Path, azurite: Azurite, account: str, tmp_path: Path
) -> None:
    """The test above does not find what is missing in the checkout beside it."""
    broken = tmp_path / "wwwroot"
    broken.mkdir()
    for name in files_of(unpacked):
        if name.parts[0] != "ops":
            (broken / name).parent.mkdir(parents=True, exist_ok=True)
            (broken / name).write_bytes((unpacked / name).read_bytes())
    storage = azurite.connection_string(account=account)
    settings = {"AzureWebJobsStorage": storage, "PipelineStorage": storage}
    with (
        pytest.raises(AssertionError, match="No module named 'ops'"),
        host_running(broken, settings, tmp_path / "host.log"),
    ):
        pass
