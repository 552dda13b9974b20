"""The faults that the demo can play: what is done to the pipeline, and what to see in it.

Each fault is armed before the timer fires, told in one paragraph, and healed after a while where
it would not pass by itself. The verdict stays the same as without a fault; only records that
Sentinel refuses for good are not expected to arrive.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.cloud import LocalCloud
from local.faults import Answer, Call, Fault
from local.lumen_api import PAGE_PATH

HEAL_AFTER = 8.0
"""Seconds that a fault lasts which does not pass by itself."""

CRASH_QUEUE_LEASE = 3.0
CRASH_SETTINGS = {"RUN_LEASE": "3"}
"""On Azure both are ten minutes: the demo does not wait that long for a dead instance."""

BAD_SHARE = 0.01
"""Share of the records that the fault `bad-records` refuses."""

Heal = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A fault: its name, what happens, what to see, and how it is armed.

    `arm` returns what heals it, or None where it passes by itself.
    """

    name: str
    story: str
    lesson: str
    arm: Callable[[LocalCloud], Heal | None]
    refuses: Callable[[str], bool] = field(default=lambda _id: False)
    settings: dict[str, str] = field(default_factory=dict)
    queue_lease: float | None = None
    hosts: int = 1


def is_bad(identifier: str) -> bool:
    """Whether the fault `bad-records` refuses the indicator of this id."""
    draw = int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=2).digest())
    return draw < BAD_SHARE * 2**16


def _throttle(cloud: LocalCloud) -> None:
    body = '{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 2 seconds."}'
    cloud.sentinel.inject(Fault(effect=Answer(429, body=body), method="POST", after=5, times=25))


def _outage(cloud: LocalCloud) -> Heal:
    return cloud.sentinel.inject(
        Fault(effect=Answer(503), method="POST", after=3, times=None)
    ).remove


def _bad_records(cloud: LocalCloud) -> None:
    def reject(record: dict[str, Any]) -> bool:
        return is_bad(str(record.get("id")))

    cloud.sentinel.behaviour.reject_record = reject
    cloud.sentinel.behaviour.refuse_whole_on_bad_record = True
    cloud.sentinel.behaviour.refusal_lists_errors = False


def _expired_secret(cloud: LocalCloud) -> Heal:
    cloud.entra.secret_expired = True

    def renew() -> None:
        cloud.entra.secret_expired = False

    return renew


def _crash(cloud: LocalCloud) -> None:
    kill = Call(lambda _request: cloud.hosts[0].kill(), when="before")
    cloud.lumen.inject(Fault(effect=kill, method="GET", path=PAGE_PATH, after=3))


PLAYS = {
    play.name: play
    for play in (
        Play(
            name="throttle",
            story="Sentinel answers 25 requests with 429, and says so in the body only.",
            lesson="The chunks went back on the queue for as long as Sentinel asked, the send "
            "slots moved for all instances, and nothing was given up.",
            arm=_throttle,
        ),
        Play(
            name="outage",
            story=f"Sentinel answers 503 to everything for {HEAL_AFTER:.0f} seconds.",
            lesson="Every chunk waited on the queue with growing delays. An outage never counts "
            "against a message: there was one problem record, which closed itself.",
            arm=_outage,
        ),
        Play(
            name="bad-records",
            story="Sentinel refuses whole requests for one bad record in them, without naming it.",
            lesson="Each refused chunk was halved until the bad records stood alone: they are kept "
            "with id, content and reason, and their neighbours arrived.",
            arm=_bad_records,
            refuses=is_bad,
        ),
        Play(
            name="expired-secret",
            story=f"The client secret has expired; it is renewed after {HEAL_AFTER:.0f} seconds.",
            lesson="Without a token nothing was tried and nothing was lost: the chunks waited, one "
            "problem record named the remedy, and the renewal was noticed without a restart.",
            arm=_expired_secret,
        ),
        Play(
            name="crash",
            story="The instance that runs the sync is killed (SIGKILL) at its fourth page.",
            lesson="The next tick took the run over at its last checkpoint; messages of the dead "
            "instance came back to the other one. What was sent twice is stored once.",
            arm=_crash,
            settings=CRASH_SETTINGS,
            queue_lease=CRASH_QUEUE_LEASE,
            hosts=2,
        ),
    )
}
