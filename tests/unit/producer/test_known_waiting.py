"""What a tick has put into chunks, and what still waits for its chunk to fill."""

import numpy as np

from common.ledger.chunks import Chunk
from common.records import Record, pack_records
from producer.entries import row_records, row_table
from producer.known import RECORDS_A_TABLE, Known
from producer.versions import KnownVersion


def _known() -> Known:
    return Known([], row_table([], row_records(b"", letters="", counts=[], void=[])))


def _chunk(*records: Record, sequence: int = 0) -> Chunk:
    return Chunk(
        run_id="20260101T000000-0badcafe",
        key=f"{sequence:06d}-1",
        sequence=sequence,
        epoch=1,
        count=len(records),
        records=pack_records(records),
    )


def _version(modified: int) -> KnownVersion:
    return KnownVersion(modified, modified, is_on_its_way=True)


def test_a_newer_version_that_waits_is_known_after_the_row_of_the_older_one() -> None:
    """Both are listed on one page: the older one's chunk is written while the newer one waits."""
    known = _known()
    known.remember(7, _version(1))
    known.remember(7, _version(2))
    known.add_chunks([_chunk(Record(id_hash=7, fingerprint=1, modified=1))])
    assert [place.index for place in known.places(7)] == [0]
    assert known.find([7]) == {0: _version(2)}


def test_rows_are_known_and_found_however_many_there_are() -> None:
    """Below and above the number from which on they become a table."""
    known = _known()
    ids = range(RECORDS_A_TABLE + 150)
    for sequence, start in enumerate(range(0, len(ids), 50)):
        some = ids[start : start + 50]
        for one in some:
            known.remember(one, _version(1))
        records = [Record(id_hash=one, fingerprint=1, modified=1) for one in some]
        known.add_chunks([_chunk(*records, sequence=sequence)])
        assert known.find(some) == dict.fromkeys(range(50), _version(1))
    assert known.find(ids) == dict.fromkeys(ids, _version(1))
    places = [place for one in ids for place in known.places(one)]
    assert [place.index for place in places] == np.resize(np.arange(50), len(ids)).tolist()
    assert known.find(ids) == dict.fromkeys(ids, _version(1))
