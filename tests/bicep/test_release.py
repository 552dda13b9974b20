"""A release: the same bytes, a bill of materials, and one place that names its repository."""

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from common.version import VERSION
from scripts.release import (
    BEGIN,
    END,
    FORM,
    NAME,
    RELEASE,
    SITE_PACKAGES,
    Release,
    bill_of_materials,
    build,
    buttons,
    contents,
    main,
    notices,
    package_box,
    package_uri,
    released,
    stamp,
    version_of,
)
from scripts.wheels import PYTHON, Wheel, WheelError, installed, read
from tests.bicep.compiled import ROOT, app_settings, template
from tests.bicep.form_rules import MICROSOFTS, OURS
from tests.repo.git_files import repository_files

WORKFLOW = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")

PARTS = {
    "demo/__init__.py": "one",
    "demo-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.4\nName: demo\nVersion: 1.0\nLicense-Expression: MIT\n"
        "Project-URL: Source, https://example.com/demo\n"
    ),
    "demo-1.0.dist-info/licenses/LICENSE": "Permission is hereby granted",
    "demo-1.0.data/scripts/demo": "#!python",
    "demo-1.0.data/purelib/other.py": "two",
}


def make_wheel(folder: Path, name: str, parts: dict[str, str], *, time: int = 2000) -> Wheel:
    """Write a wheel and read it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in parts.items():
            archive.writestr(zipfile.ZipInfo(place, (time, 1, 1, 0, 0, 0)), text)
    return read(path)


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """A wheel with a module, a script and a license."""
    return make_wheel(tmp_path / "wheels", "demo", PARTS)


def test_the_version_is_one() -> None:
    """Project, code, template and document name the same version."""
    assert version_of(ROOT) == VERSION == template()["metadata"]["version"]
    assert template("network")["metadata"]["version"] == VERSION
    assert app_settings("all-new")["TEMPLATE_VERSION"] == VERSION
    assert "version_of(ROOT)" in WORKFLOW
    assert 'echo "tag=v$version"' in WORKFLOW


def test_the_package_has_product_and_dependencies(tmp_path: Path, wheel: Wheel) -> None:
    """The product as `make package` has it, and the packages where the worker looks for them."""
    package, *_ = build(ROOT, [wheel], tmp_path / "out")
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    assert package.name == f"{NAME}-{VERSION}.zip"
    assert {"function_app.py", "host.json", "requirements.txt"} <= set(names)
    assert f"{SITE_PACKAGES}/demo/__init__.py" in names
    assert f"{SITE_PACKAGES}/other.py" in names
    assert not [name for name in names if "scripts/demo" in name]
    assert names == sorted(names)


def test_built_twice_it_is_the_same(tmp_path: Path) -> None:
    """No time, no order of files, no folder of the builder is in it."""
    one = make_wheel(tmp_path / "one", "demo", PARTS)
    two = make_wheel(tmp_path / "two", "demo", PARTS)
    first = build(ROOT, [one], tmp_path / "a")
    second = build(ROOT, [two], tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    later = make_wheel(tmp_path / "later", "demo", PARTS, time=2020)  # repacked by its project
    (package, *_) = build(ROOT, [later], tmp_path / "c")
    assert package.read_bytes() == first[0].read_bytes()


def test_two_packages_with_one_file_are_refused(tmp_path: Path, wheel: Wheel) -> None:
    """Which of the two would win is chance; equal files are no matter."""
    same = make_wheel(tmp_path / "same", "same", PARTS)
    assert list(contents(ROOT, [wheel, same]))
    other = make_wheel(tmp_path / "other", "other", PARTS | {"demo/__init__.py": "three"})
    with pytest.raises(ValueError, match=r"two packages bring demo/__init__\.py"):
        list(contents(ROOT, [wheel, other]))


def test_the_bill_names_every_package(wheel: Wheel) -> None:
    """Name, version, license and hash of each, in the form that scanners read."""
    bill = bill_of_materials(VERSION, [wheel])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    (part,) = bill["components"]
    assert (part["name"], part["version"], part["purl"]) == ("demo", "1.0", "pkg:pypi/demo@1.0")
    assert part["licenses"] == [{"license": {"name": "MIT"}}]
    digest = hashlib.sha256(wheel.path.read_bytes()).hexdigest()
    assert part["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert "timestamp" not in json.dumps(bill)


def test_the_notices_have_every_license(wheel: Wheel) -> None:
    """Each package's name is followed by the text of its license."""
    text = notices([wheel])
    assert text.index("demo 1.0") < text.index("Permission is hereby granted")
    assert "https://example.com/demo" in text


def test_a_package_without_a_license_is_refused(tmp_path: Path) -> None:
    """A package that names no license stops the release."""
    bare = {"demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"}
    with pytest.raises(WheelError, match="names no license"):
        make_wheel(tmp_path, "demo", bare)


def test_the_checksums_are_those_of_the_files(tmp_path: Path, wheel: Wheel) -> None:
    """Each file but the list itself has its line, as sha256sum reads it."""
    *files, sums = build(ROOT, [wheel], tmp_path)
    lines = [line.split("  ") for line in sums.read_text(encoding="utf-8").splitlines()]
    assert lines == [[hashlib.sha256(path.read_bytes()).hexdigest(), path.name] for path in files]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("demo/a.py", "demo/a.py"),
        ("demo/", None),
        ("demo-1.0.data/platlib/demo/b.so", "demo/b.so"),
        ("demo-1.0.data/scripts/demo", None),
        ("demo-1.0.data/headers/demo.h", None),
    ],
)
def test_a_wheels_files_go_where_an_installer_puts_them(name: str, place: str | None) -> None:
    """Libraries into site-packages; scripts, headers and data nowhere."""
    assert installed(name) == place


