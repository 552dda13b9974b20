"""The commands about problems, gaps, rejections and lost chunks: the thinnest layer over `ops`.

Each reads its options, calls one function and prints what it returns, as a table or as JSON.
`add_commands` puts them beside the other commands of `cli`.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from common.ledger.rejections import RejectedBy
from common.view import standing
from ops import lost, rejections
from ops.problems import acknowledge, describe_problem, ended
from ops.render import render_table
from ops.toolbox import Toolbox

GOOD: Final = 0
BAD_NEWS: Final = 1
WRONG: Final = 2

NOT_WISHED: Final = frozenset(
    {rejections.Result.INVALID, rejections.Result.NO_CONTENT, rejections.Result.GONE}
)
"""Results of a retry that send nothing."""

NEWER_VERSIONS: Final = (
    "An indicator of which a newer version was sent since is left out: the newer one stays."
)


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print what was found or done, as JSON or as a table; `empty` is what no rows mean."""
    print(json.dumps(rows) if as_json else render_table(rows, empty=empty))


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    *,
    shared: argparse.ArgumentParser,
    signed: argparse.ArgumentParser,
) -> None:
    """Add the commands of this module; `shared` and `signed` have the options of many."""
    _add_problems(commands, shared, signed)
    _add_rejections(commands, shared, signed)
    _add_chunks(commands, shared, signed)


def _add_problems(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    shared: argparse.ArgumentParser,
    signed: argparse.ArgumentParser,
) -> None:
    problems = commands.add_parser(
        "problems", parents=[shared], help="what stops or slows the whole feed"
    )
    problems.add_argument("--ended", action="store_true", help="the last ten that are over")
    problems.set_defaults(command=_problems)

    ack = commands.add_parser(
        "ack", parents=[signed], help="take note of gaps, so that the status is silent about them"
    )
    gaps = ack.add_mutually_exclusive_group(required=True)
    gaps.add_argument("names", nargs="*", default=[], metavar="RUN")
    gaps.add_argument("--all", action="store_true", help="all that count")
    ack.set_defaults(command=_ack)


def _add_rejections(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    shared: argparse.ArgumentParser,
    signed: argparse.ArgumentParser,
) -> None:
    rejected = commands.add_parser(
        "rejections", parents=[shared, _which(None)], help="single records that are not in Sentinel"
    )
    rejected.add_argument("--csv", action="store_true", help="print CSV")
    rejected.set_defaults(command=_rejections)
    again = rejected.add_subparsers(metavar="ACTION").add_parser(
        "retry",
        # What was said before `retry` stays: a default would overwrite it, and `--all` mean more.
        parents=[shared, _which(argparse.SUPPRESS), signed],
        help="let the next run send some once more",
        epilog=NEWER_VERSIONS,
    )
    again.add_argument("names", nargs="*", default=[], metavar="NAME")
    again.add_argument("--all", action="store_true", help="all that Sentinel refused")
    again.add_argument("--dry-run", action="store_true", help="only say what would happen")
    again.set_defaults(command=_rejections_retry)


def _which(default: str | None) -> argparse.ArgumentParser:
    """Return the options that narrow the choice of rejections."""
    which = argparse.ArgumentParser(add_help=False, argument_default=default)
    which.add_argument("--run", help="those of a run; `invalid`: invalid as Lumen listed them")
    which.add_argument("--reason", help="those with this text in the reason")
    which.add_argument("--indicator", help="those with this text in id or pattern")
    return which


def _add_chunks(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    shared: argparse.ArgumentParser,
    signed: argparse.ArgumentParser,
) -> None:
    chunks = commands.add_parser("chunks", help="chunks that wait for their message")
    losing = chunks.add_subparsers(required=True, metavar="ACTION").add_parser(
        "lost",
        parents=[shared, signed],
        help="declare chunks lost of which no message can be found",
    )
    waiting = losing.add_mutually_exclusive_group(required=True)
    waiting.add_argument("names", nargs="*", default=[], metavar="NAME")
    waiting.add_argument("--all", action="store_true", help="all of which something waits")
    losing.add_argument("--dry-run", action="store_true", help="only say what would happen")
    losing.set_defaults(command=_chunks_lost)


