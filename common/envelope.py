"""The message on the queue: one chunk of indicators, whole, in at most 64 KiB of JSON text.

The body is the exact bytes of the `stixobjects` array that Sentinel will receive, compressed; the
consumer posts them without parsing. The chunk's history (attempts, reasons) travels with it, so
deferring needs no read. A chunk that Sentinel refused is split into messages that each carry a part
of it. The chunk id is a hash of the body: the same indicators always make the same chunk, and a
damaged body is noticed. This module must not know what an indicator is.
"""

import base64
import binascii
import hashlib
import json
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from isal import isal_zlib

from common.errors import LaterVersionError, UndecodableError
from common.fingerprints import FINGERPRINT_BYTES, pack_fingerprints, unpack_fingerprints
from common.settings import MAX_OBJECTS_PER_REQUEST
from common.text import ascii_line

MAX_ENVELOPE_BYTES: Final = 64 * 1024
"""A storage queue message is at most 64 KiB as stored
(learn.microsoft.com/azure/storage/queues/storage-queues-introduction, read 2026-11-22)."""

STORY_RESERVE: Final = 4 * 1024
"""Bytes that a new envelope leaves free, so that it still fits with everything that may be added:
its send slot, a full history, and the indexes of a part."""

MAX_NEW_ENVELOPE_BYTES: Final = MAX_ENVELOPE_BYTES - STORY_RESERVE

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Largest decompressed body, in bytes. 100 real indicators are about 52 KB; a larger body is
hostile or broken, and is refused before it fills the memory."""

MAX_HISTORY: Final = 12
"""Attempts kept in the envelope: the first and the latest ones."""

MAX_REASON: Final = 160
"""Characters of one attempt's reason."""

MAX_TRACE: Final = 128
"""Characters of the trace context; a W3C traceparent has 55."""

MAX_CHUNKS: Final = 2**19
"""Chunks a run may have: 52 million indicators. Bounds what an envelope may claim."""

MAX_COUNT: Final = 2**31 - 1
"""Counts in an envelope are below this, so that one more still fits in a table's integer."""

MAX_TIME: Final = 2**33
"""Times in seconds since 1970 are below this; a larger one is damaged."""

VERSION: Final = 1
"""The only format. Fields that a later release adds are ignored. A change that an older release
must not misread raises the version; the older release then defers the message."""

MAX_EPOCH: Final = 10**6
"""Epochs a run may have: one a tick, so 28 years of ticks."""

