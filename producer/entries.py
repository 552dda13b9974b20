"""Versions in bulk: sorted arrays, looked up a page at a time.

The only module that knows numpy. It is imported on the first sync run, not when the app starts:
every instance imports all triggers, and only the producer needs this.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.ledger.states import ON_ITS_WAY, Letter
from common.ledger.versions import ENTRY_BYTES, LAST_DAY, VOID
from common.records import MAX_DAY, NO_END, day_of, milliseconds_of

type Words = NDArray[np.uint64]
type Halves = NDArray[np.uint16]

_RECORD: Final = np.dtype([("id", "<u8"), ("fingerprint", "<u8"), ("rest", "<u8")])
_MODIFIED_BITS: Final = np.uint64(48)
_MODIFIED_MASK: Final = np.uint64((1 << 48) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How many days an entry is kept.

    At least `known_for` after it was entered. Also at least `behind_end` after the indicator's end;
    if it has no end, at least `without_end` after it was entered.
    """

    known_for: int = 90
    behind_end: int = 7
    without_end: int = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The newest known version of each id: parallel arrays, sorted by id, each id once.

    `entered` and `kept` are days since 1970: when it was entered, and until when it is kept. `kept`
    also holds the bit `VOID`.
    """

    ids: Words
    fingerprints: Words
    modified: Words
    entered: Halves
    kept: Halves

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, wanted: Words) -> NDArray[np.intp]:
        """Return where each of the `wanted` ids is, -1 where it is not."""
        if not len(self.ids):
            return np.full(len(wanted), -1, dtype=np.intp)
        places = np.searchsorted(self.ids, wanted)
        places[places == len(self.ids)] = 0
        return np.where(self.ids[places] == wanted, places, -1)

    def take(self, chosen: Any) -> "Entries":
        """Return the entries at `chosen`: a mask or indexes in order."""
        return Entries(**{name: getattr(self, name)[chosen] for name in _COLUMNS})

    def alive(self, today: int) -> "Entries":
        """Return the entries that are still to be kept `today`."""
        lives = (self.kept & LAST_DAY) >= today
        return self if lives.all() else self.take(lives)

    def ends_late(self, count: int, *, today: int) -> NDArray[np.bool_]:
        """Return which entries stay if the `count` that end first are dropped.

        Entries of today and yesterday always stay, so fewer may be dropped.
        """
        # Calendar days: what was entered late yesterday may be younger than a day.
        until = np.where(self.entered >= today - 1, np.uint16(LAST_DAY), self.kept & LAST_DAY)
        stays = np.ones(len(self), dtype=bool)
        stays[np.argsort(until, kind="stable")[:count]] = False
        return stays | (self.entered >= today - 1)

    def pack(self) -> bytes:
        """Return the entries in `ENTRY_BYTES` each, column by column."""
        modified = np.ascontiguousarray(self.modified, dtype="<u8").view(np.uint8).reshape(-1, 8)
        return b"".join(
            (
                self.ids.astype("<u8").tobytes(),
                self.fingerprints.astype("<u8").tobytes(),
                modified[:, :6].tobytes(),
                self.entered.astype("<u2").tobytes(),
                self.kept.astype("<u2").tobytes(),
            )
        )


_COLUMNS: Final = [column.name for column in fields(Entries)]


def unpack_entries(packed: bytes) -> Entries:
    """Return the entries that `pack` packed; raises `ValueError` if they are truncated."""
    count, odd = divmod(len(packed), ENTRY_BYTES)
    if odd:
        raise ValueError("packed entries are truncated")
    modified = np.zeros((count, 8), dtype=np.uint8)
    modified[:, :6] = np.frombuffer(packed, np.uint8, count * 6, count * 16).reshape(-1, 6)
    return Entries(
        ids=np.frombuffer(packed, "<u8", count, 0),
        fingerprints=np.frombuffer(packed, "<u8", count, count * 8),
        modified=modified.view("<u8").reshape(-1),
        entered=np.frombuffer(packed, "<u2", count, count * 22),
        kept=np.frombuffer(packed, "<u2", count, count * 24),
    )


def no_entries() -> Entries:
    """Return no entries."""
    return unpack_entries(b"")


def concatenate(parts: Sequence[Entries]) -> Entries:
    """Return the entries of `parts`, whose ids ascend from part to part."""
    if len(parts) == 1:
        return parts[0]
    parts = parts or [no_entries()]
    return Entries(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    )


def gather(parts: Iterable[Entries], *, count: int) -> Entries:
    """Return the entries of `parts`, whose ids ascend from part to part; at most `count`.

    Each part is freed at once, so an index of ten million is in memory once, not twice.
    """
    none = no_entries()
    together = Entries(**{name: np.empty(count, getattr(none, name).dtype) for name in _COLUMNS})
    end = 0
    for part in parts:
        place = slice(end, end + len(part))
        for name in _COLUMNS:
            getattr(together, name)[place] = getattr(part, name)
        end = place.stop
    return together.take(slice(end))


def newest(parts: Sequence[Entries]) -> Entries:
    """Return the newest version of each id; with equal `modified`, the one of the later part.

    The bit `VOID` stays only if every entry of that version has it. The latest parts are the
    smallest and are merged first, so that memory holds little besides the largest part and the
    result.
    """
    together = no_entries()
    for older in reversed(parts):
        together = _merged(older, together)
    return together


def _merged(older: Entries, newer: Entries) -> Entries:
    """Return two parts as one, by column: an id in both keeps its place, others are inserted."""
    if not len(newer):
        return older
    found = older.find(newer.ids)
    in_both, fresh = np.flatnonzero(found >= 0), np.flatnonzero(found < 0)
    at = found[in_both]
    is_equal = (older.modified[at] == newer.modified[in_both]) & (
        older.fingerprints[at] == newer.fingerprints[in_both]
    )
    kept = newer.kept[in_both]
    # A version is void only if all its entries are: one row that is not void makes it known.
    kept[is_equal & ((older.kept[at] & VOID) == 0)] &= np.uint16(LAST_DAY)
    wins = newer.modified[in_both] >= older.modified[at]
    winners, at = in_both[wins], at[wins]
    before = np.searchsorted(older.ids, newer.ids[fresh])
    to = at + np.searchsorted(before, at, side="right")

    def column(old: NDArray[Any], new: NDArray[Any], winning: NDArray[Any]) -> NDArray[Any]:
        column = np.insert(old, before, new[fresh])
        column[to] = winning
        return column

    return Entries(
        ids=column(older.ids, newer.ids, newer.ids[winners]),
        fingerprints=column(older.fingerprints, newer.fingerprints, newer.fingerprints[winners]),
        modified=column(older.modified, newer.modified, newer.modified[winners]),
        entered=column(older.entered, newer.entered, newer.entered[winners]),
        kept=column(older.kept, newer.kept, kept[wins]),
    )


def _newest(entries: Entries) -> Entries:
    """Do as `newest` does, for entries in any order; later entries win ties."""
    if not len(entries):
        return entries
    order = np.lexsort((entries.modified, entries.ids))  # stable: later ones stay behind
    entries = entries.take(order)
    is_last = np.append(entries.ids[1:] != entries.ids[:-1], True)
    if is_last.all():
        return entries
    winner = np.cumsum(np.append(0, is_last[:-1])).astype(np.intp)  # the group of each entry
    last = np.flatnonzero(is_last)
    fingerprints, modified = entries.fingerprints[last], entries.modified[last]
    is_equal = (entries.fingerprints == fingerprints[winner]) & (
        entries.modified == modified[winner]
    )
    is_answered = is_equal & ((entries.kept & VOID) == 0)
    answered = np.zeros(len(last), dtype=bool)
    answered[winner[is_answered]] = True
    kept = entries.kept[last].copy()
    kept[answered] &= np.uint16(LAST_DAY)
    return Entries(
        ids=entries.ids[last],
        fingerprints=fingerprints,
        modified=modified,
        entered=entries.entered[last],
        kept=kept,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of a record: the chunk's run and key, its index in the chunk, its fingerprint."""

    run_id: str
    key: str
    index: int
    fingerprint: int


