"""Chunks: one row each, written by the producer before the message is put on the queue.

The producer inserts rows only in a transaction with the head of their run (`runs`), so a producer
that was overtaken cannot insert any. All others only change existing rows: a row that is gone was
settled. An outcome is a compare-and-swap on the row as it was read, so no outcome overwrites
another. A deferral only overlays its own properties. Most rows have one state for all records, and
two counts after the answer. A chunk that was split, or has a struck record, has a letter for each
record. If a record is in several messages, the smallest message answers for its letter
(`Chunk.answered_by`).
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from common.envelope import Envelope, sequence_key
from common.errors import ConflictError
from common.ledger.partitions import HEAD_KEY, TABLE, partition_of, run_id_of
from common.ledger.samples import Sample, of_chunk, pack_samples, unpack_samples
from common.ledger.states import (
    ANSWERED,
    CHUNK_MOVES,
    LETTER_MOVES,
    LETTER_OF,
    ON_ITS_WAY,
    SETTLED_CHUNKS,
    ChunkState,
    Letter,
    member_of,
    moved,
    state_of,
)
from common.ledger.tables import Action, Operation, Row, Table, Tables, Value
from common.records import RECORD_BYTES, Record, unpack_records
from common.settings import MAX_OBJECTS_PER_REQUEST
from common.tally import Tally
from common.text import cut

_LEDGER: Final = ("ledger", "id")
"""Keys of the row with the ledger id. Its partition sorts behind all runs, its row key behind all
chunks."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_CAS_TRIES: Final = 8
_OUTCOME: Final = (
    "sequence",
    "epoch",
    "count",
    "state",
    "void",
    "letters",
    "accepted",
    "rejected",
    "deferrals",
    "destination",
    "enqueued_at",
    "finished_at",
)
"""The properties that counting needs: not the records, which are most of a row's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate(Tally):
    """The outcomes of the records of one or more chunks: counts of indicators.

    `waited` is the sum, over accepted indicators, of the seconds from listed to accepted.
    """

    accepted: int = 0
    rejected: int = 0
    struck: int = 0
    poisoned: int = 0
    discarded: int = 0
    pending: int = 0
    waited: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk's row.

    `accepted + rejected == count` if one answer covered all records and the row has no letters;
    else both are 0.

    `records` has `RECORD_BYTES` for each indicator, in the order of the body. `letters` has a
    `Letter` for each, or is empty: then `state` is the state of all of them. `part_sizes` has a
    byte for each: the number of records in the smallest message that carries it. It is empty before
    a split. `destination` is where the chunk is to be sent. `sample` has a few accepted indicators
    (`samples.pack_samples`).
    """

    run_id: str
    key: str
    sequence: int
    epoch: int
    count: int
    state: ChunkState = ChunkState.QUEUED
    void: bool = False
    letters: str = ""
    part_sizes: bytes = b""
    accepted: int = 0
    rejected: int = 0
    deferrals: int = 0
    reason: str = ""
    destination: str = ""
    records: bytes = b""
    sample: bytes = b""
    enqueued_at: datetime = field(default=_NEVER, compare=False)
    finished_at: datetime | None = field(default=None, compare=False)
    row: Row | None = field(default=None, compare=False, repr=False)
    """The row as it was read; None if the chunk is new, or only a part of the row was read."""

    @property
    def etag(self) -> str:
        """The ETag under which it was read."""
        return "" if self.row is None else self.row.etag

    @property
    def is_settled(self) -> bool:
        """Whether none of its records may be sent any more."""
        return self.is_over(None)

    def is_over(self, part: Collection[int] | None) -> bool:
        """Whether no record of a part may be sent any more; None: of the whole chunk."""
        return self.void or self.state_among(part) in SETTLED_CHUNKS

    def state_among(self, part: Collection[int] | None) -> ChunkState:
        """Return the state of a part, given as indexes of records; None: of the whole chunk."""
        if part is None or self.state is ChunkState.OTHER:  # its letters may not be readable
            return self.state
        return state_of("".join(each for index, each in enumerate(self.each) if index in part))

    def answered_by(self, part: Collection[int] | None) -> frozenset[int]:
        """Return the indexes of those records of a message that no smaller message carries.

        `part` None: the message of the whole chunk. Only the letters of these records move when the
        message is given up, replayed or discarded. A smaller message may still be on the queue
        while the larger one is kept as poison: if the consumer died between the split and the
        acknowledgement, and the host gave the larger message up.
        """
        indexes = frozenset(range(self.count) if part is None else part)
        if not self.part_sizes:
            return indexes
        return frozenset(
            index
            for index in indexes
            if index < self.count and self.part_sizes[index] >= len(indexes)
        )

    def goes_on_without(self, part: Collection[int] | None) -> bool:
        """Whether a message has records that may be sent, for which smaller messages answer."""
        others = frozenset(range(self.count) if part is None else part) - self.answered_by(part)
        return not others.isdisjoint(self.to_send)

    def may_move(self, state: ChunkState, *, part: Collection[int] | None) -> bool:
        """Whether an operator may move the chunk, or a part of it, to `state`."""
        if not self.answered_by(part):
            return False
        is_part = part is not None and self.state is ChunkState.QUEUED
        return is_part or state in CHUNK_MOVES[self.state]

    @property
    def each(self) -> str:
        """A letter for each record."""
        return self.letters or LETTER_OF[self.state] * self.count

    @property
    def to_send(self) -> tuple[int, ...]:
        """The indexes of the records that may still be sent; none if the row is unreadable."""
        if self.is_settled or self.state is ChunkState.OTHER:
            return ()
        if not self.letters:
            return tuple(range(self.count))
        return tuple(i for i, letter in enumerate(self.letters) if letter in ON_ITS_WAY)

    def waits_elsewhere(self, destination: str) -> bool:
        """Whether any of its records waits for a destination other than this one."""
        return bool(self.to_send) and self.destination != destination

    @property
    def fate(self) -> Fate:
        """The outcomes of its records."""
        if not self.letters and self.state is ChunkState.UPLOADED:
            return Fate(
                accepted=self.accepted,
                rejected=self.rejected,
                waited=self.accepted * self._wait,
            )
        each = self.each
        accepted = each.count(Letter.ACCEPTED)
        return Fate(
            accepted=accepted,
            rejected=each.count(Letter.REJECTED),
            struck=each.count(Letter.STRUCK),
            poisoned=each.count(Letter.POISONED),
            discarded=each.count(Letter.DISCARDED),
            pending=each.count(Letter.PENDING),
            waited=accepted * self._wait,
        )

    @property
    def _wait(self) -> float:
        """Seconds from its listing to its last outcome; 0 if the row does not say."""
        if self.finished_at is None or self.enqueued_at == _NEVER:
            return 0.0
        return max(0.0, (self.finished_at - self.enqueued_at).total_seconds())

    def unpacked(self) -> Iterator[Record]:
        """Yield its records."""
        return unpack_records(self.records)


