"""The KQL texts by which the app itself asks the workspace, one file each; `tests/kql` parses all.

A value goes into a text by `common.workspace.fill` alone.
"""

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def read_kql(name: str) -> str:
    """Return the text of the file `name`, without its ending."""
    return (_HERE / f"{name}.kql").read_text(encoding="utf-8")
