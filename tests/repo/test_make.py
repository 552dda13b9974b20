"""The Makefile, its help, the documentation and continuous integration name the same targets."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def targets() -> set[str]:
    """Return every target that has a rule."""
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE))


def documented_targets() -> set[str]:
    """Return the targets that carry a help text."""
    return set(re.findall(r"^([a-z][a-z-]*):.*?## \S", MAKEFILE, re.MULTILINE))


def commands(document: str) -> str:
    """Return what a Markdown text shows as code: fenced blocks and inline code."""
    fenced = re.findall(r"^ *```.*?^ *```", document, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`[^`\n]+`", document)
    return "\n".join([*fenced, *inline])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_in_the_documents_exist(path: Path) -> None:
    """Every make target that a document shows as a command can be run."""
    shown = re.findall(r"\bmake ([a-z][a-z-]*)", commands(path.read_text(encoding="utf-8")))
    assert set(shown) <= documented_targets()


def test_contributing_names_targets() -> None:
    """The search for targets in documents finds some, so that it can also find wrong ones."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert {"test", "check", "lock"} <= set(re.findall(r"make ([a-z-]+)", commands(text)))


def test_help_lists_every_documented_target() -> None:
    """`make` alone prints one line for each target that has a help text."""
    shown = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout
    lines = [line.split(maxsplit=1) for line in shown.splitlines()]
    assert all(len(line) == 2 for line in lines)
    assert {name for name, _ in lines} == documented_targets()


def test_every_target_is_phony() -> None:
    """No target is a file's name: a file called `test` must not switch the tests off."""
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == targets()


def make_calls(script: str) -> list[str]:
    """Return the make targets a script calls, in order."""
    return re.findall(r"^\s*(?:- run: )?(?:PATH=\S+ )?make ([a-z-]+)$", script, re.MULTILINE)


@pytest.mark.parametrize("path", [".ci/run", ".github/workflows/ci.yml"])
def test_integration_checks_then_tests(path: str) -> None:
    """Continuous integration runs the targets that people run: checks first, tests last."""
    calls = make_calls((ROOT / path).read_text(encoding="utf-8"))
    assert calls == ["check", "test-collection", "check-template", "test-page", "test"]


def test_integration_stops_at_the_first_failure() -> None:
    """A failed check fails the run."""
    assert "set -euo pipefail" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert (ROOT / ".ci/run").stat().st_mode & 0o100