_MAX_STAMP: Final = 40
_COMPRESSION_LEVEL: Final = 2
"""The ISA-L level with the best compression. The format is zlib's; bodies are a tenth larger than
at zlib's level 6, in a tenth of the time (docs/performance.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One delivery that did not succeed: when (ISO 8601, UTC) and why."""

    at: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A chunk on its way. `body` is the UTF-8 JSON array of `count` STIX objects.

    `sequence` numbers the chunks of a run from 0; `epoch` is the run's epoch when the chunk was
    made, and `ledger_id` names the ledger that has its row. `slot` is its send slot, or `due` the
    end of its delay if it has no slot, both in seconds since 1970. `attempt` counts the deliveries
    that failed for a reason that counts (an outage does not), `deferrals` all failed deliveries,
    `postponed` those that only moved to a later slot, and `put_back` how often the host gave the
    message up and it was put back on the queue. `failed` is the acceptance number after its last
    failure, and `refused` says that this was a refusal. `part` has the indexes, in the chunk's row,
    of the records that it carries; None means all. `fingerprints` has one 64-bit value per object,
    in order.
    """

    run_id: str
    chunk_id: str
    sequence: int
    count: int
    body: bytes
    fingerprints: tuple[int, ...]
    epoch: int = 1
    ledger_id: str = ""
    attempt: int = 0
    deferrals: int = 0
    postponed: int = 0
    put_back: int = 0
    slot: float | None = None
    due: float | None = None
    failed: int | None = None
    refused: bool = False
    part: tuple[int, ...] | None = None
    history: tuple[Attempt, ...] = ()
    trace_parent: str = ""

    @property
    def key(self) -> str:
        """The chunk's key within its run: its sequence number and its epoch."""
        return f"{sequence_key(self.sequence)}-{self.epoch}"

    @property
    def name(self) -> str:
        """The chunk's name, unique among all runs, as operators write it."""
        return f"{self.run_id}/{self.key}"

    @property
    def message_key(self) -> str:
        """The message's key: the chunk's, and for a part also a hash of its body."""
        return self.key if self.part is None else f"{self.key}-{self.chunk_id[:12]}"

    @property
    def message_name(self) -> str:
        """The message's name, unique among all runs, as problems and poison show it."""
        return f"{self.run_id}/{self.message_key}"

    @property
    def indexes(self) -> tuple[int, ...]:
        """The indexes, in the chunk's row, of the records that it carries, in order."""
        return tuple(range(self.count)) if self.part is None else self.part

    @property
    def due_at(self) -> float | None:
        """When it is to be delivered: its slot, or the end of its delay; None if it has neither."""
        return self.due if self.slot is None else self.slot

    def deferred(
        self, *, at: str, reason: str, counts: bool, due: float | None = None
    ) -> "Envelope":
        """Return the copy to enqueue, until `due`, after a delivery that failed for `reason`."""
        latest = _attempt(at=at, reason=reason)
        return replace(
            self,
            attempt=self.attempt + counts,
            deferrals=self.deferrals + 1,
            slot=None,
            due=due,
            history=_bounded((*self.history, latest)),
        )

    def moved_to(self, slot: float) -> "Envelope":
        """Return the copy to enqueue for another send slot; nothing has failed."""
        return replace(self, slot=slot, due=None, postponed=self.postponed + 1)

    def held_until(self, due: float) -> "Envelope":
        """Return the copy to enqueue during a pause; it takes a send slot of its own afterwards."""
        return replace(self, slot=None, due=due, postponed=self.postponed + 1)


def sequence_key(sequence: int) -> str:
    """Return the beginning of the keys of all chunks of this sequence; keys sort by it."""
    return f"{sequence:06d}"


def chunk_id_of(body: bytes) -> str:
    """Return the chunk id of a body: 32 hex digits of its SHA-256."""
    return hashlib.sha256(body).hexdigest()[:32]


def pack_body(body: bytes) -> str:
    """Return a body in the form of an envelope: compressed, base64."""
    return base64.b64encode(isal_zlib.compress(body, _COMPRESSION_LEVEL)).decode("ascii")


def encode_envelope(envelope: Envelope, *, packed_body: str | None = None) -> str:
    """Return the message text: ASCII JSON, so that characters equal bytes, and it is valid XML.

    `packed_body` saves compressing again. Raises `ValueError` if the text exceeds
    `MAX_ENVELOPE_BYTES` even with the best compression. A caller that makes envelopes checks
    `MAX_NEW_ENVELOPE_BYTES` first, and makes smaller chunks.
    """
    head = json.dumps(
        {
            "version": VERSION,
            "run": envelope.run_id,
            "ledger": envelope.ledger_id,
            "epoch": envelope.epoch,
            "chunk": envelope.chunk_id,
            "sequence": envelope.sequence,
            "count": envelope.count,
            "slot": envelope.slot,
            "due": envelope.due,
            "attempt": envelope.attempt,
            "deferrals": envelope.deferrals,
            "postponed": envelope.postponed,
            "put_back": envelope.put_back,
            "history": [[item.at, item.reason] for item in envelope.history],
            "failed": envelope.failed,
            "refused": envelope.refused,
            "part": envelope.part,
            "trace": envelope.trace_parent,
        },
        separators=(",", ":"),
    )
    fingerprints = base64.b64encode(pack_fingerprints(envelope.fingerprints)).decode("ascii")
    head = f'{head[:-1]},"fingerprints":"{fingerprints}","body":"'  # base64 as it is
    text = f'{head}{packed_body or pack_body(envelope.body)}"}}'
    if len(text) > MAX_ENVELOPE_BYTES and packed_body is None:
        closely = zlib.compress(envelope.body, zlib.Z_BEST_COMPRESSION)
        text = f'{head}{base64.b64encode(closely).decode("ascii")}"}}'
    if len(text) > MAX_ENVELOPE_BYTES:
        raise ValueError(f"envelope of chunk {envelope.key} has {len(text)} bytes")
    return text


