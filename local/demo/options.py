"""The demo's command line: which options there are, and what is wrong with a value."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from local.demo.faults import PLAYS

ANY = 0
"""`--repair` without a process: the only demo there is."""

LONGEST_LATENCY = 60_000.0
"""Milliseconds. The app waits 100 seconds for an answer of Sentinel's."""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; what is wrong with them ends the program, status 2."""
    parser = argparse.ArgumentParser(
        prog='make demo ARGS="…"', description="Run the whole pipeline on this machine."
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--indicators",
        type=_natural,
        default=20_000,
        metavar="N",
        help="size of the synthetic feed (default 20,000)",
    )
    source.add_argument(
        "--feed",
        type=Path,
        metavar="FILE",
        help="STIX 2.1 indicators instead: JSON lines, a list or a bundle, plain or .gz",
    )
    parser.add_argument(
        "--hosts", type=_natural, default=1, metavar="N", help="function hosts (default 1)"
    )
    parser.add_argument(
        "--limit",
        type=_natural,
        metavar="REQUESTS_PER_MINUTE",
        help="Sentinel's limit (the real one is 100; default none)",
    )
    parser.add_argument(
        "--latency",
        type=_latency,
        default=0.0,
        metavar="MS",
        help="Sentinel's time to answer (default 0)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the synthetic feed and the latencies"
    )
    parser.add_argument("--fault", choices=sorted(PLAYS), help="play a fault and explain it")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="go on living: the timer fires every 15 s, the feed changes a little, and a fault "
        "lasts until you repair it; prints the page's address and the keys",
    )
    parser.add_argument(
        "--repair",
        type=_natural,
        nargs="?",
        const=ANY,
        metavar="PROCESS",
        help="in another shell: do what ends the cause of a fault outside of the app",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write the end as a page with a picture"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args(arguments)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _latency(text: str) -> float:
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = math.nan
    if not 0 <= milliseconds <= LONGEST_LATENCY:  # nan is neither
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of milliseconds from 0 to {LONGEST_LATENCY:,.0f}"
        )
    return milliseconds
