"""The look before each request: the decision as a table, and what a delivery makes of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from common.clock import Clock
from common.delivery import LOOK_IS_GOOD_FOR
from common.envelope import Envelope, decode_envelope, encode_envelope
from common.events import Event
from common.ledger.chunks import Chunk, Fate
from common.ledger.poison import PoisonedBy, PoisonState
from common.ledger.states import ChunkState, Letter
from common.ledger.tables import Row
from consumer.deferral import OPERATOR_CAP
from consumer.look import Look, NotNow, Sendable, Settled, judge_look
from consumer.sentinel import (
    Answer,
    RecordError,
    RefreshToken,
    Refused,
    Unavailable,
    Uploaded,
)
from consumer.split import part_of
from tests.fakes.clock import START
from tests.unit.consumer.samples import (
    FIRST_DELAY,
    HERE,
    LEDGER,
    Bench,
    envelope,
    row_of,
)

ELSEWHERE = "sentinel.example/another"
QUEUED, UPLOADED = ChunkState.QUEUED, ChunkState.UPLOADED
POISONED, DISCARDED = ChunkState.POISONED, ChunkState.DISCARDED
STRUCK, OTHER = ChunkState.STRUCK, ChunkState.OTHER

TABLE: list[tuple[ChunkState, str, str]] = [
    (QUEUED, "", "012"),
    (QUEUED, "...", "012"),
    (QUEUED, "S..", "12"),
    (QUEUED, ".SS", "0"),
    (QUEUED, ".AR", "0"),
    (QUEUED, "P.S", "01"),
    (POISONED, "", "012"),
    (POISONED, "PSP", "02"),
    (POISONED, "PAD", "0"),
    (UPLOADED, "", ""),
    (UPLOADED, "AAS", ""),
    (UPLOADED, "RSD", ""),
    (DISCARDED, "", ""),
    (DISCARDED, "DSS", ""),
    (STRUCK, "SSS", ""),
]
"""State, letters, and the indexes of what may be sent."""


def chunk(state: ChunkState, letters: str, *, void: bool = False) -> Chunk:
    """Return the row of the sample envelope in some state."""
    return replace(row_of(envelope()), state=state, letters=letters, void=void)


def look(row: Chunk | None, *, ledger_id: str | None = None, destination: str = HERE) -> Look:
    """Look at a row."""
    return judge_look(envelope(), row, ledger_id=ledger_id, destination=destination)


@pytest.mark.parametrize(("state", "letters", "indexes"), TABLE)
def test_only_what_has_no_final_letter_is_sent(
    state: ChunkState, letters: str, indexes: str
) -> None:
    """Pending and given-up records are in the request; when there is none, nothing is sent."""
    row = chunk(state, letters)
    expected = Sendable(indexes=tuple(map(int, indexes)), chunk=row) if indexes else Settled()
    assert look(row) == expected


@pytest.mark.parametrize(("state", "letters", "indexes"), TABLE)
def test_a_void_chunk_is_never_sent(state: ChunkState, letters: str, indexes: str) -> None:
    """Its page was read again by a later epoch, wherever it was meant for."""
    del indexes
    for destination in (HERE, ELSEWHERE):
        row = replace(chunk(state, letters, void=True), destination=destination)
        assert look(row) == Settled()


@pytest.mark.parametrize(("state", "letters", "indexes"), TABLE)
def test_a_chunk_for_another_destination_waits_if_anything_of_it_is_to_be_sent(
    state: ChunkState, letters: str, indexes: str
) -> None:
    """The reason names both and the remedy; what is settled needs no destination."""
    judged = look(chunk(state, letters), destination=ELSEWHERE)
    if not indexes:
        assert judged == Settled()
        return
    assert isinstance(judged, NotNow)
    assert HERE in judged.reason
    assert ELSEWHERE in judged.reason
    assert "destination adopt" in judged.reason


@pytest.mark.parametrize(
    ("ledger_id", "is_settled"), [(LEDGER, True), ("another", False), ("", False)]
)
def test_without_a_row_the_id_of_the_ledger_decides(
    ledger_id: str | None, is_settled: bool
) -> None:
    """Every message was put on the queue behind its row: in the same ledger it was settled."""
    judged = look(None, ledger_id=ledger_id)
    assert judged == (Settled() if is_settled else Sendable(indexes=(0, 1, 2), chunk=None))


def test_a_ledger_that_is_out_of_sight_makes_the_message_wait() -> None:
    """Its table is gone, or was just made: that tells nothing of what may be sent."""
    assert isinstance(look(None, ledger_id=None), NotNow)


@pytest.mark.parametrize("void", [False, True])
def test_a_row_that_cannot_be_read_makes_its_message_wait(void: bool) -> None:
    """It is of a later release, or damaged: neither sent nor acknowledged."""
    judged = look(chunk(OTHER, "", void=void))
    assert isinstance(judged, NotNow)
    assert "later release" in judged.reason


# The look as a delivery takes it.


def strike(bench: Bench, sent: Envelope, *indexes: int) -> None:
    """Strike records as the producer does."""
    with_hooks = bench.tables.before
    bench.tables.before = lambda _table, _operation: None
    bench.ledger.chunks.strike(sent.run_id, sent.key, indexes)
    bench.tables.before = with_hooks


def posted(bench: Bench, number: int = -1) -> list[str]:
    """Return the ids of a request."""
    objects, count, _ = bench.sentinel.posted[number]
    ids = [one["id"] for one in json.loads(objects)]
    assert len(ids) == count
    return ids


def ids(*indexes: int) -> list[str]:
    """Return the ids of records."""
    return [f"indicator--{index}" for index in indexes]


def test_struck_records_are_left_out() -> None:
    """The others are posted as they stand in the envelope, and the row has a letter for each."""
    bench, sent = Bench(), envelope(count=4)
    bench.enqueue(sent)
    strike(bench, sent, 0, 2)
    bench.deliver(sent)
    assert posted(bench) == ids(1, 3)
    objects = json.loads(sent.body)
    assert json.loads(bench.sentinel.posted[0][0]) == [objects[1], objects[3]]
    row = bench.row(sent)
    assert (row.letters, row.state) == ("SASA", UPLOADED)
    assert row.fate == Fate(accepted=2, struck=2)


@pytest.mark.parametrize("names", [(0,), (1,), (0, 1)], ids=str)
def test_an_answer_counts_among_the_records_that_were_sent(names: tuple[int, ...]) -> None:
    """`recordIndex` 0 of a request without the struck ones is not the chunk's first record."""
    bench, sent = Bench(), envelope(count=6)
    bench.enqueue(sent)
    strike(bench, sent, 0, 2, 5)  # 1, 3 and 4 are sent
    errors = tuple(RecordError(index=name, messages=(f"bad {name}",)) for name in names)
    bench.answer(Uploaded(rejected=errors))
    bench.deliver(sent)
    letters = {(0,): "SRSAAS", (1,): "SASRAS", (0, 1): "SRSRAS"}[names]
    assert bench.row(sent).letters == letters
    kept = {r.indicator_id: r.reason for r in bench.ledger.rejections.of_run(sent.run_id)}
    chosen = {0: 1, 1: 3}
    assert kept == {f"indicator--{chosen[name]}": f"bad {name}" for name in names}


