"""The packages that the app needs, as wheels for the machine that it runs on.

A wheel is a zip: its files go into the release package as they are. So nothing is installed here,
and what is built on any machine is the same.
"""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Final

PLATFORMS: Final = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")
"""What Flex Consumption runs: Linux on x86-64, with a glibc of 2.28 or later (Debian 12;
learn.microsoft.com/azure/azure-functions/functions-reference-python, read 2026-11-28)."""

PYTHON: Final = "3.13"

LONGEST_NAME: Final = 80
"""Characters of the name of a license; what is longer is its text."""

LICENSE_NAMES: Final = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")


class WheelError(Exception):
    """A wheel cannot be used; says which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One package: what its metadata says, and where the file is."""

    path: Path
    name: str
    version: str
    license: str
    homepage: str
    sha256: str

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of each file as it is installed; scripts are left out."""
        with zipfile.ZipFile(self.path) as archive:
            for name in sorted(archive.namelist()):
                place = installed(name)
                if place is not None:
                    yield place, archive.read(name)

    def licenses(self) -> Iterator[tuple[str, str]]:
        """Yield name and text of each file that holds its license or a notice."""
        for place, content in self.files():
            path = PurePosixPath(place)
            if ".dist-info" in path.parts[0] and path.name.upper().startswith(LICENSE_NAMES):
                yield path.name, content.decode("utf-8", errors="replace")


def installed(name: str) -> str | None:
    """Return where a wheel's file is put in site-packages; None where it is not."""
    if name.endswith("/"):
        return None
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return name
    kind, _, inner = rest.partition("/")
    return inner if kind in {"purelib", "platlib"} else None


def read(path: Path) -> Wheel:
    """Return what a wheel's metadata says. Raises `WheelError` where it names no license."""
    with zipfile.ZipFile(path) as archive:
        (place,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(place).decode("utf-8"))
    prefix = "License :: OSI Approved :: "
    classified = [c.removeprefix(prefix) for c in metadata.get_all("Classifier", []) if prefix in c]
    license_ = metadata.get("License-Expression") or metadata.get("License") or ""
    license_ = license_ if len(license_) < LONGEST_NAME else ""  # some paste the whole text
    wheel = Wheel(
        path=path,
        name=metadata["Name"],
        version=metadata["Version"],
        license=license_ or " and ".join(classified),
        homepage=homepage(metadata.get("Home-page"), metadata.get_all("Project-URL", [])),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    if not wheel.license and not any(wheel.licenses()):
        raise WheelError(f"{path.name} names no license: look at its project, and decide")
    return wheel


def homepage(home: str | None, links: list[str]) -> str:
    """Return where a project lives: its home page, or the first of its links."""
    if home and home != "UNKNOWN":
        return home
    return links[0].partition(",")[2].strip() if links else ""


def download(requirements: Path, folder: Path) -> list[Wheel]:
    """Fetch the locked wheels into a folder; return them by name.

    Raises `WheelError` with pip's words where one is not to be had for the platform.
    """
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", PYTHON, *platforms, "--dest", str(folder)]
    command += ["--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise WheelError(f"pip could not fetch the wheels:\n{done.stderr[-2000:]}")
    return sorted(
        (read(path) for path in folder.glob("*.whl")), key=lambda wheel: wheel.name.lower()
    )
