"""One chaos run: play the plan of a seed, wait until all is settled, and judge.

The verdict is that of Sentinel, which remembers what it has accepted, and of the app's own status,
which has to balance. What was given up is replayed, as an operator would.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import requests

from local.chaos.plan import Happening, draw_plan
from local.chaos.stage import STORAGE_PATIENCE, Lift, Stage
from local.chaos.verdict import Verdict
from local.cloud import LocalCloud
from local.demo.report import add_runs
from local.functions_host.process import PROJECT_ROOT, HostProcess
from local.functions_host.storage_failures import AZURE_PATIENCE
from local.services.azurite import DEVELOPMENT_ACCOUNT, Azurite
from local.services.feed import SyntheticFeed, expected_ids
from local.services.sentinel_api import digest
from local.services.tls import LocalCertificates

THRESHOLD = 65
PAGES = 10
"""Pages of the feed: enough for a kill in the middle of a run."""

SETTINGS = {"RUN_LEASE": "5", "MAX_PAGES": "6", "CHUNK_SIZE": "25"}
"""A dead instance is noticed soon, no run is done in one tick, and many chunks are on their way."""

SHOWN_RUNS = 50
"""Runs that the app's status lists: the timer does not fire often enough for more."""

LEAST_BETWEEN_TICKS = 1.0
LOOK_EVERY = 0.5
TICK_AFTER = 2.0
SETTLE_WITHIN = 300.0
"""Seconds of calm after which what is still on its way counts as stuck."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a chaos run is asked for."""

    seed: int
    seconds: float
    indicators: int = 20_000
    hosts: int = 3
    outages: int = 0


