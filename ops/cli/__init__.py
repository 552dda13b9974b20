"""The operators' program, `lumen-sentinel`: a client of the operators' API.

`transport` says how a call is made: over HTTP (`http`) or next to the storage (`direct`). All
commands, prompts and tables are written once over that. Nothing here is deployed, and over HTTP
nothing is imported that only Azure needs.
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        from ops.cli.program import run  # noqa: PLC0415 - a missing package is said, not shown
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"lumen-sentinel: the Python package {error.name} is not installed; install the "
            "program with `pipx install .`, or set up this folder with `make setup`\n"
        )
        return 2
    return run(arguments)
