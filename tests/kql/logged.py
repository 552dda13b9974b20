"""Which facts the code logs with each event, read from its calls of `emit`."""

import ast
from collections import defaultdict
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Final

from common.events import Event
from common.ledger.pulses import Pulse

ROOT: Final = Path(__file__).parents[2]
WITH_EACH: Final = {"trace", "version"}
"""What `emit` puts beside the facts of every event."""


@cache
def facts_by_event() -> dict[str, set[str]]:
    """Return the facts of each event, those of all its calls together."""
    found: dict[str, set[str]] = defaultdict(lambda: set(WITH_EACH))
    for folder in ("common", "consumer", "ops", "producer"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for call in ast.walk(tree):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "emit":
                    for event in _events(call.args[0], tree):
                        found[event] |= _facts(call)
    return found


def _events(node: ast.expr, tree: ast.Module) -> set[str]:
    """Return the events that an expression may be, a table of the module looked up."""
    tables = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)} - {"Event"}
    values = [
        item.value
        for item in tree.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and item.target.id in tables
        and item.value is not None
    ]
    return {
        Event[item.attr].value
        for part in (node, *values)
        for item in ast.walk(part)
        if isinstance(item, ast.Attribute) and getattr(item.value, "id", "") == "Event"
    }


def _facts(call: ast.Call) -> set[str]:
    """Return the names of the facts of a call; `**facts` are those of a pulse."""
    names = {item.arg for item in call.keywords if item.arg is not None}
    if len(names) < len(call.keywords):
        names |= {item.name for item in fields(Pulse)} - {"at"}
    return names