def test_a_refusal_that_names_records_is_split_among_those_that_were_sent() -> None:
    """The named ones are those of the request; what was struck is in no part."""
    bench, sent = Bench(), envelope(count=6)
    bench.answer(Refused(reason="400", named=(RecordError(index=1, messages=("bad",)),)))
    bench.enqueue(sent)
    strike(bench, sent, 0, 2, 5)  # 1, 3 and 4 are sent
    bench.deliver(sent)
    parts = [decode_envelope(item.text) for item in bench.queue.sent]
    assert [part.part for part in parts] == [(1, 4), (3,)]
    assert bench.row(sent).letters == "S.S..S"


def test_a_part_sends_its_records_and_no_others() -> None:
    """Those that it carries and that have no final letter; the answer counts among them."""
    bench, sent = Bench(), envelope(count=6)
    bench.enqueue(sent)
    strike(bench, sent, 4)
    bench.answer(Uploaded(rejected=(RecordError(index=1, messages=("bad",)),)))
    bench.deliver(part_of(sent, (1, 3, 4, 5)))
    assert posted(bench) == ids(1, 3, 5)
    assert bench.row(sent).letters == ".A.RSA"
    (kept,) = bench.ledger.rejections.of_run(sent.run_id)
    assert (kept.indicator_id, kept.position) == ("indicator--3", f"chunk-{sent.key}-3")


