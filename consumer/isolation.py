"""Isolation: find the records for which Sentinel refuses a whole request, by halving. Pure.

The state is a value that travels in the envelope, so that the search survives a crash and can wait
for its send slots on the queue. What is sent in the search is also uploaded by it: each accepted
group is done. A record is rejected only for a refusal of its own, and only if Sentinel accepted
something after it: a part of this chunk, or, where none was left, an accepted record sent once
more as a probe. Where everything is refused, the records are not what is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import index
from typing import Any, Final

from common.envelope import MAX_TIME, ascii_line
from common.ledger.problems import Moment
from consumer.sentinel import RecordError

REQUEST_BUDGET: Final = 100
"""Requests that one chunk may cost; past it the chunk is poisoned whole. One bad record among a
hundred takes about 11, four take 32, ten take 62: a chunk that needs more is bad as a whole. A few
more are spent when the last ones were refused, as that may not be the records' fault."""

PROBE_AFTER: Final = 8
"""Requests refused in a row after which a record that was accepted is sent again, to see whether
Sentinel still accepts anything: the halving of a hundred records takes seven to reach one."""


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

    `since` is the latest refusal of the search before this one, if that ended without proof.
    `in_a_row` counts the requests refused since one was accepted. `is_denied`: the probe was
    refused, so nothing that was refused is proven to be at fault.
    """

    groups: tuple[Group, ...]
    since: Moment | None = None
    rejected: tuple[RecordError, ...] = ()
    accepted: int = 0
    requests: int = 1
    in_a_row: int = 0
    is_denied: bool = False

    @property
    def is_over(self) -> bool:
        """Whether every record is accepted or rejected."""
        return not self.groups

    @property
    def needs_probe(self) -> bool:
        """Whether the next request is the probe: an accepted record, sent once more."""
        is_time = self.is_over or self.is_spent or self.in_a_row >= PROBE_AFTER
        return is_time and self.in_a_row > 0 and self.accepted > 0

    @property
    def is_spent(self) -> bool:
        """Whether the request budget is used up."""
        return self.requests >= REQUEST_BUDGET


def start_isolation(
    indexes: Sequence[int], refused: Sequence[RecordError], *, since: Moment | None
) -> Isolation:
    """Return the search among the records at `indexes` of a chunk, which were refused as a whole.

    `refused` are the records that the refusal itself named; the others go out without them.
    """
    named = {error.index: error for error in refused if error.index in indexes}
    rest = tuple(number for number in indexes if number not in named)
    if not named:
        return _ready(Isolation(groups=(Group(indexes=rest, suspect=True),), since=since))
    return Isolation(
        groups=(Group(indexes=rest),) if rest else (),
        since=since,
        rejected=tuple(named[number] for number in sorted(named)),
    )


def next_indexes(state: Isolation, indexes: Sequence[int]) -> tuple[int, ...]:
    """Return the records to send next, of those at `indexes` that are searched."""
    if state.needs_probe:
        open_ones = {number for group in state.groups for number in group.indexes}
        open_ones.update(error.index for error in state.rejected)
        return (next(number for number in indexes if number not in open_ones),)
    return state.groups[0].indexes


def after_accepted(state: Isolation, rejected: Sequence[RecordError]) -> Isolation:
    """Return the search after the next group was accepted, but for its `rejected` records.

    Their indexes count within the group, as Sentinel's answer does; they are not all of it: that
    is a refusal. Records that were refused alone while nothing had been accepted yet go out once
    more: Sentinel may have refused everything until now.
    """
    if state.needs_probe:
        return replace(state, requests=state.requests + 1, in_a_row=0)
    group, *behind = state.groups
    found = tuple(replace(e, index=group.indexes[e.index]) for e in rejected)
    if group.paired and behind:
        behind[0] = replace(behind[0], suspect=True)
    accepted = len(group.indexes) - len(found)
    doubtful = state.rejected if state.in_a_row and not state.accepted else ()
    again = tuple(Group(indexes=(error.index,)) for error in doubtful)
    return _ready(
        replace(
            state,
            groups=(*again, *behind),
            rejected=found if doubtful else state.rejected + found,
            accepted=state.accepted + accepted,
            requests=state.requests + 1,
            in_a_row=0,
        )
    )


def after_refused(state: Isolation, reason: str, refused: Sequence[RecordError] = ()) -> Isolation:
    """Return the search after the next group was refused as a whole.

    `refused` are records that the refusal named, by their indexes within the group. If they are
    all of it, none of them needs to be sent alone.
    """
    is_probe = state.needs_probe
    state = replace(state, requests=state.requests + 1, in_a_row=state.in_a_row + 1)
    if is_probe:
        return replace(state, is_denied=True)
    group, *behind = state.groups
    messages = {error.index: error.messages for error in refused}
    if len(group.indexes) == 1 or len(messages) == len(group.indexes):
        found = tuple(
            RecordError(index=number, messages=messages.get(at) or (reason,))
            for at, number in enumerate(group.indexes)
        )
        return _ready(replace(state, groups=tuple(behind), rejected=state.rejected + found))
    return _ready(replace(state, groups=(replace(group, suspect=True), *behind)))


def to_json(state: Isolation) -> dict[str, Any]:
    """Return the search as plain JSON values, short enough for an envelope."""
    return {
        "groups": [[list(g.indexes), int(g.suspect), int(g.paired)] for g in state.groups],
        "rejected": [[e.index, _shortened(e.messages)] for e in state.rejected],
        **since_to_json(state.since),
        "accepted": state.accepted,
        "requests": state.requests,
        "in_a_row": state.in_a_row,
    }


def since_to_json(since: Moment | None) -> dict[str, Any]:
    """Return what is left of a search that ended without proof, as plain JSON values."""
    return {} if since is None else {"since": since.at.timestamp(), "by": since.by}


def since_from_json(fields: dict[str, Any]) -> Moment | None:
    """Return what `since_to_json` wrote; None where there is nothing that can be read."""
    since, by = fields.get("since"), fields.get("by", "")
    if isinstance(since, bool) or not isinstance(since, int | float) or not isinstance(by, str):
        return None
    if not 0 <= since < MAX_TIME:
        return None
    return Moment(at=datetime.fromtimestamp(since, UTC), by=ascii_line(by, limit=MAX_BY))


def from_json(fields: dict[str, Any], *, indexes: Sequence[int]) -> Isolation:
    """Return the search that `to_json` wrote for the records at `indexes` of a chunk.

    Raises `KeyError`, `TypeError` or `ValueError` when it is damaged, or of other records: some
    were struck since.
    """
    state = Isolation(
        groups=tuple(
            Group(indexes=tuple(map(index, indexes)), suspect=bool(suspect), paired=bool(paired))
            for indexes, suspect, paired in fields["groups"]
        ),
        since=since_from_json(fields),
        rejected=tuple(
            RecordError(index=index(number), messages=(_shortened([str(message)]),))
            for number, message in fields["rejected"]
        ),
        accepted=index(fields["accepted"]),
        requests=index(fields["requests"]),
        in_a_row=index(fields["in_a_row"]),
    )
    waiting = [number for group in state.groups for number in group.indexes]
    refused = [error.index for error in state.rejected]
    seen = waiting + refused
    if len(set(seen)) != len(seen) or not set(seen) <= set(indexes):
        raise ValueError("the search names records twice, or others than these")
    if len(seen) + state.accepted != len(indexes) or not all(g.indexes for g in state.groups):
        raise ValueError("the search does not account for every record")
    if state.requests < 1 or state.in_a_row < 0:
        raise ValueError("the search counts its requests wrongly")
    if state.is_over and not state.needs_probe:
        raise ValueError("the search is over and was put back on the queue")
    return state


MAX_BY: Final = 16
"""Characters of an instance's name."""


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
