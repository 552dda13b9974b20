"""A toolbox over our fakes, and poison to put into it."""

from dataclasses import replace
from datetime import timedelta

from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.errors import PipelineError
from common.fingerprints import id_hash
from common.ledger import open_ledger
from common.ledger.chunks import Chunk, insertion, voiding
from common.ledger.partitions import partition_of
from common.ledger.poison import PoisonedBy, PoisonRecord, poison_of_envelope, poison_of_raw
from common.ledger.problems import Problems
from common.ledger.runs import Counts, Cursor, Run
from common.ledger.sends import Sends
from common.ledger.slots import Slots
from common.ledger.states import RunState
from common.ledger.tables import Row, Value
from common.records import Record, milliseconds_of, pack_records
from common.workspace import Row as Answered
from ops.toolbox import Toolbox
from tests.fakes.clock import FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables

RUN = "20260101T000000-0badcafe"
LEDGER = "00c0ffee00c0ffee"
HERE = "sentinel.example/here"


class FakeWorkspace:
    """A workspace with scripted rows, or a failure; it remembers what it was asked."""

    def __init__(self) -> None:
        self.rows: list[Answered] = []
        self.failure: PipelineError | None = None
        self.asked: list[str] = []

    def query(self, text: str, *, span: timedelta) -> list[Answered]:
        """Return the rows."""
        self.asked.append(text)
        if self.failure is not None:
            raise self.failure
        return self.rows