def test_a_part_of_which_every_record_has_a_letter_is_acknowledged() -> None:
    """A double, or a part whose records were struck: nothing is sent, others wait on."""
    bench, sent = Bench(), envelope(count=4)
    bench.enqueue(sent)
    strike(bench, sent, 0)
    bench.settle(sent, accepted=(1,))
    bench.deliver(part_of(sent, (0, 1)))
    assert (bench.sentinel.posted, bench.queue.sent) == ([], [])
    assert bench.row(sent).letters == "SA.."


def test_a_chunk_of_which_everything_was_struck_is_acknowledged() -> None:
    """No request and no copy."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    strike(bench, sent, 0, 1, 2)
    bench.deliver(sent)
    assert (bench.sentinel.posted, bench.queue.sent) == ([], [])
    assert bench.row(sent).state is STRUCK


@pytest.mark.parametrize("seconds", [0.0, LOOK_IS_GOOD_FOR, LOOK_IS_GOOD_FOR + 0.1, 3600.0])
def test_a_look_that_is_too_old_is_repeated(seconds: float) -> None:
    """A process that stood still between its look and its request sends what a new one allows."""
    bench, sent = Bench(), replace(envelope(), slot=START.timestamp())
    bench.enqueue(sent)
    looks: list[str] = []

    def after(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "get"):
            looks.append(operation)
            if len(looks) == 1:
                bench.clock.advance(seconds)
                bench.tables.after = lambda _table, _operation: None
                strike(bench, sent, 1)
                bench.tables.after = after

    bench.tables.after = after
    bench.deliver(sent)
    is_old = seconds > LOOK_IS_GOOD_FOR
    assert posted(bench) == (ids(0, 2) if is_old else ids(0, 1, 2))
    assert bench.row(sent).letters == ("ASA" if is_old else "AAA")


def test_the_age_of_a_look_counts_the_time_that_the_machine_was_suspended() -> None:
    """The monotonic clock stands still while a machine is suspended; the boot clock does not."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    asleep = [0.0]
    clock: Clock = bench.clock
    bench.clock.boottime = lambda: clock.monotonic() + asleep[0]  # type: ignore[method-assign]
    looks: list[int] = []

    def after(table: str, operation: str) -> None:
        if (table, operation) == ("chunks", "get"):
            looks.append(1)
            asleep[0] = LOOK_IS_GOOD_FOR + 1

    bench.tables.after = after
    bench.deliver(sent)
    assert len(looks) >= 2
    assert posted(bench) == ids(0, 1, 2)