def run_chaos(
    options: Options,
    *,
    azurite: Azurite,
    directory: Path,
    say: Say,
    account: str = DEVELOPMENT_ACCOUNT,
    certificates: LocalCertificates | None = None,
    watch: Callable[[LocalCloud], None] = lambda _: None,
) -> Verdict:
    """Play the plan of `options.seed`, wait until all is settled, and judge.

    `watch` is given the cloud before anything starts.
    """
    feed = SyntheticFeed(options.indicators, seed=options.seed)
    with LocalCloud(
        feed,
        azurite=azurite,
        account=account,
        certificates=certificates,
        directory=directory,
        page_size=max(1, options.indicators // PAGES),
        seed=options.seed,
        proxied=True,
        settings=SETTINGS,
    ) as cloud:
        watch(cloud)
        plan = draw_plan(
            options.seed, seconds=options.seconds, hosts=options.hosts, outages=options.outages
        )
        patience = AZURE_PATIENCE.total_seconds() if options.outages else STORAGE_PATIENCE
        say(f"seed {options.seed}: {len(plan)} happenings in {options.seconds:.0f} s")
        with Stage(cloud, feed, hosts=options.hosts, storage_patience=patience) as stage:
            _play(plan, stage, seconds=options.seconds, say=say)
            say(f"{options.seconds:6.1f} s  calm: faults are lifted, instances run")
            started = time.monotonic()
            runs, settled, replayed = _settle(cloud, stage, say)
            return _judge(
                options,
                cloud,
                stage,
                runs,
                happenings=len(plan),
                settled=settled,
                replayed=replayed,
                calm_seconds=round(time.monotonic() - started, 1),
            )


def _play(plan: Sequence[Happening], stage: Stage, *, seconds: float, say: Say) -> None:
    """Let the plan happen in its time, firing timers and starting instances in between."""
    started = time.monotonic()
    between = max(LEAST_BETWEEN_TICKS, seconds / (SHOWN_RUNS // 2))
    waiting = list(plan)
    lifts: list[tuple[float, Lift]] = []
    next_tick, ticks = 0.0, 0
    while (now := time.monotonic() - started) < seconds:
        while waiting and waiting[0].at <= now:
            happening = waiting.pop(0)
            lasts = f" ({happening.lasts:.1f} s)" if happening.lasts else ""
            say(f"{now:6.1f} s  {happening.what}{lasts}")
            lift = stage.perform(happening)
            if lift is not None:
                lifts.append((now + happening.lasts, lift))
        for over, lift in [entry for entry in lifts if entry[0] <= now]:
            lift()
            lifts.remove((over, lift))
        if now >= next_tick and stage.alive:
            stage.fire(stage.alive[ticks % len(stage.alive)])
            ticks += 1
            next_tick = now + between
        stage.revive()
        time.sleep(0.05)
    for _, lift in lifts:
        lift()


def _settle(cloud: LocalCloud, stage: Stage, say: Say) -> tuple[list[dict[str, Any]], bool, int]:
    """Wait until a run has found nothing left to send and nothing is on its way.

    What was given up is replayed. Returns the runs of the last status, oldest first, whether all
    is settled, and how many messages were replayed.
    """
    stage.calm()
    deadline = time.monotonic() + SETTLE_WITHIN
    runs: list[dict[str, Any]] = []
    fired_at = float("-inf")
    last_look: Any = None
    shown = ""
    replayed = 0
    while time.monotonic() < deadline:
        stage.revive()
        host = next(iter(stage.alive), None)
        report = _ask(host)
        if host is None or report is None:
            time.sleep(LOOK_EVERY)
            continue
        runs = report["runs"][::-1]
        pending = sum(run["pending"] for run in runs)
        line = f"          pending {pending:,}, queue depth {report['queue_depth']:,}"
        if line != shown:
            shown = line
            say(line)
        newest = runs[-1] if runs else {"run": None, "state": None, "enqueued": 0}
        ended = newest["state"] == "complete"
        quiet = ended and not pending and not report["queue_depth"]
        if cloud.held is not None and 0 < report["queue_depth"] == len(cloud.held.waiting):
            # Nothing else is on the queue, so no request with an older version is under way.
            say(f"          {cloud.held.bring_forward()} messages are brought forward")
            continue
        if quiet and report["poison_kept"]:
            replayed += _replay_all(cloud, say)
            continue
        if quiet and last_look not in {None, newest["run"]} and not newest["enqueued"]:
            return runs, True, replayed
        if quiet or (not ended and time.monotonic() - fired_at > TICK_AFTER):
            last_look = newest["run"] if quiet else last_look
            stage.fire(host)
            fired_at = time.monotonic()
        time.sleep(LOOK_EVERY)
    return runs, False, replayed


def _replay_all(cloud: LocalCloud, say: Say) -> int:
    """Replay all poison from the command line, as an operator would; return how many messages."""
    command = [sys.executable, "-m", "ops", "poison", "replay", "--all", "--json"]
    environment = {**os.environ, **cloud.app_settings()}
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    handled = json.loads(done.stdout)
    say(f"          replayed {len(handled)} messages that were given up")
    return len(handled)


def _ask(host: HostProcess | None) -> Any:
    """Return an instance's status; None where it ends just now, which an outage began."""
    if host is None:
        return None
    try:
        answer = host.get(f"/api/read/status?runs={SHOWN_RUNS}")
    except requests.ConnectionError:
        return None
    answer.raise_for_status()
    return answer.json()


def _judge(
    options: Options,
    cloud: LocalCloud,
    stage: Stage,
    runs: list[dict[str, Any]],
    *,
    happenings: int,
    settled: bool,
    replayed: int,
    calm_seconds: float,
) -> Verdict:
    fates = add_runs(runs)
    last = stage.feeds[-1]
    expected = expected_ids(last, threshold=THRESHOLD)
    # What was sent once is kept true, also where its last version would not pass the filters.
    allowed = set().union(*(expected_ids(feed, threshold=THRESHOLD) for feed in stage.feeds))
    sentinel = cloud.sentinel
    missing = sentinel.missing(expected)
    return Verdict(
        seed=options.seed,
        expected=len(expected),
        lost=len(missing),
        stale=_count_stale(cloud, last),
        unexpected=len(set(sentinel.accepted) - allowed),
        replayed=replayed,
        rejected=fates["rejected"],
        pending=fates["pending"],
        duplicates=sentinel.duplicates,
        unbalanced_runs=tuple(run["run"] for run in runs if not run["balanced"]),
        settled=settled,
        runs=len(runs),
        gaps=sum(run["state"] == "gap" for run in runs),
        happenings=happenings,
        kills=stage.counts["kills"],
        ended=stage.counts["ended"],
        faults_met=stage.counts["faults met"],
        timers=stage.counts["timers"],
        requests=sentinel.count(method="POST"),
        throttled=sentinel.throttled,
        calm_seconds=calm_seconds,
    )


def _count_stale(cloud: LocalCloud, feed: SyntheticFeed) -> int:
    """Return of how many indicators Sentinel holds another version than Lumen's last."""
    accepted = cloud.sentinel.accepted
    stale = 0
    for encoded in feed.encoded(0, len(feed)):
        found = orjson.loads(encoded)
        if found["id"] in accepted:
            version = digest({**found, "confidence": int(found["confidence"])})
            stale += accepted[found["id"]].digest != version
    return stale
