"""The repository's files as git lists them: tracked, or about to be; never what is ignored."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def listed(*options: str) -> list[Path]:
    """Return the tracked and untracked files that `git ls-files` lists with these options.

    Skips the test where there is no repository to ask (a downloaded archive), but not in CI.
    """
    if not (ROOT / ".git").exists():
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("no git repository: nothing to read the list of files from")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    paths = [Path(name) for name in names if name]
    return [
        path for path in paths if (ROOT / path).is_file()
    ]  # listed until a removal is committed


def repository_files() -> list[Path]:
    """Return every file of the repository, relative to its root."""
    return listed("--exclude-standard")
