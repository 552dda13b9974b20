"""docs/deploy.md names what exists, and its sums are right."""

import re

from tests.bicep.template import BICEP, MAIN, ROOT, load

TEXT = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
INTERNAL = {"queueNames", "tableNames"}


def test_parameters_in_the_document_exist() -> None:
    """What looks like a parameter (`camelCase`) is one of the template's."""
    named = set(re.findall(r"`([a-z]+(?:[A-Z][a-zA-Z0-9]*)+)`", TEXT)) - INTERNAL
    assert len(named) > 10
    assert named <= set(load(MAIN).parameters)
    assert set(load(MAIN).variables) >= INTERNAL


def test_outputs_in_the_document_exist() -> None:
    """The ids that are to be handed on are outputs."""
    assert set(re.findall(r"\bPIPELINE_[A-Z_]+\b", TEXT)) <= set(load(MAIN).outputs)


def test_every_example_is_introduced() -> None:
    """Each parameter file is linked."""
    for path in BICEP.rglob("*.bicepparam"):
        assert f"(../{path.relative_to(ROOT).as_posix()})" in TEXT, path.name


def test_the_costs_add_up() -> None:
    """The last line of the estimate is the sum of those above it."""
    table = TEXT.partition("## What it costs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\**[^|]+?\**) \|[^|]*\| (\**[\d.]+\**) \|$", table, re.MULTILINE)
    *items, (title, total) = rows
    assert title == "**Together**"
    assert round(sum(float(amount) for _, amount in items), 2) == float(total.strip("*"))
    assert len(items) >= 7
