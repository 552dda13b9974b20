"""`make template` and `make check-template`: the template's compiled outputs, written or compared.

What is deployed by a button, and what the tests read, are outputs of Bicep's compiler:
bicep/compiled/main.json and network.json, and beside each example a snapshot of what it would
make. They are committed, so that a change of the template shows in a review as a change of what is
deployed. bicep/compiled/checksums.txt names the sources and outputs that belong together: with it
a test finds stale ones where there is no compiler.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from scripts.compiler import Compiler, CompilerMissingError, RefusedError

BICEP: Final = Path(__file__).resolve().parents[1] / "bicep"
TEMPLATES: Final = ("main", "network")
"""What is compiled to JSON: each is deployed by a button of its own."""

CHECKSUMS: Final = Path("compiled/checksums.txt")
FOLDERS: Final = ("compiled", "examples", "kql", "modules", "texts")
"""Folders of sources and outputs; what is in the root of bicep/ is a source, too."""

SUFFIXES: Final = (".bicep", ".bicepparam", ".json", ".kql", ".md")
OWN: Final = "mine"
"""Start of the name of a user's parameter file: git ignores it, too."""


def main(arguments: list[str] | None = None) -> int:
    """Write or check; 0 when all is well, 1 when something is wrong, 2 without a compiler."""
    parser = argparse.ArgumentParser(prog="scripts.template", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("write", "check"))
    command: str = parser.parse_args(arguments).command
    try:
        with Compiler() as compiler:
            faults = list(diagnose(BICEP, compiler))
            if command == "write" and not faults:
                write(BICEP, compiler)
            elif not faults:
                faults = list(compare(BICEP, compiler))
    except CompilerMissingError as error:
        print(f"template: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except RefusedError as error:
        faults = [str(error)]
    for fault in faults:
        print(f"template: {fault}", file=sys.stderr)  # noqa: T201
    if not faults:
        done = "written" if command == "write" else "compiles, and its outputs are up to date"
        print(f"template: {done}")  # noqa: T201
    return 1 if faults else 0


def diagnose(root: Path, compiler: Compiler) -> Iterator[str]:
    """Yield every error and warning of every file, and each file that is not formatted."""
    for path in sorted([*root.rglob("*.bicep"), *root.rglob("*.bicepparam")]):
        if path.name.startswith(OWN):
            continue
        name = path.relative_to(root)
        for diagnostic in compiler.compile(path).diagnostics:
            yield f"{name}: {diagnostic}"
        if compiler.format(path) != path.read_text(encoding="utf-8"):
            yield f"{name} is not formatted; run: bicep format bicep/{name}"


def write(root: Path, compiler: Compiler) -> None:
    """Write every output, and the checksums."""
    for name, contents in outputs(root, compiler):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(contents, encoding="utf-8")
    (root / CHECKSUMS).write_text(checksums(root), encoding="utf-8")


def compare(root: Path, compiler: Compiler) -> Iterator[str]:
    """Yield each output that is not what the compiler makes of the sources."""
    expected: set[Path] = set()
    for name, contents in outputs(root, compiler):
        expected.add(name)
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != contents:
            yield f"{name} is stale; run: make template"
    left = {path.relative_to(root) for path in root.rglob("*.snapshot.json")} - expected
    yield from (f"{name} has no example; remove it" for name in sorted(left))
    yield from stale(root)


def outputs(root: Path, compiler: Compiler) -> Iterator[tuple[Path, str]]:
    """Yield the name of each output and what the compiler makes of its source.

    Raises `RefusedError` where the template refuses one of its own examples.
    """
    for name in TEMPLATES:
        contents = compiler.compile(root / f"{name}.bicep").contents
        yield Path("compiled", f"{name}.json"), contents.rstrip("\n") + "\n"
    for path in sorted(root.glob("examples/*.bicepparam")):
        if path.name.startswith(OWN):
            continue
        try:
            snapshot = compiler.snapshot(path)
        except RefusedError as error:
            raise RefusedError(f"{path.name}: {error}") from error
        yield path.relative_to(root).with_suffix(".snapshot.json"), in_order(snapshot)


def in_order(snapshot: dict[str, Any]) -> str:
    """Return a snapshot as text; the compiler gives its outputs in another order each time."""
    outputs_ = dict(sorted(snapshot.get("outputs", {}).items()))
    return json.dumps(snapshot | {"outputs": outputs_}, indent=2, ensure_ascii=False) + "\n"


def stale(root: Path) -> Iterator[str]:
    """Yield what is wrong with the checksums; needs no compiler."""
    path = root / CHECKSUMS
    found = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in sorted(set(found.splitlines()) ^ set(checksums(root).splitlines())):
        yield f"{line.split()[-1]} has changed since the last make template; run it"


def checksums(root: Path) -> str:
    """Return a line for each source and output: its SHA-256 and its name."""
    named = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name.as_posix()}\n"
        for name in named
        if is_compiled(name)
    ]
    return "".join(lines)


def is_compiled(name: Path) -> bool:
    """Whether a file of bicep/ is a source or an output of the compiler."""
    if name.suffix not in SUFFIXES or name.name.startswith(OWN):
        return False
    return name.parts[0] in FOLDERS or (len(name.parts) == 1 and name.suffix != ".md")


if __name__ == "__main__":
    sys.exit(main())
