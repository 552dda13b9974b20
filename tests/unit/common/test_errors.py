"""The tree of errors is the one its module draws, and every message keeps its promise."""

import inspect
import re

import pytest

from common import errors
from common.errors import PipelineError, SettingsError, ThrottledError

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass)]


def drawn_tree() -> dict[str, str]:
    """Return, for each class that the module's docstring draws, its parent there."""
    parents: dict[str, str] = {}
    path = ["PipelineError"]
    for indent, name in re.findall(r"^    ([│├└─ ]+)(\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1]
    return parents


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_descends_from_one(error: type) -> None:
    """Whatever the pipeline raises on purpose can be caught as `PipelineError`."""
    assert issubclass(error, PipelineError)


def test_the_tree_drawn_is_the_tree_built() -> None:
    """The docstring shows every class under its true parent, and no other."""
    built = {c.__name__: c.__bases__[0].__name__ for c in CLASSES if c is not PipelineError}
    assert drawn_tree() == built


@pytest.mark.parametrize(
    ("faults", "first_line"),
    [(["A: x"], "1 setting needs attention:"), (["A: x", "B: y"], "2 settings need attention:")],
)
def test_a_settings_error_lists_its_faults(faults: list[str], first_line: str) -> None:
    """The message has a line for each fault under one that counts them."""
    error = SettingsError(faults)
    assert str(error).splitlines() == [first_line, *faults]
    assert error.faults == tuple(faults)


def test_throttling_may_say_how_long() -> None:
    """`retry_after` is None where the service did not say."""
    assert ThrottledError("slow").retry_after is None
    assert ThrottledError("slow", retry_after=3).retry_after == 3
