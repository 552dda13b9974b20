"""The rows that the contract tests of the ledger begin with."""

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

from common.envelope import (
    Envelope,
    chunk_id_of,
)
from common.ledger import Ledger
from common.ledger.chunks import Chunk, insertion, removal, voiding
from common.ledger.runs import Run, new_run_id
from common.ledger.states import RunState
from common.records import Record, pack_records
from tests.fakes.clock import START

RUN = "20260101T000000-0badcafe"
SOON = START + timedelta(seconds=60)
LATER = START + timedelta(hours=1)


def envelope(number: int = 0, *, count: int = 100) -> Envelope:
    """The envelope of one chunk of the run."""
    body = f"[{number}]".encode()
    return Envelope(
        run_id=RUN,
        chunk_id=chunk_id_of(body),
        sequence=number,
        count=count,
        body=body,
        fingerprints=tuple(range(count)),
    )


def new(
    number: int = 0, *, count: int = 100, run_id: str = RUN, epoch: int = 1, **changes: Any
) -> Chunk:
    """A chunk that has no row yet."""
    made = Chunk(
        run_id=run_id,
        key=f"{number:06d}-{epoch}",
        sequence=number,
        epoch=epoch,
        count=count,
        destination="here",
        records=pack_records(
            Record(id_hash=1000 * number + i, fingerprint=i, modified=i, ends_on=i)
            for i in range(count)
        ),
        enqueued_at=START,
    )
    return replace(made, **changes)


def write(ledger: Ledger, *chunks: Chunk) -> list[Chunk]:
    """Write the rows of new chunks, as the tick that has their run does; return them as read."""
    for made in chunks:
        head = ledger.runs.get(made.run_id)
        if head is None:
            head = ledger.runs.create(run(run_id=made.run_id))
        ledger.runs.save(head, rows=[insertion(made)])
    return [read(ledger, made) for made in chunks]


def read(ledger: Ledger, known: Chunk) -> Chunk:
    """A chunk that must be there, as it stands."""
    found = ledger.chunks.get(known.run_id, known.key)
    assert found is not None
    return found


def upload(ledger: Ledger, known: Chunk, *, rejected: Collection[int] = ()) -> bool:
    """Record that Sentinel has what may be sent of a chunk, on the row as it was read."""
    return ledger.chunks.record_uploaded(known, sent=known.to_send, rejected=rejected, at=START)


def poison(ledger: Ledger, known: Chunk, reason: str = "why") -> bool:
    """Record that a chunk was given up."""
    return ledger.chunks.record_poisoned(known.run_id, known.key, at=START, reason=reason)


def remove(ledger: Ledger, *known: Chunk) -> None:
    """Fold rows away."""
    head = ledger.runs.get(RUN)
    assert head is not None
    ledger.runs.save(head, rows=[removal(chunk) for chunk in known])


def void(ledger: Ledger, *known: Chunk) -> None:
    """Make chunks void."""
    head = ledger.runs.get(RUN)
    assert head is not None
    ledger.runs.save(head, rows=[voiding(chunk) for chunk in known])


def run(number: int = 0, **changes: Any) -> Run:
    """A run that began `number` seconds after the start of time."""
    at = START + timedelta(seconds=number)
    made = Run(run_id=new_run_id(at), state=RunState.RUNNING, started_at=at, updated_at=at)
    return replace(made, **changes)
