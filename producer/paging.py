"""Page tokens: where a token stands in the feed, and whether paging goes in circles.

Tokens are base64 of JSON with `index` and `total_chunks`; one of another shape is opaque. Indexes
must rise. Opaque tokens must not repeat, in any tick of the run: the run's head holds hashes of the
tokens that were followed, up to the page of the checkpoint, where the next tick starts reading.
"""

import base64
import binascii
import hashlib
import json
import struct
from typing import Final

from common.errors import GapError
from common.ledger.runs import Cursor

MAX_TRAIL: Final = 5000
"""The number of latest opaque tokens that are remembered: 12 bytes each, in a property of 64 KiB. A
circle of more pages is not noticed; at 1,000 indicators a page it would hold five million."""

_STEP: Final = struct.Struct("<IQ")


def place_of(token: str) -> tuple[int, int] | None:
    """Return the `index` and `total_chunks` of a token, None of one that is opaque."""
    try:
        padded = token + "=" * (-len(token) % 4)
        fields = json.loads(base64.b64decode(padded, altchars=b"-_", validate=False))
        return int(fields["index"]), int(fields["total_chunks"])
    except (binascii.Error, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


class Trail:
    """The tokens that a run has followed."""

    def __init__(self, packed: bytes, cursor: Cursor) -> None:
        """`packed` is what an earlier tick remembered; pages behind the `cursor` are read again."""
        steps = _STEP.iter_unpack(packed[: len(packed) - len(packed) % _STEP.size])
        self._pages = {mark: page for page, mark in steps if page <= cursor.page}
        place = None if cursor.token is None else place_of(cursor.token)
        self._index = None if place is None else place[0]
        if cursor.token is not None and place is None:
            self._pages.setdefault(_mark(cursor.token), cursor.page)

    def follow(self, token: str, *, page: int) -> None:
        """Remember that `token` names page number `page`; raises `GapError` if that is a circle."""
        place = place_of(token)
        if place is None:
            mark = _mark(token)
            if mark in self._pages:
                raise GapError("Lumen's paging repeats a token; the pages behind it are missing")
            self._pages[mark] = page
            return
        index = place[0]
        if self._index is not None and index <= self._index:
            raise GapError(
                f"Lumen's paging goes back from index {self._index} to {index}; "
                "the pages behind it are missing"
            )
        self._index = index

    def up_to(self, page: int) -> bytes:
        """Return what the next tick must know, which goes on at page number `page`."""
        steps = [(at, mark) for mark, at in self._pages.items() if at <= page]
        return b"".join(_STEP.pack(at, mark) for at, mark in steps[-MAX_TRAIL:])


def _mark(token: str) -> int:
    digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest)
