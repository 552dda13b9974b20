"""What the ledger knows about an indicator: each row that holds a version of it, and its meaning.

Chunk rows are read once for all ids; the version index is asked for each id, which costs a row or
two of each segment. Nothing here writes. If the time ends before all rows are read, the answer says
so, and *not found* then proves nothing.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from common.envelope import decode_envelope, records_of, text_of
from common.errors import PipelineError
from common.fingerprints import id_hash, pack_fingerprints
from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.poison import PoisonRecord
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.states import ChunkState, Letter
from common.ledger.versions import KnownEntry, time_of
from common.records import RECORD_BYTES, milliseconds_of, unpack_records

MAX_CONTENTS: Final = 5
"""Rejections of one indicator whose content is read, the newest first."""


class Place(StrEnum):
    """Where an indicator is, according to the ledger."""

    ON_ITS_WAY = "on its way"
    KNOWN = "known"
    STRUCK = "struck"
    REJECTED = "rejected"
    POISONED = "poisoned"
    DISCARDED = "discarded"
    VOID = "void"
    NOT_LISTED = "filtered or never listed"
    NOT_READ = "not found in what could be read"


_OF_LETTER: Final[Mapping[str, Place]] = {
    Letter.PENDING: Place.ON_ITS_WAY,
    Letter.ACCEPTED: Place.KNOWN,
    Letter.REJECTED: Place.REJECTED,
    Letter.POISONED: Place.POISONED,
    Letter.STRUCK: Place.STRUCK,
    Letter.DISCARDED: Place.DISCARDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One place where the ledger has a version of an indicator, and its state there.

    `where` names it as operators do; `modified` is the version's, None if unknown.
    """

    place: Place
    where: str
    what: str
    modified: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """What the ledger knows about one indicator: its state, and every trace, the newest first."""

    indicator: str
    place: Place
    what: str
    traces: tuple[Trace, ...] = ()


@dataclass(slots=True)
class _Found:
    """The traces of one indicator found so far."""

    indicator: str
    hashes: frozenset[int]
    rows: list[tuple[tuple[int, str, str], Trace]] = field(default_factory=list)
    """Traces in rows that are not void, each with the order of its version."""
    void: list[Trace] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    """Traces whose chunk has no row any more."""
    known: list[KnownEntry] = field(default_factory=list)
    lost: list[Trace] = field(default_factory=list)
    """Traces in poison without a chunk row: the ledger was lost since."""

    @property
    def is_somewhere(self) -> bool:
        """Whether there is any trace."""
        return any((self.rows, self.void, self.rejections, self.known, self.lost))


