"""The operator's command line: `python -m ops status | runs | poison … | sync --full | …`.

Tables for people, `--json` for scripts. It talks to the pipeline's storage directly, so it needs
the storage settings in the environment and a place from which the account can be reached. The
exit status is 0 when all is well, 1 when the answer is bad news, 2 when the question was wrong,
130 when it was interrupted.
"""

import argparse
import getpass
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from common.errors import HaltError, TryLaterError
from common.health import Verdict, judge_health
from common.ledger.poison import PoisonEntry
from common.ledger.states import RunState
from ops.commands import BAD_NEWS, GOOD, NEWER_VERSIONS, WRONG, add_commands, print_rows
from ops.decisions import Decision
from ops.destination import adopt
from ops.given_up import describe_given_up
from ops.poison import Handled, Result, Selection, discard, find, replay
from ops.purge import purge
from ops.render import render_runs, render_status, render_table
from ops.rescue import PATIENCE, rescue
from ops.status import describe, describe_run
from ops.toolbox import Toolbox, open_toolbox

INTERRUPTED: Final = 130
"""What a shell reports of a command that SIGINT ended."""

NOT_DONE: Final = frozenset(
    {Result.UNDECODABLE, Result.LATER_RELEASE, Result.GIVEN_UP_AGAIN, Result.GONE}
)
"""Results that leave a message to see to, or say that there is none."""

BAD_ENDS: Final = frozenset({RunState.FAILED, RunState.GAP})

NO_RUN_YET: Final = (
    "ops: no sync run is on record in this storage account, and the first one sends everything; "
    "is it the right account?"
)


