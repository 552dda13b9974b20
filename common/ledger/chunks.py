"""Chunks: one row each, written by two sides that never overwrite each other.

The producer owns `sequence`, `count` and `enqueued_at`; the consumer owns the outcome. Both
merge their own properties without reading, in either order: a row without an outcome is queued.
The producer writes its row only *after* the message is on the queue, so a row never promises a
message that was not sent. The consumer repeats `sequence` and `count` from the envelope, so
that its row is whole even when the producer died before writing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from common.envelope import Envelope
from common.errors import ConflictError
from common.events import cut
from common.ledger.states import CHUNK_MOVES, ChunkState
from common.ledger.tables import Row, Table, Tables, Value

TABLE: Final = "chunks"
_CAS_TRIES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk's row. `accepted + rejected == count` once it is uploaded, else both are 0."""

    run_id: str
    chunk_id: str
    sequence: int
    count: int
    state: ChunkState
    accepted: int = 0
    rejected: int = 0
    deferrals: int = 0
    reason: str = ""


class Chunks:
    """The chunk rows, by run."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def record_enqueued(self, envelopes: Iterable[Envelope], *, at: datetime) -> None:
        """Record that a message for each of `envelopes` is on the queue.

        Called twice: the same rows. An outcome already recorded stays. Envelopes of the same
        content are one chunk, hence one row.
        """
        self._table.merge_all([_row(e, {"enqueued_at": at}) for e in envelopes])

    def record_deferred(self, envelope: Envelope, *, at: datetime, reason: str) -> None:
        """Record why a chunk waits; its outcome, if one came meanwhile, stays."""
        self._table.merge(
            _row(
                envelope,
                {"deferred_at": at, "reason": cut(reason), "deferrals": envelope.deferrals},
            )
        )

    def record_uploaded(
        self, envelope: Envelope, *, accepted: int, rejected: int, at: datetime
    ) -> None:
        """Record the upload receipt. Unconditional: every state may become uploaded."""
        self._table.merge(
            _row(
                envelope,
                {
                    "state": ChunkState.UPLOADED.value,
                    "accepted": accepted,
                    "rejected": rejected,
                    "finished_at": at,
                    "reason": "",
                },
            )
        )

    def record_poisoned(self, envelope: Envelope, *, at: datetime, reason: str) -> bool:
        """Record that a chunk was given up; return False when it is uploaded after all.

        Compare-and-swap: an upload that is recorded at the same moment is never overwritten.
        """
        outcome: dict[str, Value] = {
            "state": ChunkState.POISONED.value,
            "finished_at": at,
            "reason": cut(reason),
        }
        for _ in range(_CAS_TRIES):
            row = self._table.get(envelope.run_id, envelope.chunk_id)
            try:
                if row is None:
                    self._table.insert(_row(envelope, outcome))
                    return True
                if ChunkState.POISONED not in CHUNK_MOVES[_state(row.data)]:
                    return False
                self._table.replace(
                    Row(
                        partition=row.partition,
                        key=row.key,
                        data={**row.data, **_row(envelope, outcome).data},
                        etag=row.etag,
                    )
                )
            except ConflictError:
                continue
            return True
        raise ConflictError(f"row of chunk {envelope.chunk_id} kept changing; try again")

    def get(self, run_id: str, chunk_id: str) -> Chunk | None:
        """Return the chunk, or None."""
        row = self._table.get(run_id, chunk_id)
        return None if row is None else _from_row(row)

    def of_run(self, run_id: str) -> Iterator[Chunk]:
        """Yield every chunk of a run."""
        return map(_from_row, self._table.query(run_id))


def _row(envelope: Envelope, data: dict[str, Value]) -> Row:
    return Row(
        partition=envelope.run_id,
        key=envelope.chunk_id,
        data={"sequence": envelope.sequence, "count": envelope.count, **data},
    )


def _state(data: Any) -> ChunkState:
    return ChunkState(data.get("state", ChunkState.QUEUED))


def _from_row(row: Row) -> Chunk:
    data: dict[str, Any] = dict(row.data)
    return Chunk(
        run_id=row.partition,
        chunk_id=row.key,
        sequence=data["sequence"],
        count=data["count"],
        state=_state(data),
        accepted=data.get("accepted", 0),
        rejected=data.get("rejected", 0),
        deferrals=data.get("deferrals", 0),
        reason=data.get("reason", ""),
    )
