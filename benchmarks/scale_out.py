"""Row 6: what a second and a fourth function host add, and where adding more ends.

Sentinel's limit is off and each answer takes half a second. In each phase a backlog is enqueued, so
many hosts start, and once they have settled the requests that arrive and are answered 200 are
counted. First by 1, 2 and 4 hosts with two requests at once each, so that even a small machine has
room: latency sets the pace, and what is seen is whether anything shared slows the hosts down. Then
by two as wide as `host.json` makes them, which is more than the machine can serve: the processor
time of each part tells what would be full first. Azurite's services share one thread: one core is
all that it can use.

Not obvious: to receive a message costs Azurite time for each one that waits, so a backlog is only
as long as the phase needs it. And chunks are small here: hosts and Azurite spend nearly the same
on a chunk whatever is in it, and the simulators, which run in this process, keep out of the way.
"""

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from benchmarks.feeds import open_feed
from benchmarks.pipeline import open_cloud, sync
from benchmarks.table import SHOWN, Figure, Scale
from local.azurite import Azurite
from local.cloud import LocalCloud
from local.feed import ListFeed
from local.functions_host.host_settings import read_host_settings
from local.functions_host.process import HostProcess
from local.http_simulator import Exchange

LATENCY: Final = 0.5
CHUNK: Final = 20
SETTINGS: Final = {"CHUNK_SIZE": str(CHUNK), "LUMEN_CONFIDENCE_THRESHOLD": "0"}
SENDERS: Final = ("sentinel_upload", "keep_poison")

SETTLE: Final = 3.0
"""Seconds between the start of the last host and the measurement."""

START_UP: Final = 4.0
"""Seconds that the hosts may take to start: what the first ones send meanwhile comes on top of the
backlog. The queue is filled before, so that a slow sync takes nothing from it."""

LEAST_SHARE: Final = 0.85
HOSTS: Final = (1, 2, 4)
ROOT: Final = Path(__file__).parents[1]

_OVERRIDE: Final = "AzureFunctionsJobHost__extensions__queues__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Of one phase: hosts, requests at once of each (`batch` + `threshold`), seconds measured."""

    hosts: int
    batch: int
    threshold: int
    seconds: float

    @property
    def at_once(self) -> int:
        """Requests that a host makes at once."""
        return self.batch + self.threshold

    @property
    def chunks(self) -> int:
        """As many as these hosts could send at most until the measurement is over."""
        per_second = self.hosts * self.at_once / LATENCY
        return math.ceil(per_second * (START_UP + SETTLE + self.seconds))


SECONDS: Final = {Scale.QUICK: 6.0, Scale.FULL: 15.0}
WIDEST_HOSTS: Final = 2
WIDEST_SECONDS: Final = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What so many hosts did, and how many cores each part used; empty where unknown."""

    hosts: int
    at_once: int
    per_second: float
    cores: Mapping[str, float]

    @property
    def shares(self) -> str:
        """The cores used, in words."""
        if not self.cores:
            return "How many cores were used is unknown here."
        parts = ", ".join(f"{name} {used:.2f}" for name, used in self.cores.items())
        return f"Cores used: {parts} of {os.cpu_count()}."


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Let 1, 2 and 4 narrow hosts work, then 2 as wide as `host.json` makes them."""
    plans = [
        *(Plan(hosts=hosts, batch=1, threshold=1, seconds=SECONDS[scale]) for hosts in HOSTS),
        widest(),
    ]
    source = open_feed(feed, CHUNK * sum(plan.chunks for plan in plans))
    with (
        Azurite() as azurite,
        open_cloud(ListFeed(), azurite=azurite, latency=LATENCY, settings=SETTINGS) as cloud,
    ):
        producer = cloud.start_host(disabled=SENDERS)
        phases, start = [], 0
        for plan in plans:
            stop = start + CHUNK * plan.chunks
            cloud.lumen.replace_feed(ListFeed(source.encoded(start, stop)))
            phases.append(_work(cloud, azurite, producer, plan))
            start = stop
    return judge(phases[:-1], phases[-1])


