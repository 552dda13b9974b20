"""Row 12: requests that a chunk of 100 takes of which some records are bad.

Sentinel refuses a request as a whole for a bad record and names none. Between any two deliveries it
accepts something of others. The consumer's own code, over storage in memory; counts, no times.
"""

import logging
import random
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast

import orjson

from benchmarks.in_memory import MemoryTables
from benchmarks.table import Figure, Scale
from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.identity import TokenSource
from common.ledger import open_ledger
from common.ledger.acceptance import ENOUGH_RAISES, Acceptance
from common.ledger.chunks import insertion, row_of
from common.ledger.problems import Problems
from consumer.deliver import Deliverer
from consumer.sentinel import Answer, Refused, SentinelClient, Uploaded
from consumer.wiring import make_deliverer

RECORDS: Final = 100
BAD: Final = {1: 17, 2: 30, 4: 52, 10: 100, 50: 250, 100: 300}
"""How many are bad, and the goal: requests at most, as the median of random places."""

PLACES: Final = {Scale.QUICK: 9, Scale.FULL: 99}
_HERE: Final = "bench/workspace"


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Count the requests for each number of bad records, at random places."""
    del feed  # the records are made up
    rng = random.Random(0)  # noqa: S311 - places by a fixed seed
    logging.disable(logging.CRITICAL)
    try:
        return [
            _figure(
                number,
                [requests_for(rng.sample(range(RECORDS), number)) for _ in range(PLACES[scale])],
                letter=letter,
            )
            for letter, number in zip("abcdef", BAD, strict=True)
        ]
    finally:
        logging.disable(logging.NOTSET)


def _figure(number: int, counts: list[int], *, letter: str) -> Figure:
    median = statistics.median(counts)
    return Figure(
        row=f"12{letter}",
        what=f"requests to find {number} bad of {RECORDS}",
        value=f"{median:g} (at most {max(counts)})",
        reference="1 for a good chunk",
        ratio=median,
        goal=f"at most {BAD[number]}",
        met=median <= BAD[number],
    )


@dataclass
class _Clock:
    """Time that passes only while a caller waits."""

    elapsed: float = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    def boottime(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.elapsed += max(seconds, 0.0)


@dataclass
class _Sentinel:
    """Refuses requests that hold a bad record."""

    bad: frozenset[int]
    requests: int = 0
    destination: str = _HERE

    def upload(self, objects: bytes, *, count: int, token: str) -> Answer:  # noqa: ARG002
        self.requests += 1
        if any(record["number"] in self.bad for record in orjson.loads(objects)):
            return Refused(reason="refused")
        return Uploaded()


class _Token:
    def token(self) -> str:
        return "token"

    def refresh(self, *, refused: str) -> str:
        return refused


@dataclass
class _Queue:
    """Hands out the message that is due first."""

    clock: _Clock
    messages: list[tuple[float, str]] = field(default_factory=list)

    def send(self, text: str, *, delay: float = 0.0) -> None:
        self.messages.append((self.clock.elapsed + delay, text))

    def depth(self) -> int:
        return len(self.messages)

    def receive(self) -> str:
        """Wait for the message that is due first and remove it."""
        first = min(self.messages)
        self.messages.remove(first)
        self.clock.sleep(first[0] - self.clock.elapsed)
        return first[1]


def requests_for(bad: list[int]) -> int:
    """Return how many requests one chunk takes until each bad record is rejected."""
    clock, tables, sentinel = _Clock(), MemoryTables(), _Sentinel(frozenset(bad))
    ledger, problems, queue = open_ledger(tables), Problems(tables, clock=clock), _Queue(clock)
    chunk, deliverer = _chunk(), _deliverer(tables, clock, sentinel, queue)
    tables.table("chunks").insert(insertion(row_of(chunk, destination=_HERE, at=clock.now())).row)
    queue.send(encode_envelope(chunk))
    others = Acceptance(tables, clock=clock)
    while queue.messages:
        for _ in range(ENOUGH_RAISES):
            others.accepted(others.read())
        deliverer.deliver(queue.receive())
    row = ledger.chunks.get(chunk.run_id, chunk.key)
    assert row is not None
    assert {at for at, letter in enumerate(row.each) if letter == "R"} == set(bad)
    assert not list(problems.open())
    return sentinel.requests


def _chunk() -> Envelope:
    body = orjson.dumps([{"number": number} for number in range(RECORDS)])
    return Envelope(
        run_id="bench",
        chunk_id=chunk_id_of(body),
        sequence=0,
        count=RECORDS,
        body=body,
        fingerprints=tuple(range(RECORDS)),
    )


def _deliverer(
    tables: MemoryTables, clock: _Clock, sentinel: _Sentinel, queue: _Queue
) -> Deliverer:
    return make_deliverer(
        tables,
        queue=queue,
        sentinel=cast("SentinelClient", sentinel),
        tokens=cast("TokenSource", _Token()),
        clock=clock,
        rng=random.Random(0),  # noqa: S311 - jitter
        requests_per_minute=95.0,
        first_delay=60.0,
    )
