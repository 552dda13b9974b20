"""What a benchmark reports, and how the reports read: plain in a terminal, or as Markdown. Pure.

A figure carries its own goal and whether it was met; the table only shows it. One without a goal is
shown for information, and has no verdict. A row that could not be measured is a `Failure`, which is
shown in its place.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

HEADINGS: Final = ("#", "what", "value", "reference", "ratio", "goal", "met")

SHOWN: Final = "shown"
"""The goal of a line that has none."""


class Scale(StrEnum):
    """How much is measured: enough for every day, or what the goals speak of."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `row` is "1", or "1a" where a row has several lines."""

    row: str
    what: str
    value: str
    """The absolute value, for orientation: "41,200 indicators/s"."""
    reference: str
    """The same of the reference."""
    ratio: float | None
    """The value over the reference, in the sense of the goal; None where the goal is no ratio."""
    goal: str
    met: bool | None
    """None where there is no goal."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A row that could not be measured, and why."""

    row: str
    what: str
    reason: str


def shown(figure: Figure) -> Figure:
    """Return a figure for information: without a goal, and so without a verdict."""
    return replace(figure, goal=SHOWN, met=None)


def render_text(lines: Sequence[Figure | Failure]) -> str:
    """Return the table for a terminal, the notes below it."""
    cells = [HEADINGS, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    drawn = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    notes = [f"{line.row}: {line.note}" for line in lines if isinstance(line, Figure) and line.note]
    drawn.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*drawn, *(["", *notes] if notes else [])])


def render_markdown(lines: Sequence[Figure | Failure]) -> str:
    """Return the table ready to paste into `docs/performance.md`, the notes as a list below it."""
    cells = [HEADINGS, ("---",) * len(HEADINGS), *(_cells(line) for line in lines)]
    drawn = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in cells]
    notes = [
        f"- {line.row}: {line.note}" for line in lines if isinstance(line, Figure) and line.note
    ]
    return "\n".join([*drawn, *(["", *notes] if notes else [])])


def as_json(lines: Sequence[Figure | Failure]) -> list[dict[str, Any]]:
    """Return the lines as JSON objects; one with a `reason` has failed."""
    return [asdict(line) for line in lines]


def _cells(line: Figure | Failure) -> tuple[str, ...]:
    if isinstance(line, Failure):
        return (line.row, line.what, f"FAILED: {line.reason}", "", "", "", "FAILED")
    return (
        line.row,
        line.what,
        line.value,
        line.reference,
        "" if line.ratio is None else _ratio(line.ratio),
        line.goal,
        _VERDICTS[line.met],
    )


_VERDICTS: Final = {True: "yes", False: "NO", None: "\N{EN DASH}"}


def _ratio(ratio: float) -> str:
    """Three significant digits: 0.87 x, 2.41 x, 94.3 x, 1,210 x."""
    digits = 2 if abs(ratio) < 10 else 1 if abs(ratio) < 100 else 0  # noqa: PLR2004 - see above
    return f"{ratio:,.{digits}f} x"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
