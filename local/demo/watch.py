"""Drives a pipeline and looks at it: until everything has settled, or for as long as it is kept.

The timer is fired here, as Azure would every 15 minutes. What is looked at is the app's own status;
what is done about a fault is done from outside, by the plan of its `Play`.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from local.cloud import LocalCloud
from local.demo.desk import Desk
from local.demo.faults import HEAL_AFTER, Heal, Play, Seen
from local.demo.report import add_runs
from local.demo.screen import Screen
from local.demo.words import count
from local.functions_host.process import HostFailedError, HostProcess
from local.services.feed import Feed, ListFeed, expected_ids
from local.services.living_feed import Change, LivingFeed

STALLED_AFTER = 300.0
"""Seconds without any progress after which the demo gives up: five times the longest wait that
a throttled chunk is told."""

LOOK_EVERY = 0.5
ROW_EVERY = 1.5
"""Seconds after which a row is printed although nothing has moved."""

TICK_AFTER = 2.0
"""Seconds without movement after which the timer is fired again, in place of 15 minutes."""
FLOW_EVERY = 0.5
"""The same where a fault is only met while other indicators are accepted."""

FIRE_AT_MOST = 50
"""Timer ticks before the demo has settled: a long feed needs one for every `MAX_PAGES` pages."""

FIRE_EVERY = 15.0
"""Seconds between two ticks of a cloud that is kept, in place of 15 minutes."""

ARRIVES_WITHIN = 60.0
"""Seconds in which the app finds a sample in the workspace, where rows come at once here."""

LISTED = 200
"""Runs that are added up: the most that the app's status lists."""

DIED = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
"""What the answer of an instance is that is killed before it, or in the middle of it."""


@dataclass(slots=True, kw_only=True)
class World:
    """What is driven: the cloud, its feed, and what is expected at Sentinel in the end."""

    cloud: LocalCloud
    screen: Screen
    living: LivingFeed
    expected: set[str]
    threshold: int
    play: Play | None = None
    later: list[Feed] = field(default_factory=list)
    """Parts of the feed, for a query each once the one before has come to rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look: the runs, oldest first, and the whole report."""

    runs: list[dict[str, Any]]
    report: dict[str, Any]

    @property
    def has_settled(self) -> bool:
        """Whether the last run is complete, and nothing waits on the queue or for an operator."""
        last = self.runs[-1]["state"] if self.runs else ""
        waits = self.report["poison_kept"] or any(run["pending"] for run in self.runs)
        return last == "complete" and not waits


