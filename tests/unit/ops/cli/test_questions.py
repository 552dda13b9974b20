"""What is final is done only after a question about all of it: an incomplete look is no answer."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ops.cli.ending import GOOD, WRONG, Failure
from ops.cli.transport import Answer
from tests.unit.ops.cli.program import operate

WOULD_BE_LOST = "would be declared lost"
YOUNG = "its row was written within the last seven days: a message may be invisible"
FIRST, SECOND = "20260101T000000-0badcafe/000000-1", "20260101T000000-0badcafe/000001-1"


class Scripted:
    """An API that answers dry runs and reads from a script, and does every act that it gets."""

    seen_from = "a script"

    def __init__(self, *looks: Answer | Failure, acts: Answer | None = None) -> None:
        self._looks: Iterator[Answer | Failure] = iter(looks)
        self._acts = acts or {"handled": [], "remaining": 0, "next": None}
        self.acted: list[tuple[str, list[str]]] = []

    def call(self, method: str, path: str, params: Mapping[str, Any]) -> Answer:
        """Return the next look, or note an act."""
        if method == "GET" or params.get("dryRun"):
            look = next(self._looks)
            if isinstance(look, Failure):
                raise look
            return look
        self.acted.append((path, params.get("names", [])))
        return self._acts


def lost(chunk: str, result: str, *, remaining: int = 0) -> Answer:
    """Return a slice of `chunks/lost` with one chunk in it."""
    handled = [{"chunk": chunk, "indicators": 5, "result": result}]
    return {"handled": handled, "remaining": remaining, "next": chunk if remaining else None}


def test_chunks_that_a_look_could_not_reach_are_not_declared_lost_unasked() -> None:
    """The first slice shows nothing to ask about, and the second one fails: the command fails."""
    api = Scripted(lost(FIRST, YOUNG, remaining=3), Failure("table chunks is throttled"))
    ended = operate(api, "chunks", "lost", "--all")
    assert (ended.status, "table chunks is throttled" in ended.err) == (WRONG, True)
    assert api.acted == []


def test_what_could_not_be_counted_in_time_is_not_purged_unasked() -> None:
    """Nothing was counted, but something remains: that needs a question, too."""
    counted: Answer = dict.fromkeys(("runs", "rejections", "poison", "pulses", "acts"), 0)
    api = Scripted({**counted, "remaining": 4}, acts={**counted, "runs": 900, "remaining": 0})
    ended = operate(api, "purge", "--older-than", "1d")
    assert (ended.status, "0 acts, and more?" in ended.err) == (WRONG, True)
    assert api.acted == []


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (lost(SECOND, WOULD_BE_LOST), "2 begin with 20260101T000000-0badcafe/00000"),
        (Failure("table chunks is throttled"), "table chunks is throttled"),
    ],
)
def test_a_beginning_is_compared_with_all_chunks_that_wait(
    second: Answer | Failure, said: str
) -> None:
    """Also with those that the first slice did not reach: two chunks begin so, or nobody knows."""
    api = Scripted(lost(FIRST, WOULD_BE_LOST, remaining=1), second)
    ended = operate(api, "chunks", "lost", FIRST[:-3], "--yes")
    assert (ended.status, said in ended.err) == (WRONG, True)
    assert api.acted == []


def test_a_beginning_may_name_a_chunk_of_a_later_slice() -> None:
    """It is found there, and declared lost."""
    api = Scripted(lost(FIRST, YOUNG, remaining=1), lost(SECOND, WOULD_BE_LOST))
    ended = operate(api, "chunks", "lost", SECOND[:-2], "--yes")
    assert (ended.status, api.acted) == (GOOD, [("act/chunks/lost", [SECOND])])


@pytest.mark.parametrize("options", [["--all"], ["--reason", "503"]])
def test_what_is_given_up_after_a_look_at_nothing_is_not_discarded(options: list[str]) -> None:
    """Nothing is kept, so nothing is asked: then no act may pick what has come since."""
    api = Scripted({"total": 0, "indicators": 0, "groups": [], "poison": [], "next": None})
    ended = operate(api, "poison", "discard", *options)
    assert (ended.status, ended.out) == (GOOD, "nothing to do\n")
    assert api.acted == []


def test_a_name_that_is_settled_still_gets_its_result() -> None:
    """There is nothing to ask; the record is read once."""
    settled = {"poison": FIRST, "state": "discarded", "indicators": 2}
    done = {"poison": FIRST, "indicators": 2, "result": "already discarded"}
    api = Scripted(settled, acts={"handled": [done], "remaining": 0, "next": None})
    ended = operate(api, "poison", "discard", FIRST)
    assert (ended.status, "already discarded" in ended.out) == (GOOD, True)
    assert api.acted == [("act/poison/discard", [FIRST])]
