"""The commands about messages that were given up."""

from collections.abc import Sequence
from itertools import batched
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from ops.cli.choosing import Flag, Meant, Number, Why, full_poison, one_way, poison_of
from ops.cli.connecting import Connection
from ops.cli.ending import BAD_NEWS, GOOD, Failure
from ops.cli.screen import (
    JsonOutput,
    Output,
    Row,
    confirm,
    moment,
    note,
    plain,
    print_json,
    print_rows,
    print_table,
    say,
    say_wrapped,
)
from ops.cli.slices import SHOWN, carry_out, read_list, say_what_is_left
from ops.cli.transport import Transport, act, read

WAYS: Final = "by names, by --reason, or --all"

NOT_DONE: Final = frozenset(
    {
        "cannot be decoded",
        "of a later release",
        "given up again meanwhile",
        "not there any more",
    }
)
"""Results that leave a message to see to, or say that there is none."""

NEWER_VERSIONS: Final = (
    "An indicator of which a newer version was sent since is left out: the newer one stays."
)

FINAL: Final = (
    "This is final: Lumen need not list these indicators again, and `sync --full` brings back "
    "only what it still lists."
)

NOT_REPLAYED: Final = NOT_DONE | {"already discarded"}
NOT_DISCARDED: Final = NOT_DONE | {"already replayed"}
"""Those of each command: somebody else did the opposite before."""

MAX_NAMES: Final = 500
"""Names of one call: the API takes no more."""

RESCUE_CALLS: Final = 37
"""Calls that messages are waited for, each of 18 s, so eleven minutes: the host hides those that it
has taken for ten."""

poison: Final = App(name="poison", help="Messages that were given up, and are kept.")

type Choice = dict[str, Any]
"""The parameters of an act that say which messages it is for."""

type All = Annotated[bool, Parameter(name="--all", negative="")]


