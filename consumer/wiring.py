"""What a delivery works with, made from tables, a queue and the clients of Sentinel and Entra."""

import random

from common.clock import Clock
from common.identity import TokenSource
from common.ledger import open_ledger
from common.ledger.acceptance import Acceptance
from common.ledger.problems import Problems
from common.ledger.sends import Sends
from common.ledger.slots import Slots
from common.ledger.tables import Tables
from common.queues import SendQueue
from consumer.deferral import Deferrer, longest_wait
from consumer.deliver import Deliverer
from consumer.pacing import Pacer
from consumer.pausing import PauseWatch
from consumer.poison import PoisonKeeper
from consumer.sentinel import SentinelClient


def make_deliverer(
    tables: Tables,
    *,
    queue: SendQueue,
    sentinel: SentinelClient,
    tokens: TokenSource,
    clock: Clock,
    rng: random.Random,
    requests_per_minute: float,
    first_delay: float,
) -> Deliverer:
    """Return a deliverer; `first_delay` is the wait before the first later try, in seconds."""
    ledger = open_ledger(tables)
    slots = Slots(tables, clock=clock, requests_per_minute=requests_per_minute)
    return Deliverer(
        sentinel=sentinel,
        tokens=tokens,
        ledger=ledger,
        problems=Problems(tables, clock=clock, stands_for=longest_wait(first_delay)),
        acceptance=Acceptance(tables, clock=clock),
        sends=Sends(tables, clock=clock),
        pacer=Pacer(slots, clock=clock),
        pauses=PauseWatch(ledger.control, clock=clock),
        deferrer=Deferrer(
            queue=queue, ledger=ledger, clock=clock, rng=rng, first_delay=first_delay
        ),
        keeper=PoisonKeeper(ledger=ledger, clock=clock),
        clock=clock,
    )