class Bench:
    """A toolbox with its fakes in reach."""

    def __init__(self, *, tables: FakeTables | None = None) -> None:
        self.clock = FakeClock()
        self.tables = tables or FakeTables(self.clock.monotonic)
        self.queue = FakeQueue(self.clock.monotonic)
        self.poison_queue = FakeQueue(self.clock.monotonic)
        self.sync_queue = FakeQueue(self.clock.monotonic)
        self.workspace = FakeWorkspace()
        self.toolbox = Toolbox(
            ledger=open_ledger(self.tables),
            problems=Problems(self.tables, clock=self.clock),
            sends=Sends(self.tables, clock=self.clock),
            slots=Slots(self.tables, clock=self.clock, requests_per_minute=60),
            queue=self.queue,
            poison_queue=self.poison_queue,
            sync_queue=self.sync_queue,
            clock=self.clock,
            requests_per_minute=60,
            stale_after=timedelta(minutes=45),
            workspace=lambda: self.workspace,
            destination=HERE,
        )
        ledger_row = Row(partition="ledger", key="id", data={"ledger_id": LEDGER})
        self.tables.table("chunks").merge(ledger_row)

    def enqueue(self, *sequences: int) -> None:
        """Write the rows of chunks and enqueue them at slots of their own, as a sync run does."""
        slots = self.toolbox.slots.reserve(len(sequences))
        for number, sequence in enumerate(sequences):
            self.write_row(sequence)
            slot = slots.slot(number)
            text = encode_envelope(replace(chunk(sequence), slot=slot.timestamp()))
            self.queue.send(text, delay=(slot - self.clock.now()).total_seconds())

    def write_row(self, sequence: int, *, destination: str = HERE, count: int = 2) -> None:
        """Write a chunk's row if there is none."""
        envelope = chunk(sequence)
        if self.toolbox.ledger.chunks.get(RUN, envelope.key) is not None:
            return
        records = [Record(id_hash=10 * sequence + n, fingerprint=n) for n in range(count)]
        row = Chunk(
            run_id=RUN,
            key=envelope.key,
            sequence=sequence,
            epoch=envelope.epoch,
            count=count,
            destination=destination,
            records=pack_records(records),
            enqueued_at=self.clock.now(),
        )
        self.tables.table("chunks").transact([insertion(row)])

    def hold(
        self, *ids: str, sequence: int = 0, modified: str = "2026-01-01T00:00:00Z", **data: Value
    ) -> None:
        """Write the row of a chunk of these indicators, with further properties."""
        records = [
            Record(id_hash=id_hash(one), fingerprint=n, modified=milliseconds_of(modified))
            for n, one in enumerate(ids)
        ]
        row = Chunk(
            run_id=RUN,
            key=chunk(sequence).key,
            sequence=sequence,
            epoch=1,
            count=len(ids),
            destination=HERE,
            records=pack_records(records),
            enqueued_at=self.clock.now(),
        )
        self.tables.table("chunks").transact([insertion(row)])
        if data:
            self.set_row(sequence, **data)

    def row(self, sequence: int = 0) -> Chunk:
        """Return a chunk's row, which is there."""
        found = self.toolbox.ledger.chunks.get(RUN, chunk(sequence).key)
        assert found is not None
        return found

    def set_row(self, sequence: int = 0, **properties: Value) -> None:
        """Overlay properties on a chunk's row, as somebody else may."""
        row = Row(partition=partition_of(RUN), key=chunk(sequence).key, data=properties)
        self.tables.table("chunks").merge(row)

    def remove_row(self, sequence: int = 0) -> None:
        """Fold a chunk away."""
        self.tables.table("chunks").delete(partition_of(RUN), chunk(sequence).key)

    def void(self, sequence: int = 0) -> None:
        """Make a chunk void, as a later tick of its run does."""
        self.tables.table("chunks").transact([voiding(self.row(sequence))])

    def upload(self, sequence: int = 0) -> None:
        """Let Sentinel accept what may be sent of a chunk."""
        row = self.row(sequence)
        self.toolbox.ledger.chunks.record_uploaded(
            row, sent=row.to_send, rejected=(), at=self.clock.now()
        )

    def poison(self, sequence: int = 0, *, reason: str = "Sentinel is broken") -> PoisonRecord:
        """Keep the message of a chunk as poison, as the consumer would; return the record."""
        envelope = chunk(sequence)
        record = poison_of_envelope(
            envelope,
            encode_envelope(envelope),
            reason=reason,
            poisoned_by=PoisonedBy.CONSUMER,
            at=self.clock.now(),
        )
        self.write_row(sequence)
        self.toolbox.ledger.poison.keep(record)
        self.toolbox.ledger.chunks.record_poisoned(
            RUN, envelope.key, at=self.clock.now(), reason=reason
        )
        return record

    def rubbish(self) -> PoisonRecord:
        """Keep a message that nobody can decode."""
        record = poison_of_raw(
            "rubbish", reason="not JSON", poisoned_by=PoisonedBy.HOST, at=self.clock.now()
        )
        self.toolbox.ledger.poison.keep(record)
        return record

    def run(
        self,
        state: RunState = RunState.COMPLETE,
        *,
        reason: str = "",
        cursor: Cursor | None = None,
        counts: Counts | None = None,
    ) -> Run:
        """Record a run that began and ended now."""
        now = self.clock.now()
        run = Run(
            run_id=f"{now:%Y%m%dT%H%M%S}-0badcafe",
            state=state,
            started_at=now,
            updated_at=now,
            cursor=cursor,
            counts=counts or Counts(),
            reason=reason,
        )
        return self.toolbox.ledger.runs.create(run)

    def lease(self, run: Run | None) -> None:
        """Let the run lease name a run as the one that is open."""
        control = self.toolbox.ledger.control
        lease = control.acquire_lease(owner="tick", seconds=600)
        control.release_lease(control.set_open_run(lease, None if run is None else run.run_id))

    def run_at(self, seconds: float) -> Run:
        """Record a complete run, `seconds` from now."""
        self.clock.advance(seconds)
        return self.run()


def chunk(sequence: int = 0) -> Envelope:
    """Return the envelope of a chunk of two records."""
    body = b'[{"id":"a"},{"id":"b"}]'
    return Envelope(
        run_id=RUN,
        chunk_id=chunk_id_of(body),
        sequence=sequence,
        count=2,
        body=body,
        fingerprints=(1, 2),
        ledger_id=LEDGER,
        attempt=7,
    )
