"""The model notices when a rule of the pipeline is missing: its verdict looks at each of them."""

import pytest

from tests.model.judging import judge
from tests.model.mutations import RULES

QUICK_TO_NOTICE = (
    "older versions are struck",
    "filters apply to unknown ids only",
    "what lies beyond the checkpoint is void",
    "a tick takes over before it goes on",
    "a failure counts behind an acceptance",
    "a part names its records",
    "the smallest message answers for a record",
    "rows are removed as they were read",
)
"""Rules whose absence shows soon. The others take rarer histories: `make model ARGS=--rules` looks
for them."""

ENOUGH = 1000
"""Histories within which it surely shows: the first that ends wrong is the last to be played. Which
one that is changes with every call that is made once more, or once less."""


@pytest.mark.parametrize("rule", QUICK_TO_NOTICE)
def test_the_model_notices_a_missing_rule(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule some history ends wrong, so the rule is needed and the model looks at it."""
    RULES[rule](monkeypatch)
    assert any(judge(seed) for seed in range(ENOUGH))
