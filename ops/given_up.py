"""The content of poison, for an operator's decision: each indicator, and Sentinel's words on it.

A poison record holds the message as it was. The letters in the chunk's row say what state
each indicator is in; the rejections of the same chunk have Sentinel's words. Nothing here writes.
"""

from typing import Any, Final

from common.envelope import decode_envelope, records_of, text_of
from common.errors import PipelineError
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.poison import PoisonRecord
from common.ledger.states import Letter

WORDS: Final = {
    Letter.PENDING: "pending",
    Letter.ACCEPTED: "accepted",
    Letter.REJECTED: "rejected",
    Letter.POISONED: "poisoned",
    Letter.STRUCK: "struck",
    Letter.DISCARDED: "discarded",
}
"""The name of each letter."""

NO_ROW: Final = "settled"
"""The state of a record whose chunk has no row any more."""


def describe_given_up(record: PoisonRecord, ledger: Ledger) -> dict[str, Any]:
    """Return what a list does not show of a record: history, indicators, message; plain JSON.

    A message that cannot be read gives no indicators, but its text.
    """
    return {
        "history": [{"at": attempt.at, "reason": attempt.reason} for attempt in record.history],
        "records": _records(record, ledger),
        "message": record.message,
    }


def _records(record: PoisonRecord, ledger: Ledger) -> list[dict[str, Any]]:
    """Return each indicator of a message: what it is, its state, Sentinel's words."""
    try:
        envelope = decode_envelope(record.message)
    except PipelineError:
        return []
    chunk = ledger.chunks.get(envelope.run_id, envelope.key)
    beginning = f"chunk-{envelope.key}-"
    named = {
        rejection.position.removeprefix(beginning): rejection
        for rejection in ledger.rejections.entries(envelope.run_id)
        if rejection.position.startswith(beginning)
    }
    found = []
    for index, known in records_of(envelope).items():
        rejection = named.get(str(index))
        found.append(
            {
                "index": index,
                "indicator": text_of(known, "id"),
                "pattern": text_of(known, "pattern"),
                "is": _word(chunk, index),
                "named_at": None if rejection is None else rejection.at.isoformat(),
                "words": "" if rejection is None else rejection.reason,
            }
        )
    return found


def _word(chunk: Chunk | None, index: int) -> str:
    if chunk is None:
        return NO_ROW
    if chunk.void:
        return "void"
    return WORDS[Letter(chunk.each[index])] if index < len(chunk.each) else NO_ROW
