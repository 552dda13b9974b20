"""Random histories of the whole pipeline, each judged in the end.

Producers, consumers, the poison handler and operators are the pipeline's own code; each can stall
or die between any two calls, clocks are minutes apart, messages come twice. The verdict: the books
of every run balance, nothing good is rejected, no query is lost without a gap that tells of it, and
Sentinel holds the newest version that Lumen listed of each indicator of which it holds anything.
`make model` plays more, and takes out the rules one by one.
"""

import pytest

from tests.model.judging import judge

HISTORIES = 2000
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
def test_lumens_last_word_reaches_sentinel(part: int) -> None:
    """Whatever stalls, dies, fails or comes twice: the verdict is the same."""
    seeds = range(part, HISTORIES, PARTS)
    wrong = {seed: faults for seed in seeds if (faults := judge(seed))}
    assert not wrong
