"""What a gap says of void chunks: how many indicators are in none of the others."""

import pytest

from common.ledger.chunks import Chunk, ids_without_fate
from common.records import Record, pack_records

type Row = tuple[str, list[tuple[int, int, int]]]
"""Letters, in brackets where the chunk is void; id, `modified` and fingerprint of each record."""

V1, V2, TWIN = (1, 5, 51), (1, 6, 62), (1, 5, 52)
"""Versions of one indicator; the twin has the `modified` of the first."""
OTHER = (2, 5, 25)


def _chunk(sequence: int, row: Row) -> Chunk:
    letters, versions = row
    return Chunk(
        run_id="run",
        key=f"{sequence:06d}-1",
        sequence=sequence,
        epoch=1,
        count=len(versions),
        void=letters.startswith("("),
        letters=letters.strip("()"),
        records=pack_records(Record(id_hash=i, modified=m, fingerprint=f) for i, m, f in versions),
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], 0),
        ([(".", [V1])], 0),
        ([("(.)", [V1])], 1),
        ([("(..)", [V1, OTHER])], 2),
        ([("(.)", [V1]), ("(.)", [V2])], 1),
        ([("(A)", [V1])], 0),
        ([("(R)", [V1])], 0),
        ([("(S)", [V1])], 1),
        ([("(D)", [V1])], 1),
        ([("(P)", [V1])], 1),
        ([("(.)", [V1]), (".", [V1])], 0),
        ([("(.)", [V1]), ("A", [V2])], 0),
        ([("S", [V1]), ("(.)", [V2])], 1),
        ([("S", [V1]), ("(A)", [V2])], 0),
        ([("S", [V1]), ("(.)", [TWIN])], 1),
        ([(".", [V1]), ("(.)", [TWIN])], 1),
        ([("S", [V1]), (".", [TWIN]), ("(..)", [TWIN, OTHER])], 1),
        ([("(.)", [V2]), (".", [V1])], 1),
    ],
)
def test_void_indicators_are_counted_once_and_only_where_nothing_as_new_remains(
    rows: list[Row], expected: int
) -> None:
    """Of equal `modified` another version is no substitute: it may have been struck for this."""
    assert ids_without_fate(_chunk(at, row) for at, row in enumerate(rows)) == expected
