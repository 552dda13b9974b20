"""Parts: messages that each carry some of the records of a chunk that Sentinel refused. Pure.

A part names its chunk and the indexes of its records in the chunk's row, where each has a letter.
That is all of its state: it is delivered like a chunk, may be split again, and ends when its
records have final letters. So doubles of a part, which a crash may leave, do no harm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from common.envelope import Envelope, chunk_id_of


def part_of(envelope: Envelope, indexes: Sequence[int]) -> Envelope:
    """Return the message for the records at `indexes` of the chunk: new, with no failures."""
    body = objects_of(envelope, indexes)
    fingerprints = dict(zip(envelope.indexes, envelope.fingerprints, strict=True))
    return replace(
        envelope,
        chunk_id=chunk_id_of(body),
        count=len(indexes),
        body=body,
        fingerprints=tuple(fingerprints[index] for index in indexes),
        part=tuple(indexes),
        attempt=0,
        deferrals=0,
        postponed=0,
        put_back=0,
        failed=None,
        refused=False,
        slot=None,
        due=None,
        history=(),
    )


def objects_of(envelope: Envelope, indexes: Sequence[int]) -> bytes:
    """Return the JSON array of the records at `indexes` of the chunk, of those that it carries."""
    if tuple(indexes) == envelope.indexes:
        return envelope.body
    records = records_of(envelope)
    chosen = [records[index] for index in indexes if index in records]
    return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS)


def records_of(envelope: Envelope) -> Mapping[int, Any]:
    """Return the records in the body by their index in the chunk; none where it is no array."""
    try:
        records = orjson.loads(envelope.body)
    except orjson.JSONDecodeError:
        return {}
    return dict(zip(envelope.indexes, records, strict=False)) if isinstance(records, list) else {}


def is_flawed(envelope: Envelope) -> bool:
    """Whether the body does not hold as many records as the envelope counts."""
    try:
        return len(orjson.loads(envelope.body)) != envelope.count
    except (orjson.JSONDecodeError, TypeError):
        return True
