"""Print the requirements of one extra of pyproject.toml, for `make lock`.

`uv pip compile --extra` adds an extra to the project's own dependencies. What runs in Azure needs
none of the operators' program, so its lock is made from the extra alone.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def requirements_of_extra(root: Path, extra: str) -> list[str]:
    """Return the requirement lines of an extra; raises `KeyError` where there is no such extra."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines: list[str] = project["optional-dependencies"][extra]
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join([*requirements_of_extra(ROOT, sys.argv[1]), ""]))