@dataclass(slots=True)
class RowRecords:
    """Every record of some chunk rows: parallel arrays in the order of the rows, oldest first."""

    ids: Words
    fingerprints: Words
    modified: Words
    ends_on: Halves
    is_answered: NDArray[np.bool_]
    is_void: NDArray[np.bool_]
    """Its row is void, and Sentinel gave no answer to it; see `waiting_elsewhere` for others."""
    is_on_its_way: NDArray[np.bool_]
    row: NDArray[np.uint32]
    index: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, chosen: NDArray[np.bool_]) -> "RowRecords":
        """Return the records at `chosen`, each with its row and its index there."""
        names = (column.name for column in fields(self))
        return RowRecords(**{name: getattr(self, name)[chosen] for name in names})


def row_records(
    packed: bytes, *, letters: str, counts: Sequence[int], void: Sequence[bool]
) -> RowRecords:
    """Return the records of chunk rows, oldest first.

    `packed` and `letters` are those of all rows, joined; `counts` and `void` have one item per row.
    """
    raw = np.frombuffer(packed, _RECORD)
    row = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
    starts = np.cumsum([0, *counts[:-1]]) if counts else np.empty(0, np.intp)
    index = (np.arange(len(raw)) - np.repeat(starts, counts)).astype(np.uint8)
    each = np.frombuffer(letters.encode("ascii"), np.uint8)
    is_open = np.isin(each, [ord(letter) for letter in ON_ITS_WAY])
    is_answered = np.isin(each, [ord(Letter.ACCEPTED), ord(Letter.REJECTED)])
    in_void = np.repeat(np.array(void, dtype=bool), counts)
    return RowRecords(
        ids=raw["id"].copy(),
        fingerprints=raw["fingerprint"].copy(),
        modified=raw["rest"] & _MODIFIED_MASK,
        ends_on=(raw["rest"] >> _MODIFIED_BITS).astype(np.uint16),
        is_answered=is_answered,
        is_void=in_void & ~is_answered,
        is_on_its_way=is_open & ~in_void,
        row=row,
        index=index,
    )


