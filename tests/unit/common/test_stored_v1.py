"""What version 1 has stored is read by this release, and by every later one.

The files under `tests/fixtures/stored_v1` are never written again: a release that cannot read them
cannot be deployed next to an older one, nor taken back.
"""

import base64
import json
import random
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from common.envelope import (
    VERSION,
    Attempt,
    Envelope,
    chunk_id_of,
    decode_envelope,
    encode_envelope,
)
from common.errors import ConflictError, LaterVersionError
from common.ledger import Ledger, open_ledger
from common.ledger.acceptance import Acceptance
from common.ledger.chunks import Fate
from common.ledger.control import Pause, SyncRequest
from common.ledger.poison import PoisonedBy, PoisonState
from common.ledger.problems import ProblemKind, Problems
from common.ledger.pulses import Pulse
from common.ledger.rejections import RejectedBy
from common.ledger.runs import Counts, Cursor, Folded
from common.ledger.samples import Sample, unpack_samples
from common.ledger.slots import Slots
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import Row, Value
from common.ledger.versions import VOID
from common.records import NO_END, Record
from consumer.poison import PoisonKeeper, handle_poison
from consumer.sentinel import SentinelClient
from consumer.wiring import make_deliverer
from producer.index import VersionIndex
from tests.fakes.clock import START, FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables

STORED = Path(__file__).parents[2] / "fixtures" / "stored_v1"
FILES = {
    **{name: name for name in ("chunks", "control", "poison", "pulses", "rejections", "versions")},
    "operators": "control",
}
"""The files, and the table of each."""
RUN = "20260101T000000-0badcafe"
HERE = "0badcafe|https://sentinel.example"
LEDGER = "0badcafe0badcafe"
SAMPLE = Sample(
    id="indicator--11111111-1111-4111-8111-111111111111",
    modified=1_767_225_600_000,
    accepted_at=START + timedelta(minutes=1),
    confidence=80,
    valid_until=1_767_312_000_000,
)


def value(stored: Any) -> Value:
    """Return a stored property: bytes and times are marked as such."""
    match stored:
        case {"bytes": text}:
            return base64.b64decode(text)
        case {"time": text}:
            return datetime.fromisoformat(text)
        case _:
            return cast("Value", stored)


def stored_tables(*, more: dict[str, Value] | None = None) -> FakeTables:
    """Return tables with every stored row; `more` are properties that a later release has added."""
    tables = FakeTables(lambda: 0.0)
    for file, name in FILES.items():
        for row in json.loads((STORED / f"{file}.json").read_text("ascii")):
            data = {key: value(item) for key, item in row["properties"].items()}
            tables.table(name).insert(
                Row(partition=row["partition"], key=row["key"], data={**data, **(more or {})})
            )
    return tables


@pytest.fixture(params=[False, True], ids=["as stored", "with unknown fields"])
def tables(request: pytest.FixtureRequest) -> FakeTables:
    """The stored rows, and the same with fields that this release does not know."""
    more: dict[str, Value] = {"of_a_later_release": b"\x01", "zone": "x", "weight": 7}
    return stored_tables(more=more if request.param else None)


@pytest.fixture
def ledger(tables: FakeTables) -> Ledger:
    """The ledger of the stored rows."""
    return open_ledger(tables)


def message(name: str, **changes: Any) -> str:
    """Return a stored message, with changes."""
    fields = json.loads((STORED / "envelopes.json").read_text("ascii"))[name]
    return json.dumps({**fields, **changes})


