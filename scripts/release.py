"""`make release`: what a release consists of, and the one place that names its repository.

The package holds the product and its dependencies for the machines that it runs on, so it is
published without a build, and without a package index. The same commit gives the same files, and
with the same zlib the same bytes. Beside it: a software bill of materials (CycloneDX), the
third-party notices, the checksums.

Only the release workflow knows owner and name of the repository: `stamp` writes them, with the
version, into bicep/portal/release.json, and from there into the README's buttons and the form's
package. They stay those of the latest release while the project's version is raised.
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
import tomllib
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from scripts.package import EARLIEST, READABLE, deployed
from scripts.wheels import Wheel, WheelError, download

ROOT: Final = Path(__file__).resolve().parents[1]
OUTPUT: Final = ROOT / "dist" / "release"
NAME: Final = "lumen-sentinel-pipeline"
SITE_PACKAGES: Final = ".python_packages/lib/site-packages"
"""Where the Functions worker looks for packages beside the app
(learn.microsoft.com/azure/azure-functions/functions-reference-python, read 2026-11-22)."""

RELEASE: Final = Path("bicep/portal/release.json")
FORM: Final = Path("bicep/portal/createUiDefinition.json")
README: Final = Path("README.md")
BEGIN: Final = "<!-- buttons: scripts/release.py writes them -->\n"
END: Final = "<!-- end of the buttons -->\n"

RAW: Final = "https://raw." + "githubusercontent.com"  # put together: the check looks for it whole
PORTAL: Final = "https://portal.azure.com/#create/Microsoft.Template/uri/"

WITHOUT_RELEASE: Final = (
    "Before the first release there are no buttons, but the portal takes the template: "
    "*Deploy a custom template* → *Build your own template in\nthe editor* → load "
    "[bicep/compiled/main.json](bicep/compiled/main.json), then "
    "[its form](docs/deploy.md#with-the-button-or-the-portals-form).\n"
)


def main(arguments: list[str] | None = None) -> int:
    """Build, or stamp; 1 where it cannot be done, with the reason."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    build_ = commands.add_parser("build", help="write dist/release")
    build_.add_argument("--output", type=Path, default=OUTPUT, help="default: dist/release")
    stamp_ = commands.add_parser("stamp", help="fill in the repository that releases")
    stamp_.add_argument("--repository", required=True, help="owner/name")
    given = parser.parse_args(arguments)
    try:
        if given.command == "stamp":
            stamp(ROOT, given.repository)
        else:
            with tempfile.TemporaryDirectory() as folder:
                wheels = download(ROOT / "requirements.txt", Path(folder))
                for path in build(ROOT, wheels, given.output):
                    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")  # noqa: T201
    except (WheelError, ValueError) as error:
        print(f"release: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def version_of(root: Path) -> str:
    """Return the project's version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def build(root: Path, wheels: list[Wheel], output: Path) -> list[Path]:
    """Write package, bill of materials, notices and checksums; return their paths."""
    output.mkdir(parents=True, exist_ok=True)
    base = f"{NAME}-{version_of(root)}"
    paths = [
        output / f"{base}.zip",
        output / f"{base}.cdx.json",
        output / "THIRD-PARTY-NOTICES.txt",
    ]
    pack(contents(root, wheels), paths[0])
    bill = json.dumps(bill_of_materials(version_of(root), wheels), indent=2) + "\n"
    paths[1].write_text(bill, encoding="utf-8")
    paths[2].write_text(notices(wheels), encoding="utf-8")
    sums = output / "SHA256SUMS"
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in paths]
    sums.write_text("".join(lines), encoding="utf-8")
    return [*paths, sums]


def contents(root: Path, wheels: list[Wheel]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file of the package.

    Raises `ValueError` where two packages bring the same file with other content.
    """
    seen: dict[str, bytes] = {}
    for name in deployed(root):
        yield name, (root / name).read_bytes()
    for wheel in wheels:
        for name, content in wheel.files():
            if name in seen:
                if seen[name] != content:
                    raise ValueError(f"two packages bring {name}; one of them is {wheel.name}")
                continue
            seen[name] = content
            yield f"{SITE_PACKAGES}/{name}", content


def pack(files: Iterable[tuple[str, bytes]], output: Path) -> None:
    """Write a zip that depends on its files alone: sorted, with fixed times and permissions."""
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
        for name, content in sorted(files):
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.external_attr = READABLE
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is made
            package.writestr(entry, content)


def bill_of_materials(version: str, wheels: list[Wheel]) -> dict[str, Any]:
    """Return a CycloneDX document; without a time, so that it is the same when built again."""
    parts = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{wheel.name.lower()}@{wheel.version}",
            "name": wheel.name,
            "version": wheel.version,
            "purl": f"pkg:pypi/{wheel.name.lower()}@{wheel.version}",
            "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
            "licenses": [{"license": {"name": wheel.license or "see THIRD-PARTY-NOTICES.txt"}}],
        }
        for wheel in wheels
    ]
    seed = version + "".join(wheel.sha256 for wheel in wheels)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, seed)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"{NAME}@{version}",
                "name": NAME,
                "version": version,
            }
        },
        "components": parts,
        "dependencies": [
            {"ref": f"{NAME}@{version}", "dependsOn": [part["bom-ref"] for part in parts]}
        ],
    }


