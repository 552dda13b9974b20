"""A ledger with much on record: a thousand runs, a day of pulses, ten thousand messages given up.

Everything is written as the pipeline writes it. The row of the page measures with it, and the tests
of the page look at it.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Final

from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.ledger import open_ledger
from common.ledger import poison as poison_rows
from common.ledger.chunks import Chunk, insertion
from common.ledger.poison import PoisonedBy, poison_of_envelope
from common.ledger.pulses import Books, Pulse
from common.ledger.runs import Counts, Folded, Run
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import Action, Operation, Tables
from common.records import Record, pack_records

BATCH: Final = 90
RUNS: Final = 1000
PULSES: Final = 96
"""Those of a day: one every 15 minutes."""
REPLAYED: Final = 3000
"""Messages whose chunks have rows: a test replays them."""
POISON: Final = 10_000
EVIL: Final = "<img src=x onerror=\"document.title='owned'\"> & 'quotes'"
"""A reason as a feed or a service may word it."""


def fill(tables: Tables, *, destination: str) -> None:
    """Write it all; `destination` is the workspace of the chunks that were given up."""
    now = datetime.now(UTC)
    ledger, table = open_ledger(tables), tables.table("chunks")
    for number in range(RUNS):
        at = now - timedelta(minutes=15 * number)
        run = Run(
            run_id=f"{at:%Y%m%dT%H%M%S}-{number:08x}",
            state=RunState.COMPLETE,
            started_at=at,
            updated_at=at,
            counts=Counts(fetched=200, unchanged=100, enqueued=100),
            folded=Folded(accepted=90, rejected=10),
        )
        ledger.runs.create(run)
        if number < PULSES:
            pulse = Pulse(at=at, verdict="degraded", backlog=number, fetched=200, accepted=90)
            ledger.pulses.write(pulse, Books())
    run_id = f"{now - timedelta(days=30):%Y%m%dT%H%M%S}-0badcafe"
    ledger_id = ledger.chunks.ledger_id()
    envelopes = [poisoned(run_id, number, ledger_id) for number in range(POISON)]
    rows = [row_of(envelope, destination, now) for envelope in envelopes[:REPLAYED]]
    for some in batched(rows, BATCH, strict=False):
        table.transact([given_up(insertion(row)) for row in some])
    records = [
        poison_of_envelope(
            envelope,
            encode_envelope(envelope),
            reason=reason_of(number),
            poisoned_by=PoisonedBy.CONSUMER,
            at=now - timedelta(seconds=POISON - number),
        )
        for number, envelope in enumerate(envelopes)
    ]
    kept = [poison_rows._to_row(record) for record in records]
    for batch in batched(kept, BATCH, strict=False):
        tables.table("poison").transact([Operation(action=Action.INSERT, row=row) for row in batch])


def reason_of(number: int) -> str:
    """Return why a message was given up: one of three reasons."""
    if number < REPLAYED:
        return "Sentinel answered 500 ten times"
    return EVIL if number == POISON - 1 else "the answer has no known form"


def indicator_of(number: int) -> str:
    """Return the id of the indicator of a message."""
    return f"indicator--{number:08d}-0000-4000-8000-000000000000"


def poisoned(run_id: str, number: int, ledger_id: str) -> Envelope:
    """Return the message of a chunk of one indicator."""
    body = json.dumps([{"id": indicator_of(number)}]).encode()
    return Envelope(
        run_id=run_id,
        sequence=number,
        epoch=1,
        chunk_id=chunk_id_of(body),
        body=body,
        count=1,
        fingerprints=(number,),
        ledger_id=ledger_id,
    )


def given_up(operation: Operation) -> Operation:
    """Return the write of a row that says at once that its chunk was given up."""
    row = operation.row
    data = {**row.data, "state": ChunkState.POISONED.value}
    return replace(operation, row=replace(row, data=data))


def row_of(envelope: Envelope, destination: str, now: datetime) -> Chunk:
    """Return the row of a chunk that was given up."""
    record = Record(id_hash=envelope.sequence, fingerprint=envelope.sequence)
    return Chunk(
        run_id=envelope.run_id,
        key=envelope.key,
        sequence=envelope.sequence,
        epoch=envelope.epoch,
        count=1,
        destination=destination,
        records=pack_records([record]),
        enqueued_at=now,
    )
