"""Decide what to do with a listed version, given what is known of its indicator. Pure.

A version is an indicator's id, a fingerprint of its content, and when it was modified. Every
version that ever had a chunk row is known, whatever its outcome. The listed version is compared
with the newest known one of its id, by `modified`; if those are equal, the later listed one is
newer:

| the listed version is                 | then                                                |
|---------------------------------------|-----------------------------------------------------|
| of an unknown id, and passes          | `ENQUEUED`                                          |
| of an unknown id, and does not pass   | `FILTERED`                                          |
| older than the known one              | `OLDER`                                             |
| the same as the known one             | `UNCHANGED`; but `ENQUEUED` if that one is void     |
|                                       | without an answer, waits for another destination,   |
|                                       | is due again, or the run is full and it is not on   |
|                                       | its way                                             |
| newer than the known one              | `ENQUEUED`, passing or not                          |

A version that an operator asks for (a *wish*) has its own rule, `decide_wish`.

So filters apply to unknown ids only: when Lumen lowers the confidence of an indicator, or revokes
it, Sentinel is corrected. An enqueued version that does not pass is a *correction*.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec


class Decision(StrEnum):
    """What to do with a listed version."""

    ENQUEUED = "enqueued"
    FILTERED = "filtered"
    UNCHANGED = "unchanged"
    OLDER = "older"


FILTERED: Final = Decision.FILTERED
UNCHANGED: Final = Decision.UNCHANGED
OLDER: Final = Decision.OLDER
"""By a name of the module: in a hot path the look-up in the class counts."""


class KnownVersion(msgspec.Struct, frozen=True, gc=False):
    """The newest known version of an indicator. A struct, because most listed objects have one.

    `modified` is in milliseconds since 1970. `is_void`: only rows have it that are void without an
    answer, or wait for another destination. `is_on_its_way`: it may still be sent. `entered_on` is
    the day (since 1970) on which it was entered in the index, None if it is in a row. `is_recent`:
    a request with a version of this indicator may be about to leave.
    """

    fingerprint: int
    modified: int
    is_void: bool = False
    is_on_its_way: bool = False
    entered_on: int | None = None
    is_recent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings that decide about a known version.

    `today` is in days since 1970. After `reupload_after` days an unchanged version is sent again; 0
    means never. A `full` run sends everything that is not on its way.
    """

    today: int
    reupload_after: int = 0
    full: bool = False


def decide(
    *, modified: int, fingerprint: int, passes: bool, known: KnownVersion | None, policy: Policy
) -> Decision:
    """Return what to do with a listed version. Defined for all inputs."""
    if known is None:
        return Decision.ENQUEUED if passes else Decision.FILTERED
    if modified < known.modified:
        return Decision.OLDER
    if modified > known.modified or fingerprint != known.fingerprint:
        return Decision.ENQUEUED
    if known.is_void or is_due(known, policy) or (policy.full and not known.is_on_its_way):
        return Decision.ENQUEUED
    return Decision.UNCHANGED


def decide_wish(*, modified: int, fingerprint: int, known: KnownVersion | None) -> Decision:
    """Return the decision on a version that an operator asks for. Defined for all inputs.

    Sent only if it is exactly the newest known one, or nothing is known. Filters do not apply: it
    passed them before Sentinel refused it.
    """
    if known is None:
        return Decision.ENQUEUED
    if (modified, fingerprint) != (known.modified, known.fingerprint):
        return Decision.OLDER
    return Decision.UNCHANGED if known.is_on_its_way else Decision.ENQUEUED


def is_due(known: KnownVersion, policy: Policy) -> bool:
    """Return whether a version was entered so long ago that it is sent again."""
    if not policy.reupload_after or known.entered_on is None:
        return False
    return policy.today - known.entered_on >= policy.reupload_after
