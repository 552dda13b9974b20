"""How a demo went, as text and as a picture: rows of numbers, a bar, a plot over time. Pure.

Each column has one unit, which its head names. Where the terminal has no block characters the bar
and the plot are drawn with ASCII. The picture is SVG drawn by hand: two lines and two axes are less
code than a library's set-up.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

HEAD = (
    "  elapsed   pages    enqueued    accepted          rate      queue  throttled  accepted\n"
    "        s    read  indicators  indicators  indicators/s   messages   requests  of expected"
)

BAR = 10
"""Characters of a row's bar."""

PLOT_WIDTH, PLOT_HEIGHT = 60, 5
"""Characters of a plot; a line has eight steps where the terminal can show them."""

_STEPS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The pipeline at one moment: `elapsed` is in seconds, `rate` in indicators a second."""

    elapsed: float
    pages: int = 0
    enqueued: int = 0
    accepted: int = 0
    rate: float = 0.0
    queue: int = 0
    throttled: int = 0
    expected: int = 0

    @property
    def share(self) -> float:
        """How much of what should arrive was accepted, from 0 to 1."""
        return min(1.0, self.accepted / self.expected) if self.expected else 0.0


def rate_of(rows: Sequence[Row], *, elapsed: float, accepted: int, over: float = 2.0) -> float:
    """Return the indicators a second that were accepted since the last row `over` seconds ago."""
    earlier = next((row for row in reversed(rows) if elapsed - row.elapsed >= over), None)
    since, before = (earlier.elapsed, earlier.accepted) if earlier else (0.0, 0)
    return max(0, accepted - before) / (elapsed - since) if elapsed > since else 0.0


def render_row(row: Row, *, plain: bool = False) -> str:
    """Return a row under `HEAD`."""
    return (
        f"{row.elapsed:>9.1f}{row.pages:>8,}{row.enqueued:>12,}{row.accepted:>12,}"
        f"{row.rate:>14,.0f}{row.queue:>11,}{row.throttled:>11,}  "
        f"{bar(row.share, plain=plain)} {percent(row.share)}"
    )


def percent(share: float) -> str:
    """Return a share in four columns, rounded down: only all of it is 100 %."""
    return f"{int(share * 100):>3}%"


def bar(share: float, *, width: int = BAR, plain: bool = False) -> str:
    """Return a bar of which this share is full; only all of it looks full."""
    full = width if share >= 1 else min(width - 1, int(share * width))
    on, off = ("#", "-") if plain else ("█", "░")
    return on * full + off * (width - full)


def plot(
    values: Sequence[tuple[float, float]],
    *,
    width: int = PLOT_WIDTH,
    height: int = PLOT_HEIGHT,
    plain: bool = False,
) -> list[str]:
    """Return the lines of a plot of (seconds, value) in order of time; the highest value is full.

    A column shows the highest value of its stretch of time, or the last one before it.
    """
    steps = _PLAIN if plain else _STEPS
    columns = _columns(values, width)
    most = max([1.0, *columns])
    filled = [round(value / most * height * (len(steps) - 1)) for value in columns]
    lines = []
    for line in range(height - 1, -1, -1):
        floor = line * (len(steps) - 1)
        cells = (steps[min(len(steps) - 1, max(0, one - floor))] for one in filled)
        lines.append("".join(cells).rstrip())
    return lines


def render_plots(rows: Sequence[Row], *, plain: bool = False) -> str:
    """Return backlog and accepted over time, one plot below the other, with their scales."""
    if not rows:
        return ""
    parts = []
    for title, values in _series(rows):
        most = max(value for _, value in values)
        edge = "|" if plain else "│"
        lines = [f"  {edge}{line}" for line in plot(values, plain=plain)]
        lines[0] = f"{lines[0]:<{PLOT_WIDTH + 3}}  {most:,.0f}"
        parts.append("\n".join([f"  {title}", *lines]))
    end = f"{rows[-1].elapsed:.0f} s"
    return "\n".join([*parts, f"  0 s{end:>{PLOT_WIDTH - 2}}"])


def picture(rows: Sequence[Row]) -> str:
    """Return the same as one SVG."""
    charts = [_chart(title, values, at) for at, (title, values) in enumerate(_series(rows))]
    return (
        f'<svg viewBox="0 0 640 {_HIGH * len(charts)}" role="img" '
        'aria-label="Backlog and accepted indicators over time" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(charts)}</svg>'
    )


_HIGH = 150


def _chart(title: str, values: Sequence[tuple[float, float]], at: int) -> str:
    end = max([1e-9, *(moment for moment, _ in values)])
    most = max([1.0, *(value for _, value in values)])
    base = at * _HIGH + 130
    points = " ".join(
        f"{10 + 560 * moment / end:.1f},{base - 100 * value / most:.1f}" for moment, value in values
    )
    return (
        f'<text x="10" y="{base - 110}">{html.escape(title)}</text>'
        f'<path d="M10 {base}H570M10 {base}v-100" class="axis"/>'
        f'<polyline points="{points}"/>'
        f'<text x="576" y="{base - 94}">{most:,.0f}</text>'
        f'<text x="576" y="{base}">{end:.0f} s</text>'
    )


def _series(rows: Sequence[Row]) -> list[tuple[str, list[tuple[float, float]]]]:
    return [
        ("backlog, in messages", [(row.elapsed, float(row.queue)) for row in rows]),
        ("accepted, in indicators", [(row.elapsed, float(row.accepted)) for row in rows]),
    ]


def _columns(values: Sequence[tuple[float, float]], width: int) -> list[float]:
    """Return one value a column."""
    if not values:
        return [0.0] * width
    end = max(values[-1][0], 1e-9)
    highest: dict[int, float] = {}
    last: dict[int, float] = {}
    for moment, value in values:
        column = min(width - 1, int(moment / end * width))
        highest[column] = max(value, highest.get(column, value))
        last[column] = value
    columns, before = [], 0.0
    for column in range(width):
        columns.append(highest.get(column, before))
        before = last.get(column, before)
    return columns
