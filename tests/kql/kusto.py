"""Asks Kusto's own parser, npm's `@kusto/language-service-next`, about KQL texts.

It parses and binds: an unknown table, column or function, or a wrong type, is a diagnostic. It
runs nothing, so what a text returns is not shown. Loading takes seconds: ask about many at once.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from local.services.azurite import find_node

HERE: Final = Path(__file__).parent
PACKAGE: Final = HERE.parents[1] / "node_modules/@kusto/language-service-next"
ANSWERS_WITHIN: Final = 120.0
"""Seconds, on a machine that does much else."""

TABLES: Final[Mapping[str, Any]] = json.loads((HERE / "tables.json").read_text(encoding="utf-8"))


def diagnostics(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what is wrong with each text, by its name; warnings count.

    Without the package the test is skipped on a laptop and fails where `CI` is set.
    """
    if not PACKAGE.is_dir():
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"{PACKAGE} is missing: make setup")
    tables = {name: table["columns"] for name, table in TABLES["tables"].items()}
    run = subprocess.run(
        [str(find_node()), str(HERE / "kusto.js"), str(PACKAGE)],
        input=json.dumps({"tables": tables, "texts": texts}),
        capture_output=True,
        text=True,
        timeout=ANSWERS_WITHIN,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(run.stdout)
    return found
