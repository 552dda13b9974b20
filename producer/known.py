"""What a tick knows: the version index, the chunk rows, and what it has put into chunks itself.

Looked up a page at a time. If several places know an indicator, the newest version counts; with
equal `modified`, the later place. The rows also say where older versions may still be sent from, so
that they can be struck.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from common.delivery import LONGEST_DELIVERY
from common.ledger.chunks import Chunk
from common.ledger.versions import LAST_DAY, VOID
from common.records import ids_of
from producer.entries import (
    Entries,
    Place,
    RowRecords,
    RowTable,
    merged_tables,
    row_records,
    row_table,
    words,
)
from producer.index import Segment
from producer.versions import KnownVersion

RECORDS_A_TABLE: Final = 5_000
"""This many records of rows that this tick has written become a table together: making a table for
each page would take longer than all look-ups in it."""


class Known:
    """The versions that are known to one tick. Used by one thread at a time."""

    def __init__(self, segments: Sequence[Segment], rows: RowTable) -> None:
        """`segments` are oldest first; `rows` is the table of all rows that were read."""
        self._segments = segments
        self._tables = [rows]
        self._latest: dict[int, KnownVersion] = {}
        self._pending: list[Chunk] = []

    def find(self, id_hashes: Sequence[int]) -> dict[int, KnownVersion]:
        """Return the known version of each id, by position; unknown ids are left out.

        A version given to `remember` wins.
        """
        wanted = words(id_hashes)
        found = _Newest(len(wanted))
        for segment in self._segments:
            is_recent = segment.info.age < LONGEST_DELIVERY
            found.compare(segment.entries, wanted, in_index=True, is_recent=is_recent)
        for table in self._tables:
            found.compare(table.newest, wanted, in_index=False, is_recent=True)
        known = found.versions()
        if not self._latest.keys().isdisjoint(id_hashes):
            for position, id_hash in enumerate(id_hashes):
                latest = self._latest.get(id_hash)
                if latest is not None:
                    known[position] = latest
        return known

    def remember(self, id_hash: int, version: KnownVersion) -> None:
        """Remember a version that is about to be put into a chunk."""
        self._latest[id_hash] = version

    def add_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Remember the rows of `chunks`, which this tick has written, in their order."""
        self._pending += chunks
        ids = ids_of(b"".join(chunk.records for chunk in chunks))
        is_many = sum(chunk.count for chunk in self._pending) >= RECORDS_A_TABLE
        if is_many or not self._latest.keys() >= set(ids):
            self._add_table()

    def _add_table(self) -> None:
        """Make a table of the rows that are pending."""
        chunks, self._pending = self._pending, []
        if not chunks:
            return
        records = records_of_chunks(chunks, (chunk.records for chunk in chunks))
        self._tables.append(row_table([(c.run_id, c.key) for c in chunks], records))
        self._forget_latest(records)
        while len(self._tables) > 2 and _is_small(self._tables[-2], self._tables[-1]):  # noqa: PLR2004 - the first one is of the rows that were read
            second, first = self._tables.pop(), self._tables.pop()
            self._tables.append(merged_tables(first, second))

    def _forget_latest(self, records: RowRecords) -> None:
        """Forget single versions that are now in a table."""
        columns = (records.ids, records.fingerprints, records.modified)
        for id_hash, *version in zip(*(column.tolist() for column in columns), strict=True):
            latest = self._latest.get(id_hash)
            # A newer one, whose chunk is not full yet, stays.
            if latest is not None and [latest.fingerprint, latest.modified] == version:
                del self._latest[id_hash]

    def places(self, id_hash: int) -> Iterator[Place]:
        """Yield the places of an indicator's versions that may still be sent."""
        self._add_table()
        for table in self._tables:
            yield from table.places(id_hash)


def records_of_chunks(chunks: Sequence[Chunk], packed: Iterable[bytes]) -> RowRecords:
    """Return the records of chunks as arrays; `packed` are the packed ones of each chunk."""
    return row_records(
        b"".join(packed),
        letters="".join(chunk.each for chunk in chunks),
        counts=[chunk.count for chunk in chunks],
        void=[chunk.void for chunk in chunks],
    )


def _is_small(before: RowTable, added: RowTable) -> bool:
    return len(before.newest) < 2 * len(added.newest)


class _Newest:
    """The newest version of each wanted id so far; places are compared oldest first."""

    def __init__(self, count: int) -> None:
        self._is_known = np.zeros(count, dtype=bool)
        self._fingerprints = np.zeros(count, dtype=np.uint64)
        self._modified = np.zeros(count, dtype=np.uint64)
        self._is_void = np.zeros(count, dtype=bool)
        self._is_on_its_way = np.zeros(count, dtype=bool)
        self._entered = np.full(count, -1, dtype=np.int32)
        self._is_recent = np.zeros(count, dtype=bool)

    def compare(
        self,
        entries: Entries,
        wanted: "np.typing.NDArray[np.uint64]",
        *,
        in_index: bool,
        is_recent: bool,
    ) -> None:
        """Take the version in `entries` of each of the `wanted` ids, if it is as new or newer."""
        places = entries.find(wanted)
        at = np.flatnonzero(places >= 0)
        if not len(at):
            return
        self._is_recent[at] |= is_recent
        at = at[~self._is_known[at] | (entries.modified[places[at]] >= self._modified[at])]
        chosen = places[at]
        fingerprints, modified = entries.fingerprints[chosen], entries.modified[chosen]
        is_void = (entries.kept[chosen] & VOID) != 0
        is_equal = (
            self._is_known[at]
            & (self._fingerprints[at] == fingerprints)
            & (self._modified[at] == modified)
        )
        self._is_void[at] = is_void & (self._is_void[at] | ~is_equal)
        self._is_known[at] = True
        self._fingerprints[at] = fingerprints
        self._modified[at] = modified
        self._is_on_its_way[at] = False if in_index else entries.entered[chosen] != 0
        self._entered[at] = entries.entered[chosen] if in_index else -1

    def versions(self) -> dict[int, KnownVersion]:
        """Return the known versions, by position."""
        at = np.flatnonzero(self._is_known)
        columns = (
            self._fingerprints,
            self._modified,
            self._is_void,
            self._is_on_its_way,
            self._entered,
            self._is_recent,
        )
        found = {}
        for position, fingerprint, modified, is_void, is_on_its_way, entered, is_recent in zip(
            at.tolist(), *(column[at].tolist() for column in columns), strict=True
        ):
            found[position] = KnownVersion(
                fingerprint,
                modified,
                is_void,
                is_on_its_way,
                None if entered < 0 else entered & LAST_DAY,
                is_recent,
            )
        return found
