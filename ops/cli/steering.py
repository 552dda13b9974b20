"""The commands that steer the feed: sync, pause, resume."""

import re
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Annotated, Final

from cyclopts import App, Parameter

from ops.cli.choosing import Flag, Why
from ops.cli.connecting import Connection
from ops.cli.ending import BAD_NEWS, GOOD, Failure
from ops.cli.screen import JsonOutput, Row, confirm, moment, plain, print_json, say, say_wrapped
from ops.cli.transport import Transport, act, read

CHUNK: Final = 100
"""Indicators of one request, at most."""

USUAL_RATE: Final = 95.0
"""Requests a minute if the queue gives no other number: the default of the app."""

LOOKED_AT: Final = 100
"""Runs in which the longest list of Lumen is looked for."""

UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def add_to(app: App) -> None:
    """Add these commands to the program."""
    for command in (sync, pause, resume):
        app.command(command)


def sync(
    *,
    full: Flag = False,
    take_back: Flag = False,
    yes: Flag = False,
    why: Why = Why(),
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Start a sync run now, without waiting for the timer.

    Parameters
    ----------
    full
        The next new run sends everything that Lumen still lists, known or not.
    take_back
        Take back what was asked for and has not begun.
    yes
        Do not ask.
    """
    if full and take_back:
        raise Failure("give --full or --take-back, not both: --take-back takes back either")
    transport = connection.open()
    if full and not confirm(_estimate(transport), yes=yes):
        say("nothing was asked for")
        return BAD_NEWS
    done = act(transport, "sync", full=full, take_back=take_back, note=why.note)
    is_done = bool(done["taken_back"]) or not take_back
    if output.json:
        print_json(done)
    else:
        say(
            _asked(full=full, take_back=take_back)
            if is_done
            else "there is no open request to take back"
        )
    return GOOD if is_done else BAD_NEWS


def _asked(*, full: bool, take_back: bool) -> str:
    """Return what was asked for, in words. Pure."""
    if take_back:
        return "taken back"
    if full:
        return "the next new sync run sends every indicator that Lumen still lists, known or not"
    return "a sync run was asked for; `runs` shows it in a minute"


def _estimate(transport: Transport) -> str:
    """Return the question before a full sync, with what it costs as far as is known."""
    runs = read(transport, "runs", limit=LOOKED_AT)["runs"]
    return estimate(runs, read(transport, "status", runs=1))


def estimate(runs: list[Row], status: Row) -> str:
    """Return what a full sync costs at most, by earlier lists of Lumen and the queue. Pure."""
    listed = max((int(run["fetched"]) for run in runs), default=0)
    requests = ceil(listed / CHUNK)
    waiting = int(status["queue_depth"])
    minutes = status["drain_minutes"]
    rate = waiting / minutes if waiting and minutes else USUAL_RATE
    return (
        "let the next new run send everything that Lumen still lists, known or not?\n"
        f"The longest list of the last {len(runs)} runs had {listed:,} indicators: up to "
        f"{requests:,} requests, about {(requests + waiting) / rate:.0f} min with what waits "
        f"already. What Lumen lists for the first time comes later by that much. It can be taken "
        "back until a run has begun."
    )


def pause(
    *,
    span: Annotated[str, Parameter(name="--for")] = "",
    until: str = "",
    why: Why = Why(),
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Stop new runs and uploads for a while; nothing is lost, and it ends by itself.

    Parameters
    ----------
    span
        For how long: 30m, 4h or 2d, at most seven days.
    until
        Until when instead, as 2026-12-01T08:00Z; without a zone it is this machine's time.
    """
    if bool(span) == bool(until):
        raise Failure("say for how long: --for 4h, or --until 2026-12-01T08:00Z")
    length = span_of(span) if span else timedelta()
    end = time_of(until) if until else None
    transport = connection.open()
    if end is None:  # by the app's clock, not this machine's
        end = datetime.fromisoformat(read(transport, "status", runs=1)["now"]) + length
    done = act(transport, "pause", until=end.isoformat(), note=why.note)
    if output.json:
        print_json(done)
    else:
        say_wrapped(
            f"paused until {moment(done['paused_until'])} UTC by {plain(done['by'])}: no new run "
            "starts and nothing is uploaded; `resume` ends it earlier"
        )
    return GOOD


def span_of(text: str) -> timedelta:
    """Return a time such as 30m, 4h or 2d; raises `Failure`. Pure."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}[mhd]", text):
        raise Failure(f"--for: {text!r} is not a time such as 30m, 4h or 2d")
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


def time_of(text: str) -> datetime:
    """Return a moment in UTC; raises `Failure`. Pure, but for the machine's time zone."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Failure(f"--until: {text!r} is not a time such as 2026-12-01T08:00Z") from error


def resume(
    *, why: Why = Why(), output: JsonOutput = JsonOutput(), connection: Connection = Connection()
) -> int:
    """End the pause."""
    done = act(connection.open(), "resume", note=why.note)
    if output.json:
        print_json(done)
    elif done["was_paused"]:
        say("the pause is over: the next tick starts a run, and what waits is delivered")
    else:
        say("the feed was not paused")
    return GOOD if done["was_paused"] else BAD_NEWS
