"""The release workflow's steps, played: a remote repository, and GitHub's command as a script.

The shell scripts are those of release.yml. What is asked after each: whether a button leads to a
tag that is not there, or to a tag whose package is not there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common.version import VERSION
from scripts.release import BEGIN, END, FORM, NAME, RELEASE, buttons, package_box, package_uri
from tests.bicep.compiled import ROOT
from tests.patience import PATIENCE

WORKFLOW = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
STEPS = ("Fill in this repository", "Publish", "Give the branch its buttons")
REPOSITORY = "contoso/lumen"

GH = """
import json, os, pathlib, subprocess, sys

state = pathlib.Path(os.environ["GH_STATE"])
releases = json.loads(state.read_text())
git = ["git", "--git-dir", os.environ["GH_REMOTE"]]
words = sys.argv[1:]

def has(name):
    return subprocess.run([*git, "cat-file", "-e", name], stderr=subprocess.DEVNULL).returncode == 0

if words[0] == "api":
    sys.exit(0 if has("refs/tags/" + words[-1].rpartition("/")[2]) else 1)
command, tag = words[1:3]
if command == os.environ.get("GH_FAILS"):
    sys.exit("gh: 502")
if command == "view":
    print(json.dumps(releases[tag]["draft"]) if tag in releases else sys.exit(1))
elif command == "delete":
    del releases[tag]
elif command == "create":
    assert "--draft" in words and tag not in releases and not has("refs/tags/" + tag)
    target = words[words.index("--target") + 1]
    assert has(target), "no such commit on GitHub"
    files = [pathlib.Path(word).name for word in words[3 : words.index("--draft")]]
    releases[tag] = {"draft": True, "target": target, "files": files}
elif command == "edit":
    assert words[3:] == ["--draft=false"]
    subprocess.run([*git, "tag", tag, releases[tag]["target"]], check=True)
    releases[tag]["draft"] = False
