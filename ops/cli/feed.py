"""The commands that tidy up behind the feed: purge, destination."""

import re
from typing import Any, Final

from cyclopts import App

from ops.cli.choosing import Flag, Meant, Why
from ops.cli.connecting import Connection
from ops.cli.ending import BAD_NEWS, GOOD, Failure
from ops.cli.screen import (
    JsonOutput,
    confirm,
    note,
    plain,
    print_json,
    print_table,
    say,
    say_wrapped,
)
from ops.cli.transport import act

PURGE_IS_FINAL: Final = "This is final."

destination: Final = App(name="destination", help="The workspace that chunks go to.")


def purge(
    *,
    older_than: str,
    meant: Meant = Meant(),
    why: Why = Why(),
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Remove old runs, rejections, settled poison and other records.

    A run stays while a chunk's row, kept poison or a fresh gap needs it.

    Parameters
    ----------
    older_than
        Age in days, such as 90d.
    """
    days = days_of(older_than)
    transport = connection.open()
    if not (meant.dry_run or meant.yes):
        would = _counts(act(transport, "purge", days=days, dry_run=True))
        some = ", ".join(f"{count:,} {name}" for name, count in would.items())
        question = f"remove what is older than {days} days: {some}?\n{PURGE_IS_FINAL}"
        if any(would.values()) and not confirm(question, yes=False):
            say("nothing was removed")
            return BAD_NEWS
    done = act(transport, "purge", days=days, dry_run=meant.dry_run, note=why.note)
    if output.json:
        print_json(done)
        return GOOD
    shown = "would be removed" if meant.dry_run else "removed"
    print_table([{"records": name, shown: count} for name, count in _counts(done).items()])
    return GOOD


def days_of(text: str) -> int:
    """Return a number of days such as 90d; raises `Failure`. Pure."""
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", text):
        raise Failure(f"--older-than: {text!r} is not a number of days, such as 90d")
    return int(text[:-1])


def _counts(answer: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in answer.items() if type(value) is int}


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
    done = act(connection.open(), "destination/adopt", dry_run=dry_run, note=why.note)
    if output.json:
        print_json(done)
    elif done["waits"]:
        note(f"lumen-sentinel: {plain(done['waits'])}")
    else:
        will = "would go" if dry_run else "go"
        left = ", ".join(f"{count} from {plain(name)}" for name, count in done["left"].items())
        say_wrapped(
            f"{done['chunks']} chunks ({done['indicators']} indicators) {will} to "
            f"{plain(done['destination'])}" + (f": {left}" if left else "")
        )
        if done["changed"]:
            say(f"{done['changed']} more changed at that moment: give the command again")
    return BAD_NEWS if done["waits"] or done["changed"] else GOOD
