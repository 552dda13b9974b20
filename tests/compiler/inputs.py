"""A customer's inputs as a parameter file, and what the template makes of them."""

from pathlib import Path
from typing import Any

from scripts.compiler import Compiler
from tests.bicep.compiled import BICEP

WORKSPACE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc"
    "/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel"
)
NETWORK = (
    "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/corp-network"
    "/providers/Microsoft.Network/virtualNetworks/corp-spoke-vnet"
)
GUID = "11111111-1111-1111-1111-111111111111"

REQUIRED: dict[str, object] = {"cloud": "AzureCloud", "sentinelWorkspaceResourceId": WORKSPACE}


def predict(
    compiler: Compiler, folder: Path, inputs: dict[str, object], *, template: str | None = None
) -> dict[str, Any]:
    """Return the snapshot of main.json, or of another template, with these inputs.

    The required ones are given beside them. Raises `RefusedError` where the template refuses them.
    """
    main = (BICEP / "compiled" / "main.json").read_text(encoding="utf-8")
    (folder / "main.json").write_text(template or main, encoding="utf-8")
    lines = [f"param {name} = {literal(value)}" for name, value in (REQUIRED | inputs).items()]
    path = folder / "inputs.bicepparam"
    path.write_text("\n".join(["using 'main.json'", *lines, ""]), encoding="utf-8")
    return compiler.snapshot(path)


def literal(value: object) -> str:
    """Return a value as Bicep writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return "'" + value.replace("'", "\\'") + "'"
        case dict():
            return "{" + ", ".join(f"'{key}': {literal(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(literal, value)) + "]"
        case _:
            return str(value)
