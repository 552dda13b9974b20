"""The check of the template sees what it is there for."""

import shutil
from pathlib import Path

import pytest

from scripts.compiler import Compiler
from scripts.template import compare, diagnose
from tests.bicep.compiled import BICEP

UNION = "@allowed(['AzureCloud', 'AzureUSGovernment'])\nparam cloud string = environment().name"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of bicep/ to break."""
    return Path(shutil.copytree(BICEP, tmp_path / "bicep"))


def test_a_default_that_does_not_compile_is_found(copy: Path, compiler: Compiler) -> None:
    """The one error that no test saw: a plain text as default of a parameter with `@allowed`."""
    main = copy / "main.bicep"
    text = main.read_text(encoding="utf-8")
    broken = text.replace("param cloud string = environment().name", UNION)
    assert broken != text
    main.write_text(broken, encoding="utf-8")
    assert any("BCP033" in fault for fault in diagnose(copy, compiler))


def test_a_change_without_new_outputs_is_found(copy: Path, compiler: Compiler) -> None:
    """Each output that the change touches is named, and the source itself."""
    vault = copy / "modules" / "key-vault.bicep"
    text = vault.read_text(encoding="utf-8")
    vault.write_text(text.replace("InDays: 7", "InDays: 8"), encoding="utf-8")
    faults = list(compare(copy, compiler))
    assert "compiled/main.json is stale; run: make template" in faults
    assert "examples/all-new.snapshot.json is stale; run: make template" in faults
    assert not any(fault.startswith("compiled/network.json") for fault in faults)
    assert any(fault.startswith("modules/key-vault.bicep has changed") for fault in faults)


def test_a_warning_is_a_fault(copy: Path, compiler: Compiler) -> None:
    """A parameter that nothing uses is refused, as are all the linter's findings."""
    identity = copy / "modules" / "identity.bicep"
    text = identity.read_text(encoding="utf-8")
    identity.write_text(text + "\nvar unused = 1\n", encoding="utf-8")
    assert any("no-unused-vars" in fault for fault in diagnose(copy, compiler))


VARIABLES = {
    "a list of words": ("privateDns", "readEnvironmentVariable('X', 'create')", False),
    "a number": ("maximumInstanceCount", "int(readEnvironmentVariable('X', '40'))", False),
    "a switch": ("logDetails", "bool(readEnvironmentVariable('X', 'false'))", False),
    "a list of numbers": ("instanceMemoryMB", "int(readEnvironmentVariable('X', '512'))", True),
}
"""A parameter, how it is read from a variable, and whether the compiler refuses that."""


@pytest.mark.parametrize("case", VARIABLES)
def test_a_parameter_takes_a_variable_as_the_document_says(
    case: str, copy: Path, compiler: Compiler
) -> None:
    """docs/deploy.md, With azd: only a list of numbers takes none."""
    name, value, is_refused = VARIABLES[case]
    path = copy / "main.bicepparam"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(f"param {name} ")]
    path.write_text("\n".join([*kept, f"param {name} = {value}", ""]), encoding="utf-8")
    found = compiler.compile(path).diagnostics
    assert [diagnostic for diagnostic in found if "BCP033" not in diagnostic] == []
    assert bool(found) == is_refused