def encode_to_fit(envelope: Envelope) -> str:
    """Return the message text; if it does not fit, with less of its history.

    New envelopes leave room for all of it. If that is not enough, all failures but the latest are
    left out, then the latest and the trace.
    """
    short = replace(envelope, history=envelope.history[-1:])
    for told in (envelope, short):
        with suppress(ValueError):
            return encode_envelope(told)
    return encode_envelope(replace(envelope, history=(), trace_parent=""))


def records_of(envelope: Envelope) -> dict[int, Any]:
    """Return the records in the body, unchanged, by their index in the chunk.

    None if the body is not a list. Odd texts and numbers are accepted, because they must not
    prevent keeping or showing a record.
    """
    try:
        objects = json.loads(envelope.body)
    except (ValueError, RecursionError):
        return {}
    return dict(zip(envelope.indexes, objects, strict=False)) if isinstance(objects, list) else {}


def text_of(known: object, name: str) -> str:
    """Return a text of such an object in a form every store accepts; empty if it is no text."""
    value = known.get(name) if isinstance(known, dict) else None
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def decode_envelope(text: str) -> Envelope:
    """Return the envelope in `text`; fields that this release does not know are ignored.

    Raises `LaterVersionError` for an envelope of a later release, and `UndecodableError` saying
    what is wrong: not JSON, no version, a missing or mistyped field, a damaged or oversized body, a
    count that differs from the number of fingerprints or exceeds `MAX_OBJECTS_PER_REQUEST`.
    """
    fields = _fields(text)
    envelope = Envelope(
        run_id=_key(fields, "run"),
        chunk_id=_key(fields, "chunk"),
        sequence=_natural(fields, "sequence", below=MAX_CHUNKS),
        count=_natural(fields, "count"),
        body=_decompress(_base64(fields, "body")),
        fingerprints=_fingerprints(fields),
        epoch=_natural(fields, "epoch", below=MAX_EPOCH),
        ledger_id=_ledger_id(fields),
        attempt=_natural(fields, "attempt"),
        deferrals=_natural(fields, "deferrals"),
        postponed=_natural(fields, "postponed"),
        put_back=_natural(fields, "put_back") if "put_back" in fields else 0,
        slot=_time(fields, "slot"),
        due=_time(fields, "due"),
        failed=None if fields.get("failed") is None else _natural(fields, "failed"),
        refused=fields.get("refused") is True,
        part=_part(fields),
        history=_history(fields),
        trace_parent=ascii_line(_string(fields, "trace"), limit=MAX_TRACE),
    )
    _check_whole(envelope)
    return envelope


