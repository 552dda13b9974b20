"""Set-up writes into the repository only: what a link leads to may be another project's."""

import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        *product(("all", "demo"), (".venv", "node_modules", ".setup")),
        ("python", ".venv"),
        ("checkov", ".setup/checkov-env"),
        ("page", "tests/page/node_modules"),
    ],
)
def test_what_a_link_leads_to_is_left_alone(part: str, name: str, tmp_path: Path) -> None:
    """Where set-up would rewrite what a symbolic link points to, it refuses before any step."""
    project, other = tmp_path / "project", tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    (project / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", project / "scripts")
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).symlink_to(other)
    done = subprocess.run(
        ["sh", "scripts/setup.sh", part],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert f"{name} is a symbolic link" in done.stderr
    assert not done.stdout
    assert [path.name for path in other.iterdir()] == ["precious"]
