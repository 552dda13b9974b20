"""Messages that are stuck on the poison queue, brought back to the upload queue.

The host puts messages there that it gave up, and `keep_poison` puts them back or keeps them. If
that function itself fails, the host runs it again every ten minutes, or never (queue extension
before 5.3.8). In both cases the message is hidden for ten minutes at a time, and is gone after
seven days. Nothing here needs that function.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from common.clock import Clock
from common.envelope import decode_envelope, encode_to_fit
from common.errors import HaltError, LaterVersionError, TryLaterError, UndecodableError
from common.queues import ReceiveQueue, SendQueue, Taken

HIDDEN_FOR: Final = 60.0
"""Seconds for which a message is hidden from others while it is brought back."""

HOST_HIDES_FOR: Final = 10 * 60.0
"""Seconds for which the host hides a message that it has taken (docs/contracts.md)."""

PATIENCE: Final = HOST_HIDES_FOR + 60.0
"""Seconds to wait for hidden messages: each becomes visible once in this time."""

LOOK_EVERY: Final = 0.5
"""Seconds between two looks: the host polls every 2 s (host.json) and hides them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """How many messages were brought back, and about how many are left, hidden."""

    count: int
    left: int


def rescue(
    poison_queue: ReceiveQueue,
    *,
    upload_queue: SendQueue,
    clock: Clock,
    patience: float,
    within: float = math.inf,
) -> Rescued:
    """Send every message of the poison queue to the upload queue; wait for hidden ones.

    Waits `patience` seconds for hidden ones, and takes no more messages after `within` seconds.

    The copy first: if it dies halfway, a message is on both queues, which is safe. Called twice:
    the second call finds none. A fault of a queue after the first message ends the call, so that
    the answer says what was done; the next call meets the fault first. The other messages stay
    unchanged, those that were taken hidden for a minute.
    """
    give_up_at, stop_at = (clock.monotonic() + seconds for seconds in (patience, within))
    count = 0
    try:
        while True:
            for _ in _moved(poison_queue, upload_queue, go_on=lambda: clock.monotonic() < stop_at):
                count += 1
            left = poison_queue.depth()
            if not left or clock.monotonic() >= min(give_up_at, stop_at):
                return Rescued(count=count, left=left)
            clock.sleep(LOOK_EVERY)
    except (HaltError, TryLaterError):
        if not count:
            raise
        return Rescued(count=count, left=1)


def _moved(
    poison_queue: ReceiveQueue, upload_queue: SendQueue, *, go_on: Callable[[], bool]
) -> Iterator[Taken]:
    """Move every message that is visible, while it may go on; yield each."""
    while taken := poison_queue.take(hidden_for=HIDDEN_FOR):
        for message in taken:
            if not go_on():
                return
            upload_queue.send(_to_send(message.text))
            poison_queue.remove(message)
            yield message


def _to_send(text: str) -> str:
    """Return the message without its send slot, which has passed; unchanged if it cannot be read.

    It keeps the time when it was due, so that the status notices a queue without deliveries.
    """
    try:
        envelope = decode_envelope(text)
    except (UndecodableError, LaterVersionError):
        return text
    return encode_to_fit(replace(envelope, slot=None, due=envelope.due_at))