def test_the_head_of_a_run(ledger: Ledger) -> None:
    """Every field of it, and that of a run that has hardly begun."""
    later, run = ledger.runs.latest(9)
    assert (later.run_id, later.state) == ("20260102T000000-0badcafe", RunState.COMPLETE)
    assert (later.cursor, later.cache_id, later.counts) == (None, None, Counts())
    assert (run.run_id, run.state, run.epoch, run.tick, run.step) == (
        RUN,
        RunState.RUNNING,
        3,
        "host:7:0badcafe",
        9,
    )
    assert run.cursor == Cursor(token="token-9", offset=4, page=9, sequence=8)
    assert run.counts == Counts(
        fetched=36,
        filtered=1,
        invalid=2,
        unchanged=3,
        older=4,
        enqueued=26,
        corrections=5,
        other_kind=6,
    )
    assert run.folded == Folded(accepted=4, rejected=3, struck=2, discarded=1)
    assert (run.cache_id, run.asked, run.full_request) == ("query-1", True, START)
    assert (run.resumed, run.stalled, run.stalled_for) == (2, 1, 900.0)
    assert (run.started_at, run.updated_at, run.progress_at) == (START, START, START)
    assert (run.reason, len(run.trail)) == ("reached MAX_PAGES (1000); the next tick goes on", 12)
    assert run.sample == (
        replace(SAMPLE, id="indicator--22222222-2222-4222-8222-222222222222", rank=1,
                confidence=None, valid_until=None, revoked=True),
    )  # fmt: skip
    assert later.sample == ()
    assert [found.run_id for found in ledger.runs.open()] == [RUN]


def test_a_pulse_and_the_books_behind_it(ledger: Ledger) -> None:
    """Every field; the next pulse counts from these books."""
    (pulse,) = ledger.pulses.latest(9)
    assert (pulse.at, pulse.verdict, pulse.reasons) == (START, "degraded", "gap poison")
    assert all(getattr(pulse, item.name) is not None for item in fields(Pulse))
    assert (pulse.poisoned, pulse.books_balance, pulse.accepted_after_seconds) == (-2, False, 4.2)
    found = ledger.pulses.last_books()
    assert found is not None
    assert found[1].newest == RUN
    assert found[1].accounts[RUN] == (9, 1, 1, 1, 1, 5, 1, 4, 1, 0, 0, 16.8)


def test_what_operators_ask(ledger: Ledger) -> None:
    """A pause, and a request for a run that no tick has served."""
    hour = timedelta(hours=1)
    pause = Pause(since=START, until=START + hour, by="ann: a repair")
    assert ledger.control.last_pause() == pause
    assert ledger.control.sync_request() == SyncRequest(at=START, by="ann: a repair")


def test_the_rows_of_chunks(ledger: Ledger) -> None:
    """Each state, with and without letters, void, and one that waits."""
    chunks = list(ledger.chunks.all())
    assert {(chunk.run_id, chunk.epoch, chunk.count, chunk.destination) for chunk in chunks} == {
        (RUN, 3, 2, HERE)
    }
    assert [(c.sequence, c.key, c.state, c.void, c.each) for c in chunks] == [
        (0, "000000-3", ChunkState.QUEUED, False, ".."),
        (1, "000001-3", ChunkState.UPLOADED, False, "AA"),
        (2, "000002-3", ChunkState.POISONED, False, "PP"),
        (3, "000003-3", ChunkState.DISCARDED, False, "DD"),
        (4, "000004-3", ChunkState.STRUCK, False, "SS"),
        (5, "000005-3", ChunkState.UPLOADED, False, "SR"),
        (6, "000006-3", ChunkState.QUEUED, True, ".."),
        (7, "000007-3", ChunkState.QUEUED, False, ".."),
        (8, "000008-3", ChunkState.QUEUED, False, ".P"),
    ]
    assert [bool(chunk.part_sizes) for chunk in chunks] == [False] * 8 + [True]
    assert [chunk.answered_by(None) for chunk in chunks[5::3]] == [{0, 1}, frozenset()]
    assert chunks[8].answered_by((1,)) == {1}
    assert chunks[1].fate == Fate(accepted=1, rejected=1)
    assert (chunks[2].reason, chunks[7].reason) == ("503 ten times", "429: told to wait")
    assert (chunks[7].deferrals, chunks[7].enqueued_at) == (1, START)
    assert list(chunks[5].unpacked()) == [
        Record(id_hash=51, fingerprint=2**64 - 6, modified=1_767_312_000_005, ends_on=20_500),
        Record(id_hash=52, fingerprint=5, modified=0, ends_on=NO_END),
    ]
    assert unpack_samples(chunks[1].sample) == (SAMPLE,)
    assert unpack_samples(chunks[0].sample) == ()
    assert list(ledger.chunks.samples()) == [(RUN, (SAMPLE,))]
    assert ledger.chunks.known_ledger_id() == LEDGER
    assert len(list(ledger.chunks.outcomes())) == 9


