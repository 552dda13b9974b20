"""Carries out what a chaos plan says on a running local cloud: instances, and faults of all kinds.

Every fault can be lifted again. A separate thread restarts instances that died, one
at a time, so that the plan goes on meanwhile. They also end themselves when storage is away for too
long, as Azure's do. It must not judge.
"""

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import requests

from local.chaos.plan import LUMEN_FAULTS, STORAGE_FAULTS, Happening, What
from local.cloud import LocalCloud
from local.functions_host.process import HostProcess
from local.services.faults import (
    Answer,
    Call,
    Cut,
    Delay,
    DoThenReset,
    Effect,
    Fault,
    FaultRule,
    Reset,
)
from local.services.feed import SyntheticFeed
from local.services.http_simulator import HttpSimulator
from local.services.lumen_api import PAGE_PATH
from local.services.storage_proxy import Injection, Refusal, Rule
from local.services.storage_requests import Service

QUEUE_LEASE: Final = 5.0
"""Seconds after which the messages of a dead instance come back; ten minutes on Azure."""

STORAGE_PATIENCE: Final = 2.0
"""Seconds that storage is away before an instance ends itself; 24.8 on Azure."""

DRAIN_SHARE: Final = 0.4
"""Part of that time that it then waits for what runs: 10 s on Azure."""

CHURN: Final = 0.2
ENDED_ITSELF: Final = 1
"""The exit status of an instance whose storage was away; a killed one has a signal's."""

HITS: Final = 12
"""Requests to storage that one fault meets, spread over those that come."""

_SLOW: Final = Delay(0.4)
_THROTTLED: Final = Answer(
    429, body='{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 1 seconds."}'
)

Lift = Callable[[], None]