def main(arguments: Sequence[str] | None = None, *, toolbox: Toolbox | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[Toolbox, argparse.Namespace], int] = options.command
    try:
        return command(toolbox or open_toolbox(), options)
    except (HaltError, TryLaterError) as error:
        print(f"ops: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("ops: interrupted; what was not done yet is as it was", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD


def _status(toolbox: Toolbox, options: argparse.Namespace) -> int:
    view = toolbox.look(runs=options.runs)
    print(json.dumps(describe(view)) if options.json else render_status(view))
    return GOOD if judge_health(view).verdict is Verdict.HEALTHY else BAD_NEWS


def _runs(toolbox: Toolbox, options: argparse.Namespace) -> int:
    runs = toolbox.look(runs=options.limit).runs
    rows = [describe_run(view) for view in runs]
    print(json.dumps(rows) if options.json else render_runs(rows))
    is_good = all(v.fate.balanced and v.run.state not in BAD_ENDS for v in runs)
    return GOOD if is_good else BAD_NEWS


def _sync(toolbox: Toolbox, options: argparse.Namespace) -> int:
    if not options.full:
        print("ops: the timer starts ordinary runs; to send everything once: sync --full")
        return WRONG
    if not any(toolbox.ledger.runs.latest(1)):
        print(NO_RUN_YET, file=sys.stderr)
        return WRONG
    toolbox.ledger.control.request_full(at=toolbox.clock.now())
    print("the next new sync run sends every indicator that Lumen still lists, known or not")
    return GOOD


def _destination_adopt(toolbox: Toolbox, options: argparse.Namespace) -> int:
    if not toolbox.destination:
        print("ops: set WORKSPACE_ID, and SENTINEL_BASE_URL for another cloud", file=sys.stderr)
        return WRONG
    done = adopt(
        toolbox.ledger, toolbox.sends, destination=toolbox.destination, dry_run=options.dry_run
    )
    if options.json:
        print(json.dumps(asdict(done)))
    elif done.waits:
        print(f"ops: {done.waits}", file=sys.stderr)
    else:
        will = "would go" if options.dry_run else "go"
        left = ", ".join(f"{count} from {name}" for name, count in done.left.items())
        print(
            f"{done.chunks} chunks ({done.indicators} indicators) {will} to {toolbox.destination}"
            + (f": {left}" if left else "")
        )
        if done.changed:
            print(f"{done.changed} more changed at that moment: run the command again")
    return BAD_NEWS if done.waits else GOOD


def _poison_list(toolbox: Toolbox, options: argparse.Namespace) -> int:
    chosen = Selection(reason=options.reason or "", all_kept=True, settled=options.settled)
    rows = [_summary(entry) for entry in find(toolbox.ledger, chosen)]
    print_rows(rows, as_json=options.json, empty="no poison")
    return GOOD


def _poison_show(toolbox: Toolbox, options: argparse.Namespace) -> int:
    entries = find(toolbox.ledger, Selection(names=tuple(options.names)))
    for entry in entries:
        record = toolbox.ledger.poison.get(entry.run_id, entry.poison_id)
        if record is None:
            continue
        shown = _summary(record) | describe_given_up(record, toolbox.ledger)
        print(json.dumps(shown, indent=None if options.json else 2))
    return _missing(options.names, entries)


def _poison_replay(toolbox: Toolbox, options: argparse.Namespace) -> int:
    entries = _chosen(toolbox, options)
    handled = replay(
        entries,
        ledger=toolbox.ledger,
        queue=toolbox.queue,
        slots=toolbox.slots,
        clock=toolbox.clock,
        dry_run=options.dry_run,
        decision=Decision(by=options.by, note=options.note),
    )
    done = _report(_with_progress(handled, len(entries)), options)
    if Result.REPLAYED in done and not options.json:
        print(NEWER_VERSIONS)
    return _missing(options.names, entries) or (BAD_NEWS if done & NOT_DONE else GOOD)


def _poison_discard(toolbox: Toolbox, options: argparse.Namespace) -> int:
    entries = _chosen(toolbox, options)
    if entries and not (options.dry_run or options.yes or _confirmed(entries)):
        print("nothing was discarded")
        return WRONG
    handled = discard(
        entries,
        ledger=toolbox.ledger,
        clock=toolbox.clock,
        dry_run=options.dry_run,
        decision=Decision(by=options.by, note=options.note),
    )
    done = _report(_with_progress(handled, len(entries)), options)
    return _missing(options.names, entries) or (BAD_NEWS if done & NOT_DONE else GOOD)


def _poison_rescue(toolbox: Toolbox, options: argparse.Namespace) -> int:
    depth = toolbox.poison_queue.depth()
    if depth and not options.no_wait:
        print(
            f"ops: {depth} on the poison queue; those that the host has taken are hidden for up to "
            "ten minutes, and are waited for (--no-wait: not)",
            file=sys.stderr,
        )
    done = rescue(
        toolbox.poison_queue,
        upload_queue=toolbox.queue,
        clock=toolbox.clock,
        patience=0.0 if options.no_wait else PATIENCE,
    )
    if options.json:
        print(json.dumps(asdict(done)))
    else:
        hidden = f"; {done.left} are hidden: give the command again" if done.left else ""
        print(f"{done.count} messages brought back to the upload queue{hidden}")
    return BAD_NEWS if done.left else GOOD


def _purge(toolbox: Toolbox, options: argparse.Namespace) -> int:
    done = purge(
        toolbox.ledger,
        older_than=options.older_than,
        now=toolbox.clock.now(),
        dry_run=options.dry_run,
    )
    if options.json:
        print(json.dumps(asdict(done)))
        return GOOD
    shown = "would be removed" if options.dry_run else "removed"
    rows = [{"records": name, shown: count} for name, count in asdict(done).items()]
    print(render_table(rows, empty=""))
    return GOOD


def _chosen(toolbox: Toolbox, options: argparse.Namespace) -> list[PoisonEntry]:
    selection = Selection(
        names=tuple(options.names), reason=options.reason or "", all_kept=options.all
    )
    return find(toolbox.ledger, selection)


def _missing(names: Sequence[str], entries: Sequence[PoisonEntry]) -> int:
    found = {entry.name for entry in entries} | {entry.poison_id for entry in entries}
    absent = [name for name in names if name not in found]
    for name in absent:
        print(f"ops: there is no poison called {name}; see `poison list`", file=sys.stderr)
    return WRONG if absent else GOOD


def _confirmed(entries: Sequence[PoisonEntry]) -> bool:
    if not sys.stdin.isatty():
        print("ops: discarding needs a yes: add --yes", file=sys.stderr)
        return False
    count = sum(entry.count for entry in entries)
    question = f"discard {len(entries)} messages with {count} indicators for good? [y/N] "
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        print()
        return False


def _with_progress(handled: Iterable[Handled], total: int) -> Iterator[Handled]:
    """Pass everything on; on a terminal, show how far it is."""
    is_shown = sys.stderr.isatty() and total > 1
    for number, item in enumerate(handled, start=1):
        if is_shown:
            filled = 30 * number // total
            bar = "#" * filled + "." * (30 - filled)
            end = "\n" if number == total else ""
            print(f"\r[{bar}] {number}/{total}", end=end, file=sys.stderr, flush=True)
        yield item


def _report(handled: Iterable[Handled], options: argparse.Namespace) -> set[Result]:
    """Print what was done with each message; return which results there were."""
    done = list(handled)
    rows = [
        {"poison": item.name, "indicators": item.count, "result": item.result.value}
        for item in done
    ]
    print_rows(rows, as_json=options.json, empty="nothing to do")
    return {item.result for item in done}


def _summary(entry: PoisonEntry) -> dict[str, Any]:
    return {
        "poison": entry.name,
        "state": entry.state.value,
        "indicators": entry.count,
        "attempts": entry.attempts,
        "by": entry.poisoned_by.value,
        "last_at": entry.last_at.isoformat(timespec="seconds"),
        "reason": entry.reason,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops", description=(__doc__ or "").split("\n")[0]
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    status = commands.add_parser(
        "status", parents=[shared], help="is the feed healthy, and why not"
    )
    status.add_argument("--runs", type=_natural, default=5, help="how many runs to look at")
    status.set_defaults(command=_status)

    runs = commands.add_parser("runs", parents=[shared], help="the latest sync runs, reconciled")
    runs.add_argument("--limit", type=_natural, default=20, help="how many")
    runs.set_defaults(command=_runs)

    sync = commands.add_parser("sync", help="what the next run does")
    sync.add_argument("--full", action="store_true", help="send everything once")
    sync.set_defaults(command=_sync)

    signed = argparse.ArgumentParser(add_help=False)
    signed.add_argument("--by", default=_user(), help="who decides (you)")
    signed.add_argument("--note", default="", help="why, for those who read it later")

    add_commands(commands, shared=shared, signed=signed)

    destination = commands.add_parser("destination", help="the workspace that chunks go to")
    moves = destination.add_subparsers(required=True, metavar="ACTION")
    adopting = moves.add_parser(
        "adopt", parents=[shared], help="let chunks for another workspace go to the present one"
    )
    adopting.add_argument("--dry-run", action="store_true", help="only say what would happen")
    adopting.set_defaults(command=_destination_adopt)

    poison = commands.add_parser("poison", help="messages that were given up")
    actions = poison.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[shared], help="what is kept")
    listing.add_argument("--reason", help="only those with this text in the reason")
    listing.add_argument("--settled", action="store_true", help="replayed and discarded ones too")
    listing.set_defaults(command=_poison_list)
    show = actions.add_parser("show", parents=[shared], help="everything about some")
    show.add_argument("names", nargs="+", metavar="NAME")
    show.set_defaults(command=_poison_show)
    rescuing = actions.add_parser(
        "rescue", parents=[shared], help="bring back what is stuck on the poison queue"
    )
    rescuing.add_argument(
        "--no-wait", action="store_true", help="do not wait for messages that are hidden"
    )
    rescuing.set_defaults(command=_poison_rescue)
    for name, command, what in (
        ("replay", _poison_replay, "put them back on the queue"),
        ("discard", _poison_discard, "give them up for good"),
    ):
        note = NEWER_VERSIONS if name == "replay" else None
        action = actions.add_parser(name, parents=[shared, signed], help=what, epilog=note)
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument("names", nargs="*", default=[], metavar="NAME")
        which.add_argument("--reason", help="all with this text in the reason")
        which.add_argument("--all", action="store_true", help="all that are kept")
        action.add_argument("--dry-run", action="store_true", help="only say what would happen")
        if name == "discard":
            action.add_argument("--yes", action="store_true", help="do not ask")
        action.set_defaults(command=command)

    purging = commands.add_parser(
        "purge", parents=[shared], help="remove old runs, rejections and settled poison"
    )
    purging.add_argument(
        "--older-than", type=_age, required=True, metavar="DAYSd", help="such as 90d"
    )
    purging.add_argument("--dry-run", action="store_true", help="only say what would happen")
    purging.set_defaults(command=_purge)
    return parser


def _user() -> str:
    """Return the name of the person at the keyboard, as far as the system knows it."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "operator"


def _age(text: str) -> timedelta:
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, such as 90d")
    return timedelta(days=int(text[:-1]))


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
