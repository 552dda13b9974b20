"""Row 4: a first load at Sentinel's real limit, next to an uploader that does one thing at a time.

100 requests in any 60 seconds, 6 to 8 seconds an answer, two function hosts, the settings that a
deployment starts with. The reference runs at the same time against a Sentinel of its own that
behaves alike; both spend their time waiting, so neither disturbs the other. The cloud is closed
while the load goes on: its length would change nothing.

Not obvious: a request counts by the moment it arrived, in the steady part only. The start-up, in
which the first slots are handed out, is cut off, and the end of the feed is never reached.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from benchmarks.feeds import open_feed
from benchmarks.pipeline import open_cloud
from benchmarks.sequential_uploader import SequentialUploader
from benchmarks.table import Figure, Scale
from local.services.azurite import Azurite
from local.services.http_simulator import Exchange
from local.services.sentinel_api import REQUESTS_PER_MINUTE

LATENCY: Final = (6.0, 8.0)
"""Seconds to answer a request of 100 objects, as users report (docs/contracts.md)."""

HOSTS: Final = 2
AS_DEPLOYED: Final = {
    "RETRY_BASE_DELAY": "1",
    "RETRY_MAX_DELAY": "60",
    "DEFERRAL_DELAY": "60",
}
"""The defaults of the app, in place of the local cloud's quicker ones."""

ANSWERED_WITHIN: Final = LATENCY[1] + 4.0
"""Seconds after the steady part until each of its requests has been answered."""

LEAST_PER_MINUTE: Final = 90.0
LEAST_RATIO: Final = 9.0
MOST_THROTTLED: Final = 0.01
WINDOW: Final = 60.0
"""Seconds over which Sentinel counts. In less, a sender at 95 a minute cannot meet its limit, so
that a share of 429 claims nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long is measured, in seconds, and how many indicators keep it busy meanwhile."""

    start_up: float
    steady: float
    indicators: int


PLANS: Final = {
    Scale.QUICK: Plan(start_up=10.0, steady=45.0, indicators=40_000),
    Scale.FULL: Plan(start_up=30.0, steady=300.0, indicators=160_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """The requests that arrived in the steady part, by their answers."""

    seconds: float
    arrived: int
    taken: int
    throttled: int

    @property
    def per_minute(self) -> float:
        """Requests answered 200 a minute."""
        return self.taken / self.seconds * 60


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Let both load for as long as the plan says; return the rates and the share of 429."""
    plan = PLANS[scale]
    source = open_feed(feed, plan.indicators)
    closing = threading.Event()
    with (
        Azurite() as azurite,
        open_cloud(
            source,
            azurite=azurite,
            account="world001",
            requests_per_minute=REQUESTS_PER_MINUTE,
            latency=LATENCY,
            settings=AS_DEPLOYED,
        ) as cloud,
        open_cloud(
            source,
            azurite=azurite,
            account="world002",
            requests_per_minute=REQUESTS_PER_MINUTE,
            latency=LATENCY,
        ) as other,
        SequentialUploader(other.app_settings(), stopped=closing.is_set) as uploader,
        ThreadPoolExecutor(1) as pool,
    ):
        hosts = [cloud.start_host() for _ in range(HOSTS)]
        hosts[0].invoke_admin("lumen_sync")
        reference = pool.submit(uploader.run)
        try:
            cloud.sentinel.wait_for(lambda: cloud.sentinel.requests > 0, timeout=60)
            time.sleep(plan.start_up + plan.steady + ANSWERED_WITHIN)
        finally:
            closing.set()
        reference.result()  # it must not have ended by an error
        return judge(
            cut(cloud.sentinel.exchanges, plan),
            cut(other.sentinel.exchanges, plan),
        )


def cut(exchanges: Sequence[Exchange], plan: Plan) -> Steady:
    """Return what arrived in the steady part, which begins `start_up` after the first request."""
    begin = min(exchange.at for exchange in exchanges) + plan.start_up
    steady = [one for one in exchanges if begin <= one.at < begin + plan.steady]
    return Steady(
        seconds=plan.steady,
        arrived=len(steady),
        taken=sum(one.status == HTTPStatus.OK for one in steady),
        throttled=sum(one.status == HTTPStatus.TOO_MANY_REQUESTS for one in steady),
    )


def judge(ours: Steady, reference: Steady) -> list[Figure]:
    """Return the figures of two steady parts. Pure."""
    ratio = ours.per_minute / reference.per_minute
    share = ours.throttled / ours.arrived
    tells = ours.seconds >= WINDOW
    return [
        Figure(
            row="4a",
            what=f"first load at the real limit, {ours.seconds:.0f} s, {HOSTS} hosts",
            value=f"{ours.per_minute:.1f} requests/min",
            reference=f"{reference.per_minute:.1f} requests/min, sequential uploader",
            ratio=ratio,
            goal=f"at least {LEAST_PER_MINUTE:.0f}/min and {LEAST_RATIO:.0f} x",
            met=ours.per_minute >= LEAST_PER_MINUTE and ratio >= LEAST_RATIO,
        ),
        Figure(
            row="4b",
            what="the same: share of its requests answered 429",
            value=f"{share:.1%} of {ours.arrived:,}",
            reference=f"{reference.throttled / reference.arrived:.1%} of {reference.arrived:,}",
            ratio=None,
            goal="under 1 %" if tells else "shown: less than a minute cannot fill the limit",
            met=share < MOST_THROTTLED if tells else None,
        ),
    ]
