"""Chunks: one row each, written by two sides that never overwrite each other.

The producer owns `enqueued_at`; the consumer owns the outcome. Both merge their own properties
without reading, in either order: a row without an outcome is queued. The producer writes its row
only *after* the message is on the queue, so a row never promises a message that was not sent. What
is known from the envelope (sequence, count, fingerprints) both write, so that the consumer's row
is whole even when the producer died before writing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from common.envelope import Envelope
from common.errors import ConflictError
from common.events import cut
from common.fingerprints import pack
from common.ledger.states import CHUNK_MOVES, ChunkState
from common.ledger.tables import Row, Table, Tables, Value

TABLE: Final = "chunks"
NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""When a chunk was enqueued whose producer died before it could say so."""

_CAS_TRIES: Final = 8
_OUTCOME: Final = (
    "sequence",
    "count",
    "state",
    "accepted",
    "rejected",
    "deferrals",
    "enqueued_at",
)
"""The properties that the books need: not what is known of each indicator, which is most of the
row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk's row. `accepted + rejected == count` once it is uploaded, else both are 0.

    `fingerprints` are packed; so are `late_ids`, the hashes of its indicators' ids where it was
    uploaded late, or given up. `seen_by` is the run that looked at one that is doubted, so that it
    may be folded, and `seen_as` the state in which it did.
    """

    run_id: str
    key: str
    sequence: int
    count: int
    state: ChunkState
    accepted: int = 0
    rejected: int = 0
    deferrals: int = 0
    reason: str = ""
    fingerprints: bytes = b""
    late_ids: bytes = b""
    seen_by: str = ""
    seen_as: str = ""
    enqueued_at: datetime = field(default=NEVER, compare=False)
    etag: str = field(default="", compare=False)


class Chunks:
    """The chunk rows, by run."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def record_enqueued(self, envelopes: Iterable[Envelope], *, at: datetime) -> None:
        """Record that a message for each of `envelopes` is on the queue.

        Called twice: the same rows. An outcome already recorded stays.
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
        self,
        envelope: Envelope,
        *,
        accepted: int,
        rejected: int,
        at: datetime,
        late_ids: bytes = b"",
    ) -> None:
        """Record the upload receipt. Unconditional: every state may become uploaded.

        `late_ids` are packed hashes of the ids when the upload came late. Late again after a run
        has looked at it, it has to be looked at again.
        """
        self._table.merge(
            _row(
                envelope,
                {
                    "state": ChunkState.UPLOADED.value,
                    "accepted": accepted,
                    "rejected": rejected,
                    "finished_at": at,
                    "reason": "",
                    **_late(late_ids),
                },
            )
        )

    def record_seen(self, chunks: Iterable[Chunk], *, run_id: str) -> None:
        """Record that a run looks at chunks that are doubted.

        Where a row was removed meanwhile, it leaves one that is no chunk, and is not yielded.
        """
        self._table.merge_all(
            [
                Row(
                    partition=c.run_id,
                    key=c.key,
                    data={"seen_by": run_id, "seen_as": c.state.value},
                )
                for c in chunks
            ]
        )

    def record_poisoned(
        self, envelope: Envelope, *, at: datetime, reason: str, late_ids: bytes = b""
    ) -> None:
        """Record that a chunk was given up, unless it is uploaded after all, or discarded already.

        Compare-and-swap: an upload that is recorded at the same moment is never overwritten.
        `late_ids` as with an upload, for what of it may have been uploaded.
        """
        outcome: dict[str, Value] = {
            "state": ChunkState.POISONED.value,
            "finished_at": at,
            "reason": cut(reason),
            **_late(late_ids),
        }
        for _ in range(_CAS_TRIES):
            row = self._table.get(envelope.run_id, envelope.key)
            try:
                if row is None:
                    self._table.insert(_row(envelope, outcome))
                    return
                state = _state(row.data)
                if ChunkState.POISONED not in CHUNK_MOVES[state]:
                    if state is ChunkState.DISCARDED and late_ids:
                        self._replace(row, _late(late_ids))
                    return
                self._replace(row, {**_row(envelope, outcome).data})
            except ConflictError:
                continue
            return
        raise ConflictError(f"row of chunk {envelope.key} kept changing; try again")

    def move(self, chunk: Chunk, state: ChunkState, *, at: datetime) -> bool:
        """Move a chunk by an operator's hand; return False where it may not go there.

        A run that has looked at it has not seen it there: the next one looks again.

        Compare-and-swap against the row that `chunk` was read from: an outcome that came since
        stays, and the answer is False.
        """
        row = self._table.get(chunk.run_id, chunk.key)
        if row is None or row.etag != chunk.etag or state not in CHUNK_MOVES[_state(row.data)]:
            return False
        try:
            self._replace(row, {"state": state.value, "moved_at": at, "seen_by": ""})
        except ConflictError:
            return False
        return True

    def _replace(self, row: Row, changes: dict[str, Value]) -> None:
        self._table.replace(
            Row(
                partition=row.partition,
                key=row.key,
                data={**row.data, **changes},
                etag=row.etag,
            )
        )

    def get(self, run_id: str, key: str) -> Chunk | None:
        """Return the chunk with an envelope's `key`, or None."""
        row = self._table.get(run_id, key)
        return None if row is None else next(_chunks([row]), None)

    def of_run(self, run_id: str) -> Iterator[Chunk]:
        """Yield every chunk of a run."""
        return _chunks(self._table.query(run_id))

    def all(self) -> Iterator[Chunk]:
        """Yield every chunk that has a row, run by run."""
        return _chunks(self._table.query())

    def outcomes(self, run_id: str | None = None) -> Iterator[Chunk]:
        """Yield every chunk, run by run, or those of a run: only its place, counts and state.

        Without fingerprints, hashes of ids and reason, which are most of a row, and with no ETag.
        """
        return _chunks(self._table.query(run_id, select=_OUTCOME))

    def remove(self, chunks: Iterable[Chunk]) -> None:
        """Remove the rows of `chunks`; called twice: nothing more happens."""
        self._table.delete_all([(chunk.run_id, chunk.key) for chunk in chunks])