def test_the_version_index(tables: FakeTables) -> None:
    """Manifest and segment: ids, fingerprints, times, days and the bit."""
    index = VersionIndex(tables)
    assert index.destinations() == ([HERE], 0)
    manifest = index.fence(HERE, tick="test")
    (segment,) = index.load(manifest, today=20_454)
    entries = segment.entries
    assert segment.info.name in index.segment_names()
    assert entries.ids.tolist() == [1, 2, 2**64 - 1]
    assert entries.fingerprints.tolist() == [3, 2**64 - 1, 5]
    assert entries.modified.tolist() == [1_767_312_000_000, 0, 2**48 - 1]
    assert entries.entered.tolist() == [20_454, 20_454, 20_400]
    assert entries.kept.tolist() == [20_544, 20_819 | VOID, 32_767]


def test_the_control_rows(ledger: Ledger, tables: FakeTables) -> None:
    """Lease, open run, request for a full run, send slots, acceptance number, problems."""
    lease = ledger.control.read_lease()
    assert lease is not None
    assert (lease.owner, lease.seconds, lease.open_run) == ("host:7:0badcafe", 600.0, RUN)
    assert lease.is_held
    assert ledger.control.full_request() == START
    slots = Slots(tables, clock=FakeClock(), requests_per_minute=60)
    assert slots.reserve(1).slot(0) == START + timedelta(seconds=3)
    slots.reserve(20)
    assert slots.reserve_soon().first == START + timedelta(seconds=15)
    mark = Acceptance(tables, clock=FakeClock()).read()
    assert (mark.number, mark.split) == (7, 6)
    (problem,) = Problems(tables, clock=FakeClock()).open()
    assert (problem.kind, problem.what) == (ProblemKind.ACCESS, "403 at Sentinel")
    assert (problem.since, problem.last_seen) == (START, START)


def test_rejections_and_poison(ledger: Ledger) -> None:
    """With their contents, so that an operator can still send them again."""
    (rejection,) = ledger.rejections.of_run(RUN)
    assert (rejection.position, rejection.rejected_by) == ("chunk-000001-3-1", RejectedBy.SENTINEL)
    assert (rejection.reason, rejection.content) == ("no pattern_type", b'{"id":"indicator--12"}')
    (poison,) = ledger.poison.all()
    assert (poison.run_id, poison.poison_id, poison.count) == (RUN, "000002-3", 2)
    assert (poison.state, poison.poisoned_by) == (PoisonState.KEPT, PoisonedBy.CONSUMER)
    assert decode_envelope(poison.message).key == "000002-3"


ADDED_SINCE = ("due", "refused")
"""Fields of an envelope that the stored ones do not have."""

