"""Poison in the operator's hands: find, replay, discard.

The record is settled last, by compare-and-swap, after the chunk's row and the queue. So after a
crash in between, an unhandled message is still kept, and the same command completes the work. A
message that is given up again at the same moment stays kept. Works while the consumer is broken:
the message then waits on the queue.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from common.clock import Clock
from common.envelope import Envelope, decode_envelope, encode_to_fit
from common.errors import ConflictError, LaterVersionError, UndecodableError
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.poison import SETTLED_POISON, PoisonEntry, PoisonRecord, PoisonState
from common.ledger.slots import Slots
from common.ledger.states import ChunkState
from common.queues import SendQueue
from ops.decisions import UNSIGNED, Decision

RESERVE_AT_ONCE: Final = 100
"""Send slots that a long replay reserves at a time, and that stay unused if it dies: about a minute
of sending."""

_TRIES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records: by name (`<run>/<id>`), by text in the reason, or all kept.

    With `settled`, a choice by reason or of all includes replayed and discarded records.
    """

    names: tuple[str, ...] = ()
    reason: str = ""
    all_kept: bool = False
    settled: bool = False

    def picks(self, entry: PoisonEntry) -> bool:
        """Whether `entry` is one of those that are chosen by reason, or all."""
        if entry.state in SETTLED_POISON and not self.settled:
            return False
        if self.reason:
            return self.reason.lower() in entry.reason.lower()
        return self.all_kept


class Result(StrEnum):
    """What was done with one record."""

    REPLAYED = "replayed"
    WOULD_REPLAY = "would be replayed"
    DISCARDED = "discarded"
    WOULD_DISCARD = "would be discarded"
    ALREADY_REPLAYED = "already replayed"
    ALREADY_DISCARDED = "already discarded"
    ALREADY_UPLOADED = "already uploaded"
    ALREADY_SETTLED = "already settled"
    """Its chunk's row was folded away: accepted, struck, void or discarded."""
    SUPERSEDED = "superseded"
    UNDECODABLE = "cannot be decoded"
    LATER_RELEASE = "of a later release"
    CLOSED = "closed: its parts are sent separately"
    """The message was split before it was given up; indicators in its parts are not discarded."""
    WOULD_CLOSE = "would be closed: its parts are sent separately"
    GIVEN_UP_AGAIN = "given up again meanwhile"
    GONE = "not there any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """One record and what was done with it."""

    name: str
    result: Result
    count: int


def find(ledger: Ledger, selection: Selection, *, after: str = "") -> list[PoisonEntry]:
    """Return the entries that `look_for` yields."""
    return list(look_for(ledger, selection, after=after))


def look_for(ledger: Ledger, selection: Selection, *, after: str = "") -> Iterator[PoisonEntry]:
    """Yield the entries that `selection` picks, the oldest run first; reads no message text.

    In the order of their names: those up to the name `after` are not read.
    """
    if not selection.names:
        entries = ledger.poison.entries(settled=selection.settled, after=after)
        yield from filter(selection.picks, entries)
    for name in sorted(set(selection.names)):
        if name > after:
            run_id, _, poison_id = name.partition("/")
            record = ledger.poison.get(run_id, poison_id)
            if record is not None:
                yield _entry_of(record)


def _entry_of(record: PoisonRecord) -> PoisonEntry:
    return PoisonEntry(**{f.name: getattr(record, f.name) for f in fields(PoisonEntry)})


def replay(
    entries: Sequence[PoisonEntry],
    *,
    ledger: Ledger,
    queue: SendQueue,
    slots: Slots,
    clock: Clock,
    dry_run: bool = False,
    decision: Decision = UNSIGNED,
) -> Iterator[Handled]:
    """Put messages back on the queue, each at a send slot of its own; yield what was done.

    Called twice: the second call says that they are already replayed. If it dies halfway: records
    that were not settled are still kept, and at worst also on the queue.
    """
    supply = _SlotSupply(slots, wanted=len(entries))

    def one(record: PoisonRecord) -> Result | None:
        return _replay_kept(
            record,
            ledger=ledger,
            queue=queue,
            supply=supply,
            clock=clock,
            dry_run=dry_run,
            decision=decision,
        )

    for entry in entries:
        yield _handle(entry, one, ledger=ledger)
        supply.count_down()


def discard(
    entries: Iterable[PoisonEntry],
    *,
    ledger: Ledger,
    clock: Clock,
    dry_run: bool = False,
    decision: Decision = UNSIGNED,
) -> Iterator[Handled]:
    """Give messages up for good; yield what was done.

    Their rows stay as a record. Their indicators are sent again only in a newer version, or by a
    full sync while Lumen still lists them. If a message was split before it was given up, only its
    record is closed. Called twice, or dies halfway: as with `replay`.
    """

    def one(record: PoisonRecord) -> Result | None:
        return _discard_kept(record, ledger=ledger, clock=clock, dry_run=dry_run, decision=decision)

    for entry in entries:
        yield _handle(entry, one, ledger=ledger)


class _SlotSupply:
    """Send slots for many messages, reserved in bulk when the first of them needs one."""

    def __init__(self, slots: Slots, *, wanted: int) -> None:
        self._slots = slots
        self._wanted = wanted
        self._reserved: deque[datetime] = deque()

    def take(self) -> datetime:
        """Return the next slot."""
        if not self._reserved:
            reserved = self._slots.reserve(max(1, min(self._wanted, RESERVE_AT_ONCE)))
            self._reserved.extend(reserved.slot(number) for number in range(reserved.count))
        return self._reserved.popleft()

    def count_down(self) -> None:
        """Record that a message is finished, whether it needed a slot or not."""
        self._wanted -= 1


def _handle(
    entry: PoisonEntry, one: Callable[[PoisonRecord], Result | None], *, ledger: Ledger
) -> Handled:
    """Do `one` with the current record; retry while its chunk's row changes meanwhile."""
    for _ in range(_TRIES):
        record = ledger.poison.get(entry.run_id, entry.poison_id)
        result = _settled(record)
        if result is None and record is not None:
            result = one(record)
        if result is not None:
            return Handled(name=entry.name, result=result, count=entry.count)
    raise ConflictError(f"the chunk of poison {entry.name} kept changing; try again")


