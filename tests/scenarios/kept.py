"""A demo that is kept, one look after the other: for tests of the status and of the page."""

import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from local.cloud import LocalCloud
from local.demo.desk import Desk, ask_for_repair
from local.demo.faults import PLAYS, Play
from local.demo.screen import Screen
from local.demo.watch import Sight, Watch, World
from local.services.feed import SyntheticFeed, expected_ids
from local.services.living_feed import LivingFeed
from tests.patience import PATIENCE
from tests.scenarios.world import THRESHOLD, until

FEED = SyntheticFeed(240)
TICK = 1.0
"""Seconds between two ticks here; the demo takes fifteen."""

SEEN = {
    "throttle": "",  # a finding only after five minutes: before, the queue tells it
    "outage": "Sentinel is unavailable (503)",
    "bad-records": "",  # waiting for proof may be over between two looks: the rejection tells it
    "expired-secret": "CLIENT_SECRET has expired",
    "crash": "",  # a run that comes no further is one after 45 minutes: before, its state tells it
    "poison": "messages given up: 1",
}
"""What the findings say of each fault."""


@dataclass(kw_only=True)
class Kept:
    """A demo with a fault that lasts; `findings` are all that any look has found."""

    cloud: LocalCloud
    play: Play
    watch: Watch
    findings: list[str] = field(default_factory=list)

    def step(self) -> Sight | None:
        """Look once, and remember the findings."""
        sight = self.watch.step(fire_every=TICK)
        if sight is not None:
            self.findings += sight.report["findings"]
        return sight

    def until(self, holds: Callable[[Sight], bool], what: str) -> Sight:
        """Return the first look of which something holds."""

        def look() -> Sight | None:
            sight = self.step()
            return sight if sight is not None and holds(sight) else None

        return until(look, what)

    def until_it_shows(self) -> Sight:
        """Return a look at which what the operator is to see is there."""
        return self.until(self._shows, "the fault shows")

    def until_it_is_over(self) -> Sight:
        """Return the look at which the feed is healthy again and everything has arrived."""
        return self.until(lambda _: self.watch.is_over, "the feed is healthy, and all has arrived")

    def ask_outside(self) -> str:
        """Ask for the end of the cause as another shell does, while the demo goes on."""
        told: list[str] = []
        asker = threading.Thread(
            target=lambda: told.append(ask_for_repair(os.getpid(), within=PATIENCE))
        )
        asker.start()
        while asker.is_alive():
            self.step()
        return told[0]

    def _shows(self, sight: Sight) -> bool:
        seen = self.watch.seen(sight.runs)
        match self.play.name:
            case "throttle":
                return seen.throttled > 1 and sight.report["queue_depth"] > 0
            case "crash":
                return seen.deaths > 0 and sight.runs[-1]["state"] == "running"
            case "bad-records":
                return seen.rejected > 0
            case _:
                return SEEN[self.play.name] in "".join(sight.report["findings"])


def settings_of(name: str) -> dict[str, object]:
    """Return what the local cloud is made with for the demo of a fault that lasts."""
    play = PLAYS[name]
    return {
        "proxied": True,
        "settings": play.settings,
        "page_size": play.page_size(len(FEED), at_most=1000),
    }


def keep(name: str, cloud: LocalCloud, folder: Path) -> Kept:
    """Start the demo of a fault that lasts; `folder` is this process's own."""
    play = PLAYS[name]
    for _ in range(play.hosts):
        cloud.start_host(queue_lease=play.queue_lease)
    expected = expected_ids(FEED, threshold=THRESHOLD)
    desk = Desk(folder)
    if play.repair.outside:
        desk.open(name)
    world = World(
        cloud=cloud,
        screen=Screen(io.StringIO()),
        living=LivingFeed(FEED, threshold=THRESHOLD),
        expected=expected,
        threshold=THRESHOLD,
        play=play,
    )
    watch = Watch(world, heal=play.lasting(cloud, expected), desk=desk)
    watch.fire()
    return Kept(cloud=cloud, play=play, watch=watch)
