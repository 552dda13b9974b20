"""The version index: the newest known version of every id, for one destination.

Entries are stored in *segments*: sorted, immutable, each in a partition of its own. Each
destination has a manifest that lists its segments. It is replaced by ETag, which makes it commit
and fence in one: a fold writes its segments first, then the manifest, under the ETag that its own
tick began with. So the fold of a tick that was overtaken has no effect. The next tick removes
segments that no manifest names. The storage's clock says how old a segment is.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from common.errors import ConflictError, LeaseLostError, UnavailableError
from common.ledger.tables import Row, Table, Tables, Value
from common.ledger.versions import (
    ENTRIES_A_ROW,
    ENTRY_BYTES,
    MANIFESTS,
    PER_PROPERTY,
    TABLE,
    Manifest,
    SegmentInfo,
    manifest_key,
    manifest_of,
    manifest_row,
    packed_of,
    row_key,
)
from producer.entries import Entries, gather, newest, unpack_entries

SPARE: Final = 20
"""A full index may grow by this fraction (one in N) before it is merged again: merging rewrites
it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment and its entries; `missing` are those whose rows are not there, or damaged."""

    info: SegmentInfo
    entries: Entries
    missing: int = 0


class VersionIndex:
    """The indexes of all destinations."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.table(TABLE)

    def fence(self, destination: str, *, tick: str) -> Manifest:
        """Return the manifest of a destination, replaced so that no earlier tick can commit.

        Raises `LeaseLostError` if another tick does the same at that moment.
        """
        row = self._table.get(MANIFESTS, manifest_key(destination))
        if row is None:
            made = Manifest(destination=destination, tick=tick)
            try:
                return replace(made, etag=self._table.insert(manifest_row(made)))
            except ConflictError as error:
                return self._ours(made, error)
        try:
            known = manifest_of(row)
        except (KeyError, TypeError, ValueError) as error:
            raise UnavailableError(
                f"the manifest of the version index of {destination} cannot be read: restore the "
                f"row {row.key} of table {TABLE}, or remove it: then nothing is known any more"
            ) from error
        age = 0.0 if row.age is None else row.age.total_seconds()
        older = tuple(replace(info, age=info.age + age) for info in known.segments)
        return self._write(known, segments=older, tick=tick)

    def destinations(self) -> tuple[list[str], int]:
        """Return every destination that has an index, and how many manifests are damaged."""
        names, damaged = [], 0
        for row in self._table.query(MANIFESTS):
            try:
                names.append(manifest_of(row).destination)
            except (KeyError, TypeError, ValueError):
                damaged += 1
        return names, damaged

    def segment_names(self) -> set[str]:
        """Return the names of all segments, whether a manifest names them or not.

        Any row of a segment counts: a sweep that died, or a tick that stalled, may leave only some.
        """
        rows = self._table.query(select=("count",))
        return {row.partition for row in rows if row.partition != MANIFESTS}

    def load(self, manifest: Manifest, *, today: int) -> list[Segment]:
        """Return the segments of a manifest, oldest first, without the entries that have ended."""
        return [self._read(info, today=today) for info in manifest.segments]

    def add(
        self,
        manifest: Manifest,
        known: Sequence[Segment],
        entries: Entries,
        *,
        today: int,
        limit: int,
    ) -> tuple[Manifest, list[Segment], int]:
        """Enter `entries`; return the manifest, its segments, and how many entries were dropped.

        `known` are the segments of `manifest`. The smaller, latest ones are merged with the new
        entries, so that there are few. If there may be more than `limit` entries, all segments are
        merged, and the entries that end first are dropped, but none of today or yesterday. Raises
        `LeaseLostError` if another tick has the index now.
        """
        if not len(entries):
            return manifest, list(known), 0
        merging = plan_merge([len(segment.entries) for segment in known], len(entries))
        if sum(len(segment.entries) for segment in known) + len(entries) > limit + limit // SPARE:
            merging = len(known)
        kept, merged = known[: len(known) - merging], known[len(known) - merging :]
        together = newest([*(segment.entries for segment in merged), entries])
        dropped = 0
        if len(together) > limit:
            together, dropped = shortened(together, limit=limit, today=today)
        name = secrets.token_hex(8)
        info = SegmentInfo(name=name, count=len(together), age=0.0)
        self._store(name, together)
        written = self._write(
            manifest,
            segments=(*(segment.info for segment in kept), info),
            tick=manifest.tick,
        )
        return written, [*kept, Segment(info=info, entries=together)], dropped

    def sweep(self, names: Iterable[str]) -> None:
        """Remove segments that no manifest names or ever will.

        Not while a manifest is damaged: once it is restored, its segments count again.
        """
        for name in names:
            for row in list(self._table.query(name, select=("count",))):
                self._table.delete(row.partition, row.key)

    def _write(
        self, manifest: Manifest, *, segments: tuple[SegmentInfo, ...], tick: str
    ) -> Manifest:
        changed = replace(manifest, segments=segments, tick=tick, step=manifest.step + 1)
        try:
            return replace(changed, etag=self._table.replace(manifest_row(changed)))
        except ConflictError as error:
            return self._ours(changed, error)

    def _ours(self, manifest: Manifest, error: ConflictError) -> Manifest:
        """Return the manifest if our own write succeeded and only its answer was lost."""
        row = self._table.get(MANIFESTS, manifest_key(manifest.destination))
        found = None if row is None else manifest_of(row)
        if found is None or (found.tick, found.step) != (manifest.tick, manifest.step):
            raise LeaseLostError("another tick has the version index; this one stops") from error
        return replace(manifest, etag=found.etag)

    def _store(self, name: str, entries: Entries) -> None:
        for number, start in enumerate(range(0, len(entries), ENTRIES_A_ROW)):
            packed = entries.take(slice(start, start + ENTRIES_A_ROW)).pack()
            size = PER_PROPERTY * ENTRY_BYTES
            pieces: dict[str, Value] = {
                f"entries_{piece}": packed[at : at + size]
                for piece, at in enumerate(range(0, len(packed), size))
            }
            data = {"count": len(packed) // ENTRY_BYTES, "pieces": len(pieces), **pieces}
            self._table.merge(Row(partition=name, key=row_key(number), data=data))

    def _read(self, info: SegmentInfo, *, today: int) -> Segment:
        """Return the entries of a segment that have not ended, read row by row.

        A query would bring as many rows as fit in its answer, as text and as objects.
        """
        missing = info.count

        def parts() -> Iterator[Entries]:
            nonlocal missing
            for number, start in enumerate(range(0, info.count, ENTRIES_A_ROW)):
                row = self._table.get(info.name, row_key(number))
                part = unpack_entries(packed_of(row, count=min(ENTRIES_A_ROW, info.count - start)))
                missing -= len(part)
                yield part.alive(today)

        entries = gather(parts(), count=info.count)
        return Segment(info=info, entries=entries, missing=missing)


def plan_merge(counts: Sequence[int], added: int) -> int:
    """Return how many of the latest segments to merge with `added` entries. Pure.

    Each segment stays at least twice as large as all later ones together. So the number of
    segments, and how often an entry is rewritten, grow with the logarithm of the index's size.
    """
    together, merging = added, 0
    for count in reversed(counts):
        if count >= 2 * together:
            break
        together += count
        merging += 1
    return merging


def shortened(entries: Entries, *, limit: int, today: int) -> tuple[Entries, int]:
    """Return entries without those that end first, and how many were dropped.

    Those entered yesterday or today stay.
    """
    kept = entries.take(entries.ends_late(len(entries) - limit, today=today))
    return kept, len(entries) - len(kept)
