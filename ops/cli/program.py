"""The program as a whole: its commands, and the one place where failures become words.

A command returns its exit status. An early end is explained in one message on standard error: a
full disk, a closed pipe or an ASCII terminal never shows a traceback.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError, Parameter

from common.version import VERSION
from ops.cli import access, feed, finding, looking, poison, records, steering
from ops.cli.ending import BAD_NEWS, GOOD, INTERRUPTED, STATUSES, WRONG, Failure
from ops.cli.profiles import PROGRAM
from ops.cli.screen import note, plain

app: Final = App(
    name=PROGRAM,
    help="Show the state of the feed from Lumen to Sentinel, and repair it.",
    help_epilogue=STATUSES,
    version=VERSION,
    help_format="plaintext",
    default_parameter=Parameter(show_default=False),
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
looking.add_to(app)
app.command(finding.find)
steering.add_to(app)
app.command(poison.poison)
app.command(records.rejections)
app.command(records.chunks)
app.command(records.ack)
app.command(feed.purge)
app.command(feed.destination)
for _command in (access.login, access.logout, access.profiles):
    app.command(_command)
app.register_install_completion_command(name="--install-completion")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    _let_any_terminal_print()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return GOOD
    except OSError as error:
        _forget_output()
        what = plain(str(error.filename)) if error.filename else "the output"
        note(f"{PROGRAM}: {what} cannot be written: {error.strerror or error}")
        return BAD_NEWS
    return status


def _run(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    try:
        _must_be_text(given)
        result = app(given)
    except CycloptsError as error:
        note(f"{PROGRAM}: {plain(str(error))}")
        note(f"see `{PROGRAM} --help`")
        return WRONG
    except Failure as failure:
        note(f"{PROGRAM}: {_lines(str(failure))}")
        return failure.status
    except KeyboardInterrupt:
        note(f"{PROGRAM}: interrupted; what was not done yet is as it was")
        return INTERRUPTED
    return result if isinstance(result, int) else GOOD


def _must_be_text(arguments: Sequence[str]) -> None:
    """Raise `Failure` for an argument with bytes that are no text: no transport can send it."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise Failure(f"{argument!r} is not text that UTF-8 can encode") from error


def _lines(text: str) -> str:
    return "\n".join(plain(line) for line in text.splitlines())


def _let_any_terminal_print() -> None:
    """Escape what the terminal's encoding cannot print, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Discard Python's own last flush, which would fail again with a traceback."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
