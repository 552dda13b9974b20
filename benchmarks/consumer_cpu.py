"""Row 2: what one delivery costs the consumer, in units of merely decompressing the chunk.

The real `Deliverer` takes a message from its text to its receipt: decode and check the envelope,
take its slot, look at the chunk's row, build the request, classify the answer, write the row, and
log it.
Excluded is what waits for others: the connection (an adapter at the border of `requests` answers
each upload at once with an empty 200) and the token (it is at hand). `requests` itself is included.

Two lines: 2a keeps the tables in memory, which is our code and `requests`; 2b writes the row with
Azure's own table client, whose connection is left out in the same way. The goal is 2a's: the client
alone takes longer than that, and it is a given. Every look finds the row as it was before the first
delivery, so that each round delivers again.
"""

import logging
import random
import zlib
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import orjson
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from benchmarks.feeds import open_feed
from benchmarks.in_memory import CountingQueue, MemoryTable, MemoryTables
from benchmarks.producer_cpu import NOW, SLOT, TRACE, pages_of, produce
from benchmarks.table import Figure, Scale, shown
from benchmarks.table_client import TableAcceptor, tables_without_connection
from benchmarks.timing import best_cpu
from common.clock import SystemClock
from common.events import Event
from common.ledger import open_ledger
from common.ledger.chunks import insertion
from common.ledger.partitions import TABLE as CHUNKS_TABLE
from common.ledger.states import ChunkState
from common.ledger.tables import Row, Tables
from common.settings import destination_of
from consumer.deliver import Deliverer
from consumer.sentinel import SentinelClient
from consumer.wiring import make_deliverer
from producer.drain import new_row

GOAL: Final = 10.0
_BASE_URL: Final = "https://sentinel.invalid"
_WORKSPACE: Final = "00000000-0000-4000-8000-000000000000"
_DESTINATION: Final = destination_of(_BASE_URL, _WORKSPACE)
INDICATORS: Final = {Scale.QUICK: 5_000, Scale.FULL: 20_000}
ROUNDS: Final = {Scale.QUICK: 20, Scale.FULL: 40}


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Deliver every chunk of a feed, again and again, with and without the table client."""
    chunks = produce(tuple(pages_of(open_feed(feed, INDICATORS[scale]))))[:-1]  # whole ones
    messages = [chunk.text(slot=SLOT, trace_parent=TRACE) for chunk in chunks]
    packed = dict(zip(messages, map(_packed_body, messages), strict=True))
    rows = [insertion(new_row(c, destination=_DESTINATION, at=NOW)).row for c in chunks]
    memory, acceptor = RestoredTables(), TableAcceptor(rows)
    for row in rows:
        memory.table(CHUNKS_TABLE).insert(row)
    plain = _deliverer(memory)
    whole = _deliverer(tables_without_connection(acceptor))
    with log_lines_formatted() as lines:
        ours, with_client, reference = best_cpu(
            [
                plain.deliver,
                whole.deliver,
                lambda message: zlib.decompress(packed[message]),
            ],
            messages,
            rounds=ROUNDS[scale],
        )
    assert lines.last.startswith(Event.CHUNK_UPLOADED), "no log line was formatted"
    states = [chunk.state for chunk in open_ledger(memory).chunks.all()]
    assert states == [ChunkState.UPLOADED] * len(messages), "not every chunk was uploaded"
    written = [body for url, body in acceptor.written.items() if f"/{CHUNKS_TABLE}(" in url]
    assert len(written) == len(messages), "not every chunk's row was written"
    count = len(messages)
    without = _figure("2a", "consumer CPU per chunk", ours / count, reference / count)
    whole_way = _figure(
        "2b", "the same with Azure's table client", with_client / count, reference / count
    )
    return [
        replace(without, note=f"{count} chunks; network, token and table client excluded"),
        replace(
            shown(whole_way),
            goal=f"shown: {'within' if whole_way.met else 'above'} 2a's {GOAL:g} x",
            note=f"{count} chunks; network and token excluded; the table client is the difference",
        ),
    ]


class RestoredTables(MemoryTables):
    """Tables in which each look finds a chunk's row as it was inserted."""

    def table(self, name: str) -> MemoryTable:
        if name == CHUNKS_TABLE:
            self._tables.setdefault(name, _RestoredTable(self._age))
        return super().table(name)


class _RestoredTable(MemoryTable):
    def __init__(self, age: timedelta) -> None:
        super().__init__(age)
        self._inserted: dict[tuple[str, str], Row] = {}

    def insert(self, row: Row) -> str:
        self._inserted[row.partition, row.key] = row
        return super().insert(row)

    def get(self, partition: str, key: str) -> Row | None:
        return self._inserted.get((partition, key))


def _figure(row: str, what: str, ours: float, reference: float) -> Figure:
    """Return the figure of a chunk's seconds. Pure."""
    return Figure(
        row=row,
        what=what,
        value=f"{ours * 1e6:,.0f} us",
        reference=f"{reference * 1e6:,.0f} us for zlib.decompress",
        ratio=ours / reference,
        goal=f"at most {GOAL:g} x",
        met=ours <= GOAL * reference,
    )


@contextmanager
def log_lines_formatted() -> "Iterator[LineFormatter]":
    """Let our log lines be made and formatted, as on a host, and go nowhere."""
    logger, handler = logging.getLogger("lumen_sentinel"), LineFormatter()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.propagate = True
        logger.setLevel(level)
        logger.removeHandler(handler)


class LineFormatter(logging.Handler):
    """Formats every line and keeps only the last."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = self.format(record)


class Acceptor(BaseAdapter):
    """Stands where the connection is: an empty 200 to every request."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Accept the request."""
        answer = requests.Response()
        answer.status_code = 200
        answer.request = request
        answer.url = str(request.url)
        answer.raw = HTTPResponse(BytesIO(), preload_content=False)
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


def _deliverer(tables: Tables) -> Deliverer:
    clock = _AtTheSlot()
    sentinel = SentinelClient(
        base_url=_BASE_URL,
        workspace_id=_WORKSPACE,
        clock=clock,
        connections=1,
    )
    sentinel._session.mount("https://", Acceptor())
    return make_deliverer(
        tables,
        queue=CountingQueue(),
        sentinel=sentinel,
        tokens=_Token(),
        clock=clock,
        rng=random.Random(0),  # noqa: S311 - jitter
        requests_per_minute=95.0,
        first_delay=60.0,
    )


def _packed_body(message: str) -> bytes:
    return b64decode(orjson.loads(message)["body"])
