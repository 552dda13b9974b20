"""Poison in the operator's hands: find, replay, discard.

Replaying puts the message on the queue first and marks the records after it, by compare-and-swap:
dying in between means a second replay at worst, and a message that is given up again at the same
moment stays kept. Works while the consumer is broken: the message then waits on the queue.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from common.clock import Clock
from common.envelope import decode_envelope, encode_envelope
from common.errors import UndecodableError
from common.ledger import Ledger
from common.ledger.poison import PoisonRecord, PoisonState
from common.ledger.slots import Slots
from common.ledger.states import ChunkState
from common.queues import SendQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records: by name (`<run>/<id>` or the id), by text in the reason, or all kept."""

    names: tuple[str, ...] = ()
    reason: str = ""
    all_kept: bool = False

    def picks(self, record: PoisonRecord) -> bool:
        """Whether `record` is one of them."""
        if self.names:
            return record.name in self.names or record.poison_id in self.names
        if record.state is not PoisonState.KEPT:
            return False
        if self.reason:
            return self.reason.lower() in record.reason.lower()
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
    UNDECODABLE = "cannot be decoded"
    GIVEN_UP_AGAIN = "given up again meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """One record and what was done with it."""

    name: str
    result: Result
    count: int


def find(ledger: Ledger, selection: Selection) -> list[PoisonRecord]:
    """Return the records that `selection` picks, the oldest first."""
    return sorted(filter(selection.picks, ledger.poison.all()), key=lambda r: r.first_at)


def replay(
    records: Iterable[PoisonRecord],
    *,
    ledger: Ledger,
    queue: SendQueue,
    slots: Slots,
    clock: Clock,
    dry_run: bool = False,
) -> Iterator[Handled]:
    """Put messages back on the queue, each at a send slot of its own; yield what was done.

    Called twice: the second time says that they are replayed already.
    """

    def one(record: PoisonRecord) -> Result:
        match record.state:
            case PoisonState.REPLAYED:
                return Result.ALREADY_REPLAYED
            case PoisonState.DISCARDED:
                return Result.ALREADY_DISCARDED
            case PoisonState.KEPT:
                return _replay_kept(
                    record, ledger=ledger, queue=queue, slots=slots, clock=clock, dry_run=dry_run
                )

    return _handle(records, one)


def discard(
    records: Iterable[PoisonRecord], *, ledger: Ledger, clock: Clock, dry_run: bool = False
) -> Iterator[Handled]:
    """Give messages up for good; yield what was done.

    Their rows stay as a record. An indicator of theirs that Lumen still lists is sent again by
    the next run.
    """

    def one(record: PoisonRecord) -> Result:
        match record.state:
            case PoisonState.REPLAYED:
                return Result.ALREADY_REPLAYED
            case PoisonState.DISCARDED:
                return Result.ALREADY_DISCARDED
            case PoisonState.KEPT:
                return Result.WOULD_DISCARD if dry_run else _discard_kept(record, ledger, clock)

    return _handle(records, one)


def _handle(
    records: Iterable[PoisonRecord], one: Callable[[PoisonRecord], Result]
) -> Iterator[Handled]:
    for record in records:
        yield Handled(name=record.name, result=one(record), count=record.count)


def _replay_kept(
    record: PoisonRecord,
    *,
    ledger: Ledger,
    queue: SendQueue,
    slots: Slots,
    clock: Clock,
    dry_run: bool,
) -> Result:
    try:
        envelope = decode_envelope(record.message)
    except UndecodableError:
        return Result.UNDECODABLE
    chunk = ledger.chunks.get(envelope.run_id, envelope.key)
    if chunk is not None and chunk.state is ChunkState.UPLOADED:
        if not dry_run:
            ledger.poison.settle(record, PoisonState.REPLAYED, at=clock.now())
        return Result.ALREADY_UPLOADED
    if dry_run:
        return Result.WOULD_REPLAY
    slot = slots.reserve(1).first
    fresh = replace(envelope.moved_to(slot.timestamp()), attempt=0, isolation=None)
    queue.send(encode_envelope(fresh), delay=(slot - clock.now()).total_seconds())
    if not ledger.poison.settle(record, PoisonState.REPLAYED, at=clock.now()):
        return Result.GIVEN_UP_AGAIN
    if chunk is not None:
        ledger.chunks.move(chunk, ChunkState.QUEUED, at=clock.now())
    return Result.REPLAYED


def _discard_kept(record: PoisonRecord, ledger: Ledger, clock: Clock) -> Result:
    chunk = ledger.chunks.get(record.run_id, record.poison_id)
    if chunk is not None:
        ledger.chunks.move(chunk, ChunkState.DISCARDED, at=clock.now())
    if not ledger.poison.settle(record, PoisonState.DISCARDED, at=clock.now()):
        return Result.GIVEN_UP_AGAIN
    return Result.DISCARDED