state.write_text(json.dumps(releases))
"""
"""What `gh` does, as far as the workflow asks: a draft has no tag, publishing it makes one."""


def script(step: str) -> str:
    """Return the shell script of a step."""
    part = WORKFLOW.partition(f"- name: {step}\n")[2].partition("run: |\n")[2]
    lines = re.match(r"((?: {10}.*\n|\n)+)", part)
    assert lines is not None, step
    return lines[1]


@dataclass(slots=True, kw_only=True)
class World:
    """A remote repository, a checkout of it, and the releases."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def git(self, *arguments: str, where: str = "checkout") -> str:
        """Run git in the checkout, or in the remote."""
        done = subprocess.run(
            ["git", "-C", str(self.folder / where), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return done.stdout

    def play(self, step: str, **more: str) -> tuple[int, str]:
        """Run a step as GitHub does; return its exit code and what it said."""
        done = subprocess.run(
            ["bash", "-e", "-c", script(step)],
            cwd=self.folder / "checkout",
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert self.every_button_leads_somewhere(), step
        return done.returncode, done.stdout

    def release(self) -> None:
        """Run the whole workflow on the branch as it is."""
        self.check_out()
        output = self.folder / "output"
        output.write_text("", encoding="utf-8")
        code, said = self.play("Refuse a version that is released already")
        assert code == 0, said
        tag = output.read_text(encoding="utf-8").strip().removeprefix("tag=")
        self.environment["TAG"] = tag
        for step in STEPS:
            code, said = self.play(step)
            assert code == 0, said

    def check_out(self) -> None:
        """Take the branch as GitHub has it, with the files of a build beside it."""
        shutil.rmtree(self.folder / "checkout", ignore_errors=True)
        self.git(
            "clone", "--quiet", str(self.folder / "remote"), str(self.folder / "checkout"), where=""
        )
        version = re.findall(r'^version = "(.*)"', self.read("pyproject.toml"), re.MULTILINE)[0]
        built = self.folder / "checkout/dist/release"
        built.mkdir(parents=True)
        (built / f"{NAME}-{version}.zip").write_text("package", encoding="utf-8")

    def read(self, name: str, *, commit: str = "main") -> str:
        """Return a file as the remote has it."""
        return self.git("show", f"{commit}:{name}", where="remote")

    def push(self, name: str, text: str, message: str) -> None:
        """Change a file on the branch from another checkout."""
        other = self.folder / "other"
        shutil.rmtree(other, ignore_errors=True)
        self.git("clone", "--quiet", str(self.folder / "remote"), str(other), where="")
        (other / name).write_text(text, encoding="utf-8")
        self.git("add", ".", where="other")
        self.git("commit", "--quiet", "--message", message, where="other")
        self.git("push", "--quiet", "origin", "HEAD:main", where="other")

    def tags(self) -> set[str]:
        """Return the tags of the remote."""
        return set(self.git("tag", where="remote").split())

    def branches(self) -> set[str]:
        """Return the branches of the remote."""
        return set(self.git("branch", "--format", "%(refname:short)", where="remote").split())

    def releases(self) -> dict[str, dict[str, object]]:
        """Return the releases, drafts too."""
        found: dict[str, dict[str, object]] = json.loads(
            (self.folder / "releases.json").read_text()
        )
        return found

    def every_button_leads_somewhere(self) -> bool:
        """Whether each tag that README and form name is there, with the package in its release."""
        text = self.read("README.md") + self.read(FORM.as_posix())
        named = set(re.findall(r"lumen(?:%2F|/releases/download/)v([\d.]+)(?:%2F|/)", text))
        for version in named:
            release = self.releases().get(f"v{version}", {"draft": True})
            if release["draft"] or f"{NAME}-{version}.zip" not in str(release["files"]):
                return False
        return {f"v{version}" for version in named} <= self.tags()


def forget_releases(folder: Path) -> None:
    """Make a copy of the project one that was never released, whatever this one is."""
    none = {"repository": None, "version": None}
    (folder / RELEASE).write_text(json.dumps(none), encoding="utf-8")
    before, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition(BEGIN)
    text = before + BEGIN + buttons(None) + END + rest.partition(END)[2]
    (folder / "README.md").write_text(text, encoding="utf-8")
    form = json.loads((folder / FORM).read_text(encoding="utf-8"))
    package_box(form)["defaultValue"] = package_uri(None)
    (folder / FORM).write_text(json.dumps(form), encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A repository before its first release."""
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text(f"#!{sys.executable}\n{GH}", encoding="utf-8")
    gh.chmod(0o755)
    (tmp_path / "releases.json").write_text("{}", encoding="utf-8")
    who = {
        f"GIT_{one}_{what}": "test@example.com"
        for one in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    made = World(
        folder=tmp_path,
        environment={
            **who,
            "HOME": str(tmp_path),
            "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GH_STATE": str(tmp_path / "releases.json"),
            "GH_REMOTE": str(tmp_path / "remote"),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_REF_NAME": "main",
            "GITHUB_OUTPUT": str(tmp_path / "output"),
        },
    )
    source = tmp_path / "source"
    for name in ("README.md", "pyproject.toml", RELEASE.as_posix(), FORM.as_posix(), ".gitignore"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(
        ROOT / "scripts", source / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    forget_releases(source)
    made.git("init", "--quiet", "--initial-branch", "main", where="source")
    made.git("add", ".", where="source")
    made.git("commit", "--quiet", "--message", "start", where="source")
    made.git("clone", "--quiet", "--bare", str(source), str(tmp_path / "remote"), where="")
    return made


def test_two_releases_one_after_the_other(world: World) -> None:
    """Each makes its tag at the commit that has its buttons, and leaves no branch behind."""
    world.release()
    assert world.tags() == {f"v{VERSION}"}
    assert f"%2Fv{VERSION}%2F" in world.read("README.md", commit=f"v{VERSION}")
    project = world.read("pyproject.toml")
    world.push("pyproject.toml", project.replace(f'"{VERSION}"', '"77.0.0"', 1), "Raise")
    world.release()
    assert world.tags() == {f"v{VERSION}", "v77.0.0"}
    assert "%2Fv77.0.0%2F" in world.read("README.md")
    assert world.branches() == {"main"}


def test_a_version_is_released_once(world: World) -> None:
    """The second try with the same version ends before anything is built."""
    world.release()
    world.check_out()
    code, said = world.play("Refuse a version that is released already")
    assert (code, "raise the version first" in said) == (1, True)


@pytest.mark.parametrize("command", ["create", "edit"])
def test_a_release_that_fails_leaves_no_tag(world: World, command: str) -> None:
    """Neither tag nor button before the release is there; the next try makes all of them."""
    world.check_out()
    world.environment["TAG"] = f"v{VERSION}"
    assert world.play("Fill in this repository")[0] == 0
    assert world.play("Publish", GH_FAILS=command)[0] != 0
    assert world.tags() == set()
    assert "%2Fv" not in world.read("README.md")
    world.release()
    assert world.tags() == {f"v{VERSION}"}


def test_a_branch_that_has_moved_is_said(world: World) -> None:
    """The release is there; its commit waits on a branch of its own for a pull request."""
    world.check_out()
    world.environment["TAG"] = f"v{VERSION}"
    for step in STEPS[:2]:
        assert world.play(step)[0] == 0
    world.push("CHANGELOG.md", "news", "Go on")
    code, said = world.play("Give the branch its buttons")
    assert (code, "merge release/v" in said) == (1, True)
    assert world.branches() == {"main", f"release/v{VERSION}"}
    assert world.play("Publish")[0] == 0  # run again: what is released stays as it is
    assert world.releases()[f"v{VERSION}"]["draft"] is False
