"""How much of a sample has arrived, in words."""

from typing import Any

import pytest

from ops.cli.looking import arrived

NONE: dict[str, Any] = {
    "off": False,
    "trouble": "",
    "sampled": None,
    "arrived": None,
    "arrived_after_seconds": None,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "not known yet"),
        ({"off": True}, "not asked: ARRIVAL_CHECK is false"),
        ({"trouble": "403"}, "not known, see above"),
        ({"sampled": 20, "arrived": 0}, "0 of 20"),
        ({"sampled": 20, "arrived": 20, "arrived_after_seconds": 181.5}, "20 of 20, median 3 min"),
        ({"sampled": 2, "arrived": 1, "arrived_after_seconds": 59.4}, "1 of 2, median 59 s"),
        ({"sampled": 2, "arrived": 1, "arrived_after_seconds": 9000.0}, "1 of 2, median 2.5 h"),
        ({"trouble": "429", "sampled": 2, "arrived": 1}, "1 of 2"),
    ],
)
def test_each_state_in_words(changes: dict[str, Any], words: str) -> None:
    """What is known is said, whatever the last check met."""
    assert arrived({**NONE, **changes}) == words
