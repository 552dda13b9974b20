"""The whole pipeline on this machine, with a plain verdict: `make demo`.

Starts the local cloud, fires the timer as Azure would, shows what happens while it happens, and
ends with the reconciliation of the run. The exit status is 0 only when the books balance and the
Sentinel simulator holds exactly the indicators that should be there. The function app that runs
is the deployed one, unchanged.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from local.azurite import Azurite, AzuriteUnavailableError
from local.cloud import LocalCloud
from local.demo_report import Outcome, add_runs, as_json, render_table, render_verdict
from local.feed import Feed, FileFeed, SyntheticFeed, expected_ids
from local.functions_host.process import PROJECT_ROOT, HostFailedError, HostProcess

DIRECTORY = PROJECT_ROOT / ".demo"
THRESHOLD = 65
STALLED_AFTER = 300.0
"""Seconds without any progress after which the demo gives up: five times the longest wait that
a throttled chunk is told."""

LOOK_EVERY = 0.5
FIRE_AT_MOST = 50
"""Timer ticks: a long feed needs one for every `MAX_PAGES` pages."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        feed = (
            FileFeed(options.feed)
            if options.feed
            else SyntheticFeed(options.indicators, options.seed)
        )
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        with (
            Azurite() as azurite,
            LocalCloud(
                feed,
                azurite=azurite,
                directory=DIRECTORY,
                requests_per_minute=options.limit,
                latency=options.latency / 1000,
                seed=options.seed,
            ) as cloud,
        ):
            return _play(cloud, feed, options)
    except (AzuriteUnavailableError, HostFailedError, OSError, ValueError) as error:
        _say(f"demo: {error}")
        return 2
    except KeyboardInterrupt:
        _say("\nstopped")
        return 130


def _play(cloud: LocalCloud, feed: Feed, options: argparse.Namespace) -> int:
    _say(f"local cloud is up; starting {options.hosts} function host(s) ...")
    for _ in range(options.hosts):
        cloud.start_host()
    _say(f"firing the timer: {len(feed):,} objects are waiting at Lumen")
    started = time.monotonic()
    runs = _Watch(cloud).until_settled()
    seconds = time.monotonic() - started
    outcome = _judge(cloud, feed, runs, seconds)
    _say("\n" + render_table(outcome) + "\n\n" + render_verdict(outcome))
    if options.keep:
        _keep(cloud)
    if options.json:
        _say(json.dumps(as_json(outcome)))
    return 0 if outcome.good else 1


class _Watch:
    """Fires the timer and looks at the pipeline until nothing is left to happen."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._host: HostProcess = cloud.hosts[0]
        self._fired = 0
        self._shown = ""
        self._moved = time.monotonic()

    def until_settled(self) -> list[dict[str, Any]]:
        """Return the runs of the last status report, oldest first."""
        self._fire()
        while True:
            time.sleep(LOOK_EVERY)
            report = self._host.get(f"/api/status?runs={FIRE_AT_MOST}").json()
            runs = list(reversed(report["runs"]))
            self._show(runs, report["queue_depth"])
            if time.monotonic() - self._moved > STALLED_AFTER:
                _say(f"nothing has moved for {STALLED_AFTER:.0f} s: giving up")
                return runs
            if not runs or runs[-1]["state"] == "running":
                continue
            if runs[-1]["state"] == "interrupted" and self._fired < FIRE_AT_MOST:
                self._fire()
            elif runs[-1]["state"] != "complete" or not any(run["pending"] for run in runs):
                return runs

    def _fire(self) -> None:
        self._host.invoke_admin("lumen_sync")
        self._fired += 1

    def _show(self, runs: list[dict[str, Any]], depth: int) -> None:
        """Print one line whenever something has moved."""
        fates = add_runs(runs)
        line = (
            f"  pages {sum(run['pages'] for run in runs):>5,}   "
            f"enqueued {fates['enqueued']:>9,}   accepted {fates['accepted']:>9,}   "
            f"queue depth {depth:>6,}   throttled {self._cloud.sentinel.throttled:>4,}"
        )
        if line != self._shown:
            self._shown, self._moved = line, time.monotonic()
            _say(line)


def _judge(cloud: LocalCloud, feed: Feed, runs: list[dict[str, Any]], seconds: float) -> Outcome:
    expected = expected_ids(feed, threshold=THRESHOLD)
    return Outcome(
        fates=add_runs(runs),
        balanced=all(run["balanced"] for run in runs),
        states=tuple(run["state"] for run in runs),
        reasons=tuple(run["reason"] for run in runs),
        expected=len(expected),
        missing=len(cloud.sentinel.missing(expected)),
        unexpected=len(set(cloud.sentinel.accepted) - expected),
        requests=cloud.sentinel.count(method="POST"),
        throttled=cloud.sentinel.throttled,
        seconds=seconds,
    )


def _keep(cloud: LocalCloud) -> None:
    host = cloud.hosts[0]
    _say(
        f"\nleft running until you press Ctrl-C:\n"
        f"  function host  {host.url}/api/status?code={host.host_key}\n"
        f"  Lumen          {cloud.lumen.url}\n"
        f"  Sentinel       {cloud.sentinel.url}\n"
        f"  Entra          {cloud.entra.url}\n"
        f"  storage        {cloud.connection_string}\n"
        f"  logs           {', '.join(str(_relative(path)) for path in cloud.log_paths)}"
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        _say("")


def _relative(path: Path) -> Path:
    return path.relative_to(PROJECT_ROOT) if path.is_relative_to(PROJECT_ROOT) else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='make demo ARGS="…"', description="Run the whole pipeline on this machine."
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--indicators",
        type=_natural,
        default=20_000,
        metavar="N",
        help="size of the synthetic feed (default 20,000)",
    )
    source.add_argument(
        "--feed", type=Path, metavar="FILE", help="STIX 2.1 JSON lines instead, plain or .gz"
    )
    parser.add_argument(
        "--hosts", type=_natural, default=1, metavar="N", help="function hosts (default 1)"
    )
    parser.add_argument(
        "--limit",
        type=_natural,
        metavar="REQUESTS_PER_MINUTE",
        help="Sentinel's limit (the real one is 100; default none)",
    )
    parser.add_argument(
        "--latency",
        type=float,
        default=0,
        metavar="MS",
        help="Sentinel's time to answer (default 0)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the synthetic feed and the latencies"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running and print the addresses"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
