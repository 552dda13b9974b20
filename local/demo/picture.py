"""The report of a demo as one HTML file that needs nothing else: `--report FILE.html`. Pure.

It shows what the terminal showed: rows, plots, the reconciliation table, the verdict.
"""

import html
from collections.abc import Sequence

from local.demo.report import Outcome, render_table, render_verdict
from local.demo.rows import HEAD, Row, picture, render_row

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
pre { overflow-x: auto; font-size: .85rem; }
svg { width: 100%; max-width: 50rem; }
svg text { font-size: 12px; fill: currentColor; }
svg polyline { fill: none; stroke: #0b57d0; stroke-width: 2; }
svg .axis { fill: none; stroke: currentColor; opacity: .4; }
"""


def render_page(*, title: str, rows: Sequence[Row], outcome: Outcome, story: str = "") -> str:
    """Return the page; `story` is the fault that was played, and what was to be seen in it."""
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p><strong>{html.escape(render_verdict(outcome))}</strong></p>",
        f"<p>{html.escape(story)}</p>" if story else "",
        picture(rows),
        f"<pre>{html.escape(render_table(outcome))}</pre>",
        "<details><summary>Each row</summary><pre>",
        html.escape("\n".join([HEAD, *map(render_row, rows)])),
        "</pre></details>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )
