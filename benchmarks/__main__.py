"""Run the benchmarks and print one table: `make bench`, `make bench-quick`.

Rows run one after another, so that none disturbs the next; progress goes to standard error, the
table to standard output. A row that cannot be measured is shown as failed and makes the exit
status 1. A goal that is missed is shown plainly and changes no exit status: whether a figure of
this day and this machine is a regression is for people to judge.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import describe_machine
from benchmarks.table import Failure, Figure, Scale, as_json, render_markdown, render_text

FEED_VARIABLE: Final = "LUMEN_FEED_FILE"
"""Names a file of indicators, STIX 2.1 JSON lines, plain or `.gz`."""

MODULES: Final = {
    "1": "producer_cpu",
    "2": "consumer_cpu",
    "3": "memory",
    "4": "first_load",
    "5": "steady_state",
    "6": "scale_out",
    "7": "cold_start",
    "8": "storage_operations",
    "9": "version_index",
    "10": "losses",
    "11": "outage",
    "12": "bad_records",
    "13": "freshness",
    "14": "first_verdict",
}
"""The module of each row; its `measure(scale, feed)` returns the lines of that row."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows asked for; return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended too
    scale = Scale.QUICK if options.quick else Scale.FULL
    lines: list[Figure | Failure] = []
    for row in options.only:
        lines += _run(row, scale, options.feed)
    machine = describe_machine()
    render = render_markdown if options.markdown else render_text
    print(f"{_heading(scale, options.feed)}; {machine}.\n\n{render(lines)}")
    if options.json:
        result = {"scale": scale, "machine": machine, "lines": as_json(lines)}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return int(any(isinstance(line, Failure) for line in lines))


def _run(row: str, scale: Scale, feed: Path | None) -> Sequence[Figure | Failure]:
    """Measure one row; whatever goes wrong in it is a line of the table, too."""
    name = MODULES[row]
    _say(f"row {row}: {name} ...")
    started = time.monotonic()
    try:
        figures: list[Figure] = importlib.import_module(f"benchmarks.{name}").measure(scale, feed)
    except Exception as error:  # noqa: BLE001 - shown; the other rows can still be measured
        _say(f"  failed: {error!r}")
        return [Failure(row=row, what=name, reason=f"{type(error).__name__}: {error}")]
    for figure in figures:
        _say(f"  {figure.row}: {figure.value} against {figure.reference}")
    _say(f"  {time.monotonic() - started:.0f} s")
    return figures


def _heading(scale: Scale, feed: Path | None) -> str:
    source = "the synthetic feed"
    if feed is not None:
        source = "indicators from a file (rows 3, 7, 9, 12, 13 and 14: made up)"
    return f"{scale.value.capitalize()} scale, {source}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='make bench ARGS="…"', description="Measure the pipeline on this machine."
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: minutes")
    parser.add_argument(
        "--only", type=_rows, default=list(MODULES), metavar="ROWS", help="such as 1,4 (all)"
    )
    parser.add_argument(
        "--feed",
        type=_file,
        default=os.environ.get(FEED_VARIABLE) or None,
        metavar="FILE",
        help=f"STIX 2.1 JSON lines, plain or .gz (default: {FEED_VARIABLE}, else made up)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--markdown", action="store_true", help="for docs/performance.md")
    return parser


def _rows(text: str) -> list[str]:
    asked = {row.strip() for row in text.split(",")} - {""}
    if not asked:
        raise argparse.ArgumentTypeError("it names no row; rows are named like 1,4")
    if unknown := asked - set(MODULES):
        raise argparse.ArgumentTypeError(
            f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}"
        )
    return [row for row in MODULES if row in asked]


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return path


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
