"""The states of a sync run and of a chunk, and every move between them: the one table.

A chunk is `QUEUED` when a message for it was put on the queue and nobody has recorded an outcome
yet, or an operator has replayed it. `UPLOADED` can be reached from everywhere, because a late or
repeated delivery may always succeed; nothing leads away from it, because what Sentinel has is not
lost. A queued chunk is discarded when its message turns out to be gone: a later run sends anew.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class RunState(StrEnum):
    """Where a sync run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETE = "complete"
    GAP = "gap"
    FAILED = "failed"


class ChunkState(StrEnum):
    """Where a chunk stands."""

    QUEUED = "queued"
    UPLOADED = "uploaded"
    POISONED = "poisoned"
    DISCARDED = "discarded"


RUN_MOVES: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.RUNNING: frozenset(RunState),
    RunState.INTERRUPTED: frozenset({RunState.RUNNING, RunState.GAP, RunState.FAILED}),
    RunState.COMPLETE: frozenset(),
    RunState.GAP: frozenset(),
    RunState.FAILED: frozenset(),
}

CHUNK_MOVES: Final[Mapping[ChunkState, frozenset[ChunkState]]] = {
    ChunkState.QUEUED: frozenset({ChunkState.UPLOADED, ChunkState.POISONED, ChunkState.DISCARDED}),
    ChunkState.POISONED: frozenset(ChunkState),
    ChunkState.DISCARDED: frozenset({ChunkState.UPLOADED}),
    ChunkState.UPLOADED: frozenset({ChunkState.UPLOADED}),
}

FINISHED_CHUNKS: Final = frozenset({ChunkState.UPLOADED, ChunkState.DISCARDED})
"""States that the next run folds away. A poisoned chunk stays for the operator."""

OPEN_RUNS: Final = frozenset(state for state, moves in RUN_MOVES.items() if moves)
"""States of a run that has something left to do."""