def _problems(toolbox: Toolbox, options: argparse.Namespace) -> int:
    found = (ended if options.ended else standing)(
        toolbox.ledger, toolbox.problems, now=toolbox.clock.now()
    )
    rows = [describe_problem(problem) for problem in found]
    if options.json:
        print(json.dumps(rows))
    else:
        names = ("kind", "since", "until", "what")
        shown = [{name: row[name] for name in names} for row in rows]
        print(render_table(shown, empty="no problem has ended" if options.ended else "no problem"))
    return BAD_NEWS if rows and not options.ended else GOOD


def _ack(toolbox: Toolbox, options: argparse.Namespace) -> int:
    now = toolbox.clock.now()
    open_gaps = [gap.run_id for gap in toolbox.ledger.runs.gaps() if gap.counts_at(now)]
    chosen = open_gaps if options.all else options.names
    done = list(acknowledge(toolbox.ledger, chosen, at=now, by=options.by, note=options.note))
    for item in done:
        if item.is_done:
            print(f"the gap of run {item.run_id} is acknowledged")
        else:
            print(f"ops: run {item.run_id} has no gap to acknowledge", file=sys.stderr)
    return GOOD if all(item.is_done for item in done) else WRONG


def _rejections(toolbox: Toolbox, options: argparse.Namespace) -> int:
    found = rejections.find(toolbox.ledger, _rejected(options))
    rows = [rejections.describe_rejection(rejection) for rejection in found]
    if options.csv:
        sys.stdout.write(rejections.to_csv(found))
    elif options.json:
        print(json.dumps(rows))
    else:
        names = ("rejection", "at", "by", "indicator", "wished_at", "reason")
        shown = [{name: row[name] for name in names} for row in rows]
        print(render_table(shown, empty="no rejection"))
    return GOOD


def _rejections_retry(toolbox: Toolbox, options: argparse.Namespace) -> int:
    if not (options.names or options.run or options.reason or options.indicator or options.all):
        print("ops: name some, or choose by --run, --reason, --indicator or --all", file=sys.stderr)
        return WRONG
    chosen = rejections.find(toolbox.ledger, _rejected(options))
    if not options.names:  # what Lumen lists in this form cannot be sent
        chosen = [one for one in chosen if one.rejected_by is RejectedBy.SENTINEL]
    handled = rejections.retry(
        chosen,
        ledger=toolbox.ledger,
        at=toolbox.clock.now(),
        by=options.by,
        note=options.note,
        dry_run=options.dry_run,
    )
    done = list(handled)
    rows = [
        {"rejection": item.name, "indicator": item.indicator_id, "result": item.result.value}
        for item in done
    ]
    print_rows(rows, as_json=options.json, empty="nothing to do")
    absent = sorted(set(options.names) - {item.name for item in done})
    for name in absent:
        print(f"ops: there is no rejection called {name}; see `rejections`", file=sys.stderr)
    return WRONG if absent else GOOD if not NOT_WISHED & {d.result for d in done} else BAD_NEWS


def _rejected(options: argparse.Namespace) -> rejections.Selection:
    return rejections.Selection(
        names=tuple(getattr(options, "names", ())),
        run_id=options.run or "",
        reason=options.reason or "",
        indicator=options.indicator or "",
    )


def _chunks_lost(toolbox: Toolbox, options: argparse.Namespace) -> int:
    names = lost.candidates(toolbox.ledger) if options.all else options.names
    handled = lost.declare_lost(
        names,
        ledger=toolbox.ledger,
        queues=(toolbox.queue, toolbox.poison_queue),
        at=toolbox.clock.now(),
        by=options.by,
        note=options.note,
        dry_run=options.dry_run,
    )
    done = list(handled)
    rows = [
        {"chunk": item.name, "indicators": item.indicators, "result": item.result.value}
        for item in done
    ]
    print_rows(rows, as_json=options.json, empty="no chunk waits")
    is_good = all(d.result in {lost.Result.LOST, lost.Result.WOULD_BE_LOST} for d in done)
    return GOOD if is_good or options.all else BAD_NEWS
