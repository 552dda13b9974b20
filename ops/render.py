"""Reports as text for people. Pure: values in, text out."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.health import judge_health
from common.view import View
from ops.status import describe_run, drain_minutes

_RUN_COLUMNS = (
    "run",
    "state",
    "fetched",
    "filtered",
    "invalid",
    "unchanged",
    "older",
    "enqueued",
    "corrections",
    "accepted",
    "rejected",
    "struck",
    "poisoned",
    "pending",
    "balanced",
)


def render_status(view: View) -> str:
    """Return the health, what is wrong, the backlog and the latest runs."""
    diagnosis = judge_health(view)
    lines = [f"the feed is {diagnosis.verdict.value.upper()}"]
    lines += [f"  - {plain(finding)}" for finding in diagnosis.findings]
    last = "never" if view.last_success is None else f"{view.last_success:%Y-%m-%d %H:%M:%S} UTC"
    minutes = drain_minutes(view)
    drain = "nothing is accepted" if minutes is None else f"{minutes:.1f} min to drain"
    if view.sync_request is not None:
        at = view.sync_request.at
        lines.append(f"  - a sync run was asked for at {at:%H:%M:%S} UTC and has not begun")
    if view.full_request is not None:
        at = view.full_request
        lines.append(f"  - a full run was asked for at {at:%d %b %H:%M} UTC and is not complete")
    lines += [
        "",
        f"last upload accepted   {last}",
        f"on the queue           {view.queue_depth} chunks ({drain})",
        f"poison kept            {view.poison_kept}",
        f"on the poison queue    {view.poison_queue_depth}",
        "",
        render_runs([describe_run(run) for run in view.runs]),
    ]
    return "\n".join(lines)


def render_runs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the runs as a table, with the reason of each that has one below it."""
    shown = [{name: row[name] for name in _RUN_COLUMNS} for row in rows]
    reasons = [plain(f"{row['run']}: {row['reason']}") for row in rows if row["reason"]]
    table = render_table(shown, empty="no sync run yet")
    return "\n".join([table, *([""] if reasons else []), *reasons])


def render_table(rows: Sequence[Mapping[str, Any]], *, empty: str) -> str:
    """Return `rows` with aligned columns, numbers to the right; `empty` when there are none."""
    if not rows:
        return empty
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    numeric = [isinstance(rows[0][name], int) for name in names]

    def line(values: Sequence[str]) -> str:
        aligned = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(names), *map(line, cells)])


def plain(text: str) -> str:
    """Return `text` as a terminal may have it: anything but printable ASCII is spelled out.

    Reasons quote what services and messages said; an escape sequence in them must not act.
    """
    return "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii")
        for c in text.replace("…", "...")
    )


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "NO"
        case int():
            return f"{value:,}"
        case _:
            return plain(str(value))
