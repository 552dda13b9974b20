"""What the queue trigger decides: pure rules, without a queue.

Two things that surprise. The dequeue count rises with every receive, whatever came of it. A queue
named `*-poison` has no poison queue of its own: a message that fails there stays leased and runs
again after each lease, however often (extension 5.3.8 and later; up to 5.3.7 it was not run again
after `maxDequeueCount` receives).

Source: Microsoft.Azure.WebJobs.Extensions.Storage.Queues 5.3.10, measured 2026-11-28
(docs/contracts.md). Nothing here may touch storage or the clock.
"""

import base64
import binascii
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from azure.storage.queue import QueueMessage

from local.functions_host.host_settings import MIN_POLLING_INTERVAL
from local.functions_host.protos import TypedData


class Fate(StrEnum):
    """What becomes of a message."""

    RUN = "run"
    DELETE = "delete"
    RELEASE = "release"
    POISON = "poison"
    LEAVE = "leave to its lease"


def fate_on_receipt(
    *, dequeue_count: int, max_dequeue_count: int, decodes: bool, has_poison_queue: bool
) -> Fate:
    """What to do with a message before any code has run."""
    if decodes and (dequeue_count <= max_dequeue_count or not has_poison_queue):
        return Fate.RUN
    return Fate.POISON if has_poison_queue else Fate.LEAVE


def fate_after_run(
    *, succeeded: bool, dequeue_count: int, max_dequeue_count: int, has_poison_queue: bool
) -> Fate:
    """What to do with a message whose function has ended."""
    if succeeded:
        return Fate.DELETE
    if not has_poison_queue:
        return Fate.LEAVE
    return Fate.POISON if dequeue_count >= max_dequeue_count else Fate.RELEASE


def decode_body(text: str, encoding: str) -> bytes | None:
    """The body under `messageEncoding`, or None if it does not decode."""
    if encoding == "none":
        return text.encode("utf-8")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def polling_delays(longest: timedelta) -> Iterator[float]:
    """Seconds between polls that find nothing: exponential from 100 ms, with jitter, bounded."""
    delay = MIN_POLLING_INTERVAL.total_seconds()
    while True:
        yield min(delay * random.uniform(0.8, 1.2), longest.total_seconds())  # noqa: S311 - jitter
        delay = min(delay * 2, longest.total_seconds())


def trigger_metadata(message: QueueMessage, body: str) -> dict[str, TypedData]:
    """The fields the host sends with a message: strings as text, everything else as JSON."""

    def as_json(value: object) -> TypedData:
        return TypedData(json=json.dumps(value))

    def as_time(value: datetime | None) -> TypedData:
        return as_json(value.isoformat() if value else None)

    return {
        "QueueTrigger": TypedData(string=body),
        "Id": TypedData(string=message.id),
        "PopReceipt": TypedData(string=message.pop_receipt),
        "DequeueCount": as_json(message.dequeue_count),
        "InsertionTime": as_time(message.inserted_on),
        "ExpirationTime": as_time(message.expires_on),
        "NextVisibleTime": as_time(message.next_visible_on),
    }
