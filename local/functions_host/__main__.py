"""The command line: run one function app until SIGTERM.

When the app is listened to, one JSON line on standard output says so; logs go to standard error,
one line per record. SIGTERM drains: no new work, a bounded wait for what runs, exit status 0.
An app that cannot be loaded is one line on standard error and exit status 1. With
`--stop-on-storage-error` the host ends itself where Azure's does, with exit status 1 too.
"""

import argparse
import json
import logging
import os
import secrets
import signal
import sys
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

from local.functions_host.host import Host, HostOptions
from local.functions_host.host_settings import SettingsError, read_local_settings
from local.functions_host.queue_listener import AZURE_LEASE
from local.functions_host.storage_failures import AZURE_PATIENCE
from local.functions_host.worker import IndexingError

log = logging.getLogger("host")

# How long the Functions host waits for its job host when it ends itself: read in an old copy of
# WebJobsScriptHostService.cs, not measured.
AZURE_SHUTDOWN_SECONDS = 10.0

# Loggers that report every invocation or connection; the host has its own lines for those. That of
# azure.core is not among them: what it writes must be fit to be seen, so the tests look at it.
QUIET_LOGGERS = ("azure.functions", "urllib3")


class OneLineFormatter(logging.Formatter):
    """A record with a stack trace stays one line; line breaks show as \\n."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip().replace("\n", "\\n")


def main() -> NoReturn:
    """Run until stopped; never returns."""
    arguments = parse_arguments()
    app_dir = arguments.app.resolve()
    start_logging()
    # Not an Event: its `set` takes the lock that this thread may hold in `wait` as a signal comes.
    # `put` of a SimpleQueue may interrupt anything, `get` included.
    stopping: SimpleQueue[None] = SimpleQueue()

    def stop(*_: object) -> None:
        stopping.put(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        enter_app(app_dir)
        host = Host(app_dir, options_from(arguments), stop=stop)
    except (SettingsError, IndexingError, OSError) as error:
        leave(1, f"functions host: cannot run {app_dir}: {error}")
    host.start()
    names = [function.name for function in host.functions]
    ready = {"ready": True, "port": host.port, "functions": names, "keys": host.function_keys}
    print(json.dumps(ready), flush=True)
    stopping.get()
    log.info("stopping")
    drain = min(arguments.drain, AZURE_SHUTDOWN_SECONDS) if host.failed else arguments.drain
    if not host.drain(timedelta(seconds=drain)):
        log.warning("still running after %s s; their messages come back", drain)
    leave(1 if host.failed else 0)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local.functions_host", description=__doc__)
    parser.add_argument("--app", type=Path, required=True, metavar="DIR")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--host-key", help="opens every function (default: a random one)")
    parser.add_argument("--master-key", help="opens everything (default: a random one)")
    parser.add_argument(
        "--queue-lease", type=float, metavar="SECONDS", default=AZURE_LEASE.total_seconds()
    )
    parser.add_argument("--drain", type=float, metavar="SECONDS", default=30.0)
    parser.add_argument("--no-timers", action="store_true", help="do not fire on schedule")
    parser.add_argument(
        "--timer-status",
        type=Path,
        metavar="DIR",
        help="remember there when timers ran, so that a missed run starts at once",
    )
    parser.add_argument(
        "--stop-on-storage-error",
        action="store_true",
        help="end when storage refuses a call or stays away, as the Functions host does",
    )
    parser.add_argument(
        "--storage-patience",
        type=float,
        metavar="SECONDS",
        default=AZURE_PATIENCE.total_seconds(),
        help="how long it may stay away until then (default: %(default)s)",
    )
    return parser.parse_args()


def options_from(arguments: argparse.Namespace) -> HostOptions:
    """The host's options; a key that was not given is random."""
    patience = timedelta(seconds=arguments.storage_patience)
    status = arguments.timer_status
    return HostOptions(
        host_key=arguments.host_key or secrets.token_urlsafe(32),
        master_key=arguments.master_key or secrets.token_urlsafe(32),
        port=arguments.port,
        timers=not arguments.no_timers,
        timer_status=status and status.resolve(),
        queue_lease=timedelta(seconds=arguments.queue_lease),
        storage_patience=patience if arguments.stop_on_storage_error else None,
    )


def start_logging() -> None:
    """Log everything from INFO to standard error, the app's records included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def enter_app(app_dir: Path) -> None:
    """Be where the worker would be: in the app's folder, with it first on the import path."""
    for name, value in read_local_settings(app_dir).items():
        os.environ.setdefault(name, value)
    os.chdir(app_dir)
    sys.path.insert(0, str(app_dir))


def leave(status: int, message: str = "") -> NoReturn:
    """End now: functions that outlived the drain hold threads that cannot be stopped."""
    if message:
        print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
