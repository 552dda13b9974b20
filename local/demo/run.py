"""One demo from its options to its exit status: start, fire, watch, judge, perhaps keep running.

What can be decided without a running cloud is elsewhere: the options, the faults, the words of the
report.
"""

import argparse
import json
import shlex
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from local.cloud import LocalCloud
from local.demo.faults import HEAL_AFTER, PLAYS, Heal, Play, Seen
from local.demo.options import parse_options
from local.demo.report import (
    Outcome,
    Verdict,
    add_runs,
    as_json,
    render_table,
    render_verdict,
)
from local.functions_host.process import PROJECT_ROOT, HostFailedError, HostProcess
from local.run_directory import fresh_directory
from local.services.azurite import Azurite, AzuriteUnavailableError
from local.services.feed import Feed, FileFeed, SyntheticFeed, expected_ids, parts_of

PAGE_SIZE = 1000
THRESHOLD = 65
STALLED_AFTER = 300.0
"""Seconds without any progress after which the demo gives up: five times the longest wait that
a throttled chunk is told."""

LOOK_EVERY = 0.5
TICK_AFTER = 2.0
"""Seconds without movement after which the timer is fired again, in place of 15 minutes."""
FIRE_AT_MOST = 50
"""Timer ticks: a long feed needs one for every `MAX_PAGES` pages."""

_DIED = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
"""What the answer of an instance is that is killed before it, or in the middle of it."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status: 0 after a PASS, 2 where it could not run."""
    options = parse_options(arguments)
    try:
        feed = _feed(options)
        expected = _expected(feed)
        play = PLAYS[options.fault] if options.fault else None
        directory = fresh_directory()
        parts = parts_of(feed, play.later) if play and play.later else [feed]
        with (
            Azurite() as azurite,
            LocalCloud(
                parts[0],
                azurite=azurite,
                directory=directory,
                page_size=play.page_size(len(feed), at_most=PAGE_SIZE) if play else PAGE_SIZE,
                requests_per_minute=options.limit,
                latency=options.latency / 1000,
                seed=options.seed,
                proxied=play is not None and play.holds,
                settings=play.settings if play else None,
            ) as cloud,
        ):
            return _run(cloud, parts, expected, play, options)
    except (AzuriteUnavailableError, HostFailedError, OSError, ValueError) as error:
        _say(f"demo: {error}")
        return 2


def _feed(options: argparse.Namespace) -> Feed:
    """Return what waits at Lumen. Raises OSError and ValueError, naming the file."""
    if options.feed is None:
        return SyntheticFeed(options.indicators, options.seed)
    try:
        feed = FileFeed(options.feed)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"--feed {options.feed}: is cut off or damaged ({error})") from error
    if not len(feed):
        raise ValueError(f"--feed {options.feed}: holds no objects; give it one a line")
    return feed


def _expected(feed: Feed) -> set[str]:
    """Return the ids that must arrive. Raises ValueError where there are none: nothing to judge."""
    expected = expected_ids(feed, threshold=THRESHOLD)
    if not expected:
        raise ValueError(
            f"of {len(feed):,} objects none should arrive at Sentinel, so there is nothing to "
            f"judge: give it indicators with a confidence of {THRESHOLD} or more"
        )
    return expected


def _run(
    cloud: LocalCloud,
    parts: Sequence[Feed],
    expected: set[str],
    play: Play | None,
    options: argparse.Namespace,
) -> int:
    hosts = max(options.hosts, play.hosts if play else 1)
    _say(f"local cloud is up; starting {hosts} function host(s) ...")
    for _ in range(hosts):
        cloud.start_host(queue_lease=play.queue_lease if play else None)
    heal = None
    if play is not None:
        _say(f"fault: {play.story}")
        early = expected if len(parts) == 1 else expected_ids(parts[0], threshold=THRESHOLD)
        heal = play.arm(cloud, early)
        expected -= play.refuses(early)
    _say(f"firing the timer: {len(parts[0]):,} objects are waiting at Lumen")
    started = time.monotonic()
    watch = _Watch(cloud, heal, parts[1:])
    runs = watch.until_settled()
    outcome = _judge(
        cloud,
        expected,
        runs,
        seconds=time.monotonic() - started,
        unmet=play.unmet if play and not play.was_met(watch.seen(runs)) else "",
    )
    _say("\n" + render_table(outcome) + "\n\n" + render_verdict(outcome))
    if play is not None and outcome.verdict is Verdict.PASS:
        _say(f"what you saw: {play.lesson}")
    if options.keep:
        _keep(cloud)
    if options.json:
        _say(json.dumps(as_json(outcome)))
    return 0 if outcome.verdict is Verdict.PASS else 1


