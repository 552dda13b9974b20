"""The commands about single records, chunks and gaps."""

from collections.abc import Mapping
from typing import Any, Final

from cyclopts import App

from ops.cli.choosing import (
    Flag,
    Meant,
    Number,
    Why,
    full_chunks,
    full_rejections,
    full_run,
    one_way,
    rejections_of,
)
from ops.cli.connecting import Connection
from ops.cli.ending import BAD_NEWS, GOOD, MissingError
from ops.cli.poison import NEWER_VERSIONS, All
from ops.cli.screen import (
    JsonOutput,
    Output,
    confirm,
    moment,
    note,
    plain,
    print_json,
    print_rows,
    say,
    say_wrapped,
)
from ops.cli.slices import SHOWN, carry_out, read_list, say_what_is_left
from ops.cli.transport import Transport

NOT_WISHED: Final = frozenset(
    {
        "was never sent: invalid as Lumen lists it",
        "its content is not known",
        "not there any more",
    }
)
"""Results of a retry that send nothing."""

NOTED: Final = frozenset({"acknowledged", "already acknowledged"})
"""Results of an acknowledgement behind which the status is silent about the gap."""

LOST: Final = frozenset({"declared lost", "would be declared lost"})

WAYS_OF_RETRY: Final = "by names, by --run, --reason and --indicator together, or --all"
WAYS: Final = "by names, or --all"

LOSING_IS_FINAL: Final = (
    "A chunk is declared lost only if its row is older than seven days and no message of it can "
    "be found. This is final: its indicators are sent only in versions that Lumen lists later, "
    "and `sync --full` brings back only what Lumen still lists."
)

rejections: Final = App(name="rejections", help="Single records that are not in Sentinel.")
chunks: Final = App(name="chunks", help="Chunks that wait for their message.")


