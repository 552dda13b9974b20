"""docs/deploy.md names what exists, and its sums are right."""

import re

from tests.bicep.template import BICEP, MAIN, ROOT, load, parameter_files

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


def test_every_variable_is_explained() -> None:
    """The table names each environment variable that deploys, and no other."""
    table = TEXT.partition("| variables | for |")[2].partition("\n\n")[0]
    text = (BICEP / "main.bicepparam").read_text(encoding="utf-8")
    read = re.findall(r"readEnvironmentVariable\('(\w+)'", text)
    assert set(re.findall(r"`([A-Z][A-Z_]+)`", table)) == set(read)


def test_commands_name_files_that_exist() -> None:
    """What a command of ours reads is in the repository, or made by a command before it."""
    made = {"bicep/examples/mine.bicepparam", "dist/app.zip", "dist/app-with-packages.zip"}
    commands = "\n".join(re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL))
    named = set(re.findall(r"(?:bicep|dist)/[\w./-]+\.(?:bicepparam|bicep|zip)", commands))
    assert made <= named
    assert [name for name in named - made if not (ROOT / name).is_file()] == []


def test_every_example_is_introduced() -> None:
    """Each parameter file is linked."""
    for path in parameter_files():
        assert f"(../{path.relative_to(ROOT).as_posix()})" in TEXT, path.name


def test_the_costs_add_up() -> None:
    """The last line of the estimate is the sum of those above it."""
    table = TEXT.partition("## What it costs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\**[^|]+?\**) \|[^|]*\| (\**[\d.]+\**) \|$", table, re.MULTILINE)
    *items, (title, total) = rows
    assert title == "**Together**"
    assert round(sum(float(amount) for _, amount in items), 2) == float(total.strip("*"))
    assert len(items) >= 7