class _Watch:
    """Fires the timer and looks at the pipeline until nothing is left to happen."""

    def __init__(self, cloud: LocalCloud, heal: Heal | None, later: Sequence[Feed]) -> None:
        """`later` are parts of the feed, for a query each once the one before has come to rest."""
        self._cloud = cloud
        self._heal = heal
        self._later = list(later)
        self._accepted = 0
        self._accepted_at = time.monotonic()
        self._fired = 0
        self._shown = ""
        self._problems: list[str] = []
        self._kinds: set[str] = set()
        self._met_at: float | None = None
        self._moved = self._fired_at = time.monotonic()

    def until_settled(self) -> list[dict[str, Any]]:
        """Return the runs of the last status report, oldest first."""
        self._fire()
        while True:
            time.sleep(LOOK_EVERY)
            self._heal_in_time()
            try:
                report = self._host.get(f"/api/read/status?runs={FIRE_AT_MOST}").json()
            except _DIED:
                _say("  an instance died")
                continue
            runs = list(reversed(report["runs"]))
            self._show(runs, report)
            self._bring_forward(report)
            if time.monotonic() - self._moved > STALLED_AFTER:
                _say(f"nothing has moved for {STALLED_AFTER:.0f} s: giving up")
                return runs
            state = runs[-1]["state"] if runs else "running"
            if state in {"running", "interrupted"}:
                if time.monotonic() - max(self._fired_at, self._moved) > TICK_AFTER:
                    self._fire()
            elif state == "complete" and self._later:
                if time.monotonic() - self._accepted_at > TICK_AFTER:
                    self._list_more()
            elif state != "complete" or not any(run["pending"] for run in runs):
                return runs

    def seen(self, runs: list[dict[str, Any]]) -> Seen:
        """What has shown itself of a fault, up to these runs."""
        return Seen(
            throttled=self._cloud.sentinel.throttled,
            rejected=add_runs(runs)["rejected"],
            problems=frozenset(self._kinds),
            deaths=sum(not host.alive for host in self._cloud.hosts),
            resumed=sum(run["resumed"] for run in runs),
        )

    @property
    def _host(self) -> HostProcess:
        return next(host for host in self._cloud.hosts if host.alive)

    def _fire(self) -> None:
        if self._fired < FIRE_AT_MOST:
            self._fired += 1
            self._fired_at = time.monotonic()
            with suppress(*_DIED):  # the next one is fired where another instance lives
                self._host.invoke_admin("lumen_sync")

    def _list_more(self) -> None:
        """Let the next query list the next part of the feed."""
        part = self._later.pop(0)
        self._cloud.lumen.replace_feed(part)
        _say(f"firing the timer: {len(part):,} more objects are waiting at Lumen")
        self._accepted_at = time.monotonic()
        self._fire()

    def _heal_in_time(self) -> None:
        if self._heal is None or self._met_at is None:
            return
        if time.monotonic() - self._met_at > HEAL_AFTER:
            self._heal()
            self._heal = None
            _say("  the fault is healed")

    def _bring_forward(self, report: dict[str, Any]) -> None:
        """Bring messages forward that wait out of sight, once nothing else is on the queue.

        They wait on Azure until no request with an older copy can be under way; here none is.
        """
        held = self._cloud.held
        if held is not None and 0 < report["queue_depth"] == len(held.waiting):
            seconds = max(message.delay for message in held.waiting)
            _say(
                f"  {held.bring_forward()} message(s) of pages that were read again wait "
                f"{seconds:.0f} s: the demo brings them forward"
            )

    def _show(self, runs: list[dict[str, Any]], report: dict[str, Any]) -> None:
        """Print one line whenever something has moved, and one for each new problem."""
        fates = add_runs(runs)
        line = (
            f"  pages {sum(run['pages'] for run in runs):>5,}   "
            f"enqueued {fates['enqueued']:>9,}   accepted {fates['accepted']:>9,}   "
            f"queue depth {report['queue_depth']:>6,}   "
            f"throttled {self._cloud.sentinel.throttled:>4,}"
        )
        if fates["accepted"] != self._accepted:
            self._accepted, self._accepted_at = fates["accepted"], time.monotonic()
        problems = [problem["what"] for problem in report["problems"]]
        if line != self._shown or problems != self._problems:
            _say(line)
            self._shown, self._moved = line, time.monotonic()
        for problem in problems:
            if problem not in self._problems:
                _say(f"  problem: {problem}")
        self._problems = problems
        self._kinds.update(problem["kind"] for problem in report["problems"])
        if problems and self._met_at is None:
            self._met_at = time.monotonic()


def _judge(
    cloud: LocalCloud,
    expected: set[str],
    runs: list[dict[str, Any]],
    *,
    seconds: float,
    unmet: str,
) -> Outcome:
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
        unmet=unmet,
    )


def _keep(cloud: LocalCloud) -> None:
    host = next((host for host in cloud.hosts if host.alive), cloud.hosts[0])
    _say(
        f"\nleft running until you press Ctrl-C:\n"
        f"  function host  {host.url}/api/read/status?code={host.host_key}\n"
        f"  Lumen          {cloud.lumen.url}\n"
        f"  Sentinel       {cloud.sentinel.url}\n"
        f"  Entra          {cloud.entra.url}\n"
        f"  logs           {', '.join(str(_relative(path)) for path in cloud.log_paths)}\n"
        f"its storage, for `python -m ops` in another shell:\n"
        f"  export PipelineStorage={shlex.quote(cloud.connection_string)}"
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        _say("")


def _relative(path: Path) -> Path:
    return path.relative_to(PROJECT_ROOT) if path.is_relative_to(PROJECT_ROOT) else path


def _say(text: str) -> None:
    print(text, flush=True)
