"""Isolation: find the records for which Sentinel refuses a whole request, by halving. Pure.

The state is a value that travels in the envelope, so that the search survives a crash and can wait
for its send slots on the queue. What is sent in the search is also uploaded by it: each accepted
group is done. A record is rejected only for a refusal of its own, and only while Sentinel is known
to accept something; where everything is refused, the records are not what is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, Final

from common.envelope import MAX_TIME, ascii_line
from consumer.sentinel import RecordError

REQUEST_BUDGET: Final = 100
"""Requests that one chunk may cost; past it the chunk is poisoned whole. One bad record among a
hundred takes about 11, four take 32, ten take 60: a chunk that needs more is bad as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Indexes of records that go out together.

    `suspect`: one of them is refused for sure, so sending them together again is no use.
    `paired`: once this group is accepted, the group behind it is suspect.
    """

    indexes: tuple[int, ...]
    suspect: bool = False
    paired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """How far the search has come: groups still to send, the first one next.

    `since` is when the chunk was refused, in seconds since 1970.
    """

    groups: tuple[Group, ...]
    since: float = 0.0
    rejected: tuple[RecordError, ...] = ()
    accepted: int = 0
    requests: int = 1

    @property
    def is_over(self) -> bool:
        """Whether every record is accepted or rejected."""
        return not self.groups

    @property
    def is_spent(self) -> bool:
        """Whether the request budget is used up."""
        return self.requests >= REQUEST_BUDGET


def start_isolation(count: int, refused: Sequence[RecordError], *, since: float) -> Isolation:
    """Return the search in a chunk of `count` records that was refused as a whole.

    `refused` are the records that the refusal itself named; the others go out without them.
    """
    named = {error.index: error for error in refused if 0 <= error.index < count}
    rest = tuple(number for number in range(count) if number not in named)
    if not named:
        return _ready(Isolation(groups=(Group(indexes=rest, suspect=True),), since=since))
    return Isolation(
        groups=(Group(indexes=rest),) if rest else (),
        since=since,
        rejected=tuple(named[number] for number in sorted(named)),
    )


def next_indexes(state: Isolation) -> tuple[int, ...]:
    """Return the records to send next."""
    return state.groups[0].indexes


def after_accepted(state: Isolation, rejected: Sequence[RecordError]) -> Isolation:
    """Return the search after the next group was accepted, but for its `rejected` records.

    Their indexes count within the group, as Sentinel's answer does.
    """
    group, *behind = state.groups
    found = tuple(replace(e, index=group.indexes[e.index]) for e in rejected)
    if group.paired and behind:
        behind[0] = replace(behind[0], suspect=True)
    return _ready(
        replace(
            state,
            groups=tuple(behind),
            rejected=state.rejected + found,
            accepted=state.accepted + len(group.indexes) - len(found),
            requests=state.requests + 1,
        )
    )


def after_refused(state: Isolation, reason: str) -> Isolation:
    """Return the search after the next group was refused as a whole."""
    group, *behind = state.groups
    state = replace(state, requests=state.requests + 1)
    if len(group.indexes) == 1:
        error = RecordError(index=group.indexes[0], messages=(reason,))
        return _ready(replace(state, groups=tuple(behind), rejected=(*state.rejected, error)))
    return _ready(replace(state, groups=(replace(group, suspect=True), *behind)))


def to_json(state: Isolation) -> dict[str, Any]:
    """Return the search as plain JSON values, short enough for an envelope."""
    return {
        "groups": [[list(g.indexes), int(g.suspect), int(g.paired)] for g in state.groups],
        "rejected": [[e.index, _shortened(e.messages)] for e in state.rejected],
        "since": state.since,
        "accepted": state.accepted,
        "requests": state.requests,
    }


def from_json(fields: dict[str, Any], *, count: int) -> Isolation:
    """Return the search that `to_json` wrote for a chunk of `count` records.

    Raises `KeyError`, `TypeError` or `ValueError` when it is damaged.
    """
    since = fields["since"]
    if not 0 <= since < MAX_TIME:
        raise ValueError("the search began at no time there is")
    state = Isolation(
        groups=tuple(
            Group(indexes=tuple(map(index, indexes)), suspect=bool(suspect), paired=bool(paired))
            for indexes, suspect, paired in fields["groups"]
        ),
        since=float(since),
        rejected=tuple(
            RecordError(index=index(number), messages=(str(message),))
            for number, message in fields["rejected"]
        ),
        accepted=index(fields["accepted"]),
        requests=index(fields["requests"]),
    )
    waiting = [number for group in state.groups for number in group.indexes]
    refused = [error.index for error in state.rejected]
    seen = waiting + refused
    if len(set(seen)) != len(seen) or not set(seen) <= set(range(count)):
        raise ValueError("the search names records twice, or that the chunk does not have")
    if len(seen) + state.accepted != count or not all(g.indexes for g in state.groups):
        raise ValueError("the search does not account for every record")
    if state.requests < 1:
        raise ValueError("the search began without a request")
    return state


MAX_REASON: Final = 40
"""Characters of a rejection that travel in an envelope: a hundred of them must fit."""


def _shortened(messages: Sequence[str]) -> str:
    return ascii_line("; ".join(messages), limit=MAX_REASON)


def _ready(state: Isolation) -> Isolation:
    """Split the first group while it is suspect and has more than one record."""
    while state.groups and state.groups[0].suspect and len(state.groups[0].indexes) > 1:
        group, *behind = state.groups
        middle = len(group.indexes) // 2
        left = Group(indexes=group.indexes[:middle], paired=True)
        right = Group(indexes=group.indexes[middle:])
        state = replace(state, groups=(left, right, *behind))
    return state