def _settled(record: PoisonRecord | None) -> Result | None:
    """Return why there is nothing to do; None for a kept record."""
    if record is None:
        return Result.GONE
    match record.state:
        case PoisonState.REPLAYED:
            return Result.ALREADY_REPLAYED
        case PoisonState.DISCARDED:
            return Result.ALREADY_DISCARDED
        case PoisonState.OTHER:
            return Result.LATER_RELEASE
        case PoisonState.KEPT:
            return None


def _replay_kept(
    record: PoisonRecord,
    *,
    ledger: Ledger,
    queue: SendQueue,
    supply: _SlotSupply,
    clock: Clock,
    dry_run: bool,
    decision: Decision,
) -> Result | None:
    """Replay one; return None if the chunk's row changed before it could be moved.

    The row first, because the consumer may write it as soon as the message is on the queue. Struck
    records stay struck.
    """
    try:
        envelope = decode_envelope(record.message)
    except UndecodableError:
        return Result.UNDECODABLE
    except LaterVersionError:
        return Result.LATER_RELEASE
    chunk = ledger.chunks.get(envelope.run_id, envelope.key)
    if chunk is not None and chunk.state is ChunkState.OTHER:
        return Result.LATER_RELEASE
    settled = _settled_chunk(chunk, envelope, ledger)
    if dry_run:
        return settled or Result.WOULD_REPLAY
    if settled is not None:
        as_discarded = {Result.ALREADY_DISCARDED: PoisonState.DISCARDED}
        state = as_discarded.get(settled, PoisonState.REPLAYED)
        _settle(ledger, record, state, clock, decision)
        return settled
    if not _move(ledger, chunk, ChunkState.QUEUED, clock, part=envelope.part):
        return None
    _send(envelope, queue=queue, slot=supply.take(), clock=clock)
    return _settle(ledger, record, PoisonState.REPLAYED, clock, decision) or Result.REPLAYED


