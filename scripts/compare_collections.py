"""`make test-collection`: every collection of the tests must list the same ids, in one order.

Each worker of pytest-xdist collects for itself, and the run fails when two lists differ. So the
tests are collected several times, each in a process with a hash seed and a folder for temporary
files of its own, none in the second of another: an id made of the time, of random numbers, of a
set's order, of a port or of such a path differs. Only ids are compared; no test is run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = 6
AT_ONCE = 2
APART = 1.1
"""Seconds from one start to the next: what holds the time often holds whole seconds."""
SHOWN = 20
"""Lines of a difference, and of a failure, that are shown."""

REMEDY = "give the parameter an id that is the same each time: pytest.param(..., id=...)"


class CollectionError(Exception):
    """The tests could not be collected; the message holds the end of pytest's output."""


def main(arguments: list[str] | None = None) -> int:
    """Collect, compare, and say what came of it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="make test-collection", description=__doc__.splitlines()[0]
    )
    parser.add_argument("paths", nargs="*", help="what to collect; default: every test")
    paths: list[str] = parser.parse_args(arguments).paths
    try:
        lists = repeat(lambda seed: collect(paths, seed=seed))
    except CollectionError as error:
        print(error)  # noqa: T201
        return 1
    if difference := find_difference(lists):
        print(difference)  # noqa: T201
        return 1
    print(f"{len(lists)} collections list the same {len(lists[0])} tests")  # noqa: T201
    return 0


def repeat(
    collect: Callable[[int], list[str]], *, wait: Callable[[float], object] = time.sleep
) -> list[list[str]]:
    """Return what each collection lists: two at a time, none started with the one before."""
    starting = threading.Lock()

    def collect_later(seed: int) -> list[str]:
        with starting:
            wait(APART)
        return collect(seed)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(collect_later, range(1, COLLECTIONS + 1)))


def collect(paths: Sequence[str], *, seed: int) -> list[str]:
    """Return the ids of the tests, as a process with this hash seed lists them.

    Raises: `CollectionError`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "pytest", "--collect-only", "-q", *paths],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(seed), "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        end = "\n".join(done.stdout.splitlines()[-SHOWN:])
        raise CollectionError(f"pytest --collect-only ended with {done.returncode}:\n{end}")
    return read_ids(done.stdout)


def read_ids(output: str) -> list[str]:
    """Return the ids in the output of a collection: all there is up to the first blank line."""
    return output.partition("\n\n")[0].splitlines()


def find_difference(lists: Sequence[list[str]]) -> str:
    """Return where the first list that is unlike the first one differs from it; empty if none."""
    first, *others = lists
    for number, other in enumerate(others, start=2):
        if other != first:
            lines = unified_diff(first, other, "collection 1", f"collection {number}", lineterm="")
            return "\n".join(
                [f"collections 1 and {number} differ; {REMEDY}", *islice(lines, SHOWN)]
            )
    return ""


if __name__ == "__main__":
    sys.exit(main())