class Chunks:
    """The chunk rows, by run."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def ledger_id(self) -> str:
        """Return the id of this ledger; the first call makes it."""
        made = secrets.token_hex(8)
        while (known := self.known_ledger_id()) is None:
            try:
                self._table.insert(
                    Row(partition=_LEDGER[0], key=_LEDGER[1], data={"ledger_id": made})
                )
            except ConflictError:
                continue  # another instance was faster, or our own answer was lost
            return made
        return known

    def known_ledger_id(self) -> str | None:
        """Return the id of this ledger, None when it has none: new, or lost."""
        row = self._table.get(*_LEDGER)
        return None if row is None else str(row.data.get("ledger_id", ""))

    def get(self, run_id: str, key: str) -> Chunk | None:
        """Return the chunk with an envelope's `key`, or None."""
        row = self._table.get(partition_of(run_id), key)
        return None if row is None else chunk_of(row)

    def record_deferred(self, envelope: Envelope, *, at: datetime, reason: str) -> None:
        """Record why a chunk waits; an outcome that came meanwhile stays."""
        self._table.update(
            Row(
                partition=partition_of(envelope.run_id),
                key=envelope.key,
                data={
                    "deferred_at": at,
                    "reason": cut(reason),
                    "deferrals": envelope.deferrals,
                },
            )
        )

    def record_uploaded(
        self,
        chunk: Chunk,
        *,
        sent: Sequence[int],
        rejected: Collection[int],
        at: datetime,
        stray: int = 0,
        sample: Sequence[Sample] = (),
    ) -> bool:
        """Record the upload receipt on `chunk` as it was read; return False when its row is gone.

        `sent` and `rejected` are indexes. What was sent and not rejected was accepted, less one
        record for each of the answer's `stray` errors, which name no record. An answer is a fact:
        it is also recorded on a void chunk, and on records that were struck or discarded meanwhile.
        Raises `ConflictError` if the chunk was meanwhile turned over to another destination, about
        which the answer says nothing. `sample` has a few of the accepted indicators.
        """

        def outcome(known: Chunk) -> dict[str, Value]:
            _refuse_other(known)
            if known.destination != chunk.destination:
                raise ConflictError(
                    f"the answer of {chunk.destination} came after the chunk was turned over to "
                    f"{known.destination}"
                )
            change = _sampled(known, sample)
            # The usual case: one answer for all records, so counts say as much as letters.
            if not known.letters and len(sent) == known.count:
                refused = len(rejected) + stray
                if known.state is ChunkState.UPLOADED and known.accepted >= len(sent) - refused:
                    return {}  # a copy of the message was faster: accepted records stay accepted
                return {
                    "state": ChunkState.UPLOADED.value,
                    "accepted": len(sent) - refused,
                    "rejected": refused,
                    "finished_at": at,
                    "reason": "",
                    **change,
                }
            letters = moved(known.each, rejected, Letter.REJECTED)
            taken = [index for index in sent if index not in rejected]
            # Which records the stray errors mean is unknown: the last ones count as rejected.
            letters = moved(letters, taken[: len(taken) - stray], Letter.ACCEPTED)
            letters = moved(letters, taken[len(taken) - stray :], Letter.REJECTED)
            return {**_lettered(letters), "finished_at": at, "reason": "", **change}

        return self._change(chunk.run_id, chunk.key, outcome, read=chunk.row)

    def record_split(self, chunk: Chunk, parts: Iterable[Sequence[int]]) -> bool:
        """Give each record of a chunk a letter, because each part gets its own answer now.

        `parts` holds the indexes of each new message. A record that was given up with a larger
        message is pending again. A settled row stays unchanged: its parts will not be sent.
        Idempotent. Returns False if the row is gone.
        """
        size_of = {index: len(part) for part in parts for index in part}

        def outcome(known: Chunk) -> dict[str, Value]:
            _refuse_other(known)
            if known.is_settled:
                return {}
            before = known.part_sizes or bytes([known.count]) * known.count
            sizes = bytes(min(size, size_of.get(i, size)) for i, size in enumerate(before))
            smaller = [i for i in size_of if sizes[i] < before[i]]
            if not smaller:  # a copy of the message was split first
                return {}
            letters = moved(known.each, smaller, Letter.PENDING)
            return {**_lettered(letters), "part_sizes": sizes}

        return self._change(chunk.run_id, chunk.key, outcome, read=chunk.row)

    def record_poisoned(
        self,
        run_id: str,
        key: str,
        *,
        at: datetime,
        reason: str,
        part: Collection[int] | None = None,
    ) -> bool:
        """Record that a message was given up: the one of a whole chunk, or of a part.

        Its pending records are poisoned, except those for which a smaller message answers. Returns
        False when there is no row.
        """

        def outcome(known: Chunk) -> dict[str, Value]:
            _refuse_other(known)
            is_open = ChunkState.POISONED in CHUNK_MOVES[known.state]
            if not (is_open and known.answered_by(part)):
                return {}  # an outcome was faster, or smaller messages answer for all records
            change = _turned(known, {Letter.PENDING}, Letter.POISONED, part=part)
            return {**change, "finished_at": at, "reason": cut(reason)}

        return self._change(run_id, key, outcome)

    def strike(self, run_id: str, key: str, indexes: Collection[int]) -> bool:
        """Strike records for which newer versions have rows; settled records stay unchanged.

        Called twice: the same. Returns False if there is no row: the chunk was settled.
        """

        def outcome(known: Chunk) -> dict[str, Value]:
            if known.state is ChunkState.OTHER:
                return {}  # its letters, if it has any, cannot be read: left alone
            letters = moved(known.each, indexes, Letter.STRUCK)
            return {} if letters == known.each else _lettered(letters)

        return self._change(run_id, key, outcome)

    def move(
        self,
        chunk: Chunk,
        state: ChunkState,
        *,
        at: datetime,
        part: Collection[int] | None = None,
    ) -> bool:
        """Move a chunk, or a part, for an operator; return False if that move is not allowed.

        To `QUEUED`: records that were given up are to be sent again. To `DISCARDED`: records that
        were given up, or whose message is lost, must not be sent. Struck records stay struck.
        Records for which a smaller message answers stay unchanged. Compare-and-swap against the row
        that `chunk` was read from: an outcome recorded since then stays, and this returns False.
        """
        if not chunk.may_move(state, part=part):
            return False
        if state is ChunkState.QUEUED:
            change = _turned(chunk, {Letter.POISONED}, Letter.PENDING, part=part)
        else:
            change = _turned(chunk, ON_ITS_WAY, Letter.DISCARDED, part=part)
        return self._swap(chunk, {**change, "moved_at": at})

    def declare_lost(self, chunk: Chunk, *, at: datetime, reason: str) -> bool:
        """Discard the pending records of a chunk whose message cannot be found.

        Returns False if nothing is pending, or the row changed since it was read. Records that were
        given up stay unchanged: their message is kept.
        """
        pending = [i for i, letter in enumerate(chunk.each) if letter == Letter.PENDING]
        if chunk.void or chunk.state is ChunkState.OTHER or not pending:
            return False
        change: dict[str, Value] = {"state": ChunkState.DISCARDED.value}
        if chunk.letters:
            change = _lettered(moved(chunk.letters, pending, Letter.DISCARDED))
        return self._swap(chunk, {**change, "moved_at": at, "reason": cut(reason)})

    def turn_over(self, chunk: Chunk, destination: str) -> bool:
        """Let a chunk go to another destination; return False when its row changed meanwhile."""
        return self._swap(chunk, {"destination": destination})

    def turn_over_all(self, chunks: Sequence[Chunk], destination: str) -> list[Chunk]:
        """Turn over chunks of one run, `MAX_BATCH_ENTITIES` at most, in one write.

        Returns those whose rows had not changed since they were read.
        """
        rows = [chunk.row for chunk in chunks if chunk.row is not None]
        turned = [replace(row, data={**row.data, "destination": destination}) for row in rows]
        try:
            self._table.transact([Operation(action=Action.REPLACE, row=row) for row in turned])
        except ConflictError:  # one row had changed, so none was written: try each alone
            return [chunk for chunk in chunks if self.turn_over(chunk, destination)]
        return list(chunks)

    def beyond(self, run_id: str, sequence: int) -> list[Chunk]:
        """Return the chunks of a run from `sequence` on, void ones included."""
        return list(self.of_run(run_id, from_key=sequence_key(sequence)))

    def all(self) -> Iterator[Chunk]:
        """Yield every chunk that has a row, run by run, the newest run first."""
        return map(chunk_of, self._table.query(before_key=HEAD_KEY))

    def of_run(self, run_id: str, *, from_key: str) -> Iterator[Chunk]:
        """Yield the chunks of a run, from the one with `from_key` on."""
        rows = self._table.query(partition_of(run_id), from_key=from_key, before_key=HEAD_KEY)
        return map(chunk_of, rows)

    def records(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield run, key and records of every chunk that has a row, the newest run first.

        Reads nothing else of a row, and so needs a third of the time.
        """
        for row in self._table.query(before_key=HEAD_KEY, select=("records",)):
            found = row.data.get("records")
            yield run_id_of(row.partition), row.key, found if isinstance(found, bytes) else b""

    def outcomes(self, run_id: str | None = None) -> Iterator[Chunk]:
        """Yield every chunk, run by run, or those of one run; read only place, counts and state.

        The chunks have no records and no reason, which are most of a row, and no ETag.
        """
        partition = None if run_id is None else partition_of(run_id)
        rows = self._table.query(partition, before_key=HEAD_KEY, select=_OUTCOME)
        return map(chunk_of, rows)

    def samples(self) -> Iterator[tuple[str, tuple[Sample, ...]]]:
        """Yield the run and the sample of every chunk that has one."""
        for row in self._table.query(before_key=HEAD_KEY, select=("sample",)):
            found = unpack_samples(row.data.get("sample"))
            if found:
                yield run_id_of(row.partition), found

    def _change(
        self,
        run_id: str,
        key: str,
        outcome: Callable[[Chunk], dict[str, Value]],
        *,
        read: Row | None = None,
    ) -> bool:
        """Overlay what `outcome` returns for the current chunk on its row.

        Returns False if there is no row. Compare-and-swap, first on the row as it was `read`, so
        that an outcome recorded at the same moment is never overwritten.
        """
        for _ in range(_CAS_TRIES):
            row = read or self._table.get(partition_of(run_id), key)
            if row is None:
                return False
            known = chunk_of(row)
            changes = outcome(known)
            if not changes:
                return True
            try:
                self._table.replace(replace(row, data={**row.data, **changes}))
            except ConflictError:
                read = None  # the row has changed: decide again on what it is now
                continue
            return True
        raise ConflictError(f"row of chunk {key} kept changing; try again")

    def _swap(self, chunk: Chunk, changes: dict[str, Value]) -> bool:
        """Overlay `changes` on the row that `chunk` was read from; return False if it changed."""
        if chunk.row is None:
            return False
        try:
            self._table.replace(replace(chunk.row, data={**chunk.row.data, **changes}))
        except ConflictError:
            return False
        return True


def insertion(chunk: Chunk) -> Operation:
    """Return the write of a new chunk's row, for a transaction with the head of its run."""
    data: dict[str, Value] = {
        "sequence": chunk.sequence,
        "epoch": chunk.epoch,
        "count": chunk.count,
        "destination": chunk.destination,
        "records": chunk.records,
        "enqueued_at": chunk.enqueued_at,
    }
    return Operation(action=Action.INSERT, row=_row(chunk, data))


def voiding(chunk: Chunk) -> Operation:
    """Return the write that makes a chunk void, for a transaction with the head of its run."""
    return Operation(action=Action.UPDATE, row=_row(chunk, {"void": True}))


def removal(chunk: Chunk) -> Operation:
    """Return the removal of a chunk's row, for a transaction; it fails if the row has changed."""
    return Operation(action=Action.DELETE, row=replace(_row(chunk, {}), etag=chunk.etag))


def _row(chunk: Chunk, data: dict[str, Value]) -> Row:
    return Row(partition=partition_of(chunk.run_id), key=chunk.key, data=data)


def _refuse_other(chunk: Chunk) -> None:
    """Raise `ConflictError` for a row of a later release, or a damaged one: it must not change."""
    if chunk.state is ChunkState.OTHER:
        raise ConflictError(
            f"row of chunk {chunk.key} is of a later release, or damaged: it is left alone"
        )


def _sampled(chunk: Chunk, more: Sequence[Sample]) -> dict[str, Value]:
    """Return the property that holds a chunk's sample and `more`; empty if both are empty."""
    found = of_chunk(unpack_samples(chunk.sample), more)
    return {"sample": pack_samples(found)} if found else {}


def _lettered(letters: str) -> dict[str, Value]:
    """Return the properties of a chunk whose records have these letters."""
    return {"letters": letters, "state": state_of(letters).value, "accepted": 0, "rejected": 0}


def _turned(
    chunk: Chunk, sources: Collection[Letter], to: Letter, *, part: Collection[int] | None
) -> dict[str, Value]:
    """Return the properties of a chunk whose records with letters in `sources` move to `to`.

    Only records move for which the message answers: that of the whole chunk, or of a part.
    """
    if not chunk.letters and part is None:
        return {"state": state_of(to).value}
    answered = chunk.answered_by(part)
    indexes = (i for i, letter in enumerate(chunk.each) if letter in sources and i in answered)
    return _lettered(moved(chunk.each, indexes, to))


def _state(data: Any) -> ChunkState:
    return member_of(ChunkState, data.get("state", ChunkState.QUEUED), ChunkState.OTHER)


def row_of(envelope: Envelope, *, destination: str, at: datetime, records: bytes = b"") -> Chunk:
    """Return the new row of the chunk that a message carries; `records` as in `Chunk`."""
    return Chunk(
        run_id=envelope.run_id,
        key=envelope.key,
        sequence=envelope.sequence,
        epoch=envelope.epoch,
        count=envelope.count,
        destination=destination,
        records=records,
        enqueued_at=at,
    )


def chunk_of(row: Row) -> Chunk:
    """Return the chunk of a row; a damaged row gives a chunk of the state `OTHER`."""
    data: dict[str, Any] = dict(row.data)
    whole = row if row.etag else None  # one that was read in part must not be written back
    fault = _fault(data)
    if fault:
        return Chunk(
            run_id=run_id_of(row.partition),
            key=row.key,
            sequence=0,
            epoch=0,
            count=0,
            state=ChunkState.OTHER,
            reason=f"the row cannot be read: {fault}",
            row=whole,
        )
    return Chunk(
        run_id=run_id_of(row.partition),
        key=row.key,
        sequence=data["sequence"],
        epoch=data["epoch"],
        count=data["count"],
        state=_state(data),
        void=data.get("void", False),
        letters=data.get("letters", ""),
        part_sizes=data.get("part_sizes", b""),
        accepted=data.get("accepted", 0),
        rejected=data.get("rejected", 0),
        deferrals=data.get("deferrals", 0),
        reason=data.get("reason", ""),
        destination=data.get("destination", ""),
        records=data.get("records", b""),
        sample=sample if isinstance(sample := data.get("sample"), bytes) else b"",
        enqueued_at=data.get("enqueued_at", _NEVER),
        finished_at=data.get("finished_at"),
        row=whole,
    )


_TYPES: Final[dict[str, type]] = {
    "sequence": int,
    "epoch": int,
    "count": int,
    "void": bool,
    "accepted": int,
    "rejected": int,
    "deferrals": int,
    "reason": str,
    "destination": str,
    "records": bytes,
    "letters": str,
    "part_sizes": bytes,
    "enqueued_at": datetime,
    "finished_at": datetime,
}
_ALWAYS: Final = ("sequence", "epoch", "count")


def _fault(data: dict[str, Any]) -> str:
    """Return what is wrong with the properties of a row; empty if nothing is."""
    for name, wanted in _TYPES.items():
        if name not in data and name in _ALWAYS:
            return f"{name} is missing"
        if name in data and not isinstance(data[name], wanted):
            return f"{name} is not of type {wanted.__name__}"
    return _contradiction(data)


def _contradiction(data: dict[str, Any]) -> str:
    """Return the contradiction in properties of the right types; empty if there is none."""
    if min(data[name] for name in _ALWAYS) < 0:
        return "a number is below 0"
    if data["count"] > MAX_OBJECTS_PER_REQUEST:
        return f"it counts more than {MAX_OBJECTS_PER_REQUEST} records"
    if len(data.get("records", b"")) not in {0, data["count"] * RECORD_BYTES}:
        return "it has more or fewer records than it counts"
    letters = data.get("letters", "")
    if letters and (len(letters) != data["count"] or not set(letters) <= set(LETTER_MOVES)):
        return "it has no valid letter for each record"
    if len(data.get("part_sizes", b"")) not in {0, data["count"]}:
        return "it does not have one size of a part for each record"
    return ""


def ids_without_fate(chunks: Iterable[Chunk]) -> int:
    """Return how many indicators of a run are only in void chunks. Pure.

    An indicator does not count if the same or a newer version of it has an answer, or is in a chunk
    that is not void. `chunks` are in the order of their keys; with equal `modified` the last one
    counts.
    """
    kept: set[Record] = set()
    newest: dict[int, int] = {}
    unanswered: dict[int, Record] = {}
    for chunk in chunks:
        for letter, record in zip(chunk.each, chunk.unpacked(), strict=False):
            if not chunk.void or letter in ANSWERED:
                kept.add(record)
                newest[record.id_hash] = max(record.modified, newest.get(record.id_hash, 0))
                continue
            known = unanswered.get(record.id_hash)
            if known is None or record.modified >= known.modified:
                unanswered[record.id_hash] = record
    return sum(
        record not in kept and record.modified >= newest.get(record.id_hash, 0)
        for record in unanswered.values()
    )
