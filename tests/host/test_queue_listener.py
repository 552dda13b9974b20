"""The queue trigger against the real worker and Azurite, and its rules as a table."""

import base64
import json
import re
from collections.abc import Callable
from datetime import timedelta
from itertools import accumulate
from typing import Any

import pytest

from local.functions_host.queue_rules import (
    Fate,
    decode_body,
    fate_after_run,
    fate_on_receipt,
    polling_delays,
)

LEASE = 6.0
"""Seconds; it is renewed after half of them. A host that a busy machine keeps from that for the
other half gets its own message a second time."""

type Eventually = Callable[[Callable[[], object]], None]
type World = Any


@pytest.mark.parametrize(
    ("count", "decodes", "has_poison_queue", "fate"),
    [
        (1, True, True, Fate.RUN),
        (5, True, True, Fate.RUN),
        (6, True, True, Fate.POISON),
        (1, False, True, Fate.POISON),
        (6, True, False, Fate.RUN),
        (1000, True, False, Fate.RUN),
        (1, False, False, Fate.LEAVE),
        (6, False, False, Fate.LEAVE),
    ],
)
def test_fate_on_receipt(count: int, decodes: bool, has_poison_queue: bool, fate: Fate) -> None:
    """A message runs if it decodes: up to the maximum, and on a poison queue however often."""
    assert fate is fate_on_receipt(
        dequeue_count=count,
        max_dequeue_count=5,
        decodes=decodes,
        has_poison_queue=has_poison_queue,
    )


@pytest.mark.parametrize(
    ("succeeded", "count", "has_poison_queue", "fate"),
    [
        (True, 5, True, Fate.DELETE),
        (True, 5, False, Fate.DELETE),
        (False, 4, True, Fate.RELEASE),
        (False, 5, True, Fate.POISON),
        (False, 1, False, Fate.LEAVE),
        (False, 5, False, Fate.LEAVE),
    ],
)
def test_fate_after_run(succeeded: bool, count: int, has_poison_queue: bool, fate: Fate) -> None:
    """A failed message is released until its last delivery; in a poison queue it stays leased."""
    assert fate is fate_after_run(
        succeeded=succeeded,
        dequeue_count=count,
        max_dequeue_count=5,
        has_poison_queue=has_poison_queue,
    )


def test_body_decoding() -> None:
    """Base64 may hold white space as in .NET; anything else does not decode; none is text."""
    assert decode_body("aGVs\r\nbG8=", "base64") == b"hello"
    assert decode_body("{not base64}", "base64") is None
    assert decode_body("aGVsbG8", "base64") is None
    assert decode_body("{grün}", "none") == "{grün}".encode()


def test_polling_backs_off_to_its_bound() -> None:
    """Empty polls start about 100 ms apart, grow, and never exceed maxPollingInterval."""
    delays = polling_delays(timedelta(seconds=2))
    first, *rest = [next(delays) for _ in range(10)]
    assert 0.05 < first < 0.15
    assert max(rest) <= 2
    assert rest[-1] > 1.5


def test_success_deletes_the_message(world: World, eventually: Eventually) -> None:
    """A function that returns has its message deleted, having seen its real metadata."""
    # Beyond ASCII, but too short to be cut between two reads (see tests/contract/test_queue.py).
    world.queue.send_message('{"do": "succeed", "id": "grün"}', time_to_live=-1)
    world.start()
    eventually(lambda: world.queue_length() == 0)
    (start,) = world.journal("start")
    assert json.loads(start["text"])["id"] == "grün"
    assert start["count"] == 1
    assert start["expires"].startswith("9999-12-31T23:59:59")
    assert world.poisoned() == []


def test_failure_returns_then_poisons(world: World, eventually: Eventually) -> None:
    """A failing message comes maxDequeueCount times, then is copied unchanged with a new id."""
    world.send("fail")
    host = world.start()
    eventually(world.poisoned)
    starts = world.journal("start")
    assert [start["count"] for start in starts] == [1, 2, 3]
    (copy,) = world.poisoned()
    assert copy.content == starts[0]["text"]
    assert copy.id != starts[0]["id"]
    assert copy.expires_on - copy.inserted_on == timedelta(days=7)
    eventually(lambda: world.queue_length() == 0)
    assert "ValueError: told to fail 1\\nTraceback" in host.log_text()


def test_undecodable_body_is_poisoned_unread(world: World, eventually: Eventually) -> None:
    """With base64 encoding a plain text body goes to poison unchanged and runs no code."""
    world.queue.send_message("{plain text}")
    world.queue.send_message(base64.b64encode(b"fine").decode())
    host = world.start("encoded")
    eventually(lambda: world.poisoned() and "received <fine>" in host.log_text())
    (copy,) = world.poisoned()
    assert copy.content == "{plain text}"
    assert "received <{plain" not in host.log_text()


