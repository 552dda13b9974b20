"""Circles of pages: told from tokens with and without an index, within a tick and across ticks."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import GapError
from common.ledger.runs import Cursor
from common.ledger.tables import MAX_BINARY_PROPERTY
from producer.paging import MAX_TRAIL, Trail, place_of


def token(index: int, total: int = 99, *, alphabet: str = "standard", pad: bool = True) -> str:
    """Return a token as Lumen makes them."""
    text = json.dumps({"index": index, "total_chunks": total, "x": "?>~"}).encode()
    encode = base64.b64encode if alphabet == "standard" else base64.urlsafe_b64encode
    made = encode(text).decode()
    return made if pad else made.rstrip("=")


def trail(packed: bytes = b"", cursor: Cursor | None = None) -> Trail:
    """Return a trail, of a run that begins where nothing else is said."""
    return Trail(packed, cursor or Cursor())


@pytest.mark.parametrize("alphabet", ["standard", "url"])
@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("index", [0, 7, 10**12])
def test_a_token_tells_its_place(index: int, alphabet: str, pad: bool) -> None:
    """In either alphabet of base64, with and without padding."""
    assert place_of(token(index, 1234, alphabet=alphabet, pad=pad)) == (index, 1234)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "opaque",
        "query-1/7",
        "\ud800",
        "é" * 9,
        base64.b64encode(b"[1, 2]").decode(),
        base64.b64encode(b'{"index": 1}').decode(),
        base64.b64encode(b'{"index": "x", "total_chunks": 2}').decode(),
        base64.b64encode(b'{"index": null, "total_chunks": 2}').decode(),
        base64.b64encode(b'{"index": 1e999, "total_chunks": 2}').decode(),
        base64.b64encode(b'{"index": NaN, "total_chunks": 2}').decode(),
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b"[" * 30_000).decode(),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_token_of_another_shape_is_opaque(text: str) -> None:
    """Nothing is guessed of it, and nothing that it holds is an error."""
    assert place_of(text) is None


@given(text=st.text(st.characters()))
def test_any_text_is_a_token(text: str) -> None:
    """Reading one never fails, nor does following it."""
    place_of(text)
    trail().follow(text, page=1)


@pytest.mark.parametrize("following", [7, 6, 0])
def test_an_index_that_does_not_rise_is_a_circle(following: int) -> None:
    """The reason names both indexes."""
    found = trail()
    found.follow(token(3), page=1)
    found.follow(token(7), page=2)
    with pytest.raises(GapError, match=f"from index 7 to {following}"):
        found.follow(token(following), page=3)


def test_an_index_may_leave_places_out() -> None:
    """It only has to rise: how Lumen numbers its pages is its own matter."""
    found = trail()
    for page, index in enumerate([0, 1, 5, 5000, 10**9], start=1):
        found.follow(token(index), page=page)


def test_the_index_rises_across_ticks_too() -> None:
    """The checkpoint's own token says where the feed was."""
    cursor = Cursor(token=token(7), page=8)
    found = trail(trail().up_to(8), cursor)
    with pytest.raises(GapError, match="from index 7 to 2"):
        found.follow(token(2), page=9)
    trail(b"", cursor).follow(token(8), page=9)


def test_an_opaque_token_that_repeats_is_a_circle() -> None:
    """A token without an index is by itself no circle; the same one again is."""
    found = trail()
    for page in range(1, 50):
        found.follow(f"token-{page}", page=page)
    with pytest.raises(GapError, match="repeats a token"):
        found.follow("token-20", page=50)


@pytest.mark.parametrize("repeated", range(1, 10))
def test_opaque_tokens_are_known_across_ticks(repeated: int) -> None:
    """What was followed up to the checkpoint travels in the run's head."""
    first = trail()
    for page in range(1, 10):
        first.follow(f"token-{page}", page=page)
    second = trail(first.up_to(9), Cursor(token="token-9", page=9))
    second.follow("token-10", page=10)
    with pytest.raises(GapError):
        second.follow(f"token-{repeated}", page=11)


def test_what_lies_behind_the_checkpoint_is_read_again() -> None:
    """Pages that were followed ahead of it are no circle when the next tick comes to them."""
    first = trail()
    for page in range(1, 10):
        first.follow(f"token-{page}", page=page)
    cursor = Cursor(token="token-4", page=4, offset=3)
    for packed in (first.up_to(4), first.up_to(9)):
        second = trail(packed, cursor)
        for page in range(5, 12):
            second.follow(f"token-{page}", page=page)
        with pytest.raises(GapError):
            second.follow("token-4", page=12)


def test_the_checkpoints_own_token_is_known_without_a_trail() -> None:
    """A head of which the trail is empty still tells of the page that it stands on."""
    found = trail(b"", Cursor(token="here", page=3))
    with pytest.raises(GapError):
        found.follow("here", page=4)


def test_a_trail_of_any_length_fits_in_a_head() -> None:
    """The latest `MAX_TRAIL` opaque tokens are kept, across ticks; indexes need no room."""
    packed, cursor, last = b"", Cursor(), 0
    for _ in range(6):
        found = trail(packed, cursor)
        for page in range(last + 1, last + MAX_TRAIL // 2 + 1):
            found.follow(f"token-{page}", page=page)
        last += MAX_TRAIL // 2
        packed, cursor = found.up_to(last), Cursor(token=f"token-{last}", page=last)
        assert len(packed) <= MAX_BINARY_PROPERTY
    assert len(packed) == 12 * MAX_TRAIL
    with pytest.raises(GapError):
        trail(packed, cursor).follow(f"token-{last - MAX_TRAIL + 1}", page=last + 1)
    indexed = trail()
    for page in range(1, 100):
        indexed.follow(token(page), page=page)
    assert indexed.up_to(99) == b""


def test_tokens_of_both_shapes_in_one_feed() -> None:
    """Each is held to its own rule."""
    found = trail()
    found.follow(token(5), page=1)
    found.follow("opaque", page=2)
    found.follow(token(6), page=3)
    with pytest.raises(GapError, match="repeats"):
        found.follow("opaque", page=4)
    with pytest.raises(GapError, match="back"):
        found.follow(token(6), page=4)
