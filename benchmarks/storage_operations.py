"""Row 8: how many storage operations a chunk costs in its whole life, and what a month costs.

A real host syncs and delivers 10,000 indicators through a proxy that counts every request, then
syncs again, which folds the finished chunks away. Counted is what Azure bills: each request, and a
batch of table rows as one, however many rows it has. A poll that finds nothing is billed, too; the
host polls with or without chunks, so these are kept apart and enter the month's cost by the hour.

The reference is what cannot be done with less: put a message, get it, delete it, and write one row.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks.feeds import open_feed
from benchmarks.pipeline import open_cloud, until
from benchmarks.table import SHOWN, Figure, Scale
from local.cloud import LocalCloud

GOAL: Final = 7.0
"""One more than the writes need: each request has a look at its chunk's row."""

FEWEST: Final = 4.0
INDICATORS: Final = 10_000
CHUNK: Final = 100
RATE: Final = {Scale.QUICK: "1200", Scale.FULL: "95"}
"""Requests a minute. What the pace changes is the note that Sentinel accepts, which a consumer
writes every 10 s at most: the longer the delivery takes, the more of them."""

SETTLED_AFTER: Final = 3.0
"""Seconds without an operation, but for polls, after which a sync is over."""

QUEUE_PRICE: Final = 0.004 / 10_000
TABLE_PRICE: Final = 0.00036 / 10_000
"""US dollars an operation: list prices, general-purpose v2, LRS, East US
(azure.microsoft.com/pricing/details/storage/queues and .../tables). The pages could not be read on
2026-11-22, so these are to be checked. That a batch is one transaction and an empty poll is one,
too: learn.microsoft.com/archive/blogs/windowsazurestorage, "Understanding Windows Azure Storage
Billing" (read 2026-11-22)."""

FEED: Final = 1_000_000
CHURN: Final = 0.01
TICKS: Final = 30 * 24 * 4
"""Syncs in a month of 30 days, one every 15 minutes."""

POLLS: Final = 3 * 30 * 24 * 3600 / 2
"""Three queues, each polled by one instance every two seconds (`maxPollingInterval`) all month."""

Counts = Counter[tuple[str, str]]


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Count two syncs: the first sends everything, the second folds it and sends nothing."""
    objects = open_feed(feed, INDICATORS)
    settings = {
        "LUMEN_CONFIDENCE_THRESHOLD": "0",
        "SENTINEL_REQUESTS_PER_MINUTE": RATE[scale],
    }
    with open_cloud(objects, proxied=True, settings=settings) as cloud:
        host = cloud.start_host()
        counts: list[Counts] = []
        for _ in range(2):
            before = _counted(cloud)
            host.invoke_admin("lumen_sync")
            until(lambda: _is_settled(cloud), "the sync is delivered")
            counts.append(_counted(cloud) - before)
        chunks = cloud.sentinel.count(method="POST")
        accepted = cloud.sentinel.count(method="POST", status=200)
    assert chunks == accepted == INDICATORS // CHUNK, "not every chunk was sent once"
    return judge(*counts, chunks=chunks)


def judge(first: Counts, second: Counts, *, chunks: int) -> list[Figure]:
    """Return the figures of a first sync and the one that folds it. Pure."""
    spent = first + second
    polls = spent["queue", "get_messages"]
    operations = (spent.total() - polls) / chunks + 1
    shown = ", ".join(f"{count} {name}" for (_, name), count in spent.most_common())
    table = sum(count for (service, _), count in spent.items() if service == "table")
    return [
        Figure(
            row="8a",
            what=f"storage operations for {INDICATORS:,} indicators, {chunks} chunks",
            value=f"{operations:.2f} a chunk",
            reference=f"{FEWEST:g}: put, get and delete a message, write a row",
            ratio=operations / FEWEST,
            goal=f"at most {GOAL:g} a chunk",
            met=operations <= GOAL,
            note=f"{shown}; counted is one get_messages a chunk, though a poll may bring several",
        ),
        _month(queue=operations - table / chunks, table=table / chunks),
    ]


def _month(*, queue: float, table: float) -> Figure:
    """Return what a month costs at so many operations a chunk. Pure.

    The overhead of a sync that is not of its chunks is in the figures of a chunk already, for 100
    chunks; a sync of 1 % churn has as many.
    """
    chunks = FEED / CHUNK * (1 + CHURN * TICKS)
    work = chunks * (queue * QUEUE_PRICE + table * TABLE_PRICE)
    polls = POLLS * QUEUE_PRICE
    return Figure(
        row="8b",
        what="queue and table operations of a month: 1,000,000 indicators first, then 1 % churn "
        "every 15 minutes",
        value=f"{work + polls:.2f} USD",
        reference=f"{chunks * (3 * QUEUE_PRICE + TABLE_PRICE) + polls:.2f} USD for the fewest",
        ratio=None,
        goal=SHOWN,
        met=None,
        note=f"{FEED // CHUNK:,} + {TICKS:,} x {FEED * CHURN / CHUNK:.0f} = {chunks:,.0f} chunks x "
        f"({queue:.2f} queue operations x {QUEUE_PRICE * 1e4:g} + {table:.2f} table operations x "
        f"{TABLE_PRICE * 1e4:g} USD per 10,000) = {work:.2f} USD; {POLLS:,.0f} empty polls "
        f"= {polls:.2f} USD. Not in it: executions, logs, private endpoints, stored data",
    )


def _counted(cloud: LocalCloud) -> Counts:
    assert cloud.proxy is not None
    return Counter({(str(s), name): count for (s, name), count in cloud.proxy.counts.items()})


def _is_settled(cloud: LocalCloud) -> bool:
    """Whether everything is delivered and storage has been left alone, but for polls."""

    def work() -> int:
        return _counted(cloud).total() - _counted(cloud)["queue", "get_messages"]

    if _counted(cloud)["queue", "delete_message"] < INDICATORS // CHUNK:
        return False
    before = work()
    time.sleep(SETTLED_AFTER)
    return before == work()
