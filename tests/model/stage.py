"""A stage for actors that take turns: one runs at a time, and each can be stopped at any call.

Every call of an actor to the outside is a gate. There the stage decides, by its random numbers, who
goes on; so one seed is one history, and an actor can stall for any length between two calls, or end
before or after a call took effect. Time passes only when the stage lets it pass.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from common.envelope import Envelope

START = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process ends here: nothing catches it, and nothing works after it."""


class Actor:
    """A process at work, on a stack of its own. Its clock may be off by `skew` seconds."""

    def __init__(self, stage: "Stage", name: str, work: Callable[[], object], skew: float) -> None:
        self.name = name
        self.skew = skew
        self.delivers: Envelope | None = None
        """The message that it is delivering."""
        self.destination = ""
        """What its settings name; empty where that does not matter."""
        self.at = ""
        """The gate at which it stands."""
        self.is_over = False
        self.is_dying = False
        self.bug: BaseException | None = None
        self._stage = stage
        self._work = work
        self.stack = greenlet(self._run)

    def _run(self) -> None:
        try:
            if not self.is_dying:
                self._work()
        except Killed:
            pass
        except BaseException as bug:  # noqa: BLE001 - shown by the stage
            self.bug = bug
        self.is_over = True  # the director goes on: it is the parent of every stack


class ActorClock:
    """The clock of whoever is on stage: its wall clock is off, its elapsed time is not."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage

    def now(self) -> datetime:
        return START + timedelta(seconds=self._stage.now + self._stage.skew)

    def monotonic(self) -> float:
        return self._stage.now

    def boottime(self) -> float:
        return self._stage.now

    def sleep(self, seconds: float) -> None:
        self._stage.gate("sleep")
        if seconds > 0:
            self._stage.advance(seconds)


class Stage:
    """Who is at work, and what time it is: seconds since `START`, the storage's clock."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self.on_time: list[Callable[[float], None]] = []
        self._director = getcurrent()
        self.stops = 0.25
        """Share of the calls at which another actor may go on."""
        self.is_quiet = False
        """Nobody is stopped or stalled any more."""

    @property
    def skew(self) -> float:
        """How far the clock of whoever is on stage is off."""
        return 0.0 if self.current is None else self.current.skew

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for told in self.on_time:
            told(self.now)

    def start(self, name: str, work: Callable[[], object], *, skew: float = 0.0) -> Actor:
        """Let an actor wait for its turn."""
        actor = Actor(self, name, work, skew)
        self.actors.append(actor)
        return actor

    def play(self, actor: Actor) -> None:
        """Give an actor the turn, until it comes to a gate at which the stage stops it, or ends."""
        self.current = actor
        actor.stack.switch()
        self.current = None
        self.actors = [found for found in self.actors if not found.is_over]
        if actor.bug is not None:
            raise actor.bug

    def kill(self, actor: Actor) -> None:
        """End an actor where it stands."""
        actor.is_dying = True
        self.play(actor)

    def play_to(self, actor: Actor, gate: str) -> None:
        """Let an actor go on until it stands at a gate, or is at its end."""
        while not actor.is_over and actor.at != gate:
            self.play_on(actor)

    def play_on(self, actor: Actor, gates: int = 1) -> None:
        """Let an actor go on by some gates, or to its end."""
        before, self.stops = self.stops, 1.0
        for _ in range(gates):
            if not actor.is_over:
                self.play(actor)
        self.stops = before

    def gate(self, what: str) -> None:
        """A call of whoever is on stage: it may have to wait for its next turn, or end."""
        actor = self.current
        if actor is None or getcurrent() is not actor.stack:
            return
        if actor.is_dying:
            raise Killed
        actor.at = what
        if not self.is_quiet and self.rng.random() < self.stops:
            self._director.switch()
            if actor.is_dying:
                raise Killed