class Stage:
    """The instances of a local cloud and the faults that are up. Use it as a context manager."""

    def __init__(
        self,
        cloud: LocalCloud,
        feed: SyntheticFeed,
        *,
        hosts: int,
        storage_patience: float = STORAGE_PATIENCE,
    ) -> None:
        self._storage_patience = storage_patience
        self.feeds = [feed]
        """Every version of the feed, the last one being Lumen's now."""
        self.counts: Counter[str] = Counter()
        self._cloud = cloud
        self._fired: HostProcess | None = None
        self._starter = ThreadPoolExecutor(1, "start-host")
        self._lock = threading.Lock()
        self._hosts = [self._start() for _ in range(hosts)]

    @property
    def alive(self) -> list[HostProcess]:
        """The instances that run."""
        return [host for host in self._hosts if host.alive]

    def revive(self) -> None:
        """Restart the instances that have died; returns at once."""
        self._starter.submit(self._revive)

    def revive_all(self) -> None:
        """Restart the instances that have died, and wait for them."""
        self._starter.submit(self._revive).result()

    def fire(self, host: HostProcess) -> None:
        """Fire an instance's timer; one that dies just then has not fired."""
        self._fired = host
        with contextlib.suppress(requests.RequestException):
            host.invoke_admin("lumen_sync")
            self.counts["timers"] += 1

    def perform(self, happening: Happening) -> Lift | None:
        """Let it happen; return what ends it, if it lasts."""
        rng = random.Random(happening.seed)  # noqa: S311 - the plan's, not secrets
        cloud = self._cloud
        match happening.what:
            case What.KILL:
                self._kill(self._hosts[happening.host])
            case What.KILL_IN_RUN:
                self._once(cloud.lumen, Call(lambda _: self._kill(self._fired)))
            case What.KILL_IN_UPLOAD:
                victim = self._hosts[happening.host]
                self._once(cloud.sentinel, Call(lambda _: self._kill(victim), when="after"))
            case What.TIMERS:
                for host in self.alive:
                    self.fire(host)
            case What.FEED_CHANGES:
                self.feeds.append(self.feeds[-1].changed(CHURN, len(self.feeds)))
                cloud.lumen.replace_feed(self.feeds[-1])
            case What.LUMEN_TOKENS:
                cloud.lumen.expire_tokens()
            case What.ENTRA_TOKENS:
                cloud.entra.expire_tokens()
            case what:
                return self._begin(what, happening.share, rng)
        return None

    def calm(self) -> None:
        """Lift every fault and restart every instance that has died."""
        self._cloud.lumen.clear_faults()
        self._cloud.sentinel.clear_faults()
        if self._cloud.proxy is not None:
            self._cloud.proxy.clear()
        self.revive_all()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._starter.shutdown(cancel_futures=True)

    def _start(self) -> HostProcess:
        return self._cloud.start_host(
            queue_lease=QUEUE_LEASE,
            storage_patience=self._storage_patience,
            drain=self._storage_patience * DRAIN_SHARE,
        )

    def _revive(self) -> None:
        for number, host in enumerate(self._hosts):
            if not host.alive:
                self.counts["ended"] += host.process.returncode == ENDED_ITSELF
                self._hosts[number] = self._start()

    def _kill(self, host: HostProcess | None) -> None:
        with self._lock:
            if host is not None and host.alive:
                host.kill()
                self.counts["kills"] += 1

    def _once(self, simulator: HttpSimulator, effect: Effect) -> None:
        simulator.inject(Fault(effect=effect))

    def _begin(self, what: What, share: float, rng: random.Random) -> Lift:
        """Put up a fault that lasts; return what lifts it."""
        rules: list[FaultRule] | list[Injection]
        if what in STORAGE_FAULTS:
            rules = self._storage_rules(what, share, rng)
        else:
            simulator = self._cloud.lumen if what in LUMEN_FAULTS else self._cloud.sentinel
            rules = [_api_rule(simulator, what, share, rng)]

        def lift() -> None:
            for rule in rules:
                rule.remove()
                self.counts["faults met"] += rule.hits

        return lift

    def _storage_rules(self, what: What, share: float, rng: random.Random) -> list[Injection]:
        proxy = self._cloud.proxy
        if proxy is None:
            raise RuntimeError("a chaos run needs a proxy before storage")
        if what is What.STORAGE_AWAY:
            return [proxy.inject(Rule(drop="before"))]
        service: Service = rng.choice(("queue", "table"))
        step = max(1, round(1 / share))
        return [
            proxy.inject(_storage_rule(what, service, skip=number * step)) for number in range(HITS)
        ]


def _api_rule(simulator: HttpSimulator, what: What, share: float, rng: random.Random) -> FaultRule:
    path = PAGE_PATH if what is What.LUMEN_CUTS else None
    return simulator.inject(
        Fault(effect=_effect(what), path=path, when=lambda _: rng.random() < share, times=None)
    )


def _effect(what: What) -> Effect:
    match what:
        case What.LUMEN_THROTTLES | What.SENTINEL_THROTTLES:
            return _THROTTLED
        case What.LUMEN_FAILS | What.SENTINEL_FAILS:
            return Answer(503)
        case What.LUMEN_RESETS | What.SENTINEL_RESETS:
            return Reset()
        case What.LUMEN_CUTS:
            return Cut(after_bytes=2000)
        case What.SENTINEL_FORGETS:
            return DoThenReset()
        case What.LUMEN_SLOW | What.SENTINEL_SLOW:
            return _SLOW
        case _:
            raise ValueError(f"no fault of an API: {what}")


def _storage_rule(what: What, service: Service, *, skip: int) -> Rule:
    match what:
        case What.STORAGE_BUSY:
            return Rule(service=service, skip=skip, times=1, answer=Refusal())
        case What.STORAGE_DROPS:
            return Rule(service=service, skip=skip, times=1, drop="before")
        case What.STORAGE_FORGETS:
            return Rule(service=service, skip=skip, times=1, drop="after")
        case _:
            return Rule(service=service, skip=skip, times=1, delay=_SLOW.seconds)
