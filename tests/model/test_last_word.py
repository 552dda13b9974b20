"""Random histories of the whole pipeline, each judged in the end.

Producers, consumers, the poison handler and operators are the pipeline's own code; each can stall
or die between any two calls, clocks are minutes apart, messages come twice. The verdict: the books
of every run balance, nothing good is rejected, no query is lost without a gap that tells of it, and
Sentinel holds the newest version that Lumen listed of each indicator of which it holds anything.
`make model` plays more, and takes out the rules one by one.
"""

import logging
from collections.abc import Iterator

import pytest

from tests.model.judging import judge
from tests.model.mutations import RULES

HISTORIES = 2000
PARTS = 20

QUICK_TO_NOTICE = (
    "older versions are struck",
    "filters apply to unknown ids only",
    "what lies beyond the checkpoint is void",
    "a tick takes over before it goes on",
    "a failure counts behind an acceptance",
    "a part names its records",
)
"""Rules whose absence shows soon. The others take rarer histories: `make model ARGS=--rules` looks
for them."""

ENOUGH = 1000
"""Histories within which it surely shows: the first that ends wrong is the last to be played. Which
one that is changes with every call that is made once more, or once less."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of histories would log for minutes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("part", range(PARTS))
def test_lumens_last_word_reaches_sentinel(part: int) -> None:
    """Whatever stalls, dies, fails or comes twice: the verdict is the same."""
    seeds = range(part, HISTORIES, PARTS)
    wrong = {seed: faults for seed in seeds if (faults := judge(seed))}
    assert not wrong


@pytest.mark.parametrize("rule", QUICK_TO_NOTICE)
def test_the_model_notices_a_missing_rule(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule some history ends wrong, so the rule is needed and the model looks at it."""
    RULES[rule](monkeypatch)
    assert any(judge(seed) for seed in range(ENOUGH))