class Reader:
    """Reads the ledger while there is time; `is_whole` says whether the time was enough.

    `is_late` is asked before each row.
    """

    def __init__(self, ledger: Ledger, *, is_late: Callable[[], bool], destination: str) -> None:
        self._ledger = ledger
        self._is_late = is_late
        self._destination = destination
        self._rejections: dict[str, Rejection] = {}
        self.is_whole = True

    def rejections(self, picks: Callable[[Rejection], bool]) -> list[Rejection]:
        """Return the rejections that `picks` chooses, the newest first, without their content."""
        chosen = filter(picks, self._while_in_time(self._ledger.rejections.entries()))
        return sorted(chosen, key=lambda one: one.at, reverse=True)

    def whereabouts(
        self, ids: Sequence[str], rejections: Collection[Rejection], *, now: datetime
    ) -> list[Whereabouts]:
        """Return where each indicator is; `rejections` are those of these ids."""
        self._rejections = {one.name: one for one in rejections}
        found = [_Found(indicator=one, hashes=_hashes(one)) for one in ids]
        rowed = self._read_rows(found)
        for one in found:
            self._read_rest(one, now=now)
        nowhere = [one for one in found if not one.is_somewhere]
        if nowhere and self.is_whole:
            self._read_lost(nowhere, rowed)
        return [self._judge(one) for one in found]

    def _read_rest(self, one: _Found, *, now: datetime) -> None:
        """Add what no row shows: rejections whose rows are gone, and the version index."""
        one.rejections = [
            rejection
            for rejection in self._rejections.values()
            if rejection.indicator_id.lower() == one.indicator.lower()
        ]
        for number in one.hashes:
            known, is_whole = self._ledger.versions.find(number, today=now.date())
            one.known += known
            self.is_whole &= is_whole
        one.known.sort(key=lambda entry: entry.destination != self._destination)

    def _while_in_time[T](self, rows: Iterator[T]) -> Iterator[T]:
        for row in rows:
            if self._is_late():
                self.is_whole = False
                return
            yield row

    def _read_rows(self, found: Sequence[_Found]) -> set[str]:
        """Add the traces in chunk rows; return the names of all chunks with one."""
        wanted = [pack_fingerprints([number]) for one in found for number in one.hashes]
        names = set()
        for run_id, key, records in self._while_in_time(self._ledger.chunks.records()):
            names.add(f"{run_id}/{key}")
            if not any(True for packed in wanted for _ in places(records, packed)):
                continue
            chunk = self._ledger.chunks.get(run_id, key)
            if chunk is not None:  # else it was folded: the version index is read later
                self._note_all(found, chunk)
        return names

    def _note_all(self, found: Sequence[_Found], chunk: Chunk) -> None:
        """Add the traces of every record of a chunk's row that is asked about."""
        for one in found:
            for number in one.hashes:
                for index in places(chunk.records, pack_fingerprints([number])):
                    self._note(one, chunk, index)

    def _note(self, one: _Found, chunk: Chunk, index: int) -> None:
        """Add the trace of one record of a chunk's row."""
        begin = index * RECORD_BYTES
        (record,) = unpack_records(chunk.records[begin : begin + RECORD_BYTES])
        name = f"{chunk.run_id}/{chunk.key}"
        modified = time_of(record.modified)
        rejection = self._rejections.pop(f"{chunk.run_id}/chunk-{chunk.key}-{index}", None)
        letter = Letter(chunk.each[index])
        if rejection is not None and letter is Letter.ACCEPTED and not chunk.letters:
            letter = Letter.REJECTED  # a chunk without letters only counts refused records
        if chunk.void:
            what = "its page was read again: this chunk is not sent"
            one.void.append(Trace(place=Place.VOID, where=name, what=what, modified=modified))
            return
        what = self._what(chunk, index, letter, rejection)
        trace = Trace(place=_OF_LETTER[letter], where=name, what=what, modified=modified)
        one.rows.append(((record.modified, chunk.run_id, chunk.key), trace))

    def _what(self, chunk: Chunk, index: int, letter: Letter, rejection: Rejection | None) -> str:
        name = f"chunk {chunk.key} of run {chunk.run_id}"
        match letter:
            case Letter.PENDING:
                return f"on its way in {name}{self._waits(chunk)}"
            case Letter.POISONED:
                return self._poisoned(chunk, index)
            case Letter.REJECTED:
                reason = "the reason is not on record" if rejection is None else _said(rejection)
                return f"rejected in {name}: {reason}"
            case Letter.STRUCK:
                return f"struck in {name}: a newer version takes its place"
            case Letter.DISCARDED:
                return f"discarded in {name}{_because(chunk.reason)}"
            case Letter.ACCEPTED:
                at = "" if chunk.finished_at is None else f" on {_moment(chunk.finished_at)}"
                return f"accepted by Sentinel{at}, in {name}"

    def _waits(self, chunk: Chunk) -> str:
        """Return why a chunk waits, as the end of a sentence."""
        if chunk.state is ChunkState.OTHER:
            return ", whose row is of a later release"
        if self._destination and chunk.destination != self._destination:
            return f", which is for another workspace ({chunk.destination}): `destination adopt`"
        if chunk.deferrals:
            return f", deferred {chunk.deferrals} times{_because(chunk.reason)}"
        return _because(chunk.reason)

    def _poisoned(self, chunk: Chunk, index: int) -> str:
        """Return which message was given up, and why."""
        for record in self._ledger.poison.of_chunk(chunk.run_id, chunk.key):
            if index in _contents(record):
                return f"poison {record.name}: {record.reason}"
        return f"given up in chunk {chunk.key} of run {chunk.run_id}{_because(chunk.reason)}"

    def _read_lost(self, found: Sequence[_Found], rowed: Collection[str]) -> None:
        """Read the poison whose chunk has no row."""
        for entry in self._while_in_time(self._ledger.poison.entries()):
            if f"{entry.run_id}/{entry.chunk_key}" in rowed:
                continue
            record = self._ledger.poison.get(entry.run_id, entry.poison_id)
            ids = set() if record is None else set(_contents(record).values())
            for one in found:
                if one.indicator in ids:
                    what = f"poison {entry.name}: {entry.reason}"
                    one.lost.append(Trace(place=Place.POISONED, where=entry.name, what=what))

    def _judge(self, one: _Found) -> Whereabouts:
        """Return the trace that counts: the newest version, wherever it is."""
        rows = [trace for _, trace in sorted(one.rows, key=lambda row: row[0], reverse=True)]
        known = [_of_index(entry, here=self._destination) for entry in one.known]
        refused = [self._of_rejection(rejection) for rejection in one.rejections[:MAX_CONTENTS]]
        traces = (*rows, *_ordered(known, refused), *one.void, *one.lost)
        if traces:
            place, what = traces[0].place, traces[0].what
        elif self.is_whole:
            place, what = Place.NOT_LISTED, "no run has put it into a chunk since it is on record"
        else:
            place, what = (
                Place.NOT_READ,
                "not all could be read in time, or a row is damaged",
            )
        return Whereabouts(indicator=one.indicator, place=place, what=what, traces=traces)

    def _of_rejection(self, rejection: Rejection) -> Trace:
        """Return the trace of a rejection whose row is gone, with the version that it is about."""
        whole = self._ledger.rejections.get(rejection.run_id, rejection.position)
        return Trace(
            place=Place.REJECTED,
            where=rejection.name,
            what=f"rejected: {_said(rejection)}",
            modified=None if whole is None else _modified(whole.content),
        )


