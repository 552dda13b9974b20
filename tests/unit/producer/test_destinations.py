"""A workspace that changes at any time: random histories, each judged by what both of them hold."""

import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from common.envelope import Envelope, decode_envelope
from consumer.look import Sendable, Settled, judge_look
from tests.unit.producer.samples import raw_indicator
from tests.unit.producer.scripted_lumen import ScriptedLumen
from tests.unit.producer.sync_world import TICK, World

BEFORE, NOW = "sentinel.example/before", "sentinel.example/now"
HISTORIES = range(150)
NUMBERS = 6


@dataclass
class History:
    """A feed that lists each version once, or again, while the app is set for another workspace."""

    rng: random.Random
    world: World = field(default_factory=lambda: World(lumen=ScriptedLumen(pages=[[]])))
    destination: str = BEFORE
    versions: int = 0
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    listed_now: set[str] = field(default_factory=set)
    """Ids of which the newest version was listed since the move."""
    holds: dict[str, dict[str, str]] = field(default_factory=lambda: {BEFORE: {}, NOW: {}})
    """By workspace and id: `modified` of what Sentinel holds."""

    def list_some(self) -> None:
        """Let Lumen list some new versions, or some that it has listed before; and sync."""
        numbers = self.rng.sample(range(NUMBERS), self.rng.randrange(1, NUMBERS))
        records = []
        for number in numbers:
            record = raw_indicator(number)
            known = self.newest.get(record["id"])
            if known is None or self.rng.random() < 0.6:
                self.versions += 1
                known = {
                    **record,
                    "modified": f"2026-03-01T{self.versions // 60:02}:{self.versions % 60:02}:00Z",
                    "confidence": self.rng.choice([90, 90, 10]),
                }
                self.listed_now.discard(record["id"])
            self.newest[record["id"]] = known
            records.append(known)
            if self.destination == NOW:
                self.listed_now.add(record["id"])
        self.sync(records)

    def sync(self, records: list[dict[str, Any]]) -> None:
        """Run a tick in which Lumen lists `records`."""
        self.world.lumen.pages = [list(records)]
        size = self.rng.choice([1, 2, 100])
        self.world.tick(destination=self.destination, chunk_size=size)
        self.world.clock.advance(TICK)

    def deliver(self, *, always: bool = False) -> None:
        """Deliver what is on the queue: some of it not yet, and some answers are lost."""
        kept = []
        for sent in self.world.queue.sent:
            fate = 0.0 if always else self.rng.random()
            if fate > 0.7 or not self._send(decode_envelope(sent.text), is_heard=fate < 0.6):
                kept.append(sent)
        self.world.queue.sent = kept

    def _send(self, envelope: Envelope, *, is_heard: bool) -> bool:
        """Send what may be sent; return whether the message is done with."""
        chunks = self.world.ledger.chunks
        look = judge_look(
            envelope,
            chunks.get(envelope.run_id, envelope.key),
            ledger_id=chunks.known_ledger_id(),
            destination=self.destination,
        )
        if not isinstance(look, Sendable):
            return isinstance(look, Settled)
        records = orjson.loads(envelope.body)
        for index in look.indexes:
            self.holds[self.destination][records[index]["id"]] = records[index]["modified"]
        if is_heard and look.chunk is not None:
            at = self.world.clock.now()
            chunks.record_uploaded(look.chunk, sent=look.indexes, rejected=(), at=at)
        return is_heard

    def adopt(self) -> None:
        """Turn over what waits for the workspace before, as an operator does when all is quiet."""
        for chunk in list(self.world.ledger.chunks.all()):
            if chunk.to_send and chunk.destination != self.destination:
                assert self.world.ledger.chunks.turn_over(chunk, self.destination)

    def play(self) -> None:
        """Begin at one workspace, move to the other, let everything come to rest there."""
        moves_at = self.rng.randrange(1, 12)
        adopts_at = self.rng.randrange(moves_at, 16)
        for step in range(16):
            if step == moves_at:
                self.destination = NOW
            if step == adopts_at:
                self.adopt()
            self.rng.choice([self.list_some, self.deliver])()
        self.adopt()
        for _ in range(3):
            self.deliver(always=True)
            self.sync([])

    def faults(self) -> list[str]:
        """Return what the present workspace lacks, or holds of an older version."""
        faults = []
        for name, record in self.newest.items():
            held = self.holds[NOW].get(name)
            if held is None and name in self.listed_now and record["confidence"] == 90:
                faults.append(f"{name} was listed since the move and did not arrive")
            if held is not None and held != record["modified"] and name in self.listed_now:
                faults.append(f"{name}: held is {held}, the newest is {record['modified']}")
        if not all(fate.balanced and not fate.pending for fate in self.world.fates()):
            faults.append("the books do not balance")
        if self.world.chunks:
            faults.append("rows are left")
        return faults


def test_what_is_listed_since_the_move_is_what_the_present_workspace_holds() -> None:
    """Whatever was open, unheard or taken at the one before, and whenever it is turned over."""
    histories = [History(random.Random(seed)) for seed in HISTORIES]  # noqa: S311 - by seeds
    for history in histories:
        history.play()
    wrong = {seed: faults for seed, h in enumerate(histories) if (faults := h.faults())}
    assert not wrong
    assert sum(len(history.holds[NOW]) for history in histories) > 300