@poison.command(name="list")
def listing(
    *,
    reason: str = "",
    settled: Flag = False,
    limit: Number | None = None,
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """List what is kept, grouped by reason.

    Parameters
    ----------
    reason
        Only those with this text in the reason.
    settled
        Replayed and discarded ones, too.
    limit
        How many; else 100 in a table, and all in JSON and CSV.
    """
    is_table = output.is_table
    rows, first = read_list(
        connection.open(),
        "poison",
        rows="poison",
        limit=limit or (SHOWN if is_table else None),
        reason=reason,
        settled=settled,
    )
    if is_table:
        _print_groups(first["groups"], rows, settled=settled)
        hidden = first["total"] - len(rows)
        if hidden:
            note(f"{hidden:,} more: --limit {first['total']} shows all, --reason fewer")
    else:
        print_rows(rows, output=output, empty="")
    return GOOD


def _print_groups(groups: Sequence[Row], rows: Sequence[Row], *, settled: bool) -> None:
    if not rows:
        say("no poison")
    names = ("poison", "state" if settled else "attempts", "indicators", "last_at")
    for group in groups:
        shown = [
            {name: moment(row[name]) if name == "last_at" else row[name] for name in names}
            for row in rows
            if row["reason"] == group["reason"]
        ]
        if shown:
            messages, count = group["messages"], group["indicators"]
            say_wrapped(
                f"{messages:,} with {count:,} indicators: {plain(group['reason'])}", then="    "
            )
            print_table(shown)


@poison.command
def show(
    name: str,
    /,
    *names: str,
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Print records whole, as JSON: history, each indicator, the message.

    Parameters
    ----------
    name
        As listed, or a unique prefix.
    """
    for found in poison_of(connection.open(), [name, *names]):
        print_json(found, indent=None if output.json else 2)
    return GOOD


@poison.command(help_epilogue=NEWER_VERSIONS)
def replay(
    *names: str,
    reason: str = "",
    all_: All = False,
    dry_run: Flag = False,
    why: Why = Why(),
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Put messages back on the queue, each at a send slot of its own.

    Parameters
    ----------
    names
        As listed, or unique prefixes.
    reason
        All with this text in the reason.
    all_
        All that are kept.
    dry_run
        Only say what would happen.
    """
    is_table = output.is_table
    one_way(names=names, filters=[reason], everything=all_, ways=WAYS)
    transport = connection.open()
    handled, failure = carry_out(
        transport,
        "poison/replay",
        what="replaying",
        names=full_poison(transport, names),
        reason=reason,
        all=all_,
        dry_run=dry_run,
        note=why.note,
    )
    print_rows(handled, output=output, empty="nothing to do")
    results = {row["result"] for row in handled}
    if "replayed" in results and is_table:
        say_wrapped(NEWER_VERSIONS)
    say_what_is_left(failure)
    return BAD_NEWS if failure or results & NOT_REPLAYED else GOOD


@poison.command
def discard(
    *names: str,
    reason: str = "",
    all_: All = False,
    meant: Meant = Meant(),
    why: Why = Why(),
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Give messages up for good; their records stay.

    Parameters
    ----------
    names
        As listed, or unique prefixes.
    reason
        All with this text in the reason.
    all_
        All that are kept.
    """
    output.check()
    one_way(names=names, filters=[reason], everything=all_, ways=WAYS)
    transport = connection.open()
    named = poison_of(transport, names)
    choice: Choice = {"names": [one["poison"] for one in named], "reason": reason, "all": all_}
    is_asked = not (meant.dry_run or meant.yes)
    choices = _agreed(_kept(transport, named, reason), choice) if is_asked else [choice]
    if choices is None:
        say("nothing was discarded")
        return BAD_NEWS
    handled, failure = _discarded(transport, choices, dry_run=meant.dry_run, note=why.note)
    print_rows(handled, output=output, empty="nothing to do")
    say_what_is_left(failure)
    is_bad = failure or {row["result"] for row in handled} & NOT_DISCARDED
    return BAD_NEWS if is_bad else GOOD


def _discarded(
    transport: Transport, choices: Sequence[Choice], *, dry_run: bool, note: str
) -> tuple[list[Row], Failure | None]:
    """Discard what was chosen, choice by choice; return what was done with each message.

    Where a later call fails, what was done before is returned with the failure.
    """
    handled: list[Row] = []
    for choice in choices:
        try:
            done, failure = carry_out(
                transport,
                "poison/discard",
                what="discarding",
                dry_run=dry_run,
                note=note,
                **choice,
            )
        except Failure as error:
            if not handled:
                raise
            return handled, error
        handled += done
        if failure:
            return handled, failure
    return handled, None


def _kept(transport: Transport, named: Sequence[Row], reason: str) -> Sequence[Row]:
    """Return what is kept still: of the named poison, or all with this text in the reason."""
    if named:
        return [row for row in named if row["state"] == "kept"]
    rows, _ = read_list(transport, "poison", rows="poison", limit=None, reason=reason)
    return rows


@poison.command
def rescue(
    *,
    no_wait: Flag = False,
    why: Why = Why(),
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Move messages that are stuck on the poison queue back to the upload queue.

    The host hides messages that it has taken for up to ten minutes; this waits for them.

    Parameters
    ----------
    no_wait
        Make one call, which waits up to 18 seconds for messages that are hidden.
    """
    transport = connection.open()
    depth = read(transport, "status", runs=1)["poison_queue_depth"]
    if depth and not no_wait:
        note(
            f"{depth} on the poison queue; those that the host has taken are hidden for up to "
            "ten minutes, and are waited for (--no-wait: 18 seconds at most)"
        )
    calls = 1 if no_wait else RESCUE_CALLS
    count, left, failure = _rescued(transport, calls=calls, note=why.note)
    if output.json:
        print_json({"count": count, "left": left})
    else:
        hidden = f"; {left:,} are left, hidden for a while: give the command again" if left else ""
        say_wrapped(f"{count:,} messages brought back to the upload queue{hidden}")
    say_what_is_left(failure)
    return BAD_NEWS if left or failure else GOOD


def _rescued(transport: Transport, *, calls: int, note: str) -> tuple[int, int, Failure | None]:
    """Rescue in up to so many calls; return how many came back, how many are left, and a fault.

    Where a later call fails, what was done before is returned with the failure.
    """
    count = left = 0
    for _ in range(calls):
        try:
            done = act(transport, "poison/rescue", note=note)
        except Failure as failure:
            if not count:
                raise
            return count, left, failure
        count += done["count"]
        left = done["remaining"]
        if not left:
            break
    return count, left, None


def _agreed(kept: Sequence[Row], choice: Choice) -> list[Choice] | None:
    """Ask; return what was agreed to by name, so nothing that is given up since. None: a no.

    Where nothing is kept there is nothing to ask: names still get their results.
    """
    if not kept:
        return [choice] if choice["names"] else []
    count = sum(int(row["indicators"]) for row in kept)
    if not confirm(
        f"discard {len(kept):,} messages with {count:,} indicators?\n{FINAL}", yes=False
    ):
        return None
    some = batched([row["poison"] for row in kept], MAX_NAMES, strict=False)
    return [{"names": list(batch)} for batch in some]
