"""Imports obey the architecture: who may know whom, and where each foreign library may appear."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT: dict[str, frozenset[str]] = {
    "common": frozenset({"common"}),
    "producer": frozenset({"producer", "common"}),
    "consumer": frozenset({"consumer", "common"}),
    "ops": frozenset({"ops", "common"}),
    "local": frozenset({"local"}),
    "local/services": frozenset({"local.services", "local.http_server"}),
    "local/functions_host": frozenset({"local.functions_host", "local.http_server"}),
    "function_app": frozenset({"producer.triggers", "consumer.triggers", "ops.triggers"}),
    "benchmarks": frozenset(
        {"benchmarks", "common", "producer", "consumer", "local", "function_app"}
    ),
}
"""What each part may import of this repository. That `local` stands alone is what makes it a
judge: a simulator that imported our encoder would agree with our bug. In it, neither the services
nor the host know the demo, chaos or each other. Nobody imports `benchmarks`,
and it leaves `ops` alone: it sees what an operator sees."""

OURS = frozenset({*MAY_IMPORT, "tests", "scripts"})
PRODUCT = ("common", "producer", "consumer", "ops")

BORDERS: dict[str, frozenset[str]] = {
    "azure.data": frozenset({"common/ledger/tables.py"}),
    "azure.storage": frozenset({"common/queues.py"}),
    "azure.monitor": frozenset({"common/workspace.py"}),
    "msal": frozenset({"common/identity.py"}),
    "azure.identity": frozenset({"common/identity.py", "ops/cli/entra.py"}),
    "time": frozenset({"common/clock.py"}),
    "logging": frozenset({"common/events.py"}),
}
"""The one product module that may import each of these: its errors, its waits, its log lines."""


def files(part: str) -> list[Path]:
    """Return the Python files of a part, relative to the root."""
    if (ROOT / f"{part}.py").is_file():
        return [Path(f"{part}.py")]
    return sorted(path.relative_to(ROOT) for path in (ROOT / part).rglob("*.py"))


def imports(path: Path, source: str) -> Iterator[str]:
    """Yield the full name of everything imported, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                start = ".".join(path.parts[: len(path.parts) - level]) if level else ""
                base = ".".join(part for part in (start, module) if part)
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(func=ast.Name(id="__import__")):
                yield "a name made at run time"
            case ast.Call(func=ast.Attribute(attr="import_module")):
                yield "a name made at run time"


def is_within(name: str, package: str) -> bool:
    """Whether `name` is `package` or something in it."""
    return name == package or name.startswith(package + ".")


def imported(path: Path) -> list[str]:
    """Return what a file of the repository imports."""
    return list(imports(path, (ROOT / path).read_text(encoding="utf-8")))


def test_the_reader_of_imports_sees_every_form() -> None:
    """Plain, aliased, from, relative, nested in a function, and made at run time."""
    source = (
        "import a.b as c, d\n"
        "from e import f\n"
        "from . import g\n"
        "from .h import i\n"
        "def j():\n    from k.l import m\n    __import__('n')\n    importlib.import_module('o')\n"
    )
    found = list(imports(Path("pack/age/mod.py"), source))
    assert found[:6] == ["a.b", "d", "e.f", "pack.age.g", "pack.age.h.i", "k.l.m"]
    assert found[6:] == ["a name made at run time"] * 2


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_of_ours_only_what_it_may(part: str) -> None:
    """Producer and consumer never meet, ops stands on common alone, common knows none of them."""
    assert files(part)
    strangers = [
        f"{path} imports {name}"
        for path in files(part)
        for name in imported(path)
        if name.partition(".")[0] in OURS
        and not any(is_within(name, allowed) for allowed in MAY_IMPORT[part])
    ]
    assert strangers == []


@pytest.mark.parametrize("part", PRODUCT)
def test_nothing_deployed_imports_by_a_name_made_at_run_time(part: str) -> None:
    """So that the test above sees everything."""
    assert [path for path in files(part) if "a name made at run time" in imported(path)] == []


def test_azure_functions_appears_only_where_functions_are_declared() -> None:
    """In the triggers and in function_app.py: the rest can be read and tested without it."""
    users = {
        path
        for part in MAY_IMPORT
        for path in files(part)
        if any(is_within(name, "azure.functions") for name in imported(path))
    }
    assert users == {
        Path("function_app.py"),
        *(Path(part, "triggers.py") for part in ("producer", "consumer", "ops")),
    }


@pytest.mark.parametrize("package", BORDERS)
def test_a_foreign_library_has_one_border(package: str) -> None:
    """Only there are its errors translated, so nowhere else may it be imported."""
    users = {
        path.as_posix()
        for part in PRODUCT
        for path in files(part)
        if any(is_within(name, package) for name in imported(path))
    }
    assert users == BORDERS[package]


def test_the_program_stands_on_what_a_laptop_has() -> None:
    """Over HTTP it imports of ours what needs no library that runs in Azure; `direct` the rest."""
    light = {"common.clock", "common.transport", "common.version", "ops.cli", "ops.csv_text"}
    heavy = {
        f"{path} imports {name}"
        for path in files("ops/cli")
        if path.name != "direct.py"
        for name in imported(path)
        if name.partition(".")[0] in OURS and not any(is_within(name, one) for one in light)
    }
    assert heavy == set()


def test_the_app_does_not_know_the_program() -> None:
    """It is not deployed."""
    users = {
        path
        for part in (*PRODUCT, "function_app")
        for path in files(part)
        if Path("ops/cli") not in path.parents and path != Path("ops/__main__.py")
        if any(is_within(name, "ops.cli") for name in imported(path))
    }
    assert users == set()