def _settled_chunk(chunk: Chunk | None, envelope: Envelope, ledger: Ledger) -> Result | None:
    """Return the outcome of a message that has nothing to send; None if it has.

    Without a row it is settled, unless the ledger that had the row was lost. A chunk is superseded
    if it is void, or newer versions were sent.
    """
    if chunk is None:
        is_ours = ledger.chunks.known_ledger_id() == envelope.ledger_id
        return Result.ALREADY_SETTLED if is_ours else None
    if not chunk.is_over(envelope.part):
        return None
    match chunk.state_among(envelope.part):
        case ChunkState.UPLOADED:
            return Result.ALREADY_UPLOADED
        case ChunkState.DISCARDED if not chunk.void:
            return Result.ALREADY_DISCARDED
        case _:
            return Result.SUPERSEDED


def _send(envelope: Envelope, *, queue: SendQueue, slot: datetime, clock: Clock) -> None:
    """Enqueue a copy without attempts, which counts as delivered before."""
    fresh = replace(envelope.moved_to(slot.timestamp()), attempt=0, failed=None, put_back=0)
    queue.send(encode_to_fit(fresh), delay=(slot - clock.now()).total_seconds())


def _discard_kept(
    record: PoisonRecord, *, ledger: Ledger, clock: Clock, dry_run: bool, decision: Decision
) -> Result | None:
    """Discard one; return None if the chunk's row, or the record, changed meanwhile.

    The row first: with the record settled and the row still poisoned, the indicators would
    count as on their way for ever.
    """
    key, part = record.poison_id, None
    with suppress(UndecodableError, LaterVersionError):
        envelope = decode_envelope(record.message)
        key, part = envelope.key, envelope.part
    chunk = ledger.chunks.get(record.run_id, key)
    if chunk is not None and chunk.state is ChunkState.OTHER:
        return Result.LATER_RELEASE
    if dry_run:
        goes_on = _discarded(chunk, part) is Result.CLOSED
        return Result.WOULD_CLOSE if goes_on else Result.WOULD_DISCARD
    # After the read of the row: a replay that has moved it since shows here, or fails to settle.
    claimed = ledger.poison.claim(record)
    if claimed is None or not _move(ledger, chunk, ChunkState.DISCARDED, clock, part=part):
        return None
    done = _discarded(chunk, part)
    return _settle(ledger, claimed, PoisonState.DISCARDED, clock, decision) or done


def _discarded(chunk: Chunk | None, part: tuple[int, ...] | None) -> Result:
    """Return what discarding a message does, from its chunk's row as it was before. Pure."""
    if chunk is not None and chunk.state_among(part) is ChunkState.UPLOADED:
        return Result.ALREADY_UPLOADED
    goes_on = chunk is not None and chunk.goes_on_without(part)
    return Result.CLOSED if goes_on else Result.DISCARDED


def _move(
    ledger: Ledger,
    chunk: Chunk | None,
    state: ChunkState,
    clock: Clock,
    *,
    part: tuple[int, ...] | None,
) -> bool:
    """Move a chunk, or a part of it, if it exists and the move is allowed.

    Return False if its row changed since it was read.
    """
    if chunk is None or not chunk.may_move(state, part=part):
        return True
    return ledger.chunks.move(chunk, state, at=clock.now(), part=part)


def _settle(
    ledger: Ledger, record: PoisonRecord, state: PoisonState, clock: Clock, decision: Decision
) -> Result | None:
    """Settle the record; return what another operator did with it first, or None."""
    by, note = decision.by, decision.note
    if ledger.poison.settle(record, state, at=clock.now(), by=by, note=note):
        return None
    return _settled(ledger.poison.get(record.run_id, record.poison_id)) or Result.GIVEN_UP_AGAIN
