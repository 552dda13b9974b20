"""Samples: a few accepted indicators of a run, in clear, to look for in the workspace.

The consumer writes up to `OF_A_CHUNK` of them into a chunk's row with the receipt; the fold carries
them into the run's head, which keeps up to `OF_A_RUN`. Hashes alone choose them, so neither order
nor repetition changes a sample, and it is spread over the chunks. A damaged stored sample is
ignored, and stops nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from common.fingerprints import id_hash
from common.records import MAX_TIME, milliseconds_of, moment_of

OF_A_CHUNK: Final = 2
OF_A_RUN: Final = 20

MAX_ID: Final = 200
"""Characters of an id in a sample; Lumen's ids have 47."""

MAX_BYTES: Final = 16 * 1024
"""Size of stored samples: many times what `OF_A_RUN` of them take. Larger ones are not read."""

_MAX_CONFIDENCE: Final = 100
_MAX_HASH: Final = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One accepted indicator, as it was sent.

    `modified` and `valid_until` are in milliseconds since 1970, `valid_until` is None if it has no
    end; `confidence` is None if it has none. `destination` is a hash of the workspace that accepted
    it, and `rank` its place in the sample of its chunk.
    """

    id: str
    modified: int
    accepted_at: datetime
    confidence: int | None = None
    valid_until: int | None = None
    revoked: bool = False
    destination: int = 0
    rank: int = 0


def samples_of(
    indicators: Iterable[Any], *, at: datetime, destination: str = ""
) -> tuple[Sample, ...]:
    """Return the sample of indicators that `destination` accepted: those with the lowest hashes.

    Indicators without a usable id or `modified` are skipped.
    """
    named = [(id_hash(one["id"]), one) for one in indicators if _is_named(one)]
    named.sort(key=itemgetter(0))
    found = (_sample_of(one, at=at, destination=id_hash(destination)) for _, one in named)
    return of_chunk(islice((one for one in found if one is not None), OF_A_CHUNK))


def of_chunk(*samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Return the sample of a chunk: those with the lowest hashes, each with its rank. Pure."""
    newest = _by_id(samples)
    chosen = sorted(newest.values(), key=lambda one: id_hash(one.id))[:OF_A_CHUNK]
    return tuple(replace(one, rank=rank) for rank, one in enumerate(chosen))


def of_run(*samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Return the sample of a run from those of its chunks and of its head. Pure.

    The first sample of each chunk comes before the second ones, so it is spread as widely as
    possible.
    """
    newest = _by_id(samples)
    chosen = sorted(newest.values(), key=lambda one: (one.rank, id_hash(one.id)))
    return tuple(chosen[:OF_A_RUN])


def pack_samples(samples: Iterable[Sample]) -> bytes:
    """Return samples as rows store them."""
    listed = [
        {
            "id": one.id,
            "modified": one.modified,
            "accepted": round(one.accepted_at.timestamp() * 1000),
            "confidence": one.confidence,
            "until": one.valid_until,
            "revoked": one.revoked,
            "to": one.destination,
            "rank": one.rank,
        }
        for one in samples
    ]
    return json.dumps(listed, separators=(",", ":")).encode() if listed else b""


def unpack_samples(stored: object) -> tuple[Sample, ...]:
    """Return stored samples, without those that are damaged; unknown fields are ignored."""
    if not isinstance(stored, bytes) or not 0 < len(stored) <= MAX_BYTES:
        return ()
    try:
        listed: Any = json.loads(stored)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(listed, list):
        return ()
    found = (_read(one) for one in listed if isinstance(one, dict))
    return tuple(one for one in found if one is not None)


def _sample_of(indicator: Mapping[str, Any], *, at: datetime, destination: int) -> Sample | None:
    modified, confidence = _time_of(indicator.get("modified")), indicator.get("confidence")
    if modified is None:
        return None
    return Sample(
        id=indicator["id"],
        modified=modified,
        accepted_at=at,
        confidence=confidence if _is_number(confidence, _MAX_CONFIDENCE) else None,
        valid_until=_time_of(indicator.get("valid_until")),
        revoked=indicator.get("revoked") is True,
        destination=destination,
    )


def _read(stored: Mapping[str, Any]) -> Sample | None:
    name, modified, accepted = (stored.get(key) for key in ("id", "modified", "accepted"))
    if not (_is_id(name) and _is_time(modified) and _is_time(accepted)):
        return None
    confidence, until = stored.get("confidence"), stored.get("until")
    return Sample(
        id=stored["id"],
        modified=stored["modified"],
        accepted_at=moment_of(stored["accepted"]),
        confidence=confidence if _is_number(confidence, _MAX_CONFIDENCE) else None,
        valid_until=until if _is_time(until) else None,
        revoked=stored.get("revoked") is True,
        destination=_number(stored.get("to"), _MAX_HASH, otherwise=0),
        rank=_number(stored.get("rank"), OF_A_CHUNK, otherwise=OF_A_CHUNK),
    )


def _by_id(samples: Iterable[Iterable[Sample]]) -> dict[str, Sample]:
    """Return samples by id; if one was accepted more than once, the last."""
    newest: dict[str, Sample] = {}
    for some in samples:
        for one in some:
            known = newest.get(one.id)
            if known is None or (known.accepted_at, known.modified) < (
                one.accepted_at,
                one.modified,
            ):
                newest[one.id] = one
    return newest


def _is_named(indicator: Any) -> bool:
    return isinstance(indicator, dict) and _is_id(indicator.get("id"))


def _is_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID
        and value.isascii()
        and value.isprintable()
    )


def _is_time(value: object) -> bool:
    return _is_number(value, MAX_TIME) and value != 0


def _is_number(value: object, limit: int) -> bool:
    return type(value) is int and 0 <= value <= limit


def _number(value: Any, limit: int, *, otherwise: int) -> int:
    return int(value) if _is_number(value, limit) else otherwise


def _time_of(value: object) -> int | None:
    """Return a STIX timestamp in milliseconds since 1970; None where it is not one."""
    found = milliseconds_of(value) if isinstance(value, str) else 0
    return found if _is_time(found) else None