def _ordered(known: list[Trace], refused: list[Trace]) -> list[Trace]:
    """Return the traces of index and refusals, the one that counts first. Pure.

    The index also has a refused version. So a refusal of a version that is not in the index is
    older, or its record was invalid and never got that far.
    """
    versions = {trace.modified for trace in known}
    is_of_known = [trace.modified is not None and trace.modified in versions for trace in refused]
    first = [trace for trace, is_it in zip(refused, is_of_known, strict=True) if is_it]
    rest = [trace for trace, is_it in zip(refused, is_of_known, strict=True) if not is_it]
    return [*first, *known, *rest]


def _of_index(entry: KnownEntry, *, here: str) -> Trace:
    where = f"version index of {entry.destination}"
    other = f" (of another workspace, {entry.destination})" if entry.destination != here else ""
    if entry.is_unanswered:
        what = "void, without an answer of Sentinel: sent again when Lumen lists it again"
        return Trace(place=Place.VOID, where=where, what=what, modified=entry.modified)
    what = (
        f"known since {entry.entered_on}, settled; kept in the version index{other} until "
        f"{entry.kept_until}"
    )
    return Trace(place=Place.KNOWN, where=where, what=what, modified=entry.modified)


def places(records: bytes, packed: bytes) -> Iterator[int]:
    """Yield the indexes of the records that begin with `packed`, the hash of an id. Pure."""
    at = records.find(packed)
    while at >= 0:
        if at % RECORD_BYTES == 0:
            yield at // RECORD_BYTES
        at = records.find(packed, at + 1)


def _hashes(indicator: str) -> frozenset[int]:
    """Return the hashes under which an id may be known: unchanged, and in lower case."""
    return frozenset({id_hash(indicator), id_hash(indicator.lower())})


def _said(rejection: Rejection) -> str:
    """Return who refused a record, when and why; and that it was asked for again."""
    again = ""
    if rejection.wished_at is not None:
        again = f"; asked to be sent again on {_moment(rejection.wished_at)}"
    if rejection.rejected_by is RejectedBy.VALIDATION:
        return (
            f"invalid as Lumen lists it, seen last on {_moment(rejection.at)}: {rejection.reason}"
        )
    return f"{rejection.reason} ({rejection.rejected_by.value}, {_moment(rejection.at)}){again}"


def _contents(record: PoisonRecord) -> dict[int, str]:
    """Return the id of each readable indicator of a message, by its index in the chunk."""
    try:
        envelope = decode_envelope(record.message)
    except PipelineError:
        return {}
    return {index: text_of(known, "id") for index, known in records_of(envelope).items()}


def _modified(content: bytes) -> datetime | None:
    try:
        found = json.loads(content)
        return time_of(milliseconds_of(found["modified"]))
    except (ValueError, RecursionError, LookupError, TypeError):
        return None


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
