"""Parts: messages that each carry some of the records of a chunk that Sentinel refused. Pure.

A part names its chunk and the indexes of its records in the chunk's row, where each record has a
letter. It has no other state: it is delivered like a chunk, may be split again, and ends when its
records have final letters. So duplicates of a part, which a crash may leave, do no harm.
"""

from collections.abc import Sequence
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
    """Return the JSON array of those records at `indexes` of the chunk that the message carries."""
    if tuple(indexes) == envelope.indexes:
        return envelope.body
    records = records_in(envelope)
    chosen = [records[index] for index in indexes if index in records]
    return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS)


def is_flawed(envelope: Envelope) -> bool:
    """Whether body and envelope disagree on the number of records, so that there are no parts."""
    return len(_objects_in(envelope)) != envelope.count


def records_in(envelope: Envelope) -> dict[int, Any]:
    """Return the objects in the body by their index in the chunk; none if one cannot be written."""
    return dict(zip(envelope.indexes, _objects_in(envelope), strict=False))


def _objects_in(envelope: Envelope) -> list[Any]:
    """Return the objects in the body; an empty list if any of them could not be written again."""
    try:
        objects = orjson.loads(envelope.body)
    except orjson.JSONDecodeError:
        return []
    return objects if isinstance(objects, list) else []
