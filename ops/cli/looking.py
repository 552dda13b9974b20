"""The commands that only look: status, runs, problems, acts, doctor."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from cyclopts import App

from common.clock import Clock, SystemClock
from ops.cli.choosing import Flag, Number, one_run
from ops.cli.connecting import Connection
from ops.cli.ending import BAD_NEWS, GOOD, Failure
from ops.cli.screen import (
    Output,
    Row,
    clear,
    heading,
    moment,
    note,
    plain,
    print_json,
    print_rows,
    print_table,
    say,
    say_wrapped,
)
from ops.cli.slices import SHOWN
from ops.cli.transport import Transport, read

BAD_ENDS: Final = frozenset({"failed", "gap"})
"""States of a run that are bad news."""

WATCH_EVERY: Final = 15.0
"""Seconds between two looks."""

RUN_COLUMNS: Final = ("run", "state", "fetched", "enqueued", "accepted")
REST: Final = ("pending", "rejected", "poisoned")
"""Columns of the table of runs, the second ones where any run has one: together with `books`, and
without `enqueued` where all of those are there, they fit 80 characters. `runs ID` has all."""

MINUTE: Final = 60
HOUR: Final = 3600

SHORTEST: Final = 15
"""Characters of a run's id that a table shows at least: its time."""


def add_to(app: App) -> None:
    """Add these commands to the program."""
    for command in (status, runs, problems, acts, doctor):
        app.command(command)


