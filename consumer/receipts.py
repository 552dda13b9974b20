"""Upload receipts: what Sentinel took and what it refused, written into the ledger.

Rejections are written before the chunk's row: a row that says uploaded has them all.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from common.clock import Clock
from common.envelope import Envelope, records_of, text_of
from common.events import Event, emit
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.samples import Sample, samples_of
from consumer.outcomes import Done
from consumer.sentinel import RecordError
from consumer.split import records_in

_PROPERTIES: Final = (
    "confidence",
    "created",
    "created_by_ref",
    "description",
    "extensions",
    "external_references",
    "granular_markings",
    "id",
    "indicator_types",
    "kill_chain_phases",
    "labels",
    "lang",
    "modified",
    "name",
    "object_marking_refs",
    "pattern",
    "pattern_type",
    "pattern_version",
    "revoked",
    "spec_version",
    "type",
    "valid_from",
    "valid_until",
)
"""The properties of an indicator (STIX 2.1, sections 3.2 and 4.7)."""

_BARE: Final = str.maketrans("", "", "_ ")
_BY_BARE: Final = {name.translate(_BARE): name for name in _PROPERTIES}
_LONGEST_FIRST: Final = sorted(_PROPERTIES, key=len, reverse=True)
"""So that `pattern type` is not taken for `pattern`."""

_PROPERTY: Final = re.compile(
    rf"\b({'|'.join(name.replace('_', '[_ ]?') for name in _LONGEST_FIRST)})\b", re.IGNORECASE
)
_NO_PROPERTY: Final = "other"


class ReceiptWriter:
    """Writes upload receipts. Safe to use from several threads."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def write(self, done: Done, envelope: Envelope, chunk: Chunk | None) -> None:
        """Keep the rejections, then record the answer on `chunk`; called twice: the same rows.

        `chunk` is the row as it was read right before the request. Without a row the ledger of the
        chunk was lost, and the answer is only logged.
        """
        now = self._clock.now()
        rejected = len(done.sent) - done.accepted
        if rejected:
            self._ledger.rejections.record(rejections_of(done, envelope, at=now))
        if chunk is not None:
            self._ledger.chunks.record_uploaded(
                chunk,
                sent=done.sent,
                rejected={error.index for error in done.rejected},
                stray=len(done.stray),
                at=now,
                sample=sample_of_receipt(done, envelope, at=now, destination=chunk.destination),
            )
        if done.stray:
            emit(
                Event.CONTRACT_DRIFT,
                run=envelope.run_id,
                chunk=envelope.key,
                reason="Sentinel named records that the chunk does not have",
                stray=len(done.stray),
            )
        emit(
            Event.CHUNK_UPLOADED,
            run=envelope.run_id,
            chunk=envelope.key,
            accepted=done.accepted,
            rejected=rejected,
            rejected_for=properties_of(done.rejected),
            deferrals=envelope.deferrals,
        )


def sample_of_receipt(
    done: Done, envelope: Envelope, *, at: datetime, destination: str
) -> tuple[Sample, ...]:
    """Return accepted indicators to look for in the workspace; none of a body that has none.

    An answer with stray errors does not say which records it took.
    """
    if done.stray:
        return ()
    taken = set(done.sent) - {error.index for error in done.rejected}
    found = (one for index, one in records_in(envelope).items() if index in taken)
    return samples_of(found, at=at, destination=destination)


def rejections_of(done: Done, envelope: Envelope, *, at: datetime) -> list[Rejection]:
    """Return the rejections of a receipt, each with its record, if the chunk has that record."""
    records = records_of(envelope)
    rejections = []
    answers = [(error, False) for error in done.rejected] + [(error, True) for error in done.stray]
    for error, is_stray in answers:
        known = None if is_stray else records.get(error.index)
        which = f"stray-{error.index}" if is_stray else f"{error.index}"
        rejections.append(
            Rejection(
                run_id=envelope.run_id,
                position=f"chunk-{envelope.key}-{which}",
                rejected_by=RejectedBy.SENTINEL,
                indicator_id=text_of(known, "id"),
                pattern=text_of(known, "pattern"),
                reason="; ".join(error.messages) or "no reason given",
                content=b"" if known is None else json.dumps(known).encode(),
                at=at,
            )
        )
    return rejections


def properties_of(errors: Iterable[RecordError]) -> str:
    """Return how many records were rejected for which property, as `other:1 pattern:3`.

    The property is the first that Sentinel names. Its own words may repeat the indicator and stay
    in the ledger; these may be logged.
    """
    found = Counter(_property_of(" ".join(error.messages)) for error in errors)
    return " ".join(f"{name}:{count}" for name, count in sorted(found.items()))


def _property_of(said: str) -> str:
    """Return the name of the property, written as STIX does: Sentinel may say `ValidFrom`."""
    named = _PROPERTY.search(said)
    if named is None:
        return _NO_PROPERTY
    return _BY_BARE[named[0].lower().translate(_BARE)]