def notices(wheels: list[Wheel]) -> str:
    """Return the licenses of everything in the package that is not ours."""
    parts = ["Third-party software in this package, with its licenses.\n"]
    for wheel in wheels:
        head = f"{wheel.name} {wheel.version}"
        about = [f"License: {wheel.license}"] if wheel.license else []
        about += [wheel.homepage] if wheel.homepage else []
        texts = [f"--- {name}\n\n{text.strip()}\n" for name, text in wheel.licenses()]
        parts.append("\n".join([f"{'=' * 80}\n{head}", *about, "", *texts]))
    return "\n".join(parts)


# --- the repository that releases -----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The latest release: where the buttons lead."""

    repository: str
    version: str

    @property
    def tag(self) -> str:
        """Its tag."""
        return f"v{self.version}"


def released(root: Path) -> Release | None:
    """Return the latest release; nothing before the first one."""
    found = json.loads((root / RELEASE).read_text(encoding="utf-8"))
    if found["repository"] is None:
        return None
    return Release(repository=found["repository"], version=found["version"])


def stamp(root: Path, repository: str) -> None:
    """Make the project's version the latest release: release.json, buttons, the form's package.

    Called twice: writes the same again. Raises `ValueError` for what is no repository.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{repository!r} is not owner/name of a repository")
    release = Release(repository=repository, version=version_of(root))
    (root / RELEASE).write_text(json.dumps(asdict(release), indent=2) + "\n", encoding="utf-8")
    readme = (root / README).read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = before + BEGIN + buttons(release) + END + after
    (root / README).write_text(text, encoding="utf-8")
    form = json.loads((root / FORM).read_text(encoding="utf-8"))
    package_box(form)["defaultValue"] = package_uri(release)
    text = json.dumps(form, indent=2, ensure_ascii=False) + "\n"
    (root / FORM).write_text(text, encoding="utf-8")


def package_box(form: dict[str, Any]) -> dict[str, Any]:
    """Return the form's control for the release package."""
    for step in form["parameters"]["steps"]:
        for element in step["elements"]:
            if element["name"] == "packageUri":
                found: dict[str, Any] = element
                return found
    raise ValueError(f"{FORM} has no control packageUri")


def package_uri(release: Release | None) -> str:
    """Return the address of a release's package; nothing before the first one."""
    if release is None:
        return ""
    downloads = f"https://github.com/{release.repository}/releases/download"
    return f"{downloads}/{release.tag}/{NAME}-{release.version}.zip"


def buttons(release: Release | None) -> str:
    """Return what the README says where its buttons are.

    They lead to the raw files of the tag: the portal loads them in the browser, which needs CORS,
    and release downloads do not have it.
    """
    if release is None:
        return WITHOUT_RELEASE
    raw = f"{RAW}/{release.repository}/{release.tag}/bicep"
    main_ = quote(f"{raw}/compiled/main.json", safe="")
    form = quote(f"{raw}/portal/createUiDefinition.json", safe="")
    network = quote(f"{raw}/compiled/network.json", safe="")
    image = "https://aka.ms/deploytoazurebutton"
    return (
        f"| version {release.version} | |\n|---|---|\n"
        f"| the whole pipeline, with its code | [![Deploy to Azure]({image})]"
        f"({PORTAL}{main_}/createUIDefinitionUri/{form}) |\n"
        f"| only the network, for somebody else to make first | [![Deploy to Azure]({image})]"
        f"({PORTAL}{network}) |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
