"""A toolbox over our fakes, and poison to put into it."""

from datetime import timedelta

from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.ledger import open_ledger
from common.ledger.poison import PoisonedBy, PoisonRecord, poison_of_envelope, poison_of_raw
from common.ledger.problems import Problems
from common.ledger.runs import Run
from common.ledger.slots import Slots
from common.ledger.states import RunState
from ops.toolbox import Toolbox
from tests.fakes.clock import FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables

RUN = "20260101T000000-0badcafe"


class Bench:
    """A toolbox with its fakes in reach."""

    def __init__(self, *, tables: FakeTables | None = None) -> None:
        self.tables = tables or FakeTables()
        self.queue = FakeQueue()
        self.poison_queue = FakeQueue()
        self.clock = FakeClock()
        self.toolbox = Toolbox(
            ledger=open_ledger(self.tables),
            problems=Problems(self.tables, clock=self.clock),
            slots=Slots(self.tables, clock=self.clock, requests_per_minute=60),
            queue=self.queue,
            poison_queue=self.poison_queue,
            clock=self.clock,
            requests_per_minute=60,
            stale_after=timedelta(minutes=45),
        )

    def enqueue(self, *sequences: int) -> None:
        """Put chunks on the queue at slots of their own and record it, as a sync run does."""
        self.toolbox.slots.reserve(len(sequences))
        envelopes = [chunk(sequence) for sequence in sequences]
        for envelope in envelopes:
            self.queue.send(encode_envelope(envelope))
        self.toolbox.ledger.chunks.record_enqueued(envelopes, at=self.clock.now())

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
        self.toolbox.ledger.poison.keep(record)
        self.toolbox.ledger.chunks.record_poisoned(envelope, at=self.clock.now(), reason=reason)
        return record

    def rubbish(self) -> PoisonRecord:
        """Keep a message that nobody can decode."""
        record = poison_of_raw(
            "rubbish", reason="not JSON", poisoned_by=PoisonedBy.HOST, at=self.clock.now()
        )
        self.toolbox.ledger.poison.keep(record)
        return record

    def run(self, state: RunState = RunState.COMPLETE, *, reason: str = "") -> Run:
        """Record a run that began and ended now."""
        now = self.clock.now()
        run = Run(
            run_id=f"{now:%Y%m%dT%H%M%S}-0badcafe",
            state=state,
            started_at=now,
            updated_at=now,
            reason=reason,
        )
        return self.toolbox.ledger.runs.create(run)

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
        attempt=7,
    )
