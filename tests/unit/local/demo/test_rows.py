"""Rows, bars and plots of the demo: numbers as they are, in a width that stays."""

import xml.etree.ElementTree as ET

import pytest

from local.demo.rows import (
    HEAD,
    PLOT_HEIGHT,
    PLOT_WIDTH,
    Row,
    bar,
    percent,
    picture,
    plot,
    rate_of,
    render_plots,
    render_row,
)

ROWS = [
    Row(elapsed=0.5, queue=4, expected=100),
    Row(elapsed=2.5, queue=8, accepted=50, expected=100),
    Row(elapsed=10.0, queue=0, accepted=100, expected=100),
]


def test_a_row_stands_under_its_head() -> None:
    """Each number ends where the unit of its column does."""
    row = Row(elapsed=1.25, pages=2, enqueued=3000, accepted=400, queue=5, throttled=6, rate=7.0)
    line, units = render_row(row), HEAD.splitlines()[1]
    ends = [
        units.index(unit) + len(unit)
        for unit in (" s", "read", "indicators", "indicators/s", "messages", "requests")
    ]
    shown = [line[:end].split()[-1] for end in ends]
    assert shown == ["1.2", "2", "3,000", "7", "5", "6"]


@pytest.mark.parametrize(
    ("share", "full"), [(0.0, 0), (0.05, 0), (0.5, 5), (0.999, 9), (1.0, 10), (1.2, 10)]
)
def test_only_all_of_it_looks_full(share: float, full: int) -> None:
    """A bar of ten is full at the end and not before."""
    assert bar(share, plain=True) == "#" * full + "-" * (10 - full)


@pytest.mark.parametrize(("share", "shown"), [(0.0, "  0%"), (0.998, " 99%"), (1.0, "100%")])
def test_a_percentage_is_rounded_down(share: float, shown: str) -> None:
    """As the bar beside it: 100 % is all of it."""
    assert percent(share) == shown


def test_a_share_is_never_more_than_all() -> None:
    """Repeats are accepted twice; nothing expected is no share."""
    assert Row(elapsed=0, accepted=30, expected=20).share == 1.0
    assert Row(elapsed=0, accepted=30).share == 0.0


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """Since the last row two seconds ago, or since the start; time that stands still has none."""
    assert rate_of([], elapsed=4.0, accepted=100) == 25.0
    assert rate_of(ROWS, elapsed=4.5, accepted=90) == pytest.approx(20.0)
    assert rate_of([], elapsed=0.0, accepted=100) == 0.0


def test_a_plot_keeps_peaks_and_fills_gaps() -> None:
    """The highest value reaches the top, however short; in between is the last one before."""
    lines = plot([(0.0, 0.0), (5.0, 8.0), (5.01, 1.0), (10.0, 4.0)], width=10, height=4, plain=True)
    assert len(lines) == 4
    assert lines[0] == "     #"
    assert lines[-1].startswith("     #")
    assert lines[1].endswith("#")
    assert plot([], width=5, height=2) == ["", ""]


def test_plots_name_their_scale() -> None:
    """Backlog and accepted, each with its highest value, and the time at the end."""
    told = render_plots(ROWS, plain=True)
    assert "backlog, in messages" in told
    assert "accepted, in indicators" in told
    assert "  100\n" in told
    assert told.endswith(f"{'10 s':>{PLOT_WIDTH - 2}}")
    assert told.isascii()
    assert len(told.splitlines()) == 2 * (PLOT_HEIGHT + 1) + 1
    assert render_plots([]) == ""


def test_the_picture_is_well_formed_and_in_its_frame() -> None:
    """Every point lies in the drawing, the last one at its right end."""
    root = ET.fromstring(picture(ROWS))  # noqa: S314 - ours
    lines = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in root.iter("{http://www.w3.org/2000/svg}polyline")
    ]
    assert len(lines) == 2
    assert all(0 <= x <= 640 and 0 <= y <= 300 for line in lines for x, y in line)
    assert [line[-1][0] for line in lines] == [570.0, 570.0]
    assert ET.fromstring(picture([])).tag.endswith("svg")  # noqa: S314 - ours
