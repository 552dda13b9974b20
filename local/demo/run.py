"""One demo from its options to its exit status: start, fire, watch, judge, perhaps keep running.

What can be decided without a running cloud is elsewhere: the options, the faults, the words of the
report. What is done to the running one is in `watch`.
"""

import argparse
import json
import shlex
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from local.cloud import LocalCloud
from local.demo.desk import Desk, NotAskedError, ask_for_repair
from local.demo.faults import PLAYS, Play
from local.demo.options import parse_options
from local.demo.picture import render_page
from local.demo.report import (
    Outcome,
    Verdict,
    add_runs,
    as_json,
    render_table,
    render_verdict,
)
from local.demo.rows import render_plots
from local.demo.screen import Screen
from local.demo.stopping import STOPPED, at_once
from local.demo.watch import FIRE_EVERY, Sight, Watch, World, all_expected
from local.demo.words import count
from local.functions_host.process import PROJECT_ROOT, HostFailedError
from local.run_directory import fresh_directory
from local.services.azurite import Azurite, AzuriteUnavailableError
from local.services.feed import Feed, FileFeed, SyntheticFeed, parts_of
from local.services.living_feed import LivingFeed

PAGE_SIZE = 1000
THRESHOLD = 65


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status: 0 after a PASS, 2 where it could not run."""
    options = parse_options(arguments)
    try:
        if options.repair is not None:
            return _repair(options.repair)
        with Screen() as screen:
            return _Demo(options, screen).run()
    except BrokenPipeError:
        raise
    except (AzuriteUnavailableError, HostFailedError, NotAskedError, OSError, ValueError) as error:
        print(f"demo: {error}", flush=True)
        return 2


def _repair(process: int) -> int:
    """Ask a demo that is kept elsewhere to end the cause of its fault."""
    fault = ask_for_repair(process)
    repair = PLAYS[fault].repair
    print(f"done: {repair.outside}")
    if repair.act is not None:
        print(f"then, on the page, {repair.act.page!r}; or lumen-sentinel {repair.act.command}")
    return 0


class _Demo:
    """One run of the demo."""

    def __init__(self, options: argparse.Namespace, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._play = PLAYS[options.fault] if options.fault else None
        self._lasts = options.keep and self._play is not None
        self._status = 1

    def run(self) -> int:
        """Run it; return the exit status. Raises what the parts raise."""
        options, play = self._options, self._play
        feed = _feed(options)
        expected = _expected(feed)
        if options.report is not None:
            _check_report(options.report)
        directory = fresh_directory()
        parts: list[Feed] = [feed]
        if play and play.later and not self._lasts:
            parts = list(parts_of(feed, play.later))
        self._screen.begin("starting storage and services")
        with ExitStack() as stack:
            azurite = stack.enter_context(Azurite())
            cloud = stack.enter_context(
                LocalCloud(
                    parts[0],
                    azurite=azurite,
                    directory=directory,
                    page_size=play.page_size(len(feed), at_most=PAGE_SIZE) if play else PAGE_SIZE,
                    requests_per_minute=options.limit,
                    latency=options.latency / 1000,
                    seed=options.seed,
                    shows=True,
                    proxied=options.keep or (play is not None and play.holds),
                    settings=play.settings if play else None,
                )
            )
            at_once(cloud.kill_hosts)
            world = World(
                cloud=cloud,
                screen=self._screen,
                living=LivingFeed(feed, threshold=THRESHOLD, seed=options.seed),
                expected=expected,
                threshold=THRESHOLD,
                play=play,
                later=parts[1:],
            )
            self._start_hosts(cloud)
            self._play_out(world, parts[0], Desk(directory))
        return self._status

    def _start_hosts(self, cloud: LocalCloud) -> None:
        play = self._play
        hosts = max(self._options.hosts, play.hosts if play else 1)
        self._screen.say(f"local cloud is up; starting {count(hosts, 'function host')} ...")
        self._screen.begin("starting function hosts")
        for _ in range(hosts):
            cloud.start_host(queue_lease=play.queue_lease if play else None)

    def _play_out(self, world: World, first: Feed, desk: Desk) -> None:
        """Play the fault, if any, fire, watch and judge; with `--keep` go on after that."""
        play, screen, cloud = self._play, self._screen, world.cloud
        heal = None
        if play is not None:
            screen.say(f"fault: {play.story}")
            early = all_expected([first], threshold=THRESHOLD)
            heal = (play.lasting if self._lasts else play.arm)(cloud, early)
            if not self._lasts:
                world.expected -= play.refuses(early)
        waiting = count(len(first), "object")
        verb = "is" if len(first) == 1 else "are"
        screen.say(f"firing the timer: {waiting} {verb} waiting at Lumen")
        screen.restart_clock()
        screen.begin("waiting for the first indicators")
        watch = Watch(world, heal=heal, desk=desk if self._lasts else None)
        if self._lasts and play is not None:
            self._say_addresses(cloud)
            self._say_how(play, desk)
            self._status = STOPPED
            watch.fire()
            with suppress(KeyboardInterrupt):
                watch.live(has_healed=lambda sight: self._judge(world, watch, sight.runs))
            return
        self._judge(world, watch, watch.until_settled())
        if self._options.keep:
            self._say_addresses(cloud)
            with suppress(KeyboardInterrupt):
                watch.live(has_healed=_nothing_to_heal)

    def _judge(self, world: World, watch: Watch, runs: list[dict[str, Any]]) -> None:
        """Print the end, and write the report that was asked for."""
        play, screen = self._play, self._screen
        runs = watch.until_arrived(runs)
        outcome = _outcome(
            world.cloud,
            world.expected,
            runs,
            seconds=screen.elapsed,
            unmet=play.unmet if play and not play.was_met(watch.seen(runs)) else "",
        )
        screen.say("\n" + render_plots(screen.rows, plain=screen.plain))
        screen.say("\n" + render_table(outcome) + "\n\n" + render_verdict(outcome))
        passed = outcome.verdict is Verdict.PASS
        if play is not None and passed:
            screen.say(f"what you saw: {play.lesson}")
        self._write_report(outcome)
        if self._options.json:
            screen.say(json.dumps(as_json(outcome)))
        self._status = 0 if passed else 1

    def _write_report(self, outcome: Outcome) -> None:
        path, play = self._options.report, self._play
        if path is None:
            return
        page = render_page(
            title="Lumen to Sentinel: a run on this machine",
            rows=self._screen.rows,
            outcome=outcome,
            story=f"{play.story} {play.lesson}" if play else "",
        )
        path.write_text(page, encoding="utf-8")
        self._screen.say(f"report: {path}")

    def _say_addresses(self, cloud: LocalCloud) -> None:
        host = next((host for host in cloud.hosts if host.alive), cloud.hosts[-1])
        self._screen.say(
            f"\nthe cloud goes on living until you press Ctrl-C: the timer fires every "
            f"{FIRE_EVERY:.0f} s, and Lumen lists a few changes each time\n"
            f"  page           {host.url}/api/dashboard\n"
            f"  key that acts  {host.host_key}\n"
            f"  key that reads {host.function_keys['read']}\n"
            f"  Lumen          {cloud.lumen.url}\n"
            f"  Sentinel       {cloud.sentinel.url}\n"
            f"  Entra          {cloud.entra.url}\n"
            f"  Log Analytics  {cloud.workspace.url}\n"
            f"  logs           {', '.join(str(_relative(path)) for path in cloud.log_paths)}\n"
            f"in another shell, `.venv/bin/python -m ops` reaches it as from a laptop:\n"
            f"  export LUMEN_SENTINEL_URL={host.url} LUMEN_SENTINEL_KEY={host.host_key}\n"
            f"or next to its storage:\n"
            f"  export PipelineStorage={shlex.quote(cloud.connection_string)}"
        )

    def _say_how(self, play: Play, desk: Desk) -> None:
        """Say what the status will name, and what repairs it."""
        repair, steps = play.repair, []
        if repair.outside and not play.passes:
            desk.open(play.name)
            steps.append(
                f"{repair.outside}. Here: .venv/bin/python -m local.demo --repair {desk.name}"
            )
        if repair.act is not None:
            steps.append(
                f"on the page: {repair.act.page}; or .venv/bin/python -m ops {repair.act.command}"
            )
        listed = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, start=1))
        self._screen.say(
            f"\nthe fault lasts until you repair it\n  what you will see: {repair.finding}\n"
            f"{listed}\n"
        )


def _nothing_to_heal(_sight: Sight) -> None:
    """Without a fault nothing is judged again."""


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
    expected = all_expected([feed], threshold=THRESHOLD)
    if not expected:
        objects = count(len(feed), "object")
        raise ValueError(
            f"of {objects} none should arrive at Sentinel, so there is nothing to "
            f"judge: give it indicators with a confidence of {THRESHOLD} or more"
        )
    return expected


def _check_report(path: Path) -> None:
    """Raise ValueError before anything is started where no report could be written."""
    try:
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ValueError(f"--report {path}: cannot be written ({error.strerror})") from error


def _outcome(
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
        sampled=sum(run["sampled"] or 0 for run in runs),
        arrived=sum(run["arrived"] or 0 for run in runs),
        unmet=unmet,
    )


def _relative(path: Path) -> Path:
    return path.relative_to(PROJECT_ROOT) if path.is_relative_to(PROJECT_ROOT) else path