STORED_ENVELOPE = Envelope(
    run_id=RUN,
    chunk_id="06ee04eaa09139e641069a9464b42590",
    sequence=7,
    count=2,
    body=b'[{"id":"indicator--1"},{"id":"indicator--2"}]',
    fingerprints=(2**64 - 8, 7),
    epoch=3,
    ledger_id=LEDGER,
    slot=1_767_225_600.5,
    trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


@pytest.mark.parametrize("more", [{}, {"zone": "x", "layers": [1, 2]}], ids=["stored", "unknown"])
def test_the_messages(more: dict[str, Any]) -> None:
    """A new one, one with a story, and a part."""
    assert decode_envelope(message("new", **more)) == STORED_ENVELOPE
    assert decode_envelope(message("deferred", **more)) == replace(
        STORED_ENVELOPE,
        slot=None,
        attempt=4,
        deferrals=1,
        postponed=2,
        failed=7,
        history=(Attempt(at="2026-01-01T00:00:00+00:00", reason="429: told to wait"),),
    )
    body = b'[{"id":"indicator--2"}]'
    assert decode_envelope(message("part", **more)) == replace(
        STORED_ENVELOPE,
        chunk_id=chunk_id_of(body),
        body=body,
        count=1,
        fingerprints=(7,),
        part=(1,),
    )


def test_this_release_still_writes_version_1() -> None:
    """The one before finds every field that it reads: both run during an update."""
    assert VERSION == 1
    written = json.loads(encode_envelope(STORED_ENVELOPE))
    assert written.keys() == json.loads(message("new")).keys() | set(ADDED_SINCE)


@pytest.mark.parametrize("name", ADDED_SINCE)
def test_a_field_that_was_added_since_may_be_missing(name: str) -> None:
    """It is read as not known."""
    whole = replace(STORED_ENVELOPE, slot=None, due=7.5, refused=True)
    written = json.loads(encode_envelope(whole))
    del written[name]
    without = replace(whole, due=None) if name == "due" else replace(whole, refused=False)
    assert decode_envelope(json.dumps(written)) == without


@pytest.mark.parametrize("name", ["chunk", "head"])
def test_an_unknown_state_is_listed_and_left_alone(name: str) -> None:
    """Nobody resumes, sends, folds or moves it; nothing that lists it fails."""
    tables = stored_tables()
    table, ledger = tables.table("chunks"), open_ledger(tables)
    key = "head" if name == "head" else "000000-3"
    row = next(row for row in table.query(key=key) if row.data.get("epoch") == 3)
    table.merge(replace(row, data={"state": "split"}))
    before = table.get(row.partition, row.key)
    if name == "head":
        assert [run.state for run in ledger.runs.latest(9)] == [RunState.COMPLETE, RunState.OTHER]
        assert ledger.runs.open() == []
    else:
        chunk = next(ledger.chunks.all())
        assert chunk.state is ChunkState.OTHER
        assert (chunk.count, chunk.is_settled, len(list(ledger.chunks.outcomes()))) == (2, False, 9)
        with pytest.raises(ConflictError, match="later release"):  # the message waits
            ledger.chunks.record_uploaded(chunk, sent=[0, 1], rejected=(), at=START)
        with pytest.raises(ConflictError, match="later release"):
            ledger.chunks.record_poisoned(RUN, key, at=START, reason="why")
        ledger.chunks.strike(RUN, key, [0])
        assert not ledger.chunks.move(chunk, ChunkState.DISCARDED, at=START)
    assert table.get(row.partition, row.key) == before


class Unreachable:
    """A service that must not be asked."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AssertionError(name)


def test_an_envelope_of_a_later_version_is_put_back_unchanged() -> None:
    """By consumer and poison handler alike: deferred, never poisoned, nothing counted."""
    text = message("new", version=2, body="of another form", sequence="vii")
    with pytest.raises(LaterVersionError):
        decode_envelope(text)
    tables, clock, queue, poison_queue = stored_tables(), FakeClock(), FakeQueue(), FakeQueue()
    ledger = open_ledger(tables)
    before = list(ledger.poison.all())
    keeper = PoisonKeeper(ledger=ledger, clock=clock)
    deliverer = make_deliverer(
        tables,
        queue=queue,
        sentinel=cast("SentinelClient", Unreachable()),
        tokens=cast("Any", Unreachable()),
        clock=clock,
        rng=random.Random(0),  # noqa: S311 - a fixed seed
        requests_per_minute=60,
        first_delay=60.0,
    )
    deliverer.deliver(text)
    handle_poison(text, keeper=keeper, queue=poison_queue, upload_queue=queue)
    assert poison_queue.sent == []  # there it would look like a handler that fails
    assert [sent.text for sent in queue.sent] == [text, text]
    assert all(sent.delay >= 60.0 for sent in queue.sent)
    assert list(ledger.poison.all()) == before
