"""The repository can be read by anyone, anywhere: no path of one machine, no registry's address.

Reads every file that is tracked or about to be (`git ls-files`); a file that is not text must be
listed here. The words looked for are put together from parts, so that this file passes too.
"""

import re
from collections.abc import Iterator

import pytest

from tests.repo.git_files import ROOT, repository_files

BINARY_SUFFIXES = {".png", ".gif", ".ico", ".woff2"}

MACHINE_PATH = re.compile(r"(?<![\w.~})>*%-])/(?:work|root|home|tmp|Users|mnt)/[\w.*-]+[\w./*-]*")

ALLOWED_PATHS = {
    "/home/site/wwwroot": "where Azure Functions keeps the deployed app, documented by Azure",
}

REGISTRIES = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "registry" + ".npmjs",
    "registry" + ".yarnpkg",
    "conda" + ".anaconda",
    "index" + ".crates",
]


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and content of each text file."""
    for path in repository_files():
        if path.suffix not in BINARY_SUFFIXES:
            yield str(path), (ROOT / path).read_text(encoding="utf-8")


def places(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield line number and match of each occurrence."""
    for number, line in enumerate(text.splitlines(), start=1):
        for match in pattern.finditer(line):
            yield number, match.group()


def machine_paths(text: str) -> list[tuple[int, str]]:
    """Return the paths of one machine that a text names."""
    return [
        (number, path)
        for number, path in places(text, MACHINE_PATH)
        if not any(path == allowed or path.startswith(allowed + "/") for allowed in ALLOWED_PATHS)
    ]


def test_every_file_is_text_or_listed() -> None:
    """A file that is not UTF-8 has a suffix that says so: nothing is skipped silently."""
    undecodable = []
    for path in repository_files():
        try:
            (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            undecodable.append(path)
    assert {path.suffix for path in undecodable} <= BINARY_SUFFIXES


def test_no_path_of_one_machine() -> None:
    """No file names a directory that exists on its author's machine only."""
    found = [f"{name}:{n}: {path}" for name, text in texts() for n, path in machine_paths(text)]
    assert not found


def test_no_registry_address() -> None:
    """No file names a registry's host: where packages come from is each reader's own setting."""
    registry = re.compile("|".join(map(re.escape, REGISTRIES)))
    found = [f"{name}:{n}: {host}" for name, text in texts() for n, host in places(text, registry)]
    assert not found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see /" + "home/ann/project", ["/" + "home/ann/project"]),
        ('Path("/' + 'tmp/x")', ["/" + "tmp/x"]),
        ("deployed to /home/site/wwwroot/host.json", []),
        ("/" + "home/site/wwwroot2/x", ["/" + "home/site/wwwroot2/x"]),
        ("https://example.com/home/page and ../tmp/x and $(DIR)/tmp/x", []),
    ],
)
def test_the_search_finds_what_it_should(text: str, expected: list[str]) -> None:
    """Paths of a machine are told from web addresses, relative paths and Azure's own."""
    assert [path for _, path in machine_paths(text)] == expected