def widest() -> Plan:
    """Return the phase with the requests at once that `host.json` gives a host."""
    queues = read_host_settings(ROOT, {}).queues
    return Plan(
        hosts=WIDEST_HOSTS,
        batch=queues.batch_size,
        threshold=queues.new_batch_threshold,
        seconds=WIDEST_SECONDS,
    )


def judge(phases: Sequence[Phase], widest: Phase) -> list[Figure]:
    """Return the figures of the phases, the first of which is the reference. Pure."""
    one, *more = phases
    figures = [
        Figure(
            row=f"6{letter}",
            what=f"scale-out: {phase.hosts} hosts, {phase.at_once} requests at once each",
            value=f"{phase.per_second:.1f} chunks/s",
            reference=f"{one.per_second:.1f} chunks/s, 1 host",
            ratio=phase.per_second / one.per_second,
            goal=f"at least {LEAST_SHARE * phase.hosts:.1f} x",
            met=phase.per_second >= LEAST_SHARE * phase.hosts * one.per_second,
            note=phase.shares,
        )
        for letter, phase in zip("ab", more, strict=True)
    ]
    azurite = widest.cores.get("Azurite")
    capacity = "unknown" if not azurite else f"{widest.per_second / azurite:.0f} chunks/s"
    end = Figure(
        row="6c",
        what=f"where it ends: {widest.hosts} hosts, {widest.at_once} requests at once each",
        value=f"{widest.per_second:.1f} chunks/s",
        reference=f"{capacity} would take all of Azurite's one core",
        ratio=None,
        goal=SHOWN,
        met=None,
        note=widest.shares,
    )
    return [*figures, end]


def _work(cloud: LocalCloud, azurite: Azurite, producer: HostProcess, plan: Plan) -> Phase:
    """Fill the queue, start hosts, measure, and stop them."""
    cloud.override_settings(
        {
            f"{_OVERRIDE}batchSize": f"{plan.batch}",
            f"{_OVERRIDE}newBatchThreshold": f"{plan.threshold}",
        }
    )
    with ExitStack() as stack:
        sync(producer)
        hosts = [stack.enter_context(cloud.start_host()) for _ in range(plan.hosts)]
        time.sleep(SETTLE)
        begin, before = time.monotonic(), _processor_times(azurite, hosts)
        time.sleep(plan.seconds)
        end, after = time.monotonic(), _processor_times(azurite, hosts)
        waiting = producer.get("/api/status").json()["queue_depth"]
    if waiting <= plan.hosts * plan.at_once:  # messages at work count as waiting, too
        raise RuntimeError(f"{plan.chunks:,} chunks did not last: {plan.hosts} hosts had none left")
    return Phase(
        hosts=plan.hosts,
        at_once=plan.at_once,
        per_second=taken(cloud.sentinel.exchanges, begin, end) / (end - begin),
        cores={name: (after[name] - before[name]) / (end - begin) for name in before},
    )


def taken(exchanges: Sequence[Exchange], begin: float, end: float) -> int:
    """Return how many requests arrived in that time and were answered 200. Pure."""
    return sum(begin <= one.at < end and one.status == HTTPStatus.OK for one in exchanges)


def _processor_times(azurite: Azurite, hosts: Sequence[HostProcess]) -> dict[str, float]:
    """Return the processor seconds used so far, by part; nothing where there is no /proc."""
    if not Path("/proc/stat").exists():
        return {}
    tick = os.sysconf("SC_CLK_TCK")
    whole = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = whole[3] + whole[4]  # waiting for disks is idle, too
    own = os.times()
    return {
        "Azurite": _of_process(azurite.pid, tick),
        "hosts": sum(_of_process(host.process.pid, tick) for host in hosts),
        "simulators": own.user + own.system,
        "whole machine": (sum(whole) - idle) / tick,
    }


def _of_process(pid: int | None, tick: int) -> float:
    """Return the processor seconds of a process: fields 14 and 15 of its stat (man 5 proc)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / tick