def entries_of(records: RowRecords, *, today: int, keeping: Keeping, chosen: Any) -> Entries:
    """Return the newest version of each id among the `chosen` records, as entered today."""
    ends_on = records.ends_on[chosen].astype(np.int64)
    until_end = np.maximum(today + keeping.known_for, ends_on + keeping.behind_end)
    without_end = today + max(keeping.known_for, keeping.without_end)
    kept = np.where(ends_on == NO_END, without_end, until_end)
    kept = np.minimum(kept, LAST_DAY).astype(np.uint16)
    kept |= np.where(records.is_void[chosen], np.uint16(VOID), np.uint16(0))
    return _newest(
        Entries(
            ids=records.ids[chosen],
            fingerprints=records.fingerprints[chosen],
            modified=records.modified[chosen],
            entered=np.full(len(kept), today, dtype=np.uint16),
            kept=kept,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTable:
    """A look-up table of rows' records: the newest of each id, and those on their way."""

    rows: Sequence[tuple[str, str]]
    """Run and key of each row."""
    newest: Entries
    """In this table `entered` is 1 for a record on its way, else 0."""
    open_ids: Words
    open_fingerprints: Words = field(repr=False)
    open_row: NDArray[np.uint32] = field(repr=False)
    open_index: NDArray[np.uint8] = field(repr=False)

    def places(self, id_hash: int) -> Iterator[Place]:
        """Yield the places of an indicator's versions that may still be sent."""
        wanted = np.uint64(id_hash)
        start, end = (
            int(np.searchsorted(self.open_ids, wanted, side="left")),
            int(np.searchsorted(self.open_ids, wanted, side="right")),
        )
        for at in range(start, end):
            run_id, key = self.rows[self.open_row[at]]
            yield Place(
                run_id=run_id,
                key=key,
                index=int(self.open_index[at]),
                fingerprint=int(self.open_fingerprints[at]),
            )


def merged_tables(first: RowTable, second: RowTable) -> RowTable:
    """Return two tables as one; the rows of the second are later."""
    open_ids = np.concatenate([first.open_ids, second.open_ids])
    order = np.argsort(open_ids, kind="stable")
    fingerprints = np.concatenate([first.open_fingerprints, second.open_fingerprints])
    open_row = np.concatenate([first.open_row, second.open_row + np.uint32(len(first.rows))])
    return RowTable(
        rows=[*first.rows, *second.rows],
        newest=newest([first.newest, second.newest]),
        open_ids=open_ids[order],
        open_fingerprints=fingerprints[order],
        open_row=open_row[order],
        open_index=np.concatenate([first.open_index, second.open_index])[order],
    )


def row_table(rows: Sequence[tuple[str, str]], records: RowRecords) -> RowTable:
    """Return the look-up table of the rows whose records are given."""
    is_open = np.flatnonzero(records.is_on_its_way)
    order = is_open[np.argsort(records.ids[is_open], kind="stable")]
    kept = np.where(records.is_void, np.uint16(VOID), np.uint16(0))
    return RowTable(
        rows=rows,
        newest=_newest(
            Entries(
                ids=records.ids,
                fingerprints=records.fingerprints,
                modified=records.modified,
                entered=(records.is_on_its_way & ~records.is_void).astype(np.uint16),
                kept=kept,
            )
        ),
        open_ids=records.ids[order],
        open_fingerprints=records.fingerprints[order],
        open_row=records.row[order],
        open_index=records.index[order],
    )


def foldable(records: RowRecords, candidates: Sequence[bool]) -> list[bool]:
    """Return which rows may be folded: candidates that share no id with an earlier row that stays.

    Rows are in the order of `records`. A candidate that is held back stays, too, and so may hold
    back later rows.
    """
    may = list(candidates)
    if all(may) or not len(records):
        return may  # no row stays, so none holds another back
    starts = np.searchsorted(records.row, np.arange(len(may) + 1)).tolist()
    staying: set[int] = set()
    for row, is_candidate in enumerate(candidates):
        ids = records.ids[starts[row] : starts[row + 1]].tolist()
        if not is_candidate or not staying.isdisjoint(ids):
            may[row] = False
            staying.update(ids)
    return may


def concerning(records: RowRecords, *, answered_here: Sequence[bool]) -> NDArray[np.bool_]:
    """Return which records count for a destination: those it answered, and those without answer.

    `answered_here` says for each row whether its answers came from the destination.
    """
    is_here = np.array(answered_here, dtype=bool)[records.row]
    mask: NDArray[np.bool_] = is_here | ~records.is_answered
    return mask


def waiting_elsewhere(records: RowRecords, *, is_here: Sequence[bool]) -> RowRecords:
    """Return the records with those as good as void that are on their way to another destination.

    That one may still answer them, and then this one would not get what it was listed. They can
    still be struck. `is_here` says for each row whether it is meant for this destination.
    """
    here = np.array(is_here, dtype=bool)[records.row]
    return replace(records, is_void=records.is_void | (records.is_on_its_way & ~here))


def to_enter(
    records: RowRecords, *, folded: Sequence[bool], answered_here: Sequence[bool]
) -> NDArray[np.bool_]:
    """Return which records of the `folded` rows are entered for one destination."""
    mask: NDArray[np.bool_] = np.array(folded, dtype=bool)[records.row] & concerning(
        records, answered_here=answered_here
    )
    return mask


def words(values: Sequence[int]) -> Words:
    """Return 64-bit values as an array."""
    return np.array(values, dtype=np.uint64)


def milliseconds_of_all(texts: Sequence[str]) -> list[int]:
    """Return `milliseconds_of` each text; much faster if all have the usual form."""
    times = _usual_times(texts)
    if times is None:
        return [milliseconds_of(text) for text in texts]
    found: list[int] = np.maximum(times, 0).tolist()
    return found


def days_of_all(texts: Sequence[str]) -> list[int]:
    """Return `day_of` each text; much faster if all have the usual form."""
    times = _usual_times(texts)
    if times is None:
        return [day_of(text) for text in texts]
    found: list[int] = np.clip(times // _A_DAY, 1, MAX_DAY).tolist()
    return found


def _usual_times(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Return times in milliseconds since 1970; None if any text is not a time in the usual form."""
    lines = "\n".join(texts)
    if lines.count("\n") != len(texts) - 1 or not _USUAL_TIMES(lines):
        return None
    try:
        times = np.array(lines[:-1].split("Z\n"), dtype="datetime64[ms]")
    except ValueError:  # such as the 31st of February
        return None
    return times.view(np.int64)


_A_DAY: Final = 86_400_000
_USUAL_TIME: Final = r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z"
_USUAL_TIMES: Final = re.compile(rf"{_USUAL_TIME}(?:\n{_USUAL_TIME})*+", re.ASCII).fullmatch
