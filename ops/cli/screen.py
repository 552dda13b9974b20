"""What a person sees, and what a script reads: tables, JSON, CSV, questions, progress.

Answers go to standard output, everything else to standard error. Services' text is escaped to ASCII
before it is shown, so that escape sequences in it have no effect. Colour is only for terminals
without NO_COLOR.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

from cyclopts import Parameter
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ops.cli.ending import Failure
from ops.csv_text import to_csv

WIDTH: Final = 80
"""Columns where the output is no terminal."""

SENTENCES: Final = frozenset({"indicator", "reason", "result", "what"})
"""Columns whose cells may take more than one line."""

NUMBERS: Final = (int, float, type(None))
"""Types of a column that is aligned to the right; not `bool`."""

_STYLES: Final = {
    "healthy": "bold green",
    "ok": "green",
    "degraded": "bold yellow",
    "paused": "bold yellow",
    "down": "bold red",
    "problem": "bold red",
    "failed": "red",
    "gap": "red",
    "NO": "bold red",
}
"""Words that are coloured if they fill a cell."""

type Row = Mapping[str, Any]


@Parameter(name="*", group="Output")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How rows are printed."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print JSON."""
    csv: Annotated[bool, Parameter(negative="")] = False
    """Print CSV, safe to open in a spreadsheet."""

    def check(self) -> None:
        """Raise `Failure` where two forms are asked for."""
        if self.json and self.csv:
            raise Failure("give --json or --csv, not both")

    @property
    def is_table(self) -> bool:
        """Whether a person reads the output; raises `Failure` if two forms are asked for."""
        self.check()
        return not (self.json or self.csv)


@Parameter(name="*", group="Output")
@dataclass(frozen=True, kw_only=True)
class JsonOutput:
    """How an answer that is not a list is printed."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print JSON."""


def plain(text: str) -> str:
    """Return `text` safe for a terminal: everything but printable ASCII is escaped."""
    return "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii")
        for c in text.replace("\N{HORIZONTAL ELLIPSIS}", "...")
    )


def cell(value: object) -> str:
    """Return a value as a cell of a table. Pure."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "NO"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}"
        case _:
            return plain(str(value))


def moment(text: object) -> str:
    """Return an ISO time as people read it, to the minute in UTC; empty where there is none."""
    return f"{text}"[:16].replace("T", " ") if text else ""


def say(text: str = "") -> None:
    """Print a line of an answer."""
    _out().print(Text(text), soft_wrap=True)


def say_wrapped(text: str, *, first: str = "", then: str = "") -> None:
    """Print a sentence in lines that fit; `first` and `then` go before them."""
    lines = textwrap.wrap(
        text,
        _out().width,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        say(line)


def note(text: str) -> None:
    """Print a line that is not part of the answer: progress, or what went wrong."""
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)


def heading(text: str, *, verdict: str) -> None:
    """Print a line that says how things are."""
    _out().print(Text(text, style=_STYLES.get(verdict, "")), soft_wrap=True)


def print_json(value: object, *, indent: int | None = None) -> None:
    """Print JSON, on one line unless it is indented."""
    sys.stdout.write(json.dumps(value, indent=indent) + "\n")


def print_rows(rows: Sequence[Row], *, output: Output, empty: str) -> None:
    """Print rows in the chosen form; a table without rows is `empty`."""
    if output.is_table:
        print_table(rows, empty=empty)
    elif output.json:
        print_json(list(rows))
    else:
        sys.stdout.write(to_csv(rows))


def print_table(rows: Sequence[Row], *, empty: str = "") -> None:
    """Print a table, numbers to the right; without rows print `empty`."""
    if not rows:
        say(empty)
        return
    names = list(rows[0])
    cells = [[cell(row[name]) for name in names] for row in rows]
    heads = [name.replace("_", " ") for name in names]
    console = _out()
    gap = _gap([heads, *cells], width=console.width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for name, head in zip(names, heads, strict=True):
        justify: JustifyMethod = "right" if _is_number(rows, name) else "left"
        table.add_column(head, justify=justify, no_wrap=name not in SENTENCES, overflow="fold")
    for line in cells:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in line))
    _write(console, table)


def _is_number(rows: Sequence[Row], name: str) -> bool:
    return all(type(row[name]) in NUMBERS for row in rows)


def _write(console: Console, table: Table) -> None:
    """Write a table without the spaces that fill its last column."""
    with console.capture() as printed:
        console.print(table)
    for shown in printed.get().splitlines():
        sys.stdout.write(shown.rstrip() + "\n")


def _gap(lines: Sequence[Sequence[str]], *, width: int) -> int:
    """Return how many spaces separate two columns: two, or one if the table is too wide. Pure."""
    widest = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return 2 if sum(widest) + 2 * (len(widest) - 1) <= width else 1


def confirm(question: str, *, yes: bool) -> bool:
    """Ask whether to go on; without a terminal it takes `--yes`. Raises `Failure`."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Failure(f"{question}\nThere is no terminal to ask on: add --yes if this is meant")
    note(question)
    try:
        return input("go on? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        say()
        return False


@contextmanager
def progress(what: str) -> Iterator["Bar"]:
    """Show on a terminal how far long work is."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        yield Bar(bar=bar, what=what)


class Bar:
    """A bar that appears once the work takes more than one call."""

    def __init__(self, *, bar: Progress, what: str) -> None:
        self._bar, self._what = bar, what
        self._task = bar.add_task(what, total=None, visible=False)

    def show(self, *, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        self._bar.update(self._task, completed=done, total=total, visible=True)


def clear() -> None:
    """Clear the terminal, for what is printed again and again."""
    _out().clear()


def _out() -> Console:
    """Return the console of now: tests and pipes change standard output."""
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console
