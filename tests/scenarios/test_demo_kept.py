"""`--fault NAME --keep`: it lasts until an operator does what the demo and the status say."""

import io
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.cloud import LocalCloud
from local.demo import desk as desk_module
from local.demo.desk import Desk, ask_for_repair
from local.demo.faults import PLAYS, Play
from local.demo.screen import Screen
from local.demo.watch import Sight, Watch, World
from local.services.feed import SyntheticFeed, expected_ids
from local.services.living_feed import LivingFeed
from tests.patience import PATIENCE
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import THRESHOLD, until

FEED = SyntheticFeed(240)
TICK = 1.0
"""Seconds between two ticks here; the demo takes fifteen."""

SEEN = {
    "throttle": "",  # a finding only after five minutes: before, the queue tells it
    "outage": "Sentinel is unavailable (503)",
    "bad-records": "waits for proof",
    "expired-secret": "CLIENT_SECRET has expired",
    "crash": "",  # a run that comes no further is one after 45 minutes: before, its state tells it
    "poison": "messages given up: 1",
}
"""What the findings say of each fault."""


@dataclass(kw_only=True)
class Kept:
    """A demo that is kept, one look after the other."""

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

    def until(self, holds: Any, what: str) -> Sight:
        """Return the first look of which something holds."""

        def look() -> Sight | None:
            sight = self.step()
            return sight if sight is not None and holds(sight) else None

        return until(look, what)


@pytest.fixture
def keep(new_world: NewWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts the demo of a fault that lasts."""
    monkeypatch.setattr(desk_module, "DIRECTORY", tmp_path)
    folder = tmp_path / str(os.getpid())
    folder.mkdir()

    def start(name: str) -> Kept:
        play = PLAYS[name]
        world = new_world(
            FEED,
            proxied=True,
            settings=play.settings,
            page_size=play.page_size(len(FEED), at_most=1000),
        )
        cloud = world.cloud
        for _ in range(play.hosts):
            cloud.start_host(queue_lease=play.queue_lease)
        expected = expected_ids(FEED, threshold=THRESHOLD)
        desk = Desk(folder)
        if play.repair.outside:
            desk.open(name)
        watch = Watch(
            World(
                cloud=cloud,
                screen=Screen(io.StringIO()),
                living=LivingFeed(FEED, threshold=THRESHOLD),
                expected=expected,
                threshold=THRESHOLD,
                play=play,
            ),
            heal=play.lasting(cloud, expected),
            desk=desk,
        )
        watch.fire()
        return Kept(cloud=cloud, play=play, watch=watch)

    return start


@pytest.mark.parametrize("name", PLAYS)
def test_a_fault_lasts_until_it_is_repaired_as_told(keep: Any, name: str) -> None:
    """It shows in the status and does not pass; what the demo names repairs it, all arrives."""
    kept: Kept = keep(name)
    play = kept.play
    kept.until(lambda sight: _shows(kept, sight), "the fault shows")
    assert SEEN[name] in "".join(kept.findings)
    assert not kept.watch.is_over
    if play.repair.outside:
        assert _ask_outside(kept) == name
    if play.repair.act is not None:
        act = play.repair.act
        answer = kept.watch.host.request("POST", f"/api/act/{act.path}", json=act.given)
        assert answer.ok, answer.text
    sight = kept.until(
        lambda _: kept.watch.is_over, "the feed is healthy again, and all has arrived"
    )
    assert sight.report["findings"] == []
    assert all(run["balanced"] for run in sight.runs)


def _shows(kept: Kept, sight: Sight) -> bool:
    """Whether what the operator is to see is there."""
    seen = kept.watch.seen(sight.runs)
    match kept.play.name:
        case "throttle":
            return seen.throttled > 1 and sight.report["queue_depth"] > 0
        case "crash":
            return seen.deaths > 0 and sight.runs[-1]["state"] == "running"
        case "bad-records":
            return seen.rejected > 0
        case _:
            return SEEN[kept.play.name] in "".join(sight.report["findings"])


def _ask_outside(kept: Kept) -> str:
    """Ask for the end of the cause as another shell does, while the demo goes on."""
    told: list[str] = []
    asker = threading.Thread(
        target=lambda: told.append(ask_for_repair(os.getpid(), within=PATIENCE))
    )
    asker.start()
    while asker.is_alive():
        kept.step()
    return told[0]
