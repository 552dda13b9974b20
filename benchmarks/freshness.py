"""Row 13: how long from a page that lists an indicator until Sentinel has accepted it.

The everyday case: a query lists 300 new indicators on a pipeline that has nothing else to do. One
real host with the settings of a deployment, timer and consumer in one process; Sentinel answers
after a second. Measured from outside, by the simulators: when Lumen was asked for the page, and
when each upload arrived, plus the time that its answer takes. The app's own figure is beside it.

What it consists of: the way from the page to the first request (chunks, rows, messages, and the
host's poll, which is every 100 ms to 2 s), the distance of the send slots, and the request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks.first_load import AS_DEPLOYED
from benchmarks.pipeline import deliver_all, open_cloud, sync
from benchmarks.table import Figure, Scale, shown
from local.cloud import LocalCloud
from local.functions_host.process import HostProcess
from local.services.feed import SyntheticFeed
from local.services.lumen_api import PAGE_PATH
from local.services.sentinel_api import REQUESTS_PER_MINUTE

DELTAS: Final = {Scale.QUICK: 6, Scale.FULL: 20}
INDICATORS: Final = 300
CHUNK: Final = 100
ANSWER: Final = 1.0
"""Seconds that Sentinel takes to answer."""

MOST: Final = 5.0
"""Seconds within which 95 of 100 indicators are accepted."""

SETTINGS: Final = {**AS_DEPLOYED, "LUMEN_CONFIDENCE_THRESHOLD": "0", "CHUNK_SIZE": str(CHUNK)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One delta: seconds from its page to each of its requests, and what the app says it took."""

    requests: tuple[float, ...]
    told: float

    @property
    def accepted(self) -> list[float]:
        """Seconds from the page until each request was answered."""
        return [after + ANSWER for after in self.requests]


def measure(scale: Scale, _: Path | None) -> list[Figure]:
    """Let one delta after the other come, each on an idle pipeline."""
    with open_cloud(
        SyntheticFeed(INDICATORS),
        requests_per_minute=REQUESTS_PER_MINUTE,
        latency=ANSWER,
        settings=SETTINGS,
    ) as cloud:
        host = cloud.start_host()
        _run(cloud, host)  # the first one warms everything up
        deltas = []
        for number in range(1, DELTAS[scale] + 1):
            cloud.lumen.replace_feed(SyntheticFeed(INDICATORS, seed=number))
            deltas.append(_run(cloud, host))
    return judge(deltas)


def _run(cloud: LocalCloud, host: HostProcess) -> Delta:
    before = len(cloud.sentinel.exchanges)
    run = sync(host)
    runs = {one["run"]: one for one in deliver_all(host)}
    page = max(one.at for one in cloud.lumen.exchanges if one.path.startswith(PAGE_PATH))
    sent = [one.at - page for one in cloud.sentinel.exchanges[before:] if one.method == "POST"]
    if len(sent) != INDICATORS // CHUNK:
        raise RuntimeError(f"{len(sent)} requests for {INDICATORS} new indicators")
    return Delta(requests=tuple(sorted(sent)), told=runs[run["run"]]["accepted_after_seconds"])


def judge(deltas: Sequence[Delta]) -> list[Figure]:
    """Return the figures of some deltas. Pure."""
    accepted = [seconds for delta in deltas for seconds in delta.accepted]
    late = quantiles(accepted, n=20, method="inclusive")[-1]
    first = median(delta.requests[0] for delta in deltas)
    apart = median(b - a for delta in deltas for a, b in pairwise(delta.requests))
    return [
        Figure(
            row="13a",
            what=f"freshness: from page to acceptance, deltas of {INDICATORS} indicators",
            value=f"95 of 100 within {late:.1f} s, median {median(accepted):.1f} s",
            reference=f"{ANSWER:g} s for the answer alone",
            ratio=None,
            goal=f"95 of 100 within {MOST:g} s",
            met=late <= MOST,
            note=f"{first:.1f} s from the page to the first request (rows, messages, poll), "
            f"{apart:.2f} s between two requests (slots), {ANSWER:g} s for the answer; "
            f"{len(deltas)} deltas",
        ),
        shown(
            Figure(
                row="13b",
                what="the same as the app tells it, on average",
                value=f"{sum(delta.told for delta in deltas) / len(deltas):.1f} s",
                reference=f"{sum(accepted) / len(accepted):.1f} s by the simulators",
                ratio=None,
                goal="",
                met=None,
            )
        ),
    ]
