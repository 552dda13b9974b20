"""Random histories of the whole pipeline, each judged in the end.

Producers, consumers, the poison handler and operators are the pipeline's own code; each can stall or
die between any two calls, clocks are minutes apart, messages come twice. The verdict: the books of
every run balance, no query is lost without a gap that tells of it, and Sentinel holds the newest
version that Lumen listed of each indicator of which it holds anything.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.model.history import History
from tests.model.mutations import RULES

HISTORIES = int(os.environ.get("MODEL_HISTORIES", "2000"))
"""How many histories are played; `make model` plays more."""

FIRST = int(os.environ.get("MODEL_FIRST", "0"))
PARTS = 20
ENOUGH = 3000
"""Histories within which the model notices that a rule is missing."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of histories would log for minutes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def judge(seed: int, used: Counter[str] | None = None) -> list[str]:
    """Play one history; return what is wrong with how it ended."""
    history = History(seed)
    try:
        history.play()
        faults = history.faults()
    finally:
        history.end()
    if used is not None:
        used += history.used
    return faults


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_lumens_last_word_reaches_sentinel(part: int) -> None:
    """Whatever stalls, dies, fails or comes twice: the verdict is the same."""
    used: Counter[str] = Counter()
    wrong = {
        seed: faults
        for seed in range(FIRST + part, FIRST + HISTORIES, PARTS)
        if (faults := judge(seed, used))
    }
    print(f"known limits, by how often they were used: {dict(used)}")  # noqa: T201 - shown by -s
    assert not wrong


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rule", RULES)
def test_the_model_notices_a_missing_rule(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule some history ends wrong, so the rule is needed and the model looks at it."""
    RULES[rule](monkeypatch)
    for seed in range(ENOUGH):
        try:
            if judge(seed):
                return
        except (AssertionError, KeyError, ValueError):
            return  # a rule that is missing may break the code outright
    pytest.fail(f"{ENOUGH} histories ended well without the rule")