def uncounted(chunks: Sequence[Chunk], *, checkpoint: int) -> set[str]:
    """Return the keys of the chunks of a run that its counts do not have. Pure.

    They were fetched and enqueued as a matter of fact, but lie behind the `checkpoint` (a
    sequence), or are older than another chunk of their sequence: the producer died, and the
    next one read on in another way.
    """
    newest: dict[int, Chunk] = {}
    for chunk in chunks:
        known = newest.get(chunk.sequence)
        if known is None or chunk.enqueued_at > known.enqueued_at:
            newest[chunk.sequence] = chunk
    return {
        chunk.key
        for chunk in chunks
        if chunk.sequence >= checkpoint or newest[chunk.sequence] is not chunk
    }


def _row(envelope: Envelope, data: dict[str, Value]) -> Row:
    return Row(
        partition=envelope.run_id,
        key=envelope.key,
        data={
            "sequence": envelope.sequence,
            "count": envelope.count,
            "fingerprints": pack(envelope.fingerprints),
            **data,
        },
    )


def _late(late_ids: bytes) -> dict[str, Value]:
    return {"late_ids": late_ids, "seen_by": ""} if late_ids else {}


def _state(data: Any) -> ChunkState:
    return ChunkState(data.get("state", ChunkState.QUEUED))


def _chunks(rows: Iterable[Row]) -> Iterator[Chunk]:
    """Yield the chunks among rows: whoever looked at one that was just removed left a stump."""
    return (_from_row(row) for row in rows if "sequence" in row.data)


def _from_row(row: Row) -> Chunk:
    data: dict[str, Any] = dict(row.data)
    return Chunk(
        run_id=row.partition,
        key=row.key,
        sequence=data["sequence"],
        count=data["count"],
        state=_state(data),
        accepted=data.get("accepted", 0),
        rejected=data.get("rejected", 0),
        deferrals=data.get("deferrals", 0),
        reason=data.get("reason", ""),
        fingerprints=data.get("fingerprints", b""),
        late_ids=data.get("late_ids", b""),
        seen_by=data.get("seen_by", ""),
        seen_as=data.get("seen_as", ""),
        enqueued_at=data.get("enqueued_at", NEVER),
        etag=row.etag,
    )