@pytest.mark.parametrize("answer", [Unavailable(reason="503"), RefreshToken(reason="401")])
def test_the_second_request_of_a_delivery_has_a_look_of_its_own(answer: Answer) -> None:
    """What was struck while the first one was answered is not in it."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    bench.answer(answer, Uploaded())
    upload = bench.sentinel.upload

    def striking(objects: bytes, *, count: int, token: str) -> Answer:
        answered: Answer = upload(objects, count=count, token=token)
        strike(bench, sent, 2)
        return answered

    bench.sentinel.upload = striking
    bench.deliver(sent)
    assert [posted(bench, number) for number in (0, 1)] == [ids(0, 1, 2), ids(0, 1)]
    assert bench.row(sent).letters == "AAS"


@pytest.mark.parametrize("settled", ["uploaded", "discarded", "struck", "void", "gone"])
@pytest.mark.parametrize("deferrals", [0, 1])
def test_a_delivery_of_what_is_settled_is_acknowledged(
    settled: str, deferrals: int, caplog: pytest.LogCaptureFixture
) -> None:
    """By the host or as a copy: nothing is sent, nothing comes back and the row is untouched."""
    bench, sent = Bench(), envelope(deferrals=deferrals)
    bench.enqueue(sent)
    settle_as(settled)(bench, sent)
    row = bench.chunk(sent)
    caplog.clear()
    bench.deliver(encode_envelope(sent))
    assert (bench.sentinel.posted, bench.queue.sent, bench.poison) == ([], [], [])
    assert bench.chunk(sent) == row
    assert Event.CHUNK_REPEATED.value in caplog.text


def settle_as(settled: str) -> Callable[[Bench, Envelope], None]:
    """Return what settles a chunk in one of the ways there are."""

    def discard(bench: Bench, sent: Envelope) -> None:
        now = bench.clock.now()
        bench.ledger.chunks.record_poisoned(sent.run_id, sent.key, at=now, reason="why")
        assert bench.ledger.chunks.move(bench.row(sent), DISCARDED, at=now)

    return {
        "uploaded": lambda bench, sent: bench.settle(sent, accepted=(0, 1), rejected=(2,)),
        "discarded": discard,
        "struck": lambda bench, sent: strike(bench, sent, 0, 1, 2),
        "void": Bench.void,
        "gone": Bench.remove_row,
    }[settled]


def test_a_message_of_a_lost_ledger_is_sent() -> None:
    """It has no row to mark, and none is made; what is refused of it is kept."""
    bench, sent = Bench(), envelope()
    bench.name_ledger("another")
    bench.answer(Uploaded(rejected=(RecordError(index=1, messages=("bad",)),)))
    bench.deliver(encode_envelope(sent))
    assert posted(bench) == ids(0, 1, 2)
    assert bench.queue.sent == []
    assert bench.chunk(sent) is None
    assert len(list(bench.ledger.rejections.of_run(sent.run_id))) == 1


def test_a_message_of_a_lost_ledger_that_is_given_up_is_kept_without_a_row() -> None:
    """It can be replayed from there; the books of no run count it."""
    bench, sent = Bench(), replace(envelope(), ledger_id="another")
    bench.answer(Refused(reason="400"))
    broken = replace(sent, count=2, fingerprints=(0, 1))
    text = encode_envelope(broken)
    bench.deliver(text)
    (record,) = bench.poison
    assert (record.message, record.state) == (text, PoisonState.KEPT)
    assert record.poisoned_by is PoisonedBy.CONSUMER
    assert bench.chunk(sent) is None
    assert bench.queue.sent == []


def test_an_answer_that_still_comes_to_a_void_chunk_is_written() -> None:
    """It became void while the request was under way: what Sentinel took is known."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    upload = bench.sentinel.upload

    def voiding(objects: bytes, *, count: int, token: str) -> Answer:
        bench.void(sent)
        answered: Answer = upload(objects, count=count, token=token)
        return answered

    bench.sentinel.upload = voiding
    bench.deliver(sent)
    row = bench.row(sent)
    assert (row.void, row.state, row.accepted) == (True, UPLOADED, 3)
    assert bench.queue.sent == []


