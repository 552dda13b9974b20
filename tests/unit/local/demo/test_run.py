"""What the demo says of a feed of no use, before it starts anything."""

import gzip
from pathlib import Path

import pytest

from local.demo.run import run


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.jsonl", b"", "empty.jsonl: holds no objects"),
        ("cut.jsonl.gz", gzip.compress(b"{}\n" * 1000, mtime=0)[:20], "cut.jsonl.gz: is cut off"),
        ("text.jsonl", b"{}\nno JSON\n", "text.jsonl, line 2"),
        ("list.json", b"[]", "list.json: holds no objects"),
        ("bundle.json", b'{"type":"bundle","objects":[]}', "bundle.json: holds no objects"),
        ("low.jsonl", b'{"type":"indicator","confidence":1}', "of 1 object none should arrive"),
    ],
    ids=["empty", "cut", "text", "empty list", "empty bundle", "none passes"],
)
def test_a_feed_of_no_use_is_explained(
    name: str, content: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the file and what is wrong with it; the exit status says that nothing ran."""
    path = tmp_path / name
    path.write_bytes(content)
    assert run(["--feed", str(path)]) == 2
    said, logged = capsys.readouterr()
    assert said.startswith("demo: ")
    assert told in said
    assert (said.count("\n"), logged) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--repair", str(2**22 + 7)], "no demo with a fault that is ended outside of the app"),
        (["--report", "no such folder/report.html"], "cannot be written (No such file"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repair that nobody waits for, a report that has no place: nothing is started."""
    assert run(arguments) == 2
    said, logged = capsys.readouterr()
    assert told in said
    assert logged == ""