def status(
    *,
    runs: Number = 5,
    history: Number | None = None,
    watch: Flag = False,
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Say whether the feed is healthy, and why not.

    Parameters
    ----------
    runs
        How many runs to look at.
    history
        Show the pulses of this many hours instead, the newest first.
    watch
        Look again every 15 seconds, until Ctrl-C.
    """
    is_table = output.is_table
    if output.csv and history is None:
        raise Failure("--csv is for rows: with --history, or use `runs --csv`")
    if watch and not is_table:
        raise Failure("--watch is for people: without --json and --csv")
    transport = connection.open()
    if history is None:
        look = partial(_status, transport, runs=runs, as_json=output.json)
    else:
        look = partial(_history, transport, hours=history, output=output)
    return _watch(look, clock=SystemClock()) if watch else look()


def _watch(look: Callable[[], int], *, clock: Clock) -> int:
    """Look again and again until Ctrl-C; return the status of the last look.

    If the first look fails, the command ends. A later failure is shown, and the next look follows.
    """
    status = None
    try:
        while True:
            clear()
            try:
                status = look()
            except Failure as failure:
                if status is None:
                    raise
                note(f"lumen-sentinel: {plain(str(failure))}")
                status = failure.status
            note(f"every {WATCH_EVERY:.0f} s; Ctrl-C ends it")
            clock.sleep(WATCH_EVERY)
    except KeyboardInterrupt:
        if status is None:
            raise
        return status


def _status(transport: Transport, *, runs: int, as_json: bool) -> int:
    found = read(transport, "status", runs=runs)
    if as_json:
        print_json(found)
    else:
        print_status(found)
    return GOOD if found["health"] == "healthy" else BAD_NEWS


def print_status(found: Row) -> None:
    """Print the health, what is wrong, the backlog and the latest runs."""
    heading(f"the feed is {str(found['health']).upper()}", verdict=str(found["health"]))
    for finding in found["findings"]:
        say_wrapped(plain(finding), first="  - ", then="    ")
    for name, what in (("sync", "sync run"), ("full", "full run")):
        if at := found.get(f"{name}_requested_at"):
            say(f"  - a {what} was asked for at {moment(at)} UTC and is not done")
    minutes = found["drain_minutes"]
    drain = "nothing is accepted" if minutes is None else f"{minutes:.1f} min to drain"
    last = f"{moment(found['last_success'])} UTC" if found["last_success"] else "never"
    say()
    say(f"last upload accepted   {last}")
    say(f"arrived                {arrived(found['arrival'])}")
    say(f"on the queue           {found['queue_depth']} chunks ({drain})")
    say(f"poison kept            {found['poison_kept']}")
    say(f"on the poison queue    {found['poison_queue_depth']}")
    say()
    print_runs(found["runs"])


def arrived(found: Mapping[str, Any]) -> str:
    """Return in words how much of a sample has arrived in the workspace. Pure."""
    if found["off"]:
        return "not asked: ARRIVAL_CHECK is false"
    if found["sampled"] is None:
        return "not known yet" if found["trouble"] == "" else "not known, see above"
    seconds = found["arrived_after_seconds"]
    median = "" if seconds is None else f", median {span(seconds)}"
    return f"{found['arrived']} of {found['sampled']}{median}"


def span(seconds: float) -> str:
    """Return a time in the unit that fits it. Pure."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"


def _history(transport: Transport, *, hours: int, output: Output) -> int:
    rows = read(transport, "pulses", hours=hours)["pulses"]
    if not output.is_table:
        print_rows(rows, output=output, empty="")
        return GOOD
    shown = [
        {
            "at": moment(row["at"]),
            "verdict": row["verdict"],
            "backlog": row["backlog"],
            "a minute": row["rate_per_minute"],
            "pending": row["pending"],
            "poison": row["poison_kept"],
            "problems": row["problems"],
        }
        for row in rows
    ]
    print_table(shown, empty="no pulse was written in that time")
    return GOOD


def runs(
    run: str = "",
    /,
    *,
    limit: Number = 20,
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """List the latest sync runs with their books, or show one whole.

    Parameters
    ----------
    run
        The id of one run, or a unique prefix.
    limit
        How many runs to list.
    """
    is_table = output.is_table
    transport = connection.open()
    if run:
        if output.csv:
            raise Failure("--csv is for the list of runs")
        return _one_run(transport, run, as_json=output.json)
    rows = read(transport, "runs", limit=limit)["runs"]
    if is_table:
        print_runs(rows)
    else:
        print_rows(rows, output=output, empty="")
    return GOOD if all(map(is_good, rows)) else BAD_NEWS


def is_good(row: Row) -> bool:
    """Whether a run ended well, or goes on, and its books balance. Pure."""
    return bool(row["balanced"]) and row["state"] not in BAD_ENDS


def print_runs(rows: list[Row]) -> None:
    """Print runs as a table, with the reason of each that has one below it."""
    short = shortest([str(row["run"]) for row in rows])
    columns = _columns(rows)
    shown = []
    for row, name in zip(rows, short, strict=True):
        known: dict[str, Any] = {**row, "run": name, "books": bool(row["balanced"])}
        shown.append({column: known[column] for column in columns})
    print_table(shown, empty="no sync run yet")
    _print_reasons(dict(zip(short, (str(row["reason"]) for row in rows), strict=True)))


def _columns(rows: list[Row]) -> list[str]:
    """Return what is shown of runs: counts that are 0 in all of them are left out. Pure."""
    extra = [name for name in REST if any(row[name] for row in rows)]
    usual = [name for name in RUN_COLUMNS if len(extra) < len(REST) or name != "enqueued"]
    return [*usual, *extra, "books"]


def _print_reasons(by_run: Mapping[str, str]) -> None:
    """Print the reason of each run that has one."""
    reasons = [plain(f"{name}: {reason}") for name, reason in by_run.items() if reason]
    if reasons:
        say()
    for reason in reasons:
        say_wrapped(reason, then="    ")


def shortest(names: list[str]) -> list[str]:
    """Return the beginning of each name that no other has, of `SHORTEST` characters at least."""
    length = SHORTEST
    while length < max(map(len, names), default=0) and len({n[:length] for n in names}) < len(
        names
    ):
        length += 1
    return [name[:length] for name in names]


def _one_run(transport: Transport, name: str, *, as_json: bool) -> int:
    found = one_run(transport, name)
    if as_json:
        print_json(found)
    else:
        for field, value in found["run"].items():
            say(f"{field.replace('_', ' '):<22} {_said(value)}")
        for state, count in found["chunks"].items():
            say(f"{f'chunks {state}':<22} {count:,}")
        say(f"{'rejections':<22} {found['rejections']:,}")
        for entry in found["poison"]:
            say(f"{'poison':<22} {plain(entry['poison'])}: {plain(entry['reason'])}")
    return GOOD if is_good(found["run"]) else BAD_NEWS


def _said(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return plain(str(value))


def problems(
    *, ended: Flag = False, output: Output = Output(), connection: Connection = Connection()
) -> int:
    """List what stops or slows the whole feed, with its remedy.

    Parameters
    ----------
    ended
        List the last ten that are over instead.
    """
    is_table = output.is_table
    rows = read(connection.open(), "problems", ended=ended)["problems"]
    if is_table:
        shown = [
            {
                "kind": row["kind"],
                "since": moment(row["since"]),
                "until": moment(row["until"]),
                "what": row["what"],
            }
            for row in rows
        ]
        print_table(shown, empty="no problem has ended" if ended else "no problem")
    else:
        print_rows(rows, output=output, empty="")
    return BAD_NEWS if rows and not ended else GOOD


def acts(
    *, limit: Number = SHOWN, output: Output = Output(), connection: Connection = Connection()
) -> int:
    """List what operators did: who, when, what, why, and with what result.

    Parameters
    ----------
    limit
        How many, the newest first.
    """
    is_table = output.is_table
    rows = read(connection.open(), "acts", limit=limit)["acts"]
    if is_table:
        for row in rows:
            words = f"{moment(row['at'])}  {row['by']}: {row['act']} {row['on']}".rstrip()
            say(plain(words))
            for text in (row["note"], row["result"] or "no result is known: it was cut short"):
                if text:
                    say_wrapped(plain(text), first="    ", then="    ")
        if not rows:
            say("no act is on record")
    else:
        print_rows(rows, output=output, empty="")
    return GOOD


def doctor(*, output: Output = Output(), connection: Connection = Connection()) -> int:
    """Check everything that the feed needs: settings, storage, Entra, Sentinel, Lumen, clocks.

    Over HTTP these are the app's settings and identity, next to the storage this machine's.
    """
    is_table = output.is_table
    transport = connection.open()
    found = read(transport, "doctor")
    if output.json:
        print_json({"seen_from": transport.seen_from, **found})
    elif output.csv:
        print_rows(found["lines"], output=output, empty="")
    if is_table:
        say(f"by {transport.seen_from}:")
        for line in found["lines"]:
            state = str(line["state"])
            heading(f"{state:<9}  {plain(line['name'])}", verdict=state)
            for text in (line["text"], line["remedy"] and f"-> {line['remedy']}"):
                if text:
                    say_wrapped(plain(text), first=" " * 11, then=" " * 11)
    return GOOD if found["is_well"] else BAD_NEWS
