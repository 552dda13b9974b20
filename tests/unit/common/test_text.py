"""Cleaners of text: short, on one line, of letters that are harmless where the text goes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.text import MAX_TEXT, ascii_line, ascii_only, cut, printable_line

LIMIT = 40

ONE_LINE: list[tuple[Callable[[str], str], int]] = [
    (cut, MAX_TEXT),
    (lambda text: printable_line(text, limit=LIMIT), LIMIT),
    (lambda text: ascii_line(text, limit=LIMIT), LIMIT),
]


@pytest.mark.parametrize(("clean", "limit"), ONE_LINE, ids=["cut", "printable", "ascii"])
@given(text=st.text(max_size=2 * MAX_TEXT))
def test_clean_text_is_short_and_on_one_line(
    clean: Callable[[str], str], limit: int, text: str
) -> None:
    """Clean text never exceeds its limit nor spans lines, and cleaning again changes nothing."""
    short = clean(text)
    assert len(short) <= limit
    assert len(short.splitlines()) <= 1
    assert clean(short) == short


@pytest.mark.parametrize(("length", "kept"), [(MAX_TEXT, True), (MAX_TEXT + 1, False)])
def test_the_limit_is_exact(length: int, kept: bool) -> None:
    """Text of exactly the limit is kept whole, one character more is cut."""
    text = "x" * length
    assert (cut(text) == text) is kept


HOSTILE = 'a\nb\x1b[2J "é\\\ud800'


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (printable_line(HOSTILE, limit=LIMIT), 'a b?[2J "é\\?'),
        (ascii_line(HOSTILE, limit=LIMIT), "a b?[2J ????"),
        (ascii_only(HOSTILE, limit=LIMIT), 'a\nb\x1b[2J "?\\?'),
        (ascii_only("é" * 9, limit=5), "?" * 5),
    ],
    ids=["printable", "ascii", "only", "limit"],
)
def test_which_letters_pass(shown: str, expected: str) -> None:
    """Control characters, quotes, letters beyond ASCII, half of a pair: as each promises."""
    assert shown == expected