def test_function_timeout_fails_the_invocation(world: World, eventually: Eventually) -> None:
    """A function that outlives functionTimeout is reported as failed and its message returns."""
    world.queue.send_message(base64.b64encode(b"slow").decode())
    host = world.start("encoded")
    eventually(lambda: "Timeout value of 0:00:01 exceeded" in host.log_text())
    eventually(lambda: host.log_text().count("received <slow>") > 1)


def test_excess_deliveries_are_poisoned_unrun(world: World, eventually: Eventually) -> None:
    """A message received more than maxDequeueCount times goes to poison without running."""
    world.send("succeed")
    for _ in range(3):
        message = world.queue.receive_message(visibility_timeout=60)
        world.queue.update_message(message.id, message.pop_receipt, visibility_timeout=0)
    world.start()
    eventually(world.poisoned)
    assert world.journal("start") == []


def test_in_flight_bound(world: World, eventually: Eventually) -> None:
    """In flight are at most batchSize + newBatchThreshold messages, and that many are reached."""
    names = [str(number) for number in range(8)]
    for name in names:
        world.send("wait", name)
    world.start()
    eventually(lambda: len(world.journal("start")) == 2)
    world.release(json.loads(world.journal("start")[0]["text"])["id"])
    eventually(lambda: len(world.journal("start")) == 4)
    world.release()
    eventually(lambda: world.queue_length() == 0)
    assert most_at_once(world) == 3


def test_thread_count_bounds_what_runs(world: World, eventually: Eventually) -> None:
    """PYTHON_THREADPOOL_THREAD_COUNT bounds the functions that run, not the messages taken."""
    for name in ("1", "2"):
        world.send("wait", name)
    host = world.start(settings={"PYTHON_THREADPOOL_THREAD_COUNT": "1"})
    eventually(lambda: host.log_text().count("Executing 'Functions.work'") == 2)
    world.release()
    eventually(lambda: world.queue_length() == 0)
    assert most_at_once(world) == 1


def most_at_once(world: World) -> int:
    """The largest number of `work` functions that ran at the same time."""
    steps = [1 if entry["event"] == "start" else -1 for entry in world.journal("start", "end")]
    return max(accumulate(steps))


def test_renewal_keeps_a_long_run_hidden(world: World, eventually: Eventually) -> None:
    """While a function runs longer than its lease, its message is not delivered again."""
    world.send("wait")
    host = world.start(queue_lease=LEASE)
    eventually(lambda: host.log_text().count("lease renewed") >= 3)
    world.release()
    eventually(lambda: world.queue_length() == 0)
    assert len(world.journal("start")) == 1


def test_killed_host_loses_nothing(world: World, eventually: Eventually) -> None:
    """A message whose host was killed comes back after its lease and another host runs it."""
    world.send("wait")
    first = world.start(queue_lease=LEASE)
    eventually(lambda: world.journal("start"))
    first.kill()
    world.release()
    world.start(queue_lease=LEASE)
    eventually(lambda: world.queue_length() == 0)
    starts, ends = world.journal("start"), world.journal("end")
    # More than twice where a busy machine kept a host from renewing its lease.
    assert [start["count"] for start in starts] == list(range(1, len(starts) + 1))
    _, alive = dict.fromkeys(start["pid"] for start in starts)
    assert 0 < len(ends) <= sum(start["pid"] == alive for start in starts)


def test_poison_queue_never_dead_letters(world: World, eventually: Eventually) -> None:
    """On a queue named *-poison a failing message runs after each lease, beyond the maximum of 3.

    It is never copied.
    """
    world.poison_queue.create_queue()
    world.poison_queue.send_message('{"do": "fail", "id": "1"}')
    world.start(enable=("poison",), queue_lease=1)
    eventually(lambda: len(world.journal("poison")) >= 5)
    assert [entry["count"] for entry in world.journal("poison")][:5] == [1, 2, 3, 4, 5]
    properties = world.poison_queue.get_queue_properties()
    assert properties.approximate_message_count == 1


def test_missing_queue_is_waited_for(world: World, eventually: Eventually) -> None:
    """A queue that does not exist yet is polled until it does."""
    world.queue.delete_queue()
    host = world.start()
    world.queue.create_queue()
    world.send("succeed")
    eventually(lambda: world.journal("end"))
    assert host.alive


def test_storage_outage_is_survived(world: World, eventually: Eventually) -> None:
    """A host that cannot reach storage says so and keeps trying."""
    nowhere = re.sub(r"(?<=QueueEndpoint=http://127.0.0.1:)\d+", "9", world.connection)
    host = world.start(settings={"STORAGE": nowhere})
    eventually(lambda: host.log_text().count("receiving from work failed") > 2)
    assert host.alive
