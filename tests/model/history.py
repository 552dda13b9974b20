"""One random history of the pipeline, and the verdict on it."""

import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson

from common.envelope import decode_envelope, encode_envelope
from common.errors import PipelineError
from common.fingerprints import id_hash
from common.ledger.runs import Folded, Run
from common.ledger.states import RunState
from common.reconciliation import reconcile
from consumer.poison import MAX_PUT_BACK
from producer.sync import ASK_WITHIN
from tests.model.stage import Actor, Stage
from tests.model.world import (
    DOMAIN,
    LEASE,
    LOST_AFTER,
    MAX_RECEIVES,
    THRESHOLDS,
    UNDER_WAY,
    Message,
    Query,
    Version,
    World,
    version_of,
)

STALLS = (0.5, 3.0, 20.0, 130.0, 700.0)
FOLDS_WITHIN = 12
"""Gates that a tick passes from its read of the rows to the removal of a few of them."""
OTHER = 8
"""Number of an indicator that changes only in the end, so that something is accepted."""


@dataclass
class History:
    """What happens, by one seed."""

    seed: int
    steps: int = 120
    used: Counter[str] = field(default_factory=Counter)
    """How often each known limit was used."""

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - a history by its seed
        self._stage = Stage(self._rng)
        self.world = World(self._stage, snapshots=self._rng.random() < 0.3)
        self._moment = 0
        self._indicators = self._rng.choice([1, 2, 3, 6])
        self._stage.stops = self._rng.choice([0.1, 0.25, 0.5])
        self._kills = self._rng.choice([0.01, 0.03, 0.08])
        self.steps = self._rng.choice([80, 120, 200])
        self._retries = self._rng.random() < 0.5  # in the end, when Sentinel takes everything
        self._is_repaired = False
        """Whether everything that was refused was asked for once more, and Sentinel takes it."""
        self._trouble = self._rng.choice([0.0, 0.02, 0.1])
        self.world.lumen.fails = self.world.queue.fails = self.world.sentinel.fails = self._fails
        self._storage_trouble = self._rng.choice([0.0, 0.0, 0.002, 0.01, 0.04])
        self.world.storage_fails = self._storage_fails
        self.world.lumen.page_size = self._rng.choice([1, 2, 3, 5])
        self._loses_ledger_at = self._rng.randrange(1000)
        """At which step the tables are lost; most histories are shorter."""
        self._lost_at: float | None = None
        """When the tables were lost."""
        self._must_arrive: set[Version] = set()
        self._moves_at = self._rng.randrange(800)
        """At which step the app is set for another workspace; most histories are shorter."""
        self._moves_filters = self._rng.random() < 0.3
        """Whether an operator changes the threshold and the kinds while the feed goes on."""
        sentinel = self.world.sentinel
        sentinel.refuses_whole = self._rng.random() < 0.6
        sentinel.names = self._rng.random() < 0.5
        self._bad = self._rng.choice([0.05, 0.05, 0.3])
        self._outage_is_over = False

    def _fails(self) -> bool:
        return not self._stage.is_quiet and self._rng.random() < self._trouble

    def _lose_ledger(self) -> None:
        """Lose all tables; the queue stays, and what is on it must arrive."""
        self.world.lose_ledger()
        self._lost_at = self._stage.now
        queues = self.world.queue, self.world.poison_queue
        texts = [message.text for queue in queues for message in queue.messages]
        for text in texts:
            records = orjson.loads(decode_envelope(text).body)
            self._must_arrive |= {version_of(record) for record in records}

    def _storage_fails(self) -> bool:
        if self._storage_trouble == 0.0 or self._stage.is_quiet or self._stage.current is None:
            return False
        return self._rng.random() < self._storage_trouble

    def play(self) -> None:
        """Let everything happen, then let everything come to rest."""
        for step in range(self.steps):
            if step == self._loses_ledger_at:
                self._lose_ledger()
            if step == self._moves_at:
                self.world.move()
            self._step()
        self._stage.is_quiet = True
        self.world.sentinel.refuses_all = False
        if self.world.queue.messages and self._rng.random() < 0.4:
            self._clear(self._rng.choice(self.world.queue.messages))
        sleepers = list(self._stage.actors)
        for actor in self._some(sleepers):
            sleepers.remove(actor)
            self._wake(actor)
        self.settle()
        for actor in sleepers:  # these slept while everything else came to rest
            self._wake(actor)
        self.settle()

    def _some(self, actors: list[Actor]) -> list[Actor]:
        return [actor for actor in actors if self._rng.random() < 0.5]

    def _wake(self, actor: Actor) -> None:
        """Let an actor go on to its end, or die where it stands."""
        if self._rng.random() < 0.3:
            self._stage.kill(actor)
        else:
            self._finish(actor)

    def settle(self) -> None:
        """Run ticks and deliver until nothing is left to do.

        Another indicator changes all the time: what is refused needs to see that others pass.
        """
        world = self.world
        world.max_pages = 1000
        for round_ in range(60):
            self._stage.advance(900.0)
            self._drain()
            self._stage.advance(700.0)  # more than two clocks may differ
            if world.queue.messages:
                world.lumen.change(Version(number=OTHER, modified=round_ + 60))
            self._run("tick", world.tick)
            self._drain()
            is_done = not (world.queue.messages or self._is_open() or world.ledger.wishes.first(1))
            if is_done and not any(True for _ in world.ledger.chunks.all()):
                if not self._retries:
                    return
                self._retries, self._is_repaired = False, True
                world.sentinel.is_lenient = True
                self._run("retry", world.retry_all)
            self._run("replay", world.replay_all)
            self._run("lost", world.declare_lost)
            self._run("adopt", world.adopt)

    def _drain(self) -> None:
        while self._deliver_one(finish=True) or self._keep_one(finish=True):
            pass

    def _is_open(self) -> bool:
        return any(run.is_open for run in self.world.ledger.runs.latest(999))

    def _step(self) -> None:
        rng, stage = self._rng, self._stage
        choice = rng.random()
        if stage.actors and choice < 0.55:
            self._go_on(rng.choice(stage.actors))
        elif choice < 0.62:
            stage.advance(rng.choice(STALLS))
        elif choice < 0.72:
            self._change()
        elif choice < 0.80:
            self._start("tick", self._tick)
        elif choice < 0.93:
            self._deliver_one(finish=False)
        elif choice < 0.90 + self._kills and stage.actors:
            stage.kill(rng.choice(stage.actors))
        else:
            self._rare()

    def _rare(self) -> None:
        rng, world = self._rng, self.world
        match rng.randrange(18):
            case 0 if world.queue.messages:
                world.queue.put(rng.choice(world.queue.messages).text)
            case 1:
                self._keep_one(finish=False)
            case 2 if world.queue.visible():
                message = rng.choice(world.queue.visible())  # the host gives it up
                world.queue.messages.remove(message)
                world.poison_queue.put(message.text)
            case 3 if world.lumen.queries:
                world.lumen.queries[-1].is_known = rng.random() < 0.7
            case 4:
                world.lumen.list_again()
            case 5:
                world.sentinel.is_lenient = not world.sentinel.is_lenient
            case 6 | 7 | 8:
                self._overtake(rng.choice([0.0, 0.0, rng.choice(STALLS)]))
            case 9:
                self._refuse_all()
            case 10 | 11 | 12:
                rng.choice([self._answer_a_fold, self._give_up_after_split])()
            case _:
                self._operate()

    def _operate(self) -> None:
        """Let an operator do something."""
        rng, world = self._rng, self.world
        match rng.randrange(6):
            case 5:
                self._start("adopt", world.adopt)
            case 0:
                self._start("replay", world.replay_all)
            case 1 if rng.random() < 0.3:
                self._start("discard", world.discard_one)
            case 2:
                self._start("retry", world.retry_all)
            case 3 if world.queue.messages:
                self._clear(rng.choice(world.queue.messages))
            case 4 if rng.random() < 0.5:
                self._stage.advance(LOST_AFTER.total_seconds())
                self._start("lost", world.declare_lost)
            case _:
                pass

    def _clear(self, message: Message) -> None:
        """Let somebody clear a message from the queue."""
        self.world.queue.messages.remove(message)
        records = orjson.loads(decode_envelope(message.text).body)
        self.world.lost_ids |= {id_hash(record["id"]) for record in records}

    def _refuse_all(self) -> None:
        """Begin or end the one outage in which Sentinel refuses everything.

        After a second one a good record may be rejected: it is a known limit.
        """
        sentinel = self.world.sentinel
        if sentinel.refuses_all:
            sentinel.refuses_all, self._outage_is_over = False, True
        elif not self._outage_is_over:
            sentinel.refuses_all = True

    def _overtake(self, stall: float) -> None:
        """Let a newer version come all the way, while whoever is at work stands still."""
        self._stage.advance(stall)
        self._change()
        self._run("tick", self._tick)
        for _ in range(3):
            self._deliver_one(finish=True)

    def _give_up_after_split(self) -> None:
        """Let the host give a message up that was refused and may be split; then an operator acts.

        Its sender dies somewhere between the request and the acknowledgement.
        """
        world = self.world
        many = [found for found in self._visible() if decode_envelope(found.text).count > 1]
        if not many:
            return
        message = self._rng.choice(many)
        sender = self._deliver(message)
        for _ in range(self._rng.randrange(2, 24)):
            if not sender.is_over:
                self._go_on(sender)
        if not sender.is_over and self._rng.random() < 0.8:
            self._stage.kill(sender)
        if message in world.queue.messages:
            world.queue.messages.remove(message)
        last = replace(decode_envelope(message.text), put_back=MAX_PUT_BACK)
        world.poison_queue.put(encode_envelope(last))
        self._keep_one(finish=True)
        act = world.discard_one if self._rng.random() < 0.7 else world.replay_all
        self._act("operator", act, finish=self._rng.random() < 0.7)

    def _answer_a_fold(self) -> None:
        """Let an answer come while a tick folds the row: its records were struck by then.

        The answer comes behind the look that the tick takes at the row.
        """
        slow = self._under_way()
        if slow is None or slow.delivers is None:
            return
        for _ in range(3):
            if self.world.may_fold(slow.delivers):
                break
            for record in orjson.loads(slow.delivers.body):
                self._change(number=version_of(record).number)
            self._run("tick", self._tick)
        tick = self._start("tick", self._tick)
        for gate in ("versions replace done", "chunks query done"):
            self._stage.play_to(tick, gate)
        self._stage.play_on(tick, self._rng.randrange(FOLDS_WITHIN))
        for actor in (slow, tick):
            if not actor.is_over:
                self._finish(actor)

    def _visible(self) -> list[Message]:
        """Return messages that can be received; where there are none, a tick sends some."""
        queue = self.world.queue
        for pause in (0.0, LEASE):  # a tick that was killed leaves its lease
            if queue.messages:
                break
            self._stage.advance(pause)
            for _ in range(3):
                self._change()
            self._run("tick", self._tick)
        if queue.messages and not queue.visible():
            soonest = min(message.visible_at for message in queue.messages)
            self._stage.advance(soonest - self._stage.now)
        return queue.visible()

    def _under_way(self) -> Actor | None:
        """Return who waits for Sentinel's answer; deliver something where nobody does."""
        waiting = [actor for actor in self._stage.actors if actor.at == UNDER_WAY]
        if waiting:
            return self._rng.choice(waiting)
        visible = self._visible()
        if not visible:
            return None
        actor = self._deliver(self._rng.choice(visible))
        self._stage.play_to(actor, UNDER_WAY)
        return None if actor.is_over else actor

    def _change(self, number: int | None = None) -> None:
        rng = self._rng
        self._moment += rng.choice([0, 1, 1, 2])
        late = rng.random() < 0.1 and self._moment > 3
        self.world.lumen.change(
            Version(
                number=rng.randrange(self._indicators) if number is None else number,
                modified=self._moment - (rng.randrange(1, 4) if late else 0),
                confidence=rng.choice([90, 90, 95, 70, 40]),
                revoked=rng.random() < 0.15,
                is_bad=rng.random() < self._bad,
            )
        )

    def _tick(self) -> None:
        self.world.chunk_size = self._rng.choice([1, 2, 3, 6])
        self.world.max_pages = self._rng.choice([1, 2, 1000])
        if self._moves_filters:
            self.world.threshold = self._rng.choice(THRESHOLDS)
            self.world.domains = self._rng.random() < 0.7
        self.world.tick()

    def _deliver_one(self, *, finish: bool) -> bool:
        world = self.world
        visible = world.queue.visible()
        if not visible:
            return False
        message = self._rng.choice(visible)
        if message.receives >= MAX_RECEIVES:
            world.queue.messages.remove(message)
            world.poison_queue.put(message.text)
            return True
        actor = self._deliver(message)
        if finish:
            self._finish(actor)
        return True

    def _deliver(self, message: Message) -> Actor:
        """Let an instance begin to deliver a message."""
        receipt = self.world.queue.receive(message)
        return self._start("deliver", lambda: self.world.deliver(message, receipt))

    def _keep_one(self, *, finish: bool) -> bool:
        world = self.world
        visible = world.poison_queue.visible()
        if not visible:
            return False
        message: Message = self._rng.choice(visible)
        receipt = world.poison_queue.receive(message)
        self._act("keep", lambda: world.keep_poison(message, receipt), finish=finish)
        return True

    def _act(self, name: str, work: object, *, finish: bool) -> None:
        actor = self._start(name, work)
        if finish:
            self._finish(actor)

    def _start(self, name: str, work: object) -> Actor:
        skew = self._rng.choice([0.0, 0.0, -400.0, 400.0])
        return self._stage.start(name, lambda: _forgiving(work), skew=skew)

    def _run(self, name: str, work: object) -> None:
        self._finish(self._start(name, work))

    def _go_on(self, actor: Actor) -> None:
        self._stage.play(actor)

    def _finish(self, actor: Actor) -> None:
        while not actor.is_over:
            self._stage.play(actor)

    def end(self) -> None:
        """End whoever still waits, so that no thread outlives the history."""
        for actor in list(self._stage.actors):
            with suppress(BaseException):
                self._stage.kill(actor)

    def faults(self) -> list[str]:
        """Return everything that is wrong with how it ended."""
        return [
            *(offence for workspace in self.world.workspaces for offence in workspace.offences),
            *self.world.offences,
            *self._books(),
            *self._without_ledger(),
            *self._lost_queries(),
            *self._last_words(),
            *self._wrong_rejections(),
            *self._one_more_snapshot(),
        ]

    def _without_ledger(self) -> list[str]:
        """Find what was on the queue when the ledger was lost, and of which Sentinel saw nothing.

        A newer version may have taken its place, in Sentinel or in what Sentinel refused.
        """
        seen: set[int] = set()
        for workspace in self.world.workspaces:
            seen |= {version.number for version in workspace.refused} | set(workspace.holds)
        return [
            f"{version} was on the queue when the ledger was lost, and is gone"
            for version in self._must_arrive
            if version.number not in seen and not self._was_given_up(version.number)
        ]

    def _one_more_snapshot(self) -> list[str]:
        """List the newest version of everything once more: what was listed before is not sent."""
        if self._gap_queries() or self.world.lumen.has_news or self._lost_at is not None:
            return []  # some of it would be news
        if self.world.left is not None:
            return []  # the workspace has what was listed since it is the present one
        self.world.threshold, self.world.domains = max(THRESHOLDS), not self._moves_filters
        before = self.world.sentinel.sent
        self.world.lumen.list_again()
        self._stage.advance(900.0)
        self._run("tick", self.world.tick)
        self._stage.advance(900.0)
        self._drain()
        more = self.world.sentinel.sent - before
        return [f"one more snapshot was sent in {more} requests"] if more else []

    def _wrong_rejections(self) -> list[str]:
        """Find rejected versions that Sentinel would take."""
        ledger = self.world.ledger
        kept = [
            one for run in ledger.runs.latest(999) for one in ledger.rejections.of_run(run.run_id)
        ]
        versions = [version_of(json.loads(one.content)) for one in kept]
        return [f"{version} was rejected" for version in versions if not version.is_bad]

    def _books(self) -> list[str]:
        ledger = self.world.ledger
        faults = []
        for run in ledger.runs.latest(999):
            if run.is_open:
                faults.append(f"run {run.run_id} is open in the end")
            removed = self.world.removed.get(run.run_id, Folded())
            if replace(run.folded, waited=0.0) != replace(removed, waited=0.0):
                faults.append(f"{run.run_id} counts {run.folded}, its removed rows said {removed}")
            chunks = list(ledger.chunks.outcomes(run.run_id))
            fate = reconcile(run, chunks)
            if not fate.balanced:
                faults.append(f"the books of {run.run_id} do not balance: {fate}")
            if fate.pending:
                faults.append(f"run {run.run_id} has {fate.pending} pending in the end")
            if any(chunk.fate.poisoned for chunk in chunks if not chunk.void):
                faults.append(f"run {run.run_id} has poison that no kept record answers for")
        return faults

    def _lost_queries(self) -> list[str]:
        """Find queries that no run has, and no gap tells of: what they listed is lost unseen.

        A gap tells of a query that was started before it was closed, or seconds later.
        """
        runs = list(self.world.ledger.runs.latest(999))
        known = {run.cache_id for run in runs}
        lost = [
            query.started
            for number, query in enumerate(self.world.lumen.queries)
            if str(number) not in known and any(query.pages) and not self._told_the_lost(query)
        ]
        gaps = [run for run in runs if run.state is RunState.GAP and run.asked]
        told = sorted(self._closed_at(run) for run in gaps if run.cache_id is None)
        faults = []
        for started in sorted(lost):
            covers = next((at for at in told if at >= started - ASK_WITHIN), None)
            if covers is None:
                faults.append(f"no gap tells of the query that was started at {started}")
            else:
                told.remove(covers)
        return faults

    def _told_the_lost(self, query: Query) -> bool:
        """Whether the tables that were lost told of a query: also of one about to be started."""
        return self._lost_at is not None and query.started <= self._lost_at + ASK_WITHIN

    def _closed_at(self, run: Run) -> float:
        """Return when the head of a run was written last."""
        found = self.world.ledger.runs.get(run.run_id)
        assert found is not None
        assert found.age is not None
        return self._stage.now - found.age.total_seconds()

    def _last_words(self) -> list[str]:
        """Compare what Sentinel holds with every version that was listed."""
        listed: dict[int, list[Version]] = {}
        fresh: dict[int, list[Version]] = {}
        in_gaps: set[Version] = set()
        before_loss: set[int] = set()
        gaps = self._gap_queries()
        for number, query in enumerate(self.world.lumen.queries):
            for at, version in query.listed():
                if self._told_the_lost(query):
                    before_loss.add(version.number)
                if number in gaps:
                    in_gaps.add(version)
                if number not in gaps or at < query.was_read:
                    listed.setdefault(version.number, []).append(version)
                if query.destination == self.world.sentinel.destination:
                    fresh.setdefault(version.number, []).append(version)
        found = {
            number: self._last_word(number, versions, in_gaps)
            if self.world.left is None
            else self._last_word_there(number, versions, fresh.get(number, []), in_gaps)
            for number, versions in listed.items()
        }
        faults = {number: fault for number, fault in found.items() if fault}
        self.used["the ledger was lost"] += len(before_loss & faults.keys())
        return [f"indicator {n}: {faults[n]}" for n in faults if n not in before_loss]

    def _gap_queries(self) -> set[int]:
        runs = list(self.world.ledger.runs.latest(999))
        complete = {
            int(run.cache_id)
            for run in runs
            if run.cache_id is not None and run.state is RunState.COMPLETE
        }
        return set(range(len(self.world.lumen.queries))) - complete

    def _passes(self, version: Version) -> bool:
        """Whether a version passes the filters, however the operator moved them."""
        if not self._moves_filters:
            return version.confidence >= THRESHOLDS[1] and not version.revoked
        is_wanted = version.confidence >= max(THRESHOLDS) and version.kind != DOMAIN
        return is_wanted and not version.revoked

    def _last_word(self, number: int, versions: list[Version], in_gaps: set[Version]) -> str:
        holds = self.world.sentinel.holds.get(number)
        newest = max(v.modified for v in versions)
        last = [v for v in versions if v.modified == newest]
        sure = [v for v in versions if v not in in_gaps]
        was_refused = any(v.is_bad for v in last) and not self._is_repaired
        if holds is None and was_refused:
            self.used["Sentinel refused the newest version"] += 1
            return ""
        if holds is None and any(v in in_gaps for v in last):
            self.used["struck for a version in a gap"] += 1
            return ""
        if holds is None:
            passing = any(self._passes(v) and (self._is_repaired or not v.is_bad) for v in sure)
            if passing and not self._was_given_up(number):
                return f"a version passes and none arrived: {versions}"
            return ""
        if holds == last[-1] or (holds in last and any(v in in_gaps for v in last)):
            return ""
        if any(v in in_gaps for v in last):
            self.used["the newest version is in a gap"] += 1
            return ""
        if was_refused:
            self.used["Sentinel refused the newest version"] += 1
            return ""
        if self._was_given_up(number):
            self.used["given up by an operator"] += 1
            return ""
        if self._was_below(sure, holds):
            self.used["below the threshold before the first that passes"] += 1
            return ""
        return f"Sentinel holds {holds}, the newest of {versions} are {last}"

    def _last_word_there(
        self, number: int, versions: list[Version], fresh: list[Version], in_gaps: set[Version]
    ) -> str:
        """Judge the workspace that the app moved to, by what was listed since.

        Where something newer was listed before, it may have been on its way then, and accepted by
        either workspace, or refused.
        """
        if not fresh or max(v.modified for v in versions) > max(v.modified for v in fresh):
            self.used["another workspace starts with what is listed from then on"] += 1
            return ""
        return self._last_word(number, fresh, in_gaps)

    def _was_below(self, versions: list[Version], holds: Version) -> bool:
        """Whether what is newer was listed before the first version that passes."""
        first = next((i for i, v in enumerate(versions) if self._passes(v)), len(versions))
        return all(
            not self._passes(v) and versions.index(v) < first
            for v in versions
            if v.modified > holds.modified
        )

    def _was_given_up(self, number: int) -> bool:
        if id_hash(Version(number=number, modified=0).indicator_id) in self.world.lost_ids:
            self.used["declared lost"] += 1
            return True
        return number in self.world.discarded.values()


def _forgiving(work: object) -> None:
    """Run `work`; what a host would log and forget is no fault."""
    assert callable(work)
    with suppress(PipelineError):
        work()
