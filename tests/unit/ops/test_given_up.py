"""What was given up: each indicator, its state, and Sentinel's words on it."""

import pytest

from common.ledger.poison import PoisonState
from common.ledger.rejections import RejectedBy, Rejection
from ops.api.reading import describe_entry
from ops.decisions import Decision
from ops.given_up import describe_given_up
from ops.poison import Selection, discard, find, replay
from tests.fakes.clock import START
from tests.unit.ops.samples import RUN, Bench, chunk


def _reject(bench: Bench, index: int, *, sequence: int = 0) -> None:
    bench.toolbox.ledger.rejections.record(
        [
            Rejection(
                run_id=RUN,
                position=f"chunk-{chunk(sequence).key}-{index}",
                rejected_by=RejectedBy.SENTINEL,
                indicator_id="b",
                pattern="",
                reason=f"bad {sequence}",
                content=b"{}",
                at=START,
            )
        ]
    )


def test_each_indicator_is_told_with_sentinels_words() -> None:
    """Which it is, its state, and what Sentinel named of this chunk and no other."""
    bench = Bench()
    record = bench.poison()
    _reject(bench, 1)
    _reject(bench, 0, sequence=1)
    bench.set_row(letters="PR")
    told = describe_given_up(record, bench.toolbox.ledger)
    assert told["records"] == [
        {
            "index": 0,
            "indicator": "a",
            "pattern": "",
            "is": "poisoned",
            "named_at": None,
            "words": "",
        },
        {
            "index": 1,
            "indicator": "b",
            "pattern": "",
            "is": "rejected",
            "named_at": START.isoformat(),
            "words": "bad 0",
        },
    ]
    assert told["message"] == record.message


@pytest.mark.parametrize(("state", "word"), [("void", "void"), ("gone", "settled")])
def test_what_needs_no_decision_says_so(state: str, word: str) -> None:
    """Its page was read again, or its row was folded away."""
    bench = Bench()
    record = bench.poison()
    bench.void() if state == "void" else bench.remove_row()
    told = describe_given_up(record, bench.toolbox.ledger)
    assert [one["is"] for one in told["records"]] == [word, word]


def test_a_message_that_cannot_be_read_is_told_as_it_was() -> None:
    """There are no indicators to tell."""
    bench = Bench()
    told = describe_given_up(bench.rubbish(), bench.toolbox.ledger)
    assert (told["records"], told["message"]) == ([], "rubbish")


@pytest.mark.parametrize("is_uploaded", [False, True])
@pytest.mark.parametrize("state", [PoisonState.REPLAYED, PoisonState.DISCARDED])
def test_who_decided_and_why_is_kept(state: PoisonState, is_uploaded: bool) -> None:
    """With the time; also where the chunk was uploaded meanwhile."""
    bench = Bench()
    bench.poison()
    if is_uploaded:
        bench.upload()
    tools, decision = bench.toolbox, Decision(by="ann", note="role given")
    entries = find(tools.ledger, Selection(all_kept=True))
    bench.clock.advance(60)
    if state is PoisonState.REPLAYED:
        handled = replay(
            entries,
            ledger=tools.ledger,
            queue=tools.queue,
            slots=tools.slots,
            clock=tools.clock,
            decision=decision,
        )
    else:
        handled = discard(entries, ledger=tools.ledger, clock=tools.clock, decision=decision)
    list(handled)
    (record,) = tools.ledger.poison.all()
    (entry,) = tools.ledger.poison.entries(settled=True)
    assert record.state is entry.state is state
    for one in (record, entry):
        assert (one.settled_by, one.note) == ("ann", "role given")
        assert one.settled_at == bench.clock.now()
    told = describe_entry(record)
    assert (told["settled_by"], told["note"]) == ("ann", "role given")
