"""What the ledger knows of an indicator: every state that a version can be in, and what counts."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.fingerprints import id_hash
from common.ledger.poison import PoisonedBy, poison_of_envelope
from common.ledger.rejections import INVALID, RejectedBy, Rejection
from common.ledger.states import ChunkState
from common.ledger.tables import Value
from common.ledger.versions import VOID
from common.records import milliseconds_of
from ops.traces import Place, Reader, Whereabouts, places
from producer.entries import Entries, words
from producer.index import VersionIndex
from tests.unit.ops.samples import HERE, LEDGER, RUN, Bench, chunk

ONE, TWO = (f"indicator--00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
OLD, NEW = "2025-12-01T00:00:00Z", "2025-12-24T00:00:00.5Z"
CHUNK = "chunk 000000-1 of run 20260101T000000-0badcafe"


def look(bench: Bench, *ids: str, late_after: float = float("inf")) -> list[Whereabouts]:
    """Return where these indicators are; `late_after` so many rows the time is over."""
    asked = 0

    def is_late() -> bool:
        nonlocal asked
        asked += 1
        return asked > late_after

    reader = Reader(bench.toolbox.ledger, is_late=is_late, destination=HERE)
    wanted = {one.lower() for one in ids}
    rejections = reader.rejections(lambda one: one.indicator_id.lower() in wanted)
    found = reader.whereabouts(ids, rejections, now=bench.clock.now())
    assert reader.is_whole == (late_after == float("inf"))
    return found


def one(bench: Bench, indicator: str = ONE) -> Whereabouts:
    """Return where one indicator is."""
    (found,) = look(bench, indicator)
    assert found.indicator == indicator
    return found


def reject(
    bench: Bench, *, run: str = RUN, position: str = "chunk-000000-1-0", modified: str = OLD
) -> Rejection:
    """Keep a record that Sentinel refused, or one that is invalid."""
    made = Rejection(
        run_id=run,
        position=position,
        rejected_by=RejectedBy.VALIDATION if run == INVALID else RejectedBy.SENTINEL,
        indicator_id=ONE,
        pattern="[ipv4-addr:value = '192.0.2.1']",
        reason="no pattern_type",
        content=json.dumps({"id": ONE, "modified": modified}).encode(),
        at=bench.clock.now(),
    )
    bench.toolbox.ledger.rejections.record([made])
    return made


def enter(bench: Bench, *, modified: str = OLD, bit: int = 0, to: str = HERE) -> None:
    """Enter a version in the index, as a fold does."""
    index, today = VersionIndex(bench.tables), bench.clock.now().toordinal() - 719_163
    manifest = index.fence(to, tick="1")
    made = Entries(
        ids=words([id_hash(ONE)]),
        fingerprints=words([7]),
        modified=words([milliseconds_of(modified)]),
        entered=np.array([today], dtype=np.uint16),
        kept=np.array([today + 90 | bit], dtype=np.uint16),
    )
    index.add(manifest, index.load(manifest, today=0), made, today=today, limit=100)


def envelope(*ids: str, sequence: int = 0, part: tuple[int, ...] | None = None) -> Envelope:
    """Return the message of a chunk of these indicators, or of a part of it."""
    body = json.dumps([{"id": each} for each in ids]).encode()
    return Envelope(
        run_id=RUN,
        chunk_id=chunk_id_of(body),
        sequence=sequence,
        count=len(ids),
        body=body,
        fingerprints=tuple(range(len(ids))),
        ledger_id=LEDGER,
        part=part,
    )


def give_up(bench: Bench, message: Envelope) -> str:
    """Keep a message that was given up; return its name."""
    record = poison_of_envelope(
        message,
        encode_envelope(message),
        reason="Sentinel answered 500 ten times",
        poisoned_by=PoisonedBy.CONSUMER,
        at=bench.clock.now(),
    )
    bench.toolbox.ledger.poison.keep(record)
    return record.name


def test_what_nobody_has_put_into_a_chunk() -> None:
    """Filtered or never listed: the ledger cannot tell the two apart."""
    bench = Bench()
    bench.hold(TWO)
    found = one(bench)
    assert (found.place, found.traces) == (Place.NOT_LISTED, ())


@pytest.mark.parametrize(
    ("data", "place", "said"),
    [
        ({}, Place.ON_ITS_WAY, f"on its way in {CHUNK}"),
        ({"deferrals": 3, "reason": "429"}, Place.ON_ITS_WAY, "deferred 3 times: 429"),
        ({"destination": "there"}, Place.ON_ITS_WAY, "for another workspace (there)"),
        ({"state": "of a later release"}, Place.ON_ITS_WAY, "row is of a later release"),
        ({"letters": "S."}, Place.STRUCK, f"struck in {CHUNK}"),
        ({"letters": "D."}, Place.DISCARDED, f"discarded in {CHUNK}"),
        ({"letters": "A."}, Place.KNOWN, f"accepted by Sentinel, in {CHUNK}"),
        ({"letters": "R."}, Place.REJECTED, "the reason is not on record"),
        ({"letters": "P.", "reason": "500"}, Place.POISONED, f"given up in {CHUNK}: 500"),
        ({"void": True}, Place.VOID, "its page was read again"),
    ],
)
def test_a_row_tells(data: dict[str, Value], place: Place, said: str) -> None:
    """Run and chunk, and why it waits; by the letter of the record, not that of its neighbour."""
    bench = Bench()
    bench.hold(ONE, TWO)
    bench.set_row(0, **data)
    found = one(bench)
    assert found.place is place
    assert said in found.what
    assert [trace.where for trace in found.traces] == [f"{RUN}/000000-1"]


def test_a_chunk_that_was_taken_whole_says_when() -> None:
    """It has no letters, only its state."""
    bench = Bench()
    at = bench.clock.now()
    bench.hold(ONE, TWO, state=ChunkState.UPLOADED.value, accepted=1, rejected=1, finished_at=at)
    reject(bench, position="chunk-000000-1-0")
    refused, accepted = look(bench, ONE, TWO)
    assert "accepted by Sentinel on 2026-01-01 00:00 UTC" in accepted.what
    assert (refused.place, len(refused.traces)) == (Place.REJECTED, 1)
    assert "no pattern_type (sentinel, 2026-01-01 00:00 UTC)" in refused.what


def test_the_newest_version_counts_wherever_it_is() -> None:
    """An older one that was struck comes behind it, whatever the order of their rows."""
    bench = Bench()
    bench.hold(ONE, sequence=1, modified=OLD, letters="S")
    bench.hold(ONE, sequence=0, modified=NEW)
    bench.hold(ONE, sequence=2, modified=NEW, void=True)
    found = one(bench)
    assert found.place is Place.ON_ITS_WAY
    assert [trace.place for trace in found.traces] == [Place.ON_ITS_WAY, Place.STRUCK, Place.VOID]


def test_of_equal_versions_the_later_row_counts() -> None:
    """A rejected record that an operator sends again has a second row."""
    bench = Bench()
    bench.hold(ONE, sequence=0, letters="R")
    bench.hold(ONE, sequence=1)
    assert one(bench).place is Place.ON_ITS_WAY


def test_the_version_index_tells_when_no_row_is_left() -> None:
    """Since when it is known, and until when it is kept."""
    bench = Bench()
    enter(bench)
    found = one(bench)
    assert found.place is Place.KNOWN
    assert "known since 2026-01-01" in found.what
    assert "version index until 2026-04-01" in found.what


def test_the_index_says_what_has_no_answer() -> None:
    """Such a version is sent again once Lumen lists it again."""
    bench = Bench()
    enter(bench, bit=VOID)
    found = one(bench)
    assert found.place is Place.VOID
    assert "without an answer" in found.what


def test_the_present_workspace_comes_first() -> None:
    """What another one knows is named as such."""
    bench = Bench()
    enter(bench, to="another")
    assert "(of another workspace, another)" in one(bench).what
    enter(bench)
    found = one(bench)
    assert "another" not in found.what
    assert len(found.traces) == 2


def test_a_refused_version_without_a_row_is_the_one_that_the_index_has() -> None:
    """Then it is rejected, with the reason; a newer version that was accepted counts more."""
    bench = Bench()
    enter(bench, modified=OLD)
    reject(bench, modified=OLD)
    assert one(bench).place is Place.REJECTED
    assert one(bench).traces[1].place is Place.KNOWN
    enter(bench, modified=NEW)
    assert one(bench).place is Place.KNOWN


def test_an_operators_wish_is_told() -> None:
    """A rejected record that goes with the next run."""
    bench = Bench()
    made = reject(bench)
    bench.toolbox.ledger.rejections.note_wish(made, at=bench.clock.now(), by="Ada")
    assert "asked to be sent again on 2026-01-01 00:00 UTC" in one(bench).what


def test_an_invalid_record_is_rejected_with_its_reason() -> None:
    """It never got as far as a chunk."""
    bench = Bench()
    reject(bench, run=INVALID, position="0")
    found = one(bench)
    assert found.place is Place.REJECTED
    assert "invalid as Lumen lists it" in found.what
    assert "no pattern_type" in found.what


def test_poison_is_named_with_its_reason() -> None:
    """Of a chunk that was split, the message that carries this record."""
    bench = Bench()
    bench.hold(ONE, TWO, letters="PP")
    give_up(bench, envelope(TWO, part=(1,)))
    name = give_up(bench, envelope(ONE, part=(0,)))
    found = one(bench)
    assert found.place is Place.POISONED
    assert found.what == f"poison {name}: Sentinel answered 500 ten times"


def test_poison_without_a_row_is_found_in_its_message() -> None:
    """The ledger was lost since, and what was given up is kept as it was."""
    bench = Bench()
    bench.rubbish()
    name = give_up(bench, envelope(TWO, ONE, sequence=9))
    found = one(bench)
    assert found.place is Place.POISONED
    assert found.what == f"poison {name}: Sentinel answered 500 ten times"


def test_an_id_is_found_in_lower_case_too() -> None:
    """As people copy it from elsewhere."""
    bench = Bench()
    bench.hold(ONE)
    assert one(bench, ONE.upper().replace("INDICATOR", "indicator")).place is Place.ON_ITS_WAY


def test_not_found_is_no_news_where_the_time_was_over() -> None:
    """What was found before counts; nothing found means that nobody can tell."""
    bench = Bench()
    bench.hold(ONE, sequence=0)
    bench.hold(TWO, sequence=1)
    first, second = look(bench, ONE, TWO, late_after=1)
    assert (first.place, second.place) == (Place.ON_ITS_WAY, Place.NOT_READ)


def test_a_damaged_index_is_said() -> None:
    """Its entries may be the ones that were asked for."""
    bench = Bench()
    enter(bench)
    (name,) = VersionIndex(bench.tables).segment_names()
    bench.tables.table("versions").delete(name, "00000")
    reader = Reader(bench.toolbox.ledger, is_late=lambda: False, destination=HERE)
    (found,) = reader.whereabouts([ONE], [], now=bench.clock.now() + timedelta(days=1))
    assert (found.place, reader.is_whole) == (Place.NOT_READ, False)


def test_a_damaged_row_costs_only_itself() -> None:
    """It cannot be read, so it holds nothing; the others do."""
    bench = Bench()
    bench.hold(TWO, sequence=0, count=200)
    bench.hold(ONE, sequence=1)
    assert one(bench).place is Place.ON_ITS_WAY


def test_places_are_those_of_ids_alone() -> None:
    """The same bytes as a fingerprint, or across two records, are no place."""
    wanted, other = b"\x01" * 8, b"\x02" * 8
    assert list(places(other + wanted + other + wanted + other * 2 + wanted, wanted)) == [1, 2]
    assert list(places(b"\x02" * 4 + wanted + b"\x02" * 12, wanted)) == []
    assert list(places(b"", wanted)) == []


def test_the_same_chunk_names_are_used() -> None:
    """The samples' key is the one that the assertions above spell out."""
    assert chunk().key == "000000-1"
    assert replace(chunk(), sequence=1).key == "000001-1"