@rejections.default
def listing(
    *,
    run: str = "",
    reason: str = "",
    indicator: str = "",
    limit: Number | None = None,
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """List single records that are not in Sentinel, the latest first.

    Invalid as Lumen listed them, or refused by Sentinel, with its words.

    Parameters
    ----------
    run
        Those of a run; `invalid`: invalid as Lumen listed them.
    reason
        Those with this text in the reason.
    indicator
        Those with this text in id or pattern.
    limit
        How many; else 100 in a table, and all in JSON and CSV.
    """
    is_table = output.is_table
    transport = connection.open()
    rows, first = read_list(
        transport,
        "rejections",
        rows="rejections",
        limit=limit or (SHOWN if is_table else None),
        run=_run(transport, run),
        reason=reason,
        indicator=indicator,
    )
    if not is_table:
        print_rows(rows, output=output, empty="")
        return GOOD
    for row in rows:
        wished = f", goes with the next run since {moment(row['wished_at'])}" * bool(
            row["wished_at"]
        )
        say(plain(f"{row['rejection']}  {moment(row['at'])} by {row['by']}{wished}"))
        words = plain(f"{row['indicator']}: {row['reason']}")
        say_wrapped(words, first="    ", then="    ")
    if not rows:
        say("no rejection")
    hidden = first["total"] - len(rows)
    if hidden:
        fewer = "--run, --reason, --indicator fewer"
        note(f"{hidden:,} more: --limit {first['total']} shows all, {fewer}")
    return GOOD


@rejections.command(help_epilogue=NEWER_VERSIONS)
def retry(
    *names: str,
    run: str = "",
    reason: str = "",
    indicator: str = "",
    all_: All = False,
    dry_run: Flag = False,
    why: Why = Why(),
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Let the next run send what Sentinel refused once more.

    Parameters
    ----------
    names
        As listed, or beginnings that only one has.
    run
        Those of a run.
    reason
        Those with this text in the reason.
    indicator
        Those with this text in id or pattern.
    all_
        All that Sentinel refused.
    dry_run
        Only say what would happen.
    """
    output.check()
    one_way(names=names, filters=[run, reason, indicator], everything=all_, ways=WAYS_OF_RETRY)
    transport = connection.open()
    handled, failure = carry_out(
        transport,
        "rejections/retry",
        what="asking",
        names=full_rejections(transport, names),
        run=_run(transport, run),
        reason=reason,
        indicator=indicator,
        all=all_,
        dry_run=dry_run,
        note=why.note,
    )
    print_rows(handled, output=output, empty="nothing to do")
    say_what_is_left(failure)
    is_bad = failure or {row["result"] for row in handled} & NOT_WISHED
    return BAD_NEWS if is_bad else GOOD


@rejections.command
def show(
    name: str,
    /,
    *names: str,
    output: JsonOutput = JsonOutput(),
    connection: Connection = Connection(),
) -> int:
    """Print everything about some: reason, content as Lumen listed it, who asked, as JSON.

    Parameters
    ----------
    name
        As listed, or a beginning that only one has.
    """
    for found in rejections_of(connection.open(), [name, *names]):
        print_json(found, indent=None if output.json else 2)
    return GOOD


def _run(transport: Transport, run: str) -> str:
    """Return the full id of a run; as it is given where its own record was purged."""
    if run in {"", "invalid"}:
        return run
    try:
        return full_run(transport, run)
    except MissingError:
        return run


@chunks.command
def lost(
    *names: str,
    all_: All = False,
    meant: Meant = Meant(),
    why: Why = Why(),
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Declare chunks lost whose message cannot be found, so that the books close.

    Parameters
    ----------
    names
        RUN/CHUNK, or unique prefixes.
    all_
        All that have pending records.
    """
    output.check()
    one_way(names=names, filters=[], everything=all_, ways=WAYS)
    transport = connection.open()
    choice: dict[str, Any] = {"names": full_chunks(transport, names) if names else []}
    choice["all"] = all_
    if not (meant.dry_run or meant.yes or _is_agreed(transport, choice)):
        say("nothing was declared lost")
        return BAD_NEWS
    handled, failure = carry_out(
        transport,
        "chunks/lost",
        what="declaring lost",
        dry_run=meant.dry_run,
        note=why.note,
        **choice,
    )
    print_rows(handled, output=output, empty="no chunk waits")
    say_what_is_left(failure)
    is_done = failure is None and all(row["result"] in LOST for row in handled)
    return GOOD if is_done else BAD_NEWS


def _is_agreed(transport: Transport, choice: Mapping[str, Any]) -> bool:
    """Say what would be declared lost, and ask; nothing needs no question.

    Raises `Failure` if a part of the look fails: what it would have shown must be asked for, too.
    """
    would, failure = carry_out(transport, "chunks/lost", what="looking", dry_run=True, **choice)
    if failure:
        raise failure
    chosen = [row for row in would if row["result"] in LOST]
    count = sum(int(row["indicators"]) for row in chosen)
    question = f"declare {len(chosen):,} chunks with {count:,} indicators lost?"
    return not chosen or confirm(f"{question}\n{LOSING_IS_FINAL}", yes=False)


def ack(
    *runs: str,
    all_: All = False,
    why: Why = Why(),
    output: Output = Output(),
    connection: Connection = Connection(),
) -> int:
    """Acknowledge gaps: the status no longer reports them.

    Parameters
    ----------
    runs
        The runs with a gap, or unique prefixes of their ids.
    all_
        All gaps that count.
    """
    output.check()
    one_way(names=runs, filters=[], everything=all_, ways=WAYS)
    transport = connection.open()
    full = [full_run(transport, run) for run in runs]
    rows, failure = carry_out(
        transport, "ack", what="acknowledging", runs=full, all=all_, note=why.note
    )
    print_rows(rows, output=output, empty="no gap counts")
    say_what_is_left(failure)
    is_done = failure is None and all(row["result"] in NOTED for row in rows)
    return GOOD if is_done else BAD_NEWS
