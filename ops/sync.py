"""Sync now, and sync everything: what an operator asks of the producer, shown until it is served.

The row first, the message second: if it dies in between, the timer's next tick serves the request.
"""

from dataclasses import dataclass
from datetime import datetime

from common.ledger import Ledger
from common.ledger.control import SyncRequest
from common.queues import SYNC_MESSAGE, SendQueue
from ops.decisions import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """Which requests were taken back; a run that has begun to serve one goes on."""

    sync: bool
    full: bool


def request_sync(
    ledger: Ledger, queue: SendQueue, *, full: bool, now: datetime, decision: Decision
) -> SyncRequest:
    """Ask for a sync run now; with `full` the next new run sends all that Lumen lists.

    An open run is resumed first. Called again: the later request counts. `queue` is the queue of
    requests.
    """
    request = SyncRequest(at=now, by=decision.signed)
    if full:
        ledger.control.request_full(at=now)
    ledger.control.request_sync(request)
    queue.send(SYNC_MESSAGE)
    return request


def take_back(ledger: Ledger) -> TakenBack:
    """Withdraw requests that no run has served yet. Called twice: nothing is left to withdraw."""
    return TakenBack(sync=ledger.control.take_back_sync(), full=ledger.control.take_back_full())
