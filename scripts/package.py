"""`make package`: the zip that is deployed, made of the product alone.

The product is listed here by name, and of its folders only Python modules are taken, so that no
file that happens to lie about, a key or a dump, is deployed. A link is refused: what it leads to
may be anything. What .funcignore leaves out for azd and func is left out here, too.

Reproducible: the same files give the same bytes, on any machine at any time. Names are sorted,
times and permissions are fixed. Dependencies are not in it: Azure's remote build installs
requirements.txt. Needs no git, so that a downloaded archive can be packed too.
"""

import argparse
import hashlib
import sys
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "dist" / "app.zip"

PRODUCT = (
    "common",
    "consumer",
    "function_app.py",
    "host.json",
    "ops",
    "producer",
    "requirements.txt",
)
"""What is deployed, of all that is in the root: nothing else is even looked at."""

OTHERS = {"dashboard": frozenset({".html", ".css", ".js"}), "kql": frozenset({".kql"})}
"""What is taken of some folders beside Python modules, by the names of the folders."""

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the zip: the first that the format knows."""

READABLE = 0o100644 << 16
"""A plain file that everybody may read, as zip keeps permissions."""


def main(arguments: list[str] | None = None) -> int:
    """Pack, and say what came of it."""
    parser = argparse.ArgumentParser(prog="make package", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: dist/app.zip")
    output: Path = parser.parse_args(arguments).output
    names = pack(ROOT, output)
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    size = output.stat().st_size / 1024
    print(f"{output}: {len(names)} files, {size:.0f} KiB, sha256 {digest}")  # noqa: T201
    return 0


def pack(root: Path, output: Path) -> list[str]:
    """Write the zip of the product in a folder; return the names in it.

    Raises `FileNotFoundError` if a part of the product is not there, `ValueError` for a link.
    """
    names = sorted(deployed(root))
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
        for name in names:
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.external_attr = READABLE
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is made
            package.writestr(entry, (root / name).read_bytes())
    return names


def deployed(root: Path) -> Iterator[str]:
    """Yield the path of each file of the product that .funcignore leaves, relative to the root."""
    patterns = read_patterns((root / ".funcignore").read_text(encoding="utf-8"))
    yield from _walk(root, [root / name for name in PRODUCT], patterns)


def read_patterns(text: str) -> list[str]:
    """Return the patterns of a .funcignore: names with wildcards, `/` at the end for a folder.

    Raises `ValueError` for git's further syntax, which nothing here needs.
    """
    lines = [line.strip() for line in text.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    if strange := [item for item in patterns if "/" in item[:-1] or item[0] in "!\\"]:
        raise ValueError(f".funcignore: {strange} is more than a name or a folder's name")
    return patterns


def _walk(root: Path, paths: Iterable[Path], patterns: list[str]) -> Iterator[str]:
    for path in paths:
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise ValueError(f"{name} is a symbolic link; put the file itself there, or remove it")
        is_folder = path.is_dir()
        suffixes = OTHERS.get(path.parent.name, frozenset()) | {".py"}
        if any(_names(item, path.name, is_folder=is_folder) for item in patterns):
            continue
        if is_folder and path.name.isidentifier():
            yield from _walk(root, path.iterdir(), patterns)
        elif name in PRODUCT or (path.suffix in suffixes and path.stem.isidentifier()):
            yield name


def _names(pattern: str, name: str, *, is_folder: bool) -> bool:
    if pattern.endswith("/"):
        return is_folder and fnmatchcase(name, pattern[:-1])
    return fnmatchcase(name, pattern)


if __name__ == "__main__":
    sys.exit(main())
