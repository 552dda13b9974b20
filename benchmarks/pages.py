"""The pages that Lumen answers with, as bytes."""

from typing import Final

import orjson

from local.services.feed import Feed

PAGE: Final = 1000
"""Indicators a page, as the Lumen simulator has it; what Lumen has is not known."""


def encode_page(feed: Feed, start: int, *, following: str) -> bytes:
    """Return the page that begins at `start`; `following` leads to the next, if there is one."""
    end = start + PAGE
    return b'{"results":{"sourcesystem":"Lumen","stixobjects":[%s]},"next_token":%s}' % (
        b",".join(feed.encoded(start, end)),
        orjson.dumps(following if end < len(feed) else None),
    )
