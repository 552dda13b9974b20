"""The commands that tidy up behind the feed: purge, destination."""

import re
from typing import Final

from cyclopts import App

from ops.cli.choosing import Flag, Meant, Why
from ops.cli.connecting import Connection
from ops.cli.ending import BAD_NEWS, GOOD, Failure
from ops.cli.screen import (
    JsonOutput,
    Row,
    confirm,
    note,
    plain,
    print_json,
    print_table,
    say,
    say_wrapped,
)
from ops.cli.slices import add_up, say_what_is_left
from ops.cli.transport import Transport, act

PURGE_IS_FINAL: Final = "This is final."

PURGED: Final = ("runs", "rejections", "poison", "pulses", "acts")
ADOPTED: Final = ("chunks", "indicators")
"""What the answers of the two count."""

destination: Final = App(name="destination", help="The workspace that chunks go to.")


def purge(
    *,
    older_than: str,
    meant: Meant = Meant(),
    why: Why = Why(),
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Remove old runs, rejections, settled poison, pulses and acts.

    A run stays while a chunk's row, kept poison or a fresh gap needs it.

    Parameters
    ----------
    older_than
        Age in days, such as 90d.
    """
    days = days_of(older_than)
    transport = connection.open()
    if not (meant.dry_run or meant.yes or _is_agreed(transport, days)):
        say("nothing was removed")
        return BAD_NEWS
    done, failure = add_up(
        transport,
        "purge",
        what="removing",
        counts=PURGED,
        days=days,
        dry_run=meant.dry_run,
        note=why.note,
    )
    if output.json:
        print_json(done)
    else:
        shown = "would be removed" if meant.dry_run else "removed"
        print_table([{"records": name, shown: done[name]} for name in PURGED])
        if meant.dry_run and done["remaining"]:
            note(f"counted as far as there was time{_and_more(done)}")
    say_what_is_left(failure)
    return BAD_NEWS if failure else GOOD


def days_of(text: str) -> int:
    """Return a number of days such as 90d; raises `Failure`. Pure."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", text):
        raise Failure(f"--older-than: {text!r} is not a number of days, such as 90d")
    return int(text[:-1])


def _is_agreed(transport: Transport, days: int) -> bool:
    """Say what would be removed, and ask; nothing needs no question, if all of it was counted."""
    would = act(transport, "purge", days=days, dry_run=True)
    some = ", ".join(f"{would[name]:,} {name}" for name in PURGED) + _and_more(would)
    question = f"remove what is older than {days} days: {some}?\n{PURGE_IS_FINAL}"
    is_nothing = not any(would[name] for name in (*PURGED, "remaining"))
    return is_nothing or confirm(question, yes=False)


def _and_more(counted: Row) -> str:
    """Return that there are more than were counted, where that is so. Pure."""
    return ", and more" if counted["remaining"] else ""


@destination.command
def adopt(
    *,
    dry_run: Flag = False,
    why: Why = Why(),
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Let chunks that wait for another workspace go to the present one.

    Parameters
    ----------
    dry_run
        Only say what would happen.
    """
    done, failure = add_up(
        connection.open(),
        "destination/adopt",
        what="turning over",
        counts=ADOPTED,
        dry_run=dry_run,
        note=why.note,
    )
    if output.json:
        print_json(done)
    elif done["waits"]:
        note(f"lumen-sentinel: {plain(done['waits'])}")
    else:
        _say_adopted(done, will="would go" if dry_run else "go")
    say_what_is_left(failure)
    return BAD_NEWS if failure or done["waits"] or done["changed"] else GOOD


def _say_adopted(done: Row, *, will: str) -> None:
    left = ", ".join(f"{count:,} from {plain(name)}" for name, count in done["left"].items())
    say_wrapped(
        f"{done['chunks']:,} chunks ({done['indicators']:,} indicators) {will} to "
        f"{plain(done['destination'])}" + (f": {left}" if left else "")
    )
    if done["changed"]:
        say(f"{done['changed']:,} more changed at that moment: give the command again")