def test_an_answer_does_not_settle_a_chunk_that_was_turned_over_meanwhile() -> None:
    """It says nothing of the new destination: the message comes back and is sent there."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    upload = bench.sentinel.upload

    def turning_over(objects: bytes, *, count: int, token: str) -> Answer:
        assert bench.ledger.chunks.turn_over(bench.row(sent), ELSEWHERE)
        answered: Answer = upload(objects, count=count, token=token)
        return answered

    bench.sentinel.upload = turning_over
    bench.deliver(sent)
    assert bench.row(sent).state is QUEUED
    copy, _ = bench.take()
    assert (copy.attempt, copy.deferrals) == (0, 1)
    bench.sentinel.upload, bench.sentinel.destination = upload, ELSEWHERE
    bench.deliver(copy)
    assert bench.row(sent).accepted == 3


def test_a_chunk_for_another_destination_is_deferred_for_as_long_as_it_takes() -> None:
    """Uncounted, with the reason in its row, and sent once it was turned over."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent, destination=ELSEWHERE)
    delays = []
    for number in range(1, 8):
        bench.deliver(sent)
        sent, delay = bench.take()
        assert (sent.attempt, sent.deferrals) == (0, number)
        delays.append(delay)
        bench.clock.advance(delay)
    assert delays[0] >= FIRST_DELAY
    assert max(delays) <= 1.2 * OPERATOR_CAP * FIRST_DELAY
    assert bench.sentinel.posted == []
    assert "destination adopt" in bench.row(sent).reason
    assert bench.ledger.chunks.turn_over(bench.row(sent), HERE)
    bench.deliver(sent)
    assert bench.row(sent).accepted == 3


def test_a_chunk_whose_row_is_of_a_later_release_waits() -> None:
    """The row is left alone, to the last property."""
    bench, sent = Bench(), envelope()
    bench.enqueue(sent)
    stored = bench.row(sent).row
    assert stored is not None
    later = Row(partition=stored.partition, key=stored.key, data={"state": "sent-twice"})
    bench.tables.table("chunks").merge(later)
    bench.deliver(sent)
    assert bench.sentinel.posted == []
    copy, _ = bench.take()
    assert (copy.attempt, copy.deferrals) == (0, 1)
    assert bench.row(sent).state is OTHER


@pytest.mark.parametrize("version", [2, 99])
def test_an_envelope_of_a_later_release_goes_back_on_the_queue(
    version: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Byte for byte, with the first delay: an update is under way, or was taken back."""
    bench = Bench()
    text = json.dumps({"version": version, "of": "a later release"})
    bench.deliver(text)
    (sent,) = bench.queue.sent
    assert (sent.text, sent.delay) == (text, FIRST_DELAY)
    assert (bench.sentinel.posted, bench.poison) == ([], [])
    assert Event.MESSAGE_PUT_BACK.value in caplog.text


@pytest.mark.parametrize("slot", [None, -60.0])
@pytest.mark.parametrize("why", ["settled", "elsewhere"])
def test_what_is_not_to_be_sent_takes_no_slot(slot: float | None, why: str) -> None:
    """A message without a slot, or too late for its own: the row is looked at first."""
    bench = Bench()
    now = START.timestamp()
    sent = replace(envelope(), slot=None if slot is None else now + slot)
    bench.enqueue(sent, destination=ELSEWHERE if why == "elsewhere" else HERE)
    if why == "settled":
        bench.settle(sent, accepted=(0, 1, 2))
    bench.deliver(sent)
    assert bench.pacer._slots.next_free() is None
    assert len(bench.queue.sent) == (1 if why == "elsewhere" else 0)


LETTERS: Sequence[Letter] = tuple(Letter)


@pytest.mark.parametrize("first", LETTERS)
@pytest.mark.parametrize("second", LETTERS)
def test_a_delivery_sends_each_record_by_its_letter(first: Letter, second: Letter) -> None:
    """For every pair of letters: sent if it is not final, and accepted then; else left as it is."""
    bench, sent = Bench(), envelope(count=2)
    bench.enqueue(sent)
    stored = bench.row(sent).row
    assert stored is not None
    letters = Row(partition=stored.partition, key=stored.key, data={"letters": first + second})
    bench.tables.table("chunks").merge(letters)
    bench.deliver(sent)
    open_ones = [at for at, letter in enumerate((first, second)) if letter in ".P"]
    assert (posted(bench) if bench.sentinel.posted else []) == ids(*open_ones)
    after = "".join("A" if letter in ".P" else letter for letter in (first, second))
    assert bench.row(sent).each in {after, "AA" if open_ones == [0, 1] else after}
