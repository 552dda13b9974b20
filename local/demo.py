"""The whole pipeline on this machine, with a plain verdict: `make demo`.

Starts the local cloud, fires the timer as Azure would, shows what happens while it happens, and
ends with the reconciliation of the run. The exit status is 0 only when the books balance and the
Sentinel simulator holds exactly the indicators that should be there. The function app that runs
is the deployed one, unchanged.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from local.azurite import Azurite, AzuriteUnavailableError
from local.cloud import LocalCloud
from local.demo_faults import HEAL_AFTER, PLAYS, Heal, Play
from local.demo_report import Outcome, add_runs, as_json, render_table, render_verdict
from local.feed import Feed, FileFeed, SyntheticFeed, expected_ids
from local.functions_host.process import PROJECT_ROOT, HostFailedError, HostProcess
from local.run_directory import fresh_directory

THRESHOLD = 65
STALLED_AFTER = 300.0
"""Seconds without any progress after which the demo gives up: five times the longest wait that
a throttled chunk is told."""

LOOK_EVERY = 0.5
TICK_AFTER = 2.0
"""Seconds without movement after which the timer is fired again, in place of 15 minutes."""
FIRE_AT_MOST = 50
"""Timer ticks: a long feed needs one for every `MAX_PAGES` pages."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended too
    try:
        feed = (
            FileFeed(options.feed)
            if options.feed
            else SyntheticFeed(options.indicators, options.seed)
        )
        play = PLAYS[options.fault] if options.fault else None
        directory = fresh_directory()
        with (
            Azurite() as azurite,
            LocalCloud(
                feed,
                azurite=azurite,
                directory=directory,
                requests_per_minute=options.limit,
                latency=options.latency / 1000,
                seed=options.seed,
                settings=play.settings if play else None,
            ) as cloud,
        ):
            return _run(cloud, feed, play, options)
    except (AzuriteUnavailableError, HostFailedError, OSError, ValueError) as error:
        _say(f"demo: {error}")
        return 2
    except KeyboardInterrupt:
        _say("\nstopped")
        return 130


def _run(cloud: LocalCloud, feed: Feed, play: Play | None, options: argparse.Namespace) -> int:
    hosts = max(options.hosts, play.hosts if play else 1)
    _say(f"local cloud is up; starting {hosts} function host(s) ...")
    for _ in range(hosts):
        cloud.start_host(queue_lease=play.queue_lease if play else None)
    heal = None
    if play is not None:
        _say(f"fault: {play.story}")
        heal = play.arm(cloud)
    _say(f"firing the timer: {len(feed):,} objects are waiting at Lumen")
    started = time.monotonic()
    runs = _Watch(cloud, heal).until_settled()
    seconds = time.monotonic() - started
    outcome = _judge(cloud, feed, play, runs, seconds)
    _say("\n" + render_table(outcome) + "\n\n" + render_verdict(outcome))
    if play is not None and outcome.good:
        _say(f"what you saw: {play.lesson}")
    if options.keep:
        _keep(cloud)
    if options.json:
        _say(json.dumps(as_json(outcome)))
    return 0 if outcome.good else 1


class _Watch:
    """Fires the timer and looks at the pipeline until nothing is left to happen."""

    def __init__(self, cloud: LocalCloud, heal: Heal | None) -> None:
        self._cloud = cloud
        self._heal = heal
        self._fired = 0
        self._shown = ""
        self._problems: list[str] = []
        self._started = self._moved = self._fired_at = time.monotonic()

    def until_settled(self) -> list[dict[str, Any]]:
        """Return the runs of the last status report, oldest first."""
        self._fire()
        while True:
            time.sleep(LOOK_EVERY)
            self._heal_in_time()
            try:
                report = self._host.get(f"/api/status?runs={FIRE_AT_MOST}").json()
            except requests.ConnectionError:
                _say("  an instance died")
                continue
            runs = list(reversed(report["runs"]))
            self._show(runs, report)
            if time.monotonic() - self._moved > STALLED_AFTER:
                _say(f"nothing has moved for {STALLED_AFTER:.0f} s: giving up")
                return runs
            state = runs[-1]["state"] if runs else "running"
            if state in {"running", "interrupted"}:
                if time.monotonic() - max(self._fired_at, self._moved) > TICK_AFTER:
                    self._fire()
            elif state != "complete" or not any(run["pending"] for run in runs):
                return runs

    @property
    def _host(self) -> HostProcess:
        return next(host for host in self._cloud.hosts if host.alive)

    def _fire(self) -> None:
        if self._fired < FIRE_AT_MOST:
            self._host.invoke_admin("lumen_sync")
            self._fired += 1
            self._fired_at = time.monotonic()

    def _heal_in_time(self) -> None:
        if self._heal is not None and time.monotonic() - self._started > HEAL_AFTER:
            self._heal()
            self._heal = None
            _say("  the fault is healed")

    def _show(self, runs: list[dict[str, Any]], report: dict[str, Any]) -> None:
        """Print one line whenever something has moved, and one for each new problem."""
        fates = add_runs(runs)
        line = (
            f"  pages {sum(run['pages'] for run in runs):>5,}   "
            f"enqueued {fates['enqueued']:>9,}   accepted {fates['accepted']:>9,}   "
            f"queue depth {report['queue_depth']:>6,}   "
            f"throttled {self._cloud.sentinel.throttled:>4,}"
        )
        problems = [problem["what"] for problem in report["problems"]]
        if line != self._shown or problems != self._problems:
            _say(line)
            self._shown, self._moved = line, time.monotonic()
        for problem in problems:
            if problem not in self._problems:
                _say(f"  problem: {problem}")
        self._problems = problems


def _judge(
    cloud: LocalCloud,
    feed: Feed,
    play: Play | None,
    runs: list[dict[str, Any]],
    seconds: float,
) -> Outcome:
    wanted = expected_ids(feed, threshold=THRESHOLD)
    expected = {name for name in wanted if play is None or not play.refuses(name)}
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
    parser.add_argument("--fault", choices=sorted(PLAYS), help="play a fault and explain it")
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
