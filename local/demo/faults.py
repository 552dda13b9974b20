"""The faults that the demo can play: what is done to the pipeline, and what to see in it.

Each fault is armed before the timer fires, told in one paragraph, and healed after a while where
it would not pass by itself. The verdict stays the same as without a fault; only records that
Sentinel refuses for good are not expected to arrive. A fault is explained only where it was met:
each knows the signs of that, and comes early enough for a small feed.

With `--keep` it lasts: `lasting` arms it then, and `Repair` says what an operator does about it.
That is what the finding of the status names. What is done outside of the app on Azure, in a portal
or by waiting, is `python -m local.demo --repair` here; the rest is an act of the page or the CLI.
"""

import hashlib
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from local.cloud import LocalCloud
from local.services.faults import Answer, Call, Fault
from local.services.lumen_api import PAGE_PATH

HEAL_AFTER = 8.0
"""Seconds that a fault lasts, once met, which does not pass by itself."""

CRASH_QUEUE_LEASE = 3.0
CRASH_SETTINGS = {"RUN_LEASE": "3"}
"""On Azure both are ten minutes: the demo does not wait that long for a dead instance."""

POISON_SETTINGS = {"DEFERRAL_DELAY": "0.1", "CHUNK_SIZE": "20"}
"""Small chunks, so that every instance accepts some of each tick: that proves that one chunk alone
fails."""

CRASH_AT_PAGE = 4
CRASH_PAGES = 8
"""Pages that the feed has at least, where it has as many objects."""

THROTTLED = 25
"""Requests that the fault `throttle` answers 429, at most."""

SPARED = 5
"""Requests before those: some indicators have arrived already."""

CHUNK = 100
"""Indicators of a chunk."""

BAD_SHARE = 0.002
"""Share of the records that the fault `bad-records` refuses."""

STRANGE_STATUS = 451
"""An answer that Sentinel's API does not name. The app gives a message up that alone meets it, once
others were accepted before and after it several times."""

