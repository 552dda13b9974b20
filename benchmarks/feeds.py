"""The feed that a benchmark reads: indicators from a file where one is at hand, else made up.

Not obvious: a file is repeated until the feed is as long as asked for, and each copy of an
indicator gets an id of its own, so that it counts, compresses and fingerprints as another one.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from local.services.feed import Feed, FileFeed, ListFeed, SyntheticFeed

LATER = "2027-01-01T00:00:00.000Z"
"""What `modified` says of an indicator that has changed."""

_ID_START = len("indicator--")


def open_feed(path: Path | None, count: int) -> Feed:
    """Return a feed of `count` objects: those of the file, repeated, or synthetic ones."""
    return SyntheticFeed(count) if path is None else Repeated(_read(path), count)


@dataclass(frozen=True, slots=True)
class Repeated:
    """The objects of `feed` over and over, every copy but the first with ids of its own."""

    feed: Feed
    count: int

    def __len__(self) -> int:
        return self.count

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """See :class:`Feed`."""
        return [self._object(index) for index in range(start, min(stop, self.count))]

    def _object(self, index: int) -> bytes:
        copy, at = divmod(index, len(self.feed))
        (encoded,) = self.feed.encoded(at, at + 1)
        if not copy:
            return encoded
        found = orjson.loads(encoded)
        name = found["id"]
        head, tail = name[_ID_START : _ID_START + 8], name[_ID_START + 8 :]
        found["id"] = f"{name[:_ID_START]}{int(head, 16) ^ copy:08x}{tail}"
        return orjson.dumps(found)


@dataclass(frozen=True, slots=True)
class Changed:
    """A feed in which every `step`-th object has a later `modified`; all else is as before."""

    feed: Feed
    step: int

    def __len__(self) -> int:
        return len(self.feed)

    def encoded(self, start: int, stop: int) -> list[bytes]:
        """See :class:`Feed`."""
        found = self.feed.encoded(start, stop)
        for at in range(-start % self.step, len(found), self.step):
            found[at] = orjson.dumps({**orjson.loads(found[at]), "modified": LATER})
        return found

    def changes(self) -> Feed:
        """Return the changed objects alone."""
        return ListFeed([self.encoded(at, at + 1)[0] for at in range(0, len(self), self.step)])


@cache
def _read(path: Path) -> FileFeed:
    return FileFeed(path)
