"""Only the product is deployed: .funcignore leaves out everything else, and nothing of it.

But for the operators' program, which is a part of `ops` and runs on a laptop.
"""

import subprocess
from pathlib import Path

import pytest

from scripts.package import PRODUCT
from tests.repo.git_files import ROOT, listed, repository_files

PROGRAM = (Path("ops/cli"), Path("ops/__main__.py"))
"""What of the product's folders is not deployed."""

STRAY = (
    ".azure/config.json",
    ".azure/production/.env",
    ".coverage",
    ".DS_Store",
    ".env",
    ".env.local",
    ".idea/workspace.xml",
    ".vscode/settings.json",
    "common/.env",
    "common/lumen.key",
    "common/sentinel.pem",
    "consumer/identity.pfx",
    "local.settings.json",
    "lumen.egg-info/PKG-INFO",
    "my_env/bin/python",
)
"""What may lie about in a checkout, and is no business of Azure's or of git's."""


def left_out() -> set[Path]:
    """Return the files that .funcignore names; it is written in git's own syntax."""
    return set(listed("--ignored", "--exclude-from=.funcignore"))


def test_only_the_product_is_deployed() -> None:
    """Of the repository's files, those that .funcignore leaves are the product's."""
    deployed = set(repository_files()) - left_out()
    assert not {path for path in deployed if path.parts[0] not in PRODUCT}


def test_the_product_is_deployed_whole() -> None:
    """Of the product's files, .funcignore names the operators' program alone."""
    product = {path for path in repository_files() if path.parts[0] in PRODUCT}
    assert {path.parts[0] for path in product} == set(PRODUCT)
    program = {path for path in product if any(path.is_relative_to(part) for part in PROGRAM)}
    assert program
    assert product & left_out() == program


@pytest.mark.parametrize("ignored", [".funcignore", ".gitignore"])
def test_what_lies_about_is_neither_deployed_nor_committed(ignored: str, tmp_path: Path) -> None:
    """Secrets, editors' folders and the like are named in both files."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in STRAY:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    command = ["git", "ls-files", "--others", f"--exclude-from={ROOT / ignored}"]
    left = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert left.split() == []
