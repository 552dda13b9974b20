"""What a tick knows: the version index, the chunk rows that stand, and what it has put into chunks.

Looked up a page at a time. Of the places that know an indicator the newest version counts, and of
equal `modified` the later place. The rows also say where older versions may still be sent from,
so that they can be struck.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from common.delivery import LONGEST_DELIVERY
from common.ledger.chunks import Chunk
from producer.entries import (
    LAST_DAY,
    VOID,
    Entries,
    Place,
    RowTable,
    merged_tables,
    records_of,
    row_table,
    words,
)
from producer.index import Segment
from producer.versions import KnownVersion


class Known:
    """The versions that are known to one tick. Used by one thread at a time."""

    def __init__(self, segments: Sequence[Segment], rows: RowTable) -> None:
        """`segments` are oldest first; `rows` is the table of all rows that were read."""
        self._segments = segments
        self._tables = [rows]
        self._latest: dict[int, KnownVersion] = {}

    def look(self, id_hashes: Sequence[int]) -> dict[int, KnownVersion]:
        """Return what is known of each id, by its position; unknown ones are left out.

        What `remember` was told counts most.
        """
        wanted = words(id_hashes)
        found = _Newest(len(wanted))
        for segment in self._segments:
            is_recent = segment.info.age < LONGEST_DELIVERY
            found.compare(segment.entries, wanted, in_index=True, is_recent=is_recent)
        for table in self._tables:
            found.compare(table.newest, wanted, in_index=False, is_recent=True)
        known = found.versions()
        for position, id_hash in enumerate(id_hashes) if self._latest else ():
            latest = self._latest.get(id_hash)
            if latest is not None:
                known[position] = latest
        return known

    def remember(self, id_hash: int, version: KnownVersion) -> None:
        """Know a version that is about to be put into a chunk."""
        self._latest[id_hash] = version

    def add_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Know the rows of `chunks`, which this tick has written, in their order."""
        records = records_of(
            b"".join(chunk.records for chunk in chunks),
            letters="".join(chunk.each for chunk in chunks),
            counts=[chunk.count for chunk in chunks],
            void=[chunk.void for chunk in chunks],
        )
        self._tables.append(row_table([(c.run_id, c.key) for c in chunks], records))
        for id_hash, fingerprint, modified in zip(
            records.ids.tolist(),
            records.fingerprints.tolist(),
            records.modified.tolist(),
            strict=True,
        ):
            latest = self._latest.get(id_hash)  # a newer one may wait for the next chunk
            if latest is not None and (latest.fingerprint, latest.modified) == (
                fingerprint,
                modified,
            ):
                del self._latest[id_hash]
        while len(self._tables) > 2 and _is_small(self._tables[-2], self._tables[-1]):  # noqa: PLR2004 - the first one is of the rows that were read
            second, first = self._tables.pop(), self._tables.pop()
            self._tables.append(merged_tables(first, second))

    def places(self, id_hash: int) -> Iterator[Place]:
        """Yield where versions of an indicator are that may still be sent."""
        for table in self._tables:
            yield from table.places(id_hash)


def _is_small(before: RowTable, added: RowTable) -> bool:
    return len(before.newest) < 2 * len(added.newest)


class _Newest:
    """The newest version of each wanted id, while places are compared, oldest place first."""

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
        """Take what `entries` know of the `wanted` ids where it is as new or newer."""
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
        """Return what is known, by position."""
        at = np.flatnonzero(self._is_known)
        return {
            position: KnownVersion(
                fingerprint=fingerprint,
                modified=modified,
                is_void=is_void,
                is_on_its_way=is_on_its_way,
                entered_on=None if entered < 0 else entered & LAST_DAY,
                is_recent=is_recent,
            )
            for position, fingerprint, modified, is_void, is_on_its_way, entered, is_recent in zip(
                at.tolist(),
                self._fingerprints[at].tolist(),
                self._modified[at].tolist(),
                self._is_void[at].tolist(),
                self._is_on_its_way[at].tolist(),
                self._entered[at].tolist(),
                self._is_recent[at].tolist(),
                strict=True,
            )
        }