def _fields(text: str) -> dict[str, Any]:
    """Return the fields of a message of the version that this release reads."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UndecodableError(f"the message is not JSON ({type(error).__name__})") from error
    if not isinstance(fields, dict):
        raise UndecodableError("the message is JSON but not an object")
    version = fields.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UndecodableError(f"envelope version {str(version)[:20]!r} is unknown")
    if version > VERSION:  # put back for the release that can read it, and not kept as poison
        raise LaterVersionError(
            f"the envelope has version {version}, of a later release; this one reads {VERSION}"
        )
    return fields


def _check_whole(envelope: Envelope) -> None:
    """Raise `UndecodableError` if parts of an envelope contradict each other."""
    if envelope.chunk_id != chunk_id_of(envelope.body):
        raise UndecodableError("the body does not match the chunk id: it is damaged")
    if not 1 <= envelope.count <= MAX_OBJECTS_PER_REQUEST:
        raise UndecodableError(
            f"the chunk counts {envelope.count} records; it has 1 to {MAX_OBJECTS_PER_REQUEST}"
        )
    if envelope.count != len(envelope.fingerprints):
        raise UndecodableError("the count is not that of the fingerprints: it is damaged")
    if envelope.count != len(envelope.indexes):
        raise UndecodableError("the count is not that of the part: it is damaged")


def _decompress(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # One byte more than allowed is enough to refuse it: a bomb is not unpacked any further.
        body = inflater.decompress(packed, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise UndecodableError("the body is not zlib data: it is damaged") from error
    if len(body) > MAX_BODY_BYTES:
        raise UndecodableError(f"the body holds more than {MAX_BODY_BYTES} bytes: refused")
    if not inflater.eof or inflater.unused_data:
        raise UndecodableError("the body is cut short or followed by other data")
    return body


def _base64(fields: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(_string(fields, name), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UndecodableError(f"field {name!r} is not base64: it is damaged") from error


def _fingerprints(fields: dict[str, Any]) -> tuple[int, ...]:
    packed = _base64(fields, "fingerprints")
    if len(packed) % FINGERPRINT_BYTES:
        raise UndecodableError("the fingerprints are cut short")
    return unpack_fingerprints(packed)


def _history(fields: dict[str, Any]) -> tuple[Attempt, ...]:
    match fields.get("history"):
        case list() as items if all(
            isinstance(item, list) and len(item) == 2 and all(isinstance(x, str) for x in item)  # noqa: PLR2004
            for item in items
        ):
            return _bounded(tuple(_attempt(at=at, reason=reason) for at, reason in items))
        case _:
            raise UndecodableError("field 'history' is not a list of [time, reason]")


def _attempt(*, at: str, reason: str) -> Attempt:
    return Attempt(at=ascii_line(at, limit=_MAX_STAMP), reason=ascii_line(reason, limit=MAX_REASON))


def _bounded(history: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return the first and the latest attempts: as much as an envelope and a ledger row hold."""
    if len(history) <= MAX_HISTORY:
        return history
    return (history[0], *history[-(MAX_HISTORY - 1) :])


def _time(fields: dict[str, Any], name: str) -> float | None:
    """Return a time in seconds since 1970; None if it is missing or null."""
    moment = fields.get(name)
    if moment is None:
        return None
    is_number = isinstance(moment, int | float) and not isinstance(moment, bool)
    if not is_number or not 0 <= moment < MAX_TIME:
        raise UndecodableError(f"field {name!r} is not a time")
    return float(moment)


def _part(fields: dict[str, Any]) -> tuple[int, ...] | None:
    match fields.get("part"):
        case None:
            return None
        case list() as items if all(type(item) is int and item >= 0 for item in items):
            if (
                list(items) == sorted(set(items))
                and max(items, default=0) < MAX_OBJECTS_PER_REQUEST
            ):
                return tuple(items)
    raise UndecodableError("field 'part' is not a list of rising indexes")


def _string(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise UndecodableError(f"field {name!r} is missing or not text")
    return value


def _key(fields: dict[str, Any], name: str) -> str:
    """Return a text that is safe as a table key."""
    value = _string(fields, name)
    if not (0 < len(value) <= 64 and value.isascii() and value.replace("-", "").isalnum()):  # noqa: PLR2004
        raise UndecodableError(f"field {name!r} is not an id")
    return value


def _ledger_id(fields: dict[str, Any]) -> str:
    """Return the ledger's id; empty for none. It must look like an id, so that it fits again."""
    return _key(fields, "ledger") if _string(fields, "ledger") else ""


def _natural(fields: dict[str, Any], name: str, *, below: int = MAX_COUNT) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise UndecodableError(f"field {name!r} is missing or not a count")
    return value
