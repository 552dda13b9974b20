"""The rows that count work: what they count is what the product really does."""

import logging
import math
from collections import Counter
from random import Random

import orjson
import pytest
import requests

from benchmarks import consumer_cpu, memory, producer_cpu, storage_operations
from benchmarks.table_client import TableAcceptor, tables_without_connection
from benchmarks.timing import best_cpu
from common.backoff import Backoff
from common.clock import SystemClock
from common.envelope import decode_envelope
from common.events import Event, emit
from common.ledger.tables import Row, Value
from common.settings import Secret
from common.transport import PlainSession
from common.version import VERSION
from local.services.feed import SyntheticFeed, expected_ids
from producer.lumen import LumenClient


def test_the_producer_row_makes_the_messages_that_the_feed_asks_for() -> None:
    """Every indicator that passes the filters is in one of them, in chunks of a hundred."""
    feed = SyntheticFeed(2_500)
    envelopes = list(map(decode_envelope, producer_cpu.make_messages(feed)))
    wanted = expected_ids(feed, threshold=producer_cpu.FILTERS.threshold)
    assert sum(envelope.count for envelope in envelopes) == len(wanted)
    assert [envelope.count for envelope in envelopes[:-1]] == [100] * (len(envelopes) - 1)
    assert all(wanted_id.encode() in b"".join(e.body for e in envelopes) for wanted_id in wanted)


def test_filters_that_everything_passes_leave_nothing_out() -> None:
    """What the producer row sends then is the whole feed."""
    pages = tuple(producer_cpu.pages_of(SyntheticFeed(2_500)))
    chunks = producer_cpu.produce(pages, filters=producer_cpu.EVERYTHING)
    assert sum(chunk.envelope.count for chunk in chunks) == 2_500


def test_a_later_sync_sends_what_the_index_lacks() -> None:
    """One in a hundred of those that pass, whatever else the index holds."""
    feed = SyntheticFeed(2_500)
    known = producer_cpu.known_but(100, feed)
    passing = sum(decode_envelope(text).count for text in producer_cpu.make_messages(feed))
    (chunk,) = producer_cpu.produce(tuple(producer_cpu.pages_of(feed)), known)
    assert chunk.envelope.count == -(-passing // 100)
    assert len(known.entries) == producer_cpu.KNOWN


def test_an_index_of_others_changes_nothing() -> None:
    """A first load sends the same, whether the index is empty or holds other indicators."""
    pages = tuple(producer_cpu.pages_of(SyntheticFeed(2_500)))
    others = producer_cpu.random_segment(10_000)
    chunks = [producer_cpu.produce(pages), producer_cpu.produce(pages, others)]
    assert len({tuple(chunk.text() for chunk in some) for some in chunks}) == 1


def test_the_consumer_row_delivers_to_an_uploaded_chunk() -> None:
    """The connection that it leaves out answers as Sentinel does when all is well."""
    acceptor = consumer_cpu.Acceptor()
    answer = acceptor.send(requests.Request("POST", "https://a.invalid/").prepare())
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_table_client_writes_all_but_to_a_connection() -> None:
    """A row leaves it whole, with its keys and the token; a query finds nothing."""
    acceptor = TableAcceptor()
    table = tables_without_connection(acceptor).table("chunks")
    table.merge(Row(partition="run", key="chunk", data={"state": "uploaded", "count": 100}))
    assert list(table.query("run")) == []
    ((url, body),) = acceptor.written.items()
    assert url.endswith("/chunks(PartitionKey='run',RowKey='chunk')")
    written = {"PartitionKey": "run", "RowKey": "chunk", "state": "uploaded", "count": 100}
    assert orjson.loads(body).items() >= written.items()


def test_the_log_lines_of_a_delivery_are_formatted() -> None:
    """While the row is measured, and afterwards the logger is as it was."""
    logger = logging.getLogger("lumen_sentinel")
    before = (logger.level, list(logger.handlers), logger.propagate)
    with consumer_cpu.log_lines_formatted() as lines:
        emit(Event.CHUNK_UPLOADED, run="r", accepted=100)
    assert (logger.level, logger.handlers, logger.propagate) == before
    facts = f'{{"run":"r","accepted":100,"trace":"","version":"{VERSION}"}}'
    assert lines.last == f"chunk-uploaded {facts}"


def test_the_memory_row_answers_as_lumen_does() -> None:
    """Its pages reach the client that reads them piece by piece, to the feed's end."""
    session = PlainSession()
    session.mount("https://", memory.MadeUpLumen(1_500))
    lumen = LumenClient(
        base_url="https://lumen.invalid",
        api_key=Secret("a-key"),
        backoff=Backoff(base=0.0, cap=0.0, tries=1),
        clock=SystemClock(),
        rng=Random(0),  # noqa: S311 - a fixed seed
        session=session,
    )
    query = lumen.start_query(give_up_at=math.inf)
    token = lumen.query_status(query or "", give_up_at=math.inf).token
    sizes = []
    while token is not None:
        page = lumen.fetch_page(token, give_up_at=math.inf)
        sizes.append(len(page.objects))
        token = page.next_token
    assert sizes == [1_000, 500]


def test_each_look_finds_the_row_as_it_was_inserted() -> None:
    """So each round of the consumer row delivers, and none finds the chunk settled."""
    table = consumer_cpu.RestoredTables().table("chunks")
    row = Row(partition="run", key="chunk", data={"count": 100})
    table.insert(row)
    table.replace(Row(partition="run", key="chunk", data={"count": 100, "state": "uploaded"}))
    assert table.get("run", "chunk") == row
    assert [found.data["state"] for found in table.query()] == ["uploaded"]


def test_the_table_client_reads_a_row_that_is_there() -> None:
    """With its bytes and times, and nothing where there is none."""
    data: dict[str, Value] = {"count": 100, "records": b"\x00\xff", "enqueued_at": producer_cpu.NOW}
    acceptor = TableAcceptor([Row(partition="run", key="chunk", data=data)])
    table = tables_without_connection(acceptor).table("chunks")
    found = table.get("run", "chunk")
    assert found is not None
    assert found.data == data
    assert table.get("run", "another") is None


@pytest.mark.parametrize(("puts", "met"), [(100, True), (500, False)])
def test_operations_are_counted_with_one_poll_a_chunk(puts: int, *, met: bool) -> None:
    """Polls that bring several messages do not flatter, those that bring none do not harm."""
    first = Counter({("queue", "put_message"): puts, ("queue", "delete_message"): 100})
    for polls in (3, 5_000):
        second = Counter({("queue", "get_messages"): polls, ("table", "merge_entity"): 100})
        figure, _ = storage_operations.judge(first, second, chunks=100)
        assert figure.ratio == (puts / 100 + 3) / storage_operations.FEWEST
        assert figure.met is met


def test_a_month_adds_up() -> None:
    """The first load, 1 % of it every 15 minutes, and the polls, at the prices that are named."""
    least = Counter({("queue", "put_message"): 100, ("queue", "delete_message"): 100})
    least["table", "merge_entity"] = 100
    _, month = storage_operations.judge(least, Counter(), chunks=100)
    assert month.value.split()[0] == month.reference.split()[0]
    assert "298,000 chunks" in month.note


def test_each_piece_counts_with_its_best_round() -> None:
    """Every work sees every piece as often as there are rounds."""
    seen: list[tuple[str, int]] = []
    works = [lambda piece: seen.append(("a", piece)), lambda piece: seen.append(("b", piece))]
    assert len(best_cpu(works, [1, 2], rounds=2)) == 2
    assert seen == [("a", 1), ("b", 1), ("a", 2), ("b", 2)] * 2