class Watch:
    """One pipeline from its first tick on."""

    def __init__(self, world: World, *, heal: Heal | None = None, desk: Desk | None = None) -> None:
        """`heal` ends the fault; with a `desk` an operator decides when."""
        self._world = world
        self._cloud, self._screen, self._play = world.cloud, world.screen, world.play
        self._heal = heal
        self._desk = desk
        self._accepted = 0
        self._fired = 0
        self._listed = 0
        self._asked_before = 0
        """Queries that Lumen had got when it began to list the present part of the feed."""
        self._unlisted: list[bytes] = []
        self._shown: tuple[int, ...] = ()
        self._problems: list[str] = []
        self._kinds: set[str] = set()
        self._poison = 0
        self.is_over = world.play is None
        """Whether the fault was met and is repaired; it stays so."""
        self._rests = False
        """Whether the demo has nothing to do but to wait for the next tick."""
        self._met_at: float | None = None
        now = time.monotonic()
        self._accepted_at = self._moved = self._fired_at = self._row_at = now

    def until_settled(self) -> list[dict[str, Any]]:
        """Return the runs of the last status report, oldest first."""
        self.fire()
        while True:
            asked = self._cloud.lumen.queries_started  # before the look, which then shows its run
            sight = self.look()
            if sight is None:
                continue
            self._heal_in_time()
            if time.monotonic() - self._moved > STALLED_AFTER:
                self._screen.say(f"nothing has moved for {STALLED_AFTER:.0f} s: giving up")
                return sight.runs
            if not self._goes_on(sight, asked):
                return sight.runs

    def until_arrived(self, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Have the app ask the workspace; return the runs once their whole sample has arrived.

        Or as they are after `ARRIVES_WITHIN` seconds.
        """
        deadline = time.monotonic() + ARRIVES_WITHIN
        while time.monotonic() < deadline:
            with suppress(*DIED):  # another instance is asked then
                self.host.invoke_admin("arrival_check")
            sight = self.look()
            if sight is not None:
                runs = sight.runs
                if all(map(_has_arrived, runs)):
                    break
        return runs

    def live(self, *, has_healed: Callable[[Sight], None], fire_every: float = FIRE_EVERY) -> None:
        """Go on until the process ends; call `has_healed` once, when the fault is repaired."""
        while True:
            was_over = self.is_over
            sight = self.step(fire_every=fire_every)
            if self.is_over and not was_over and sight is not None:
                has_healed(sight)

    def step(self, *, fire_every: float) -> Sight | None:
        """Look once at a cloud that is kept: serve the operator, fire the timer where it is due."""
        self._rests = True
        sight = self.look()
        if sight is None:
            return None
        self._serve_desk()
        if not self.is_over and self._is_repaired(sight):
            self.is_over = True
            return sight  # the verdict is on this look: nothing new is listed before it
        if self._is_tick_due(sight, fire_every):
            if self._may_change():
                self.change_feed()
            self.fire()
        return sight

    def look(self) -> Sight | None:
        """Wait a moment, look, show what has moved; None where an instance died over it."""
        time.sleep(LOOK_EVERY)
        try:
            answer = self.host.get(f"/api/read/status?runs={LISTED}")
        except DIED:
            self._screen.say("  an instance died")
            return None
        if not answer.ok:
            self._screen.say(f"  the app's status answered {answer.status_code}")
            return None
        report = answer.json()
        sight = Sight(runs=list(reversed(report["runs"])), report=report)
        self._note(sight)
        self._show(sight)
        self._bring_forward(report)
        return sight

    def seen(self, runs: list[dict[str, Any]]) -> Seen:
        """What has shown itself of a fault, up to these runs."""
        return Seen(
            throttled=self._cloud.sentinel.throttled,
            rejected=add_runs(runs)["rejected"],
            poison=self._poison,
            problems=frozenset(self._kinds),
            deaths=sum(not host.alive for host in self._cloud.hosts),
            resumed=sum(run["resumed"] for run in runs),
        )

    def _is_repaired(self, sight: Sight) -> bool:
        """Whether the fault was met and is over: no cause, no finding, nothing waits or misses."""
        play = self._play
        return (
            play is not None
            and play.was_met(self.seen(sight.runs))
            and self._heal is None
            and sight.has_settled
            and sight.report["health"] == "healthy"
            and not self._unlisted
            and not self._cloud.sentinel.missing(self._world.expected)
        )

    @property
    def host(self) -> HostProcess:
        """An instance that lives."""
        found = next((host for host in self._cloud.hosts if host.alive), None)
        if found is None:
            raise HostFailedError("no function host is alive any more; its log says why")
        return found

    def fire(self) -> None:
        """Fire the timer."""
        self._fired += 1
        self._fired_at = time.monotonic()
        with suppress(*DIED):  # the next one is fired where another instance lives
            self.host.invoke_admin("lumen_sync")

    def change_feed(self) -> None:
        """Let the next query list a few indicators: what has changed since the query before."""
        flows = self._must_flow()
        change = self._world.living.more() if flows else self._world.living.change()
        self._list(change)
        if not flows:
            self._screen.say(f"  {time.strftime('%H:%M:%S')}  Lumen lists {change}")

    def _list(self, change: Change) -> None:
        """Add to what the next query lists; what no query has listed yet stays in it."""
        if self._cloud.lumen.queries_started > self._listed:
            self._unlisted = []
        self._unlisted += change.objects
        self._cloud.lumen.replace_feed(ListFeed(self._unlisted))
        # Read behind the change: a query that starts in between lists it, and the next one again.
        self._listed = self._cloud.lumen.queries_started
        feed = ListFeed(change.objects)
        self._world.expected |= expected_ids(feed, threshold=self._world.threshold)

    def _goes_on(self, sight: Sight, asked: int) -> bool:
        """Fire the timer or list more where it is time; return whether there is more to come.

        `asked` queries had started before the look. A part that none of them asked for is not
        replaced by the next one.
        """
        state = sight.runs[-1]["state"] if sight.runs else "running"
        is_unasked = state == "complete" and asked <= self._asked_before
        if is_unasked or state in {"running", "interrupted"}:
            if time.monotonic() - max(self._fired_at, self._moved) > TICK_AFTER:
                self._fire_again()
            return True
        if state != "complete":
            return False
        every = FLOW_EVERY if self._must_flow() else TICK_AFTER
        if time.monotonic() - self._accepted_at > every and self._list_more():
            return True
        return bool(self._world.later) or not sight.has_settled or self._must_flow()

    def _fire_again(self) -> None:
        if self._fired < FIRE_AT_MOST:
            self.fire()

    def _must_flow(self) -> bool:
        return self._play is not None and self._play.flows and self._met_at is None

    def _list_more(self) -> bool:
        """Let the next query list the next part of the feed; return whether there was one."""
        if self._world.later:
            part = self._world.later.pop(0)
            self._cloud.lumen.replace_feed(part)
            self._asked_before = self._cloud.lumen.queries_started
            waiting = count(len(part), "more object")
            self._screen.say(f"firing the timer: {waiting} {_wait(len(part))} at Lumen")
        elif self._must_flow():
            self.change_feed()
        else:
            return False
        self._accepted_at = time.monotonic()
        self.fire()
        return True

    def _heal_in_time(self) -> None:
        if self._heal is None or self._met_at is None:
            return
        if time.monotonic() - self._met_at > HEAL_AFTER:
            self._heal()
            self._heal = None
            self._screen.say("  the fault is healed")

    def _serve_desk(self) -> None:
        """End the cause where it passes by itself, or where an operator has asked for it."""
        play, desk = self._play, self._desk
        if self._heal is None or play is None or desk is None:
            return
        if play.passes and self._met_at is not None:
            self._heal()
            self._heal = None
            self._screen.say("  the cause has passed; what it did stays until you repair it")
        elif desk.is_asked():
            self._heal()
            self._heal = None
            desk.close()
            self._screen.say(f"  done: {play.repair.outside}")

    def _is_tick_due(self, sight: Sight, fire_every: float) -> bool:
        every = FLOW_EVERY if self._must_flow() else fire_every
        if time.monotonic() - self._fired_at < every or self._waits_for_operator(sight):
            return False
        return self._may_change() or self._needs_a_run(sight)

    def _may_change(self) -> bool:
        """Whether the feed may change: once a query lists all of it; not while a repair shows."""
        return self._cloud.lumen.queries_started > 0 and (self.is_over or self._heal is not None)

    def _needs_a_run(self, sight: Sight) -> bool:
        """Whether only another run brings what misses, and none is under way."""
        last = sight.runs[-1]["state"] if sight.runs else ""
        misses = bool(self._cloud.sentinel.missing(self._world.expected))
        return last != "running" and (misses or bool(self._unlisted) or last != "complete")

    def _waits_for_operator(self, sight: Sight) -> bool:
        """Whether the operator's *sync now* is the tick that takes the run of a dead host over."""
        play = self._play
        if play is None or not play.waits:
            return False
        seen = self.seen(sight.runs)
        return seen.deaths > 0 and not play.was_met(seen)

    def _bring_forward(self, report: dict[str, Any]) -> None:
        """Bring messages forward that wait out of sight, once nothing else is on the queue.

        They wait on Azure until no request with an older copy can be under way; here none is.
        """
        held = self._cloud.held
        if held is not None and 0 < report["queue_depth"] == len(held.waiting):
            seconds = max(message.delay for message in held.waiting)
            messages = held.bring_forward()
            self._screen.say(
                f"  {count(messages, 'message')} with versions that were read again or follow "
                f"others {_wait(messages)} {seconds:.0f} s: the demo brings "
                f"{'it' if messages == 1 else 'them'} forward"
            )

    def _note(self, sight: Sight) -> None:
        """Note the signs of the fault."""
        report = sight.report
        self._kinds.update(problem["kind"] for problem in report["problems"])
        self._poison = max(self._poison, report["poison_kept"])
        if self._cloud.lumen.queries_started > self._listed:
            self._unlisted = []
        play = self._play
        if self._met_at is None and play is not None and play.was_met(self.seen(sight.runs)):
            self._met_at = time.monotonic()

    def _show(self, sight: Sight) -> None:
        """Print a row whenever something has moved, and a line for each new problem."""
        runs, report = sight.runs, sight.report
        fates, now = add_runs(runs), time.monotonic()
        numbers = {
            "pages": sum(run["pages"] for run in runs),
            "enqueued": fates["enqueued"],
            "accepted": fates["accepted"],
            "queue": report["queue_depth"],
            "throttled": self._cloud.sentinel.throttled,
        }
        if fates["accepted"] != self._accepted:
            self._accepted, self._accepted_at = fates["accepted"], now
        problems = [problem["what"] for problem in report["problems"]]
        has_moved = tuple(numbers.values()) != self._shown or problems != self._problems
        if has_moved:
            self._shown, self._moved = tuple(numbers.values()), now
        is_at_rest = self._rests and sight.has_settled and not problems
        self._screen.begin("" if is_at_rest else "waiting for the app's status")
        if has_moved or (now - self._row_at > ROW_EVERY and not is_at_rest):
            self._row_at = now
            self._screen.show(self._screen.row(**numbers, expected=len(self._world.expected)))
        for problem in problems:
            if problem not in self._problems:
                self._screen.say(f"  problem: {problem}")
        self._problems = problems


def _wait(number: int) -> str:
    return "waits" if number == 1 else "wait"


def all_expected(parts: Sequence[Feed], *, threshold: int) -> set[str]:
    """Return the ids of every part that must arrive."""
    return {one for part in parts for one in expected_ids(part, threshold=threshold)}


def _has_arrived(run: dict[str, Any]) -> bool:
    """Whether all of a run's sample has arrived: there is one where something was accepted."""
    return run["arrived"] == run["sampled"] and (run["sampled"] is not None or not run["accepted"])
