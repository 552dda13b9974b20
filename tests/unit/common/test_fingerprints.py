"""Fingerprints and hashes of ids: 64 bits each, kept bit by bit."""

from hypothesis import given
from hypothesis import strategies as st

from common.fingerprints import FINGERPRINT_BYTES, id_hash, pack_fingerprints, unpack_fingerprints

fingerprints = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1])


@given(values=st.lists(fingerprints))
def test_packing_keeps_every_bit(values: list[int]) -> None:
    """What was packed comes back, in order, in eight bytes each, little-endian."""
    packed = pack_fingerprints(values)
    assert unpack_fingerprints(packed) == tuple(values)
    assert packed == b"".join(value.to_bytes(FINGERPRINT_BYTES, "little") for value in values)


def test_the_hash_of_an_id_is_the_same_in_every_release() -> None:
    """It is stored for years: another hash would make every indicator unknown."""
    assert id_hash("indicator--00000000-0000-4000-8000-000000000001") == 0x1C53772E35941757
    assert id_hash("") == 0x2D06800538D394C2


@given(first=st.text(), second=st.text())
def test_other_ids_have_other_hashes(first: str, second: str) -> None:
    """Any text has one, of 64 bits, whatever letters are in it."""
    assert (id_hash(first) == id_hash(second)) == (first == second)
    assert 0 <= id_hash(first) < 2**64
    assert 0 <= id_hash("\ud800") < 2**64
