"""Row 6: what a second and a fourth function host add, and what ends it.

Sentinel's limit is off and each answer takes half a second. In each phase a backlog is enqueued, so
many hosts start, and once they have settled the requests that arrive and are answered 200 are
counted. First by 1, 2 and 4 hosts with two requests at once each, so that even a small machine has
room: latency sets the pace, and what is seen is whether anything shared slows the hosts down.

Then by hosts as wide as `host.json` makes them, which is more than a small machine can serve: the
processor time of each part tells what is full. Azurite's services share one thread, so one core is
all that it can use. The chunks of these phases are on time for their send slots, as nearly all are
at Sentinel's limit; in one phase they are late, as those of any backlog without a limit, so that
each takes a new slot.

Not obvious: chunks are on time however long they wait where the clock of the host that enqueued
them is ahead: the app takes slots a few minutes ahead for a difference of clocks.

And to receive a message costs Azurite time for each one that waits, so a backlog is only
as long as the phase needs it. And chunks are small here: hosts and Azurite spend nearly the same
on a chunk whatever is in it, and the simulators, which run in this process, keep out of the way.
"""

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from string import ascii_lowercase
from typing import Final

from benchmarks.feeds import open_feed
from benchmarks.pipeline import open_cloud, sync
from benchmarks.table import SHOWN, Figure, Scale
from common.queues import UPLOAD_QUEUE, AzureQueue
from common.settings import Secret, StorageSettings
from local.cloud import LocalCloud
from local.functions_host.host_settings import read_host_settings
from local.functions_host.process import HostProcess
from local.services.azurite import Azurite
from local.services.feed import ListFeed
from local.services.http_simulator import Exchange

LATENCY: Final = 0.5
CHUNK: Final = 20
SETTINGS: Final = {"CHUNK_SIZE": str(CHUNK), "LUMEN_CONFIDENCE_THRESHOLD": "0"}
SENDERS: Final = ("sentinel_upload", "keep_poison")

SETTLE: Final = 3.0
"""Seconds between the start of the last host and the measurement."""

START_UP: Final = 4.0
"""Seconds that the hosts may take to start: what the first ones send meanwhile comes on top of the
backlog. The queue is filled before, so that a slow sync takes nothing from it."""

AHEAD: Final = 300.0
"""Seconds by which the clock of the host is ahead that enqueues chunks to be on time."""

MOST_A_CORE: Final = 60.0
"""Chunks a second that one core of a machine does at most, all parts together. Where it does more,
the backlog ends too early and the row fails."""

LEAST_SHARE: Final = 0.85
HOSTS: Final = (1, 2, 4)
WIDE_HOSTS: Final = {Scale.QUICK: (1, 2), Scale.FULL: (1, 2, 4)}
LATE_HOSTS: Final = 2
NARROW: Final = 2
"""Requests at once of a host that leaves a small machine room for four of them."""

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
        per_second = min(self.hosts * self.at_once / LATENCY, MOST_A_CORE * (os.cpu_count() or 1))
        return math.ceil(per_second * (START_UP + SETTLE + self.seconds))