def test_wheels_are_for_the_python_that_runs() -> None:
    """The version of the app's runtime."""
    assert (ROOT / ".python-version").read_text(encoding="utf-8").strip() == PYTHON


def is_consistent(root: Path) -> bool:
    """Whether README and form say what release.json says: of it, or that there is none."""
    release = released(root)
    found = (root / "README.md").read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    form = json.loads((root / FORM).read_text(encoding="utf-8"))
    assert (release is None) == ("portal.azure.com/#create" not in found)
    return (found, package_box(form)["defaultValue"]) == (buttons(release), package_uri(release))


def copy_stamped(folder: Path) -> None:
    """Copy the files that a release stamps, and the one that names the version."""
    for name in ("README.md", "pyproject.toml", RELEASE.as_posix(), FORM.as_posix()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def test_readme_and_form_say_what_release_json_says() -> None:
    """The repository is named there; without one there are no buttons and no package."""
    assert is_consistent(ROOT)


def test_a_second_release_follows_the_first(tmp_path: Path) -> None:
    """Between the two, buttons and package are those of the first: the tag that exists."""
    copy_stamped(tmp_path)
    stamp(tmp_path, "contoso/lumen")
    first = Release(repository="contoso/lumen", version=VERSION)
    project = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    raised = project.replace(f'version = "{VERSION}"', 'version = "77.0.0"', 1)
    (tmp_path / "pyproject.toml").write_text(raised, encoding="utf-8")
    assert version_of(tmp_path) == "77.0.0"
    assert is_consistent(tmp_path)
    assert released(tmp_path) == first
    stamp(tmp_path, "contoso/lumen")
    assert is_consistent(tmp_path)
    assert released(tmp_path) == Release(repository="contoso/lumen", version="77.0.0")
    for name in ("README.md", RELEASE.as_posix(), FORM.as_posix()):
        assert f"v{VERSION}" not in (tmp_path / name).read_text(encoding="utf-8")


def test_a_released_form_obeys_the_rules(tmp_path: Path) -> None:
    """Its package is a default that the template does not have, and no rule minds it."""
    copy_stamped(tmp_path)
    stamp(tmp_path, "contoso/lumen")
    form = json.loads((tmp_path / FORM).read_text(encoding="utf-8"))
    assert [fault for rule in (*MICROSOFTS, *OURS) for fault in rule(form, template())] == []


def test_the_tag_comes_with_its_release() -> None:
    """Everything is uploaded to a draft; publishing it makes the tag, and only then a button shows.

    A draft has no tag (docs.github.com/repositories/releasing-projects-on-github, read 2026-11-29).
    """
    order = [
        "is released already",
        "python -m scripts.release stamp",
        'git push --force origin "HEAD:refs/heads/release/$TAG"',
        'gh release create "$TAG" dist/release/* --draft --target "$(git rev-parse HEAD)"',
        'gh release edit "$TAG" --draft=false',
        'git push origin "HEAD:$GITHUB_REF_NAME"',
    ]
    places = [WORKFLOW.find(command) for command in order]
    assert -1 not in places
    assert places == sorted(places)
    assert "git tag" not in WORKFLOW
    assert not re.search(r"git push[^\n]*(?:--tags|\"v?\$version|\"\$TAG\")", WORKFLOW)


def test_no_other_place_names_the_repository() -> None:
    """Buttons, raw addresses and downloads are in three files; elsewhere are placeholders only."""
    pattern = re.compile(r"raw\.githubusercontent\.com|Template/uri/(?!<)|releases/download/")
    places = {
        path.as_posix()
        for path in repository_files()
        if path.parts[0] != "tests"
        and path.suffix != ".png"
        and pattern.search((ROOT / path).read_text(encoding="utf-8"))
    }
    assert places <= {"README.md", FORM.as_posix(), "scripts/release.py"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    outside = readme.partition(BEGIN)[0] + readme.partition(END)[2]
    assert not pattern.search(outside)


def test_a_stamp_fills_in_buttons_and_package(tmp_path: Path) -> None:
    """Once or twice: two buttons to the raw files of the tag, and the tag's package."""
    copy_stamped(tmp_path)
    before = (tmp_path / "README.md").read_text(encoding="utf-8")
    for _ in range(2):
        stamp(tmp_path, "contoso/lumen")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    found = text.partition(BEGIN)[2].partition(END)[0]
    assert found.count("[![Deploy to Azure]") == 2
    raw = "githubusercontent.com%2Fcontoso%2Flumen%2Fv" + VERSION + "%2Fbicep%2F"
    for name in ("compiled%2Fmain.json", "portal%2FcreateUiDefinition.json", "network.json"):
        assert name in found
    assert found.count(raw) == 3
    assert text.partition(END)[2] == before.partition(END)[2]
    form = json.loads((tmp_path / FORM).read_text(encoding="utf-8"))
    address = package_box(form)["defaultValue"]
    assert address == (
        f"https://github.com/contoso/lumen/releases/download/v{VERSION}/{NAME}-{VERSION}.zip"
    )
    assert re.fullmatch(package_box(form)["constraints"]["regex"], address)


def test_a_stamp_needs_a_repository(capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is refused in words, before a file is written."""
    assert main(["stamp", "--repository", "https://github.com/contoso/lumen"]) == 1
    assert "is not owner/name of a repository" in capsys.readouterr().err
