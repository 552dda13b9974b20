"""The command that finds one address, domain or indicator: in Sentinel, and in the ledger."""

from collections.abc import Iterator
from typing import Final

from ops.cli.connecting import Connection
from ops.cli.ending import BAD_NEWS, GOOD, Failure
from ops.cli.screen import Output, Row, moment, plain, print_json, print_rows, say, say_wrapped
from ops.cli.transport import Answer, read

INDENT: Final = "    "


def find(value: str, /, *, output: Output = Output(), connection: Connection = Connection()) -> int:
    """Say where an address, a domain or an indicator is: in Sentinel, and in the ledger.

    Exit status 1 where neither has it.

    Parameters
    ----------
    value
        An address, a domain, or the id of an indicator (indicator--...).
    """
    is_table = output.is_table
    if not value.strip():
        raise Failure("give an address, a domain or the id of an indicator")
    found = read(connection.open(), "find", q=value)
    if is_table:
        print_finding(found)
    elif output.json:
        print_json(found)
    else:
        print_rows(found["ledger"]["indicators"], output=output, empty="")
    return GOOD if is_found(found) else BAD_NEWS


def is_found(found: Answer) -> bool:
    """Whether Sentinel holds it, or the ledger has a trace of it. Pure."""
    return bool(found["workspace"]["held"]) or any(
        one["traces"] for one in found["ledger"]["indicators"]
    )


def print_finding(found: Answer) -> None:
    """Print what Sentinel holds, then what the ledger knows of each id."""
    say(f"{plain(found['asked'])} ({found['kind']})")
    say()
    say("in Sentinel")
    _print_held(found["workspace"])
    say()
    say("in the ledger")
    _print_known(found)


def _print_held(workspace: Row) -> None:
    if workspace["why_not"]:
        say_wrapped(f"not asked: {plain(workspace['why_not'])}", first="  ", then=INDENT)
    elif not workspace["held"]:
        say("  nothing from Lumen in the last 30 days")
    for row in workspace["held"]:
        say(f"  {plain(row['indicator'])}")
        for line in held_lines(row):
            say_wrapped(plain(line), first=INDENT, then=INDENT)
    if workspace["has_more"]:
        say("  and more")


def _print_known(found: Answer) -> None:
    ledger = found["ledger"]
    for one in ledger["indicators"]:
        say(f"  {plain(one['indicator'])}: {one['is']}")
        say_wrapped(plain(one["what"]), first=INDENT, then=INDENT)
        for trace in one["traces"][1:]:
            say_wrapped(plain(f"before: {trace['what']}"), first=INDENT, then=INDENT)
    if ledger["has_more"]:
        say("  and more: give an id to look it up")
    if not ledger["indicators"]:
        say_wrapped(_why_no_id(found), first="  ", then="  ")
    if not ledger["is_whole"]:
        say("  not everything could be read: ask again")


def held_lines(row: Row) -> Iterator[str]:
    """Yield what a row of Sentinel says, as people read it. Pure."""
    state = "state unknown" if row["state"] == "unknown" else str(row["state"])
    confidence = "without confidence"
    if row["confidence"] is not None:
        confidence = f"confidence {row['confidence']}"
    ends = "without an end"
    if row["valid_until"]:
        ends = f"valid until {moment(row['valid_until'])} UTC"
    yield ", ".join((str(row["value"]), state, confidence, ends))
    by = ", written by Sentinel's own repetition" if row["is_republished"] else ""
    modified = moment(row["modified"]) or "at an unknown time"
    yield f"modified {modified}, row of {moment(row['seen_at'])} UTC{by}"


def _why_no_id(found: Answer) -> str:
    """Return why the ledger was not looked through. Pure."""
    if found["workspace"]["why_not"]:
        return (
            f"it knows indicators by their ids alone: without the workspace give the id, not the "
            f"{found['kind']}"
        )
    return (
        f"no id is known for this {found['kind']}: filtered or never listed, still on its way, or "
        "given up (see `poison list`); ask again with the id from Lumen"
    )