Heal = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What has shown itself in a run: the signs of whether a fault was met.

    `throttled` counts requests, `rejected` indicators, `poison` messages, `problems` holds the
    kinds of problem records, `deaths` counts instances, and `resumed` the ticks that took a run up
    again.
    """

    throttled: int = 0
    rejected: int = 0
    poison: int = 0
    problems: frozenset[str] = frozenset()
    deaths: int = 0
    resumed: int = 0


def _nothing(_expected: Collection[str]) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An act of the operators' API that repairs: its path, its arguments, and how to ask for it."""

    path: str
    given: dict[str, Any]
    page: str
    """The button of the page."""
    command: str
    """The command of the CLI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What an operator does about a fault that lasts.

    `finding` is what the status says, `outside` what on Azure is done outside of the app; empty
    where the cause passes by itself. `act` comes after that.
    """

    finding: str
    outside: str = ""
    act: Act | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A fault: its name, what happens, what to see, how it is armed, and whether it was met.

    `arm` and `refuses` are given the ids that Sentinel is expected to hold: `arm` returns what
    heals the fault, or None where it passes by itself; `refuses` returns those that it keeps out.
    `unmet` says what did not happen where `was_met` is false. The feed has `pages` pages at least.
    """

    name: str
    story: str
    lesson: str
    arm: Callable[[LocalCloud, Collection[str]], Heal | None]
    was_met: Callable[[Seen], bool]
    unmet: str
    repair: Repair
    lasting: Callable[[LocalCloud, Collection[str]], Heal | None]
    """Arms it with `--keep`; returns what ends the cause, or None where nothing has to."""
    refuses: Callable[[Collection[str]], frozenset[str]] = _nothing
    settings: dict[str, str] = field(default_factory=dict)
    queue_lease: float | None = None
    hosts: int = 1
    holds: bool = False
    """Whether messages may be put out of sight for minutes, which the demo then brings forward."""
    pages: int = 1
    later: int = 0
    """In how many more queries the second half of the feed comes."""
    passes: bool = False
    """Whether the cause ends by itself once it was met; what it did stays."""
    flows: bool = False
    """Whether new indicators come every few seconds until it was met: it needs other uploads."""
    waits: bool = False
    """Whether with `--keep` the timer does not fire after it was met, before the repair."""

    def page_size(self, objects: int, *, at_most: int) -> int:
        """Return how many of so many objects are on a page."""
        return min(at_most, max(1, objects // self.pages))


def is_bad(identifier: str) -> bool:
    """Whether the fault `bad-records` refuses the indicator of this id."""
    return _draw(identifier) < BAD_SHARE * 2**16


def bad_ids(expected: Collection[str]) -> frozenset[str]:
    """Return which of these ids the fault `bad-records` refuses.

    One at least, provided that it has a neighbour: where nothing at all is accepted, nothing
    proves that the record is at fault.
    """
    if len(expected) < 2:  # noqa: PLR2004 - a record and its neighbour
        return frozenset()
    return frozenset(filter(is_bad, expected)) or frozenset({min(expected, key=_draw)})


def throttled_requests(chunks: int) -> tuple[int, int]:
    """Return how many requests the fault `throttle` spares, and how many it then answers 429.

    So few that a small feed meets them, and that no chunk of it meets many.
    """
    spared = max(0, min(SPARED, chunks - 1))
    return spared, min(THROTTLED, chunks - spared)


def _draw(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=2).digest())


def _throttle(cloud: LocalCloud, expected: Collection[str]) -> None:
    body = '{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 2 seconds."}'
    spared, times = throttled_requests(math.ceil(len(expected) / CHUNK))
    cloud.sentinel.inject(
        Fault(effect=Answer(429, body=body), method="POST", after=spared, times=times)
    )


def _throttle_on(cloud: LocalCloud, _expected: Collection[str]) -> Heal:
    body = '{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 2 seconds."}'
    return cloud.sentinel.inject(
        Fault(effect=Answer(429, body=body), method="POST", times=None)
    ).remove


def _outage(cloud: LocalCloud, _expected: Collection[str]) -> Heal:
    return cloud.sentinel.inject(Fault(effect=Answer(503), method="POST", times=None)).remove


def _bad_records(cloud: LocalCloud, expected: Collection[str]) -> None:
    bad = bad_ids(expected)

    def reject(record: dict[str, Any]) -> bool:
        return record.get("id") in bad

    cloud.sentinel.behaviour.reject_record = reject
    cloud.sentinel.behaviour.refuse_whole_on_bad_record = True
    cloud.sentinel.behaviour.refusal_lists_errors = False


def _bad_records_on(cloud: LocalCloud, expected: Collection[str]) -> Heal:
    _bad_records(cloud, expected)

    def take() -> None:
        cloud.sentinel.behaviour.reject_record = None

    return take


def _poison(cloud: LocalCloud, expected: Collection[str]) -> Heal:
    cause = _strange_answer(cloud, expected)

    def repair() -> None:
        cause()
        host = next(host for host in cloud.hosts if host.alive)
        asked = host.request("POST", "/api/act/poison/replay", json={"all": True})
        asked.raise_for_status()

    return repair


def _strange_answer(cloud: LocalCloud, expected: Collection[str]) -> Heal:
    """Let Sentinel answer what its API does not name to each request with a certain record."""
    victim = min(expected, key=_draw).encode()
    fault = Fault(
        effect=Answer(STRANGE_STATUS),
        method="POST",
        when=lambda request: victim in request.body,
        times=None,
    )
    return cloud.sentinel.inject(fault).remove


def _expired_secret(cloud: LocalCloud, _expected: Collection[str]) -> Heal:
    cloud.entra.secret_expired = True

    def renew() -> None:
        cloud.entra.secret_expired = False

    return renew


def _crash(cloud: LocalCloud, _expected: Collection[str]) -> None:
    kill = Call(lambda _request: cloud.hosts[0].kill(), when="before")
    cloud.lumen.inject(Fault(effect=kill, method="GET", path=PAGE_PATH, after=CRASH_AT_PAGE - 1))


PLAYS = {
    play.name: play
    for play in (
        Play(
            name="throttle",
            story=f"Sentinel answers up to {THROTTLED} requests with 429, and says so in the body "
            "only.",
            lesson="The chunks went back on the queue for as long as Sentinel asked, the send "
            "slots moved for all instances, and nothing was given up.",
            arm=_throttle,
            lasting=_throttle_on,
            repair=Repair(
                finding="the queue grows and nothing is accepted; after five minutes: Sentinel "
                "answers 429 and has accepted nothing for minutes (throttled)",
                outside="give the other sender that uses this identity one of its own",
            ),
            was_met=lambda seen: seen.throttled > 0,
            unmet="no request was answered 429",
        ),
        Play(
            name="outage",
            story=f"Sentinel answers 503 to everything for {HEAL_AFTER:.0f} seconds.",
            lesson="Every chunk waited on the queue with growing delays. An outage never counts "
            "against a message: there was one problem record, which closed itself.",
            arm=_outage,
            lasting=_outage,
            repair=Repair(
                finding="Sentinel is unavailable (unavailable)",
                outside="see Azure's service health and wait for the end of the outage",
            ),
            was_met=lambda seen: not seen.problems.isdisjoint({"unavailable", "failing"}),
            unmet="no request was answered 503, so no problem was recorded",
        ),
        Play(
            name="bad-records",
            story="Sentinel refuses whole requests for one bad record in them, without naming it. "
            "Half of the feed comes later, a query at a time.",
            lesson="Each refused chunk was halved until the bad records stood alone, and their "
            "neighbours arrived. Once later queries brought others that Sentinel accepted, the bad "
            "ones were rejected: they are kept with id, content and reason.",
            arm=_bad_records,
            lasting=_bad_records_on,
            repair=Repair(
                finding="a record that Sentinel refused waits for proof (unproven). Nothing to do "
                "about that: with the next uploads it is rejected, and kept with its content",
                outside="ask the service to take such records",
                act=Act(
                    path="rejections/retry",
                    given={"all": True},
                    page="Retry all that Sentinel refused",
                    command="rejections retry --all",
                ),
            ),
            later=6,
            was_met=lambda seen: seen.rejected > 0,
            unmet="no record was refused",
            refuses=bad_ids,
        ),
        Play(
            name="expired-secret",
            story=f"The client secret has expired; it is renewed after {HEAL_AFTER:.0f} seconds.",
            lesson="Without a token nothing was tried and nothing was lost: the chunks waited, one "
            "problem record named the remedy, and the renewal was noticed without a restart.",
            arm=_expired_secret,
            lasting=_expired_secret,
            repair=Repair(
                finding="CLIENT_SECRET has expired: make a new secret and set it (access)",
                outside="make a new secret for the application and set it",
            ),
            was_met=lambda seen: "access" in seen.problems,
            unmet="nobody asked for a token, so no problem was recorded",
        ),
        Play(
            name="crash",
            story="The instance that runs the sync is killed (SIGKILL) after three pages, when it "
            "asks for the next.",
            lesson="The next tick took the run over at its last checkpoint. Messages that the dead "
            "instance held come back to the other one; what is sent twice is stored once.",
            arm=_crash,
            lasting=_crash,
            repair=Repair(
                finding="the newest run is running and comes no further. The next tick takes it "
                "over; here the timer waits for you",
                act=Act(path="sync", given={}, page="Sync now", command="sync"),
            ),
            waits=True,
            was_met=lambda seen: seen.deaths > 0 and seen.resumed > 0,
            unmet="no instance died with a run in its hands",
            settings=CRASH_SETTINGS,
            holds=True,
            queue_lease=CRASH_QUEUE_LEASE,
            hosts=2,
            pages=CRASH_PAGES,
        ),
        Play(
            name="poison",
            story="Sentinel answers one chunk with a status that its API does not name, each time "
            "that it is sent, and accepts all others.",
            lesson="The message waited while others were accepted, failed again, and was given up: "
            "kept whole, with its history. It stopped nothing else, and a replay delivered it.",
            arm=_poison,
            lasting=_strange_answer,
            repair=Repair(
                finding="messages given up: 1; see `poison list` (poison)",
                act=Act(
                    path="poison/replay",
                    given={"all": True},
                    page="Replay these",
                    command="poison replay --all",
                ),
            ),
            was_met=lambda seen: seen.poison > 0,
            unmet="no message was given up",
            settings=POISON_SETTINGS,
            hosts=2,
            passes=True,
            flows=True,
        ),
    )
}
