"""Row 2: what one delivery costs the consumer, in units of merely decompressing the chunk.

The real `Deliverer` takes a message from its text to its receipt: decode and check the envelope,
take its slot, build the request, classify the answer, write the chunk's row. Excluded is what
waits for others: the connection (an adapter at the border of `requests` answers each upload at
once with an empty 200), the token (it is at hand), Azure's SDK (tables are kept in memory) and the
formatting of log lines. `requests` itself is included.
"""

import logging
import random
import zlib
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import requests
from requests.adapters import BaseAdapter

from benchmarks.feeds import open_feed
from benchmarks.in_memory import CountingQueue, MemoryTables
from benchmarks.producer_cpu import SLOT, make_messages
from benchmarks.table import Figure, Scale
from benchmarks.timing import best_cpu
from common.clock import SystemClock
from common.ledger import Ledger, open_ledger
from common.ledger.problems import Problems
from common.ledger.slots import Slots
from common.ledger.states import ChunkState
from consumer.deferral import Deferrer
from consumer.deliver import Deliverer
from consumer.pacing import Pacer
from consumer.poison import PoisonKeeper
from consumer.sentinel import SentinelClient

GOAL: Final = 10.0
INDICATORS: Final = {Scale.QUICK: 5_000, Scale.FULL: 20_000}
ROUNDS: Final = {Scale.QUICK: 20, Scale.FULL: 40}


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Deliver every chunk of a feed, again and again."""
    messages = make_messages(open_feed(feed, INDICATORS[scale]))
    packed = dict(zip(messages, map(_packed_body, messages), strict=True))
    ledger = open_ledger(MemoryTables())
    deliverer = _deliverer(ledger)
    ours, reference = best_cpu(
        [
            lambda message: deliverer.deliver(message, dequeue_count=1),
            lambda message: zlib.decompress(packed[message]),
        ],
        messages,
        rounds=ROUNDS[scale],
    )
    states = [chunk.state for chunk in ledger.chunks.all()]
    assert states == [ChunkState.UPLOADED] * len(messages), "not every chunk was uploaded"
    return [
        Figure(
            row="2",
            what="consumer CPU per chunk",
            value=f"{ours / len(messages) * 1e6:,.0f} us",
            reference=f"{reference / len(messages) * 1e6:,.0f} us for zlib.decompress",
            ratio=ours / reference,
            goal=f"at most {GOAL:g} x",
            met=ours <= GOAL * reference,
            note=f"{len(messages)} chunks; network, token, Azure SDK and log formatting excluded",
        )
    ]


class Acceptor(BaseAdapter):
    """Stands where the connection is: an empty 200 to every request."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Accept the request."""
        answer = requests.Response()
        answer.status_code = 200
        answer.request = request
        answer.url = str(request.url)
        answer._content = b""  # what an adapter sets whose answer is read
        return answer

    def close(self) -> None:
        """Nothing is open."""


class _AtTheSlot(SystemClock):
    """The wall clock stands at the messages' send slot."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(SLOT, UTC)


class _Token:
    def token(self) -> str:
        return "a-token-as-long-as-they-are" * 50

    def refresh(self, *, refused: str) -> str:
        raise AssertionError(f"a token of {len(refused)} characters was refused")


def _deliverer(ledger: Ledger) -> Deliverer:
    logging.getLogger("lumen_sentinel").setLevel(logging.WARNING)
    tables, clock = MemoryTables(), _AtTheSlot()
    sentinel = SentinelClient(
        base_url="https://sentinel.invalid",
        workspace_id="00000000-0000-4000-8000-000000000000",
        clock=clock,
        connections=1,
    )
    sentinel._session.mount("https://", Acceptor())
    return Deliverer(
        sentinel=sentinel,
        tokens=_Token(),
        ledger=ledger,
        problems=Problems(tables, clock=clock),
        pacer=Pacer(Slots(tables, clock=clock, requests_per_minute=95.0), clock=clock),
        deferrer=Deferrer(
            queue=CountingQueue(),
            ledger=ledger,
            clock=clock,
            rng=random.Random(0),  # noqa: S311 - jitter
            first_delay=60.0,
        ),
        keeper=PoisonKeeper(ledger=ledger, clock=clock),
        clock=clock,
    )


def _packed_body(message: str) -> bytes:
    return b64decode(orjson.loads(message)["body"])
