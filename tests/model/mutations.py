"""The rules of the pipeline, each with a way to take it out: the model must notice.

Each patch leaves out one rule and nothing else. That the model fails without it is what shows that
the rule is needed, and that the model looks at it.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import consumer.deliver
import consumer.look
import consumer.split
import producer.drain
import producer.fold
import producer.indicators
import producer.known
import producer.sync
import producer.versions
import producer.wishes
from common.envelope import Envelope
from common.ledger.chunks import Chunk, Chunks, insertion
from common.ledger.control import Control, Lease
from common.ledger.runs import Head, Run, Runs
from common.ledger.states import RunState
from common.ledger.tables import Action, Operation
from common.ledger.versions import Manifest, manifest_key, manifest_of, manifest_row
from consumer.look import Look
from producer.chunking import PackedChunk
from producer.drain import DrainConfig, Sender, new_row
from producer.index import VersionIndex
from producer.versions import Decision
from tests.fakes.tables import FakeTable

type Patch = Callable[[pytest.MonkeyPatch], None]

FOR_EVER = 1e9


def _looks_last_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(consumer.deliver, "LOOK_IS_GOOD_FOR", FOR_EVER)


def _no_delay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(producer.drain, "LONGEST_DELIVERY", 0.0)


def _no_strike(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(producer.drain.Sender, "_strike", lambda *_: None)


def _filters_for_known_ones(patch: pytest.MonkeyPatch) -> None:
    decide = producer.versions.decide

    def filtering(*, passes: bool, **others: Any) -> Decision:
        return decide(passes=passes, **others) if passes else Decision.FILTERED

    patch.setattr(producer.indicators, "decide", filtering)


def _settled_versions_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    enter = producer.fold._enter

    def forgetful(*arguments: Any, **others: Any) -> Any:
        _, dropped = enter(*arguments, **others)
        return [], dropped

    patch.setattr(producer.fold, "_enter", forgetful)


def _nothing_is_void(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(producer.sync._Sync, "_void_beyond", lambda *_: [])


def _void_ones_are_sent(patch: pytest.MonkeyPatch) -> None:
    judge = consumer.look.judge_look

    def careless(envelope: Any, chunk: Chunk | None, **others: Any) -> Look:
        return judge(envelope, chunk if chunk is None else replace(chunk, void=False), **others)

    patch.setattr(consumer.deliver, "judge_look", careless)


def _settled_ones_are_sent_again(patch: pytest.MonkeyPatch) -> None:
    """A message without a row is taken for one of another ledger."""
    patch.setattr(Chunks, "known_ledger_id", lambda _: "another")


def _the_epoch_stays(patch: pytest.MonkeyPatch) -> None:
    save = Head.save

    def same_epoch(head: Head, **changes: Any) -> Run:
        changes.pop("epoch", None)
        return save(head, **changes)

    patch.setattr(Head, "save", same_epoch)


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    fence = VersionIndex.fence

    def open_gate(index: VersionIndex, destination: str, *, tick: str) -> Manifest:
        found = index._table.get("manifest", manifest_key(destination))
        if found is None:
            return fence(index, destination, tick=tick)
        return manifest_of(found)

    patch.setattr(VersionIndex, "fence", open_gate)

    def overwrite(index: VersionIndex, manifest: Manifest, **changes: Any) -> Manifest:
        changed = replace(manifest, step=manifest.step + 1, **changes)
        index._table.merge(manifest_row(changed))
        return changed

    patch.setattr(VersionIndex, "_write", overwrite)


def _any_tick_names_its_run(patch: pytest.MonkeyPatch) -> None:
    name = Control.set_open_run

    def careless(control: Control, lease: Lease, run_id: str | None) -> Lease:
        now = control.read_lease()
        return name(control, lease if now is None else replace(lease, etag=now.etag), run_id)

    patch.setattr(Control, "set_open_run", careless)


def _asked_long_ago(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(producer.sync, "ASK_WITHIN", FOR_EVER)


def _rows_fold_in_any_order(patch: pytest.MonkeyPatch) -> None:
    def careless(_records: object, candidates: Iterable[bool]) -> list[bool]:
        return list(candidates)

    patch.setattr(producer.fold, "foldable", careless)


def _nothing_is_taken_over(patch: pytest.MonkeyPatch) -> None:
    """A tick goes on with a run as it is: no epoch, nothing made void."""
    patch.setattr(producer.sync._Sync, "_take_over", _kept_as_it_is)


def _kept_as_it_is(sync: Any, run: Run) -> Head:
    head: Head = sync._head(run)
    head.save(state=RunState.RUNNING, stalled=run.stalled + 1)
    return head


def _rows_go_whatever_they_hold(patch: pytest.MonkeyPatch) -> None:
    """A row is removed as it is by then, and not as it was read."""
    save = Runs.save

    def careless(runs: Any, run: Run, **changes: Any) -> Run:
        rows = changes.get("rows", ())
        if any(operation.action is Action.DELETE for operation in rows):
            table = runs._table
            now = [table.get(op.row.partition, op.row.key) for op in rows]
            changes["rows"] = [
                replace(op, row=replace(op.row, etag=row.etag))
                for op, row in zip(rows, now, strict=True)
                if row is not None
            ]
        return save(runs, run, **changes)

    patch.setattr(Runs, "save", careless)


def _any_wish_is_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(producer.wishes, "decide_wish", lambda **_: Decision.ENQUEUED)


def _failures_always_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(consumer.deliver, "ENOUGH_RAISES", 0)


def _one_acceptance_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(consumer.deliver, "ENOUGH_RAISES", 1)


def _parts_are_sent_whole(patch: pytest.MonkeyPatch) -> None:
    """A part is taken for the first records of its chunk."""
    part_of = consumer.split.part_of

    def careless(envelope: Any, indexes: Any) -> Any:
        return replace(part_of(envelope, indexes), part=tuple(range(len(indexes))))

    patch.setattr(consumer.deliver, "part_of", careless)


def _every_message_answers(patch: pytest.MonkeyPatch) -> None:
    """A message that is given up or discarded takes its parts along."""

    def careless(chunk: Chunk, part: Collection[int] | None) -> frozenset[int]:
        return frozenset(range(chunk.count) if part is None else part)

    patch.setattr(Chunk, "answered_by", careless)


def _in_another_order(patch: pytest.MonkeyPatch, *, row_last: bool) -> None:
    """The messages are sent before their rows are written, or before older versions are struck."""

    def enqueue(
        sender: Sender,
        chunks: Sequence[PackedChunk],
        *,
        head: Head,
        known: Any,
        config: DrainConfig,
        **_: Any,
    ) -> None:
        rows = [
            new_row(chunk, destination=config.destination, at=sender._clock.now())
            for chunk in chunks
        ]

        def write() -> None:
            if rows:
                head.save(rows=[insertion(row) for row in rows])

        def send() -> None:
            for chunk, departure in zip(chunks, sender._departures(chunks), strict=True):
                sender._send(chunk, departure, "", None)

        steps = [send, write] if row_last else [write, send]
        for step in steps:
            step()
        sender._strike(chunks, rows, known)
        known.add_chunks(rows)

    patch.setattr(Sender, "enqueue", enqueue)


def _message_before_row(patch: pytest.MonkeyPatch) -> None:
    _in_another_order(patch, row_last=True)


def _message_before_strike(patch: pytest.MonkeyPatch) -> None:
    _in_another_order(patch, row_last=False)


def _no_ledger_id(patch: pytest.MonkeyPatch) -> None:
    """Every message without a row is taken for one that is settled."""
    judge = consumer.look.judge_look

    def trusting(envelope: Any, chunk: Chunk | None, *, ledger_id: Any, **others: Any) -> Look:
        return judge(envelope, chunk, ledger_id=ledger_id and envelope.ledger_id, **others)

    patch.setattr(consumer.deliver, "judge_look", trusting)


def _keys_without_epoch(patch: pytest.MonkeyPatch) -> None:
    """A chunk of a later epoch has the key of the void one before it, whose row it takes."""
    patch.setattr(Envelope, "key", property(lambda envelope: f"{envelope.sequence:06d}-1"))
    transact = FakeTable._transact

    def over(table: FakeTable, operations: Sequence[Operation]) -> list[str]:
        return transact(
            table,
            [
                replace(operation, action=Action.UPDATE)
                if operation.action is Action.INSERT
                and (operation.row.partition, operation.row.key) in table._rows
                and "records" in operation.row.data
                else operation
                for operation in operations
            ],
        )

    patch.setattr(FakeTable, "_transact", over)


RULES: dict[str, Patch] = {
    "a failure counts behind an acceptance": _failures_always_count,
    "a late acceptance proves nothing": _one_acceptance_is_enough,
    "a part names its records": _parts_are_sent_whole,
    "the smallest message answers for a record": _every_message_answers,
    "a look is good for seconds": _looks_last_for_ever,
    "a newer version waits": _no_delay,
    "older versions are struck": _no_strike,
    "filters apply to unknown ids only": _filters_for_known_ones,
    "every version that had a row is known": _settled_versions_are_forgotten,
    "what lies beyond the checkpoint is void": _nothing_is_void,
    "void chunks are not sent": _void_ones_are_sent,
    "a chunk without a row is settled": _settled_ones_are_sent_again,
    "the row comes before the message": _message_before_row,
    "older versions are struck before the message": _message_before_strike,
    "the ledger id tells a lost ledger": _no_ledger_id,
    "keys carry the epoch": _keys_without_epoch,
    "each tick raises the epoch": _the_epoch_stays,
    "the manifest fences": _no_fence,
    "the lease names runs by its ETag": _any_tick_names_its_run,
    "Lumen is asked within seconds": _asked_long_ago,
    "rows fold in order": _rows_fold_in_any_order,
    "rows are removed as they were read": _rows_go_whatever_they_hold,
    "a tick takes over before it goes on": _nothing_is_taken_over,
    "a wish is sent only as the newest version": _any_wish_is_sent,
}
