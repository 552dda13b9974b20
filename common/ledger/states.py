"""The states of a sync run and of a chunk, and the moves between them.

A chunk is `QUEUED` from the write of its row until an outcome is recorded, and again after an
operator has replayed it. `UPLOADED` can be reached from every state, because a late or repeated
delivery may always succeed; it is final, because Sentinel does not lose what it accepted. A queued
chunk is discarded when an operator declares its message lost.

Once it was split, or one of its records was struck, the row holds a letter for each record, and the
state follows from the letters: strikes and answers move letters, by `LETTER_MOVES`. A chunk may
also be *void*: a later epoch of its run has read its page again. It is not in the books and must
not be sent; a late answer is still recorded.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class RunState(StrEnum):
    """The state of a sync run."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETE = "complete"
    GAP = "gap"
    FAILED = "failed"
    OTHER = "other"
    """Of a later release, or unreadable: listed, and never changed."""


class ChunkState(StrEnum):
    """The state of a chunk."""

    QUEUED = "queued"
    UPLOADED = "uploaded"
    POISONED = "poisoned"
    DISCARDED = "discarded"
    STRUCK = "struck"
    OTHER = "other"
    """Of a later release, or unreadable: listed, and never changed."""


RUN_MOVES: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.RUNNING: frozenset(RunState) - {RunState.OTHER},
    RunState.INTERRUPTED: frozenset({RunState.RUNNING, RunState.GAP, RunState.FAILED}),
    RunState.COMPLETE: frozenset(),
    RunState.GAP: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.OTHER: frozenset(),
}

CHUNK_MOVES: Final[Mapping[ChunkState, frozenset[ChunkState]]] = {
    ChunkState.QUEUED: frozenset({ChunkState.UPLOADED, ChunkState.POISONED, ChunkState.DISCARDED}),
    ChunkState.POISONED: frozenset(ChunkState) - {ChunkState.OTHER},
    ChunkState.DISCARDED: frozenset({ChunkState.UPLOADED}),
    ChunkState.UPLOADED: frozenset({ChunkState.UPLOADED}),
    ChunkState.STRUCK: frozenset({ChunkState.UPLOADED}),
    ChunkState.OTHER: frozenset(),
}

SETTLED_CHUNKS: Final = frozenset({ChunkState.UPLOADED, ChunkState.DISCARDED, ChunkState.STRUCK})
"""States in which no record of a chunk is to be sent any more."""


class Letter(StrEnum):
    """The outcome of one record of a chunk."""

    PENDING = "."
    ACCEPTED = "A"
    REJECTED = "R"
    POISONED = "P"
    STRUCK = "S"
    """A newer version of the indicator is in a later chunk; this one is not to be sent."""
    DISCARDED = "D"
    """Given up by an operator, or declared lost."""


LETTER_MOVES: Final[Mapping[str, str]] = {
    Letter.PENDING: "ARPSD",
    Letter.POISONED: ".ARSD",
    Letter.STRUCK: "A",
    Letter.DISCARDED: "A",
    Letter.REJECTED: "A",
    Letter.ACCEPTED: "",
}
"""Which letter may follow which. An answer is a fact, so acceptance may follow all of them."""

ON_ITS_WAY: Final = frozenset({Letter.PENDING, Letter.POISONED})
"""Letters of a record that may still be sent."""

ANSWERED: Final = frozenset({Letter.ACCEPTED, Letter.REJECTED})
"""Letters of a record that Sentinel has accepted or refused."""

LETTER_OF: Final[Mapping[ChunkState, Letter]] = {
    ChunkState.QUEUED: Letter.PENDING,
    ChunkState.UPLOADED: Letter.ACCEPTED,
    ChunkState.POISONED: Letter.POISONED,
    ChunkState.DISCARDED: Letter.DISCARDED,
    ChunkState.STRUCK: Letter.STRUCK,
    ChunkState.OTHER: Letter.PENDING,
}
"""What every record of a chunk is that has no letters. A chunk that was taken whole counts those
that were refused; which they are stands with the rejections."""


def moved(letters: str, indexes: Iterable[int], to: Letter) -> str:
    """Return `letters` with those at `indexes` moved to another, where they may go there. Pure."""
    changed = list(letters)
    for index in indexes:
        if to in LETTER_MOVES[changed[index]]:
            changed[index] = to
    return "".join(changed)


def state_of(letters: str) -> ChunkState:
    """Return the state of a chunk whose records have these letters. Pure."""
    if Letter.PENDING in letters:
        return ChunkState.QUEUED
    if Letter.POISONED in letters:
        return ChunkState.POISONED
    if Letter.ACCEPTED in letters or Letter.REJECTED in letters:
        return ChunkState.UPLOADED
    return ChunkState.DISCARDED if Letter.DISCARDED in letters else ChunkState.STRUCK


OPEN_RUNS: Final = frozenset(state for state, moves in RUN_MOVES.items() if moves)
"""States of an unfinished run."""

CLOSED_RUNS: Final = frozenset({RunState.COMPLETE, RunState.GAP, RunState.FAILED})
"""States of a finished run, whose rows may be folded."""


def member_of[T: StrEnum, D](names: type[T], name: object, otherwise: D) -> T | D:
    """Return the member that a stored name means; `otherwise` for one of a later release. Pure."""
    return names(name) if isinstance(name, str) and name in frozenset(names) else otherwise