SECONDS: Final = {Scale.QUICK: 6.0, Scale.FULL: 15.0}
WIDE_SECONDS: Final = {Scale.QUICK: 6.0, Scale.FULL: 10.0}


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

    @property
    def capacity(self) -> str:
        """How many chunks would take all of Azurite's core, in words."""
        used = self.cores.get("Azurite")
        if not used:
            return ""
        return (
            f" Azurite's one core would last for {self.per_second / used:.0f} chunks/s (computed)."
        )


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Let narrow hosts work, then hosts as wide as `host.json` makes them."""
    seconds = WIDE_SECONDS[scale]
    narrow = [
        Plan(hosts=hosts, batch=1, threshold=NARROW - 1, seconds=SECONDS[scale]) for hosts in HOSTS
    ]
    late = [widest(LATE_HOSTS, seconds=seconds)] if scale is Scale.FULL else []
    wide = [widest(hosts, seconds=seconds) for hosts in WIDE_HOSTS[scale]]
    with Azurite() as azurite:
        behind = _play([*narrow, *late], feed, azurite, account="world001")
        on_time = _play(wide, feed, azurite, account="world002", clock_skew=AHEAD)
    return judge(behind[: len(narrow)], on_time, late=behind[len(narrow) :])


def _play(
    plans: Sequence[Plan],
    feed: Path | None,
    azurite: Azurite,
    *,
    account: str,
    clock_skew: float = 0.0,
) -> list[Phase]:
    """Play phases in a world whose chunks a host with this clock enqueues."""
    source = open_feed(feed, CHUNK * sum(plan.chunks for plan in plans))
    phases, start = [], 0
    with open_cloud(
        ListFeed(), azurite=azurite, account=account, latency=LATENCY, settings=SETTINGS
    ) as cloud:
        producer = cloud.start_host(disabled=SENDERS, clock_skew=clock_skew)
        for plan in plans:
            stop = start + CHUNK * plan.chunks
            cloud.lumen.replace_feed(ListFeed(source.encoded(start, stop)))
            phases.append(_work(cloud, azurite, producer, plan))
            start = stop
    return phases


def widest(hosts: int, *, seconds: float) -> Plan:
    """Return a phase with the requests at once that `host.json` gives each host."""
    queues = read_host_settings(ROOT, {}).queues
    return Plan(
        hosts=hosts,
        batch=queues.batch_size,
        threshold=queues.new_batch_threshold,
        seconds=seconds,
    )


def judge(
    narrow: Sequence[Phase], wide: Sequence[Phase], *, late: Sequence[Phase] = ()
) -> list[Figure]:
    """Return the figures of the phases; the first of each kind is the reference. Pure.

    What is late is compared with the same hosts when their chunks are on time.
    """
    one, *more = narrow
    figures = [
        replace(
            _figure(phase, one, "1 host"),
            goal=f"at least {LEAST_SHARE * phase.hosts:.1f} x",
            met=phase.per_second >= LEAST_SHARE * phase.hosts * one.per_second,
        )
        for phase in more
    ]
    one, *more = wide
    figures += [_figure(phase, one, "1 host") for phase in more]
    on_time = {phase.hosts: phase for phase in wide}
    figures += [
        _figure(phase, on_time[phase.hosts], "on time", ", every chunk late") for phase in late
    ]
    return [
        replace(figure, row=f"6{letter}")
        for letter, figure in zip(ascii_lowercase, figures, strict=False)
    ]


def _figure(phase: Phase, reference: Phase, named: str, but: str = "") -> Figure:
    """Return the figure of one phase, for information. Pure."""
    is_wide = phase.at_once > NARROW
    return Figure(
        row="6",
        what=f"{'full width' if is_wide else 'scale-out'}: {phase.hosts} hosts, {phase.at_once} "
        f"requests at once each{but}",
        value=f"{phase.per_second:.1f} chunks/s",
        reference=f"{reference.per_second:.1f} chunks/s, {named}",
        ratio=phase.per_second / reference.per_second,
        goal=SHOWN,
        met=None,
        note=phase.shares + (phase.capacity if is_wide else ""),
    )


def _work(cloud: LocalCloud, azurite: Azurite, producer: HostProcess, plan: Plan) -> Phase:
    """Fill the queue, start hosts, measure, and stop them."""
    cloud.override_settings(
        {
            f"{_OVERRIDE}batchSize": f"{plan.batch}",
            f"{_OVERRIDE}newBatchThreshold": f"{plan.threshold}",
        }
    )
    storage = StorageSettings(connection_string=Secret(cloud.connection_string))
    with ExitStack() as stack:
        sync(producer)
        hosts = [stack.enter_context(cloud.start_host()) for _ in range(plan.hosts)]
        time.sleep(SETTLE)
        begin, before = time.monotonic(), _processor_times(azurite, hosts)
        time.sleep(plan.seconds)
        end, after = time.monotonic(), _processor_times(azurite, hosts)
        waiting = AzureQueue(UPLOAD_QUEUE, storage).depth()
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
