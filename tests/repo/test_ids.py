"""Ids of tests: the same in every collection, so that two workers collect the same tests."""

import tempfile
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"plain", "plain"), (b"two\nlines", "content"), (zlib.compress(b"x"), "content")],
)
def test_binary_values_make_no_id(
    content: bytes, name: str, request: pytest.FixtureRequest
) -> None:
    """What cannot be printed is named after its parameter: it may hold the time, say."""
    assert request.node.name.partition("[")[2].startswith(f"{name}-")


def test_no_id_holds_a_path_of_this_machine(request: pytest.FixtureRequest) -> None:
    """Neither the clone's folder nor that of temporary files stands in any collected id."""
    homes = (str(ROOT), f"{tempfile.gettempdir()}/pytest-of-")
    assert not [
        item.nodeid for item in request.session.items if any(h in item.nodeid for h in homes)
    ]
