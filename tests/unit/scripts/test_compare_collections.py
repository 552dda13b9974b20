"""`make test-collection` fails where collections differ, and collects as xdist's workers do."""

import threading
from pathlib import Path

import pytest

from scripts import compare_collections
from scripts.compare_collections import APART, COLLECTIONS, find_difference, read_ids, repeat

UNSTABLE = """
import os, pytest

@pytest.mark.parametrize("value", [{made_of}])
def test_it(value):
    pass
"""


@pytest.mark.parametrize(
    ("lists", "number", "line"),
    [
        ([["a", "b"], ["a", "b"], ["a", "c"]], 3, "+c"),
        ([["a", "b"], ["b", "a"]], 2, "+b"),
        ([["a"], []], 2, "-a"),
        ([[], ["a"]], 2, "+a"),
    ],
    ids=["another", "order", "fewer", "more"],
)
def test_a_list_that_differs_is_shown(lists: list[list[str]], number: int, line: str) -> None:
    """Another test, another order, a test less or more: each is named, with what to do."""
    told = find_difference(lists).splitlines()
    assert told[0].startswith(f"collections 1 and {number} differ; give the parameter an id")
    assert line in told


def test_lists_that_are_alike_are_no_difference() -> None:
    """Nothing is told where all lists are the same."""
    assert find_difference([["a", "b"]] * 3) == ""


def test_only_ids_are_read() -> None:
    """The summary, which holds the time that the collection took, is no part of the list."""
    assert read_ids("t.py::a\nt.py::b[x y]\n\n2 tests collected in 0.01s\n") == [
        "t.py::a",
        "t.py::b[x y]",
    ]


def test_each_collection_has_its_seed_and_waits_before_its_start() -> None:
    """Six collections with six seeds; before each start a second passes while none other starts."""
    waits: list[float] = []
    seeds: list[int] = []
    waiting = threading.Lock()

    def wait(seconds: float) -> None:
        assert waiting.acquire(blocking=False), "two starts at once"
        waits.append(seconds)
        waiting.release()

    def collect(seed: int) -> list[str]:
        seeds.append(seed)
        return [str(seed)]

    assert repeat(collect, wait=wait) == [[str(n)] for n in range(1, COLLECTIONS + 1)]
    assert waits == [APART] * COLLECTIONS
    assert APART > 1
    assert sorted(seeds) == list(range(1, COLLECTIONS + 1))


@pytest.mark.parametrize(
    ("made_of", "status"),
    [
        ("1, 2", 0),
        ("os.urandom(8).hex()", 1),
        ("hash('a')", 1),
        ("os.environ['TMPDIR']", 1),
        ("1 / 0", 1),
    ],
    ids=["stable", "random", "hash", "path", "broken"],
)
def test_the_command_fails_for_ids_that_change(
    made_of: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Random numbers, a hash and a path in an id are noticed, as is a collection that fails."""
    path = tmp_path / "test_unstable.py"
    path.write_text(UNSTABLE.format(made_of=made_of), encoding="utf-8")
    monkeypatch.setattr(compare_collections, "ROOT", tmp_path)
    monkeypatch.setattr(compare_collections, "COLLECTIONS", 2)
    monkeypatch.setattr(compare_collections, "APART", 0.0)
    assert compare_collections.main([str(path)]) == status
    told = capsys.readouterr().out
    assert told.startswith({0: "2 collections list the same 2 tests"}.get(status, told))
    assert ("ZeroDivisionError" in told) is ("1 / 0" in made_of)
    assert ("differ; " in told) is (status == 1 and "1 / 0" not in made_of)
