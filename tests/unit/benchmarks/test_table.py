"""The table shows every figure plainly, a missed goal and a failed row included."""

from dataclasses import replace

import pytest

from benchmarks.table import Failure, Figure, as_json, render_markdown, render_text, shown

MET = Figure(
    row="1",
    what="producer",
    value="41,200 indicators/s",
    reference="90,000 indicators/s",
    ratio=2.184,
    goal="at most 3 x",
    met=True,
    note="On one core.",
)
MISSED = replace(MET, row="2", ratio=11.26, met=False, note="")
FAILED = Failure(row="3", what="memory", reason="MemoryError: a | b")


def test_each_line_says_whether_its_goal_is_met() -> None:
    """Met is yes, missed is NO, and what could not be measured is neither."""
    header, _, met, missed, failed, *_ = render_text([MET, MISSED, FAILED]).splitlines()
    assert header.split() == ["#", "what", "value", "reference", "ratio", "goal", "met"]
    assert met.endswith("yes")
    assert missed.endswith("NO")
    assert failed.endswith("FAILED")
    assert "MemoryError" in failed


def test_a_line_without_a_goal_has_no_verdict() -> None:
    """It is shown for information, however good or bad it is."""
    for figure in (MET, MISSED):
        line = render_markdown([shown(figure)]).splitlines()[2]
        assert [cell.strip() for cell in line.split("|")[6:8]] == ["shown", "\N{EN DASH}"]


def test_columns_stand_under_their_headings() -> None:
    """Every cell begins where its heading does, however long the others are."""
    header, _, *lines = render_text([replace(MET, note=""), MISSED]).splitlines()
    at = header.index("goal")
    assert [line[at:].split("  ")[0] for line in lines] == ["at most 3 x", "at most 3 x"]


def test_notes_stand_below_the_table() -> None:
    """A note is told with its row; lines without one add nothing."""
    assert render_text([MET, MISSED]).splitlines()[-1] == "1: On one core."
    assert render_text([MISSED]).splitlines()[-1].startswith("2 ")


@pytest.mark.parametrize(
    ("ratio", "drawn"),
    [(0.8666, "0.87 x"), (2.184, "2.18 x"), (11.26, "11.3 x"), (1210.4, "1,210 x"), (None, "")],
)
def test_ratios_have_three_digits(ratio: float | None, drawn: str) -> None:
    """A ratio is shown as precisely as it can be meant; a figure without one shows nothing."""
    row = render_markdown([replace(MET, ratio=ratio)]).splitlines()[2]
    assert row.split("|")[5].strip() == drawn


def test_markdown_is_one_table() -> None:
    """Every row has the columns of the heading: a bar in a text does not make another column."""
    heading, rule, *rows = render_markdown([replace(MET, note=""), FAILED]).splitlines()
    assert rule == "|" + " --- |" * 7
    columns = [line.replace("\\|", "").count("|") for line in (heading, *rows)]
    assert columns == [8, 8, 8]
    assert r"a \| b" in rows[1]


def test_json_keeps_everything() -> None:
    """A line of JSON has every field of its figure; a failure is known by its reason."""
    figure, failure = as_json([MET, FAILED])
    assert Figure(**figure) == MET
    assert failure == {"row": "3", "what": "memory", "reason": "MemoryError: a | b"}
