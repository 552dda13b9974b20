"""What happens in a chaos run and when: a plan drawn from a seed. Pure.

The same seed, length and number of hosts give the same plan. What the plan meets is another matter:
processes and threads keep their own time, so two runs of one plan are alike and not the same.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

BETWEEN = 0.9
"""Mean seconds between two happenings."""

SHORTEST, LONGEST = 0.5, 4.0
"""Seconds that a fault lasts."""

OUTAGE = 40.0
"""Seconds that storage is away when it is asked for: longer than the Functions host stands it."""

LEAST_SHARE, MOST_SHARE = 0.1, 0.7
"""Share of the requests that a fault of an API meets."""


class What(StrEnum):
    """What can happen, in the words that the run prints."""

    KILL = "an instance is killed"
    KILL_IN_RUN = "the instance that runs the sync is killed at its next call to Lumen"
    KILL_IN_UPLOAD = "an instance is killed when Sentinel has accepted the next upload"
    TIMERS = "the timers of all instances fire at once"
    FEED_CHANGES = "one indicator in five changes at Lumen"
    LUMEN_TOKENS = "Lumen forgets its page tokens"
    LUMEN_THROTTLES = "Lumen answers 429"
    LUMEN_FAILS = "Lumen answers 503"
    LUMEN_RESETS = "Lumen resets connections"
    LUMEN_CUTS = "Lumen's pages break off"
    LUMEN_SLOW = "Lumen is slow"
    ENTRA_TOKENS = "all tokens for Sentinel end early"
    SENTINEL_THROTTLES = "Sentinel answers 429"
    SENTINEL_FAILS = "Sentinel answers 503"
    SENTINEL_RESETS = "Sentinel resets connections"
    SENTINEL_FORGETS = "Sentinel accepts and resets before it answers"
    SENTINEL_SLOW = "Sentinel is slow"
    STORAGE_BUSY = "storage answers 503"
    STORAGE_DROPS = "storage drops connections before it acts"
    STORAGE_FORGETS = "storage drops connections after it has acted"
    STORAGE_SLOW = "storage is slow"
    STORAGE_AWAY = "storage is away"


WEIGHTS = {
    What.KILL: 4,
    What.KILL_IN_RUN: 3,
    What.KILL_IN_UPLOAD: 2,
    What.TIMERS: 3,
    What.FEED_CHANGES: 4,
    What.SENTINEL_FAILS: 2,
    What.SENTINEL_THROTTLES: 2,
    What.SENTINEL_FORGETS: 2,
    What.STORAGE_BUSY: 2,
    What.STORAGE_DROPS: 2,
    What.STORAGE_FORGETS: 2,
}
"""How often something happens, compared with the others, which have 1."""

MOMENTS = frozenset(
    {
        What.KILL,
        What.KILL_IN_RUN,
        What.KILL_IN_UPLOAD,
        What.TIMERS,
        What.FEED_CHANGES,
        What.LUMEN_TOKENS,
        What.ENTRA_TOKENS,
    }
)
"""What happens once and does not last."""

LUMEN_FAULTS = frozenset(
    {
        What.LUMEN_THROTTLES,
        What.LUMEN_FAILS,
        What.LUMEN_RESETS,
        What.LUMEN_CUTS,
        What.LUMEN_SLOW,
    }
)
STORAGE_FAULTS = frozenset(
    {
        What.STORAGE_BUSY,
        What.STORAGE_DROPS,
        What.STORAGE_FORGETS,
        What.STORAGE_SLOW,
        What.STORAGE_AWAY,
    }
)
"""What lasts, by the side that it is about; the rest is about Sentinel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One happening: `at` and `lasts` in seconds.

    `host` is the number of the instance it is about, `share` the part of the requests that it
    meets, `seed` what is drawn while it lasts.
    """

    at: float
    what: What
    lasts: float
    host: int
    share: float
    seed: int


def draw_plan(seed: int, *, seconds: float, hosts: int, outages: int = 0) -> tuple[Happening, ...]:
    """Return what happens within `seconds` to `hosts` instances, in order.

    On top of what is drawn storage is away `outages` times, evenly spread.
    """
    rng = random.Random(seed)  # noqa: S311 - a plan, not a secret
    kinds = list(What)
    weights = [WEIGHTS.get(kind, 1) for kind in kinds]
    plan = []
    at = rng.expovariate(1 / BETWEEN)
    while at < seconds:
        (what,) = rng.choices(kinds, weights)
        plan.append(
            Happening(
                at=at,
                what=what,
                lasts=0.0 if what in MOMENTS else rng.uniform(SHORTEST, LONGEST),
                host=rng.randrange(hosts),
                share=rng.uniform(LEAST_SHARE, MOST_SHARE),
                seed=rng.getrandbits(32),
            )
        )
        at += rng.expovariate(1 / BETWEEN)
    plan += [_outage(seconds * number / outages) for number in range(outages)]
    return tuple(sorted(plan, key=lambda happening: happening.at))


def _outage(at: float) -> Happening:
    return Happening(at=at, what=What.STORAGE_AWAY, lasts=OUTAGE, host=0, share=1.0, seed=0)
