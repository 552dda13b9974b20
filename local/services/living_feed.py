"""A feed that goes on living: each change lists a few indicators more, again, weaker or withdrawn.

Promise: whatever feed it begins with, each `change` is a handful of objects as Lumen would list
them next: new ones, newer versions of known ones, some of those with less confidence or revoked.
A newer version always has a later `modified`. Not obvious: only whole indicators that pass the
threshold are touched, so that each change is one that Sentinel has to be told of; a small feed runs
out of them, and then only new ones come.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from local.services.feed import Feed, ListFeed, SyntheticFeed, expected_ids

NEW, CHANGED, DOWNGRADED, REVOKED = 5, 8, 3, 2
"""Indicators of one change, at most."""

LOW = 10
"""The confidence of one that is downgraded."""

MORE = 60
"""Indicators of a change that has only new ones."""

_TRIES = 30
"""Draws for one indicator that can be touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What Lumen lists next, and how many of each kind that are."""

    objects: tuple[bytes, ...]
    new: int = 0
    changed: int = 0
    downgraded: int = 0
    revoked: int = 0

    def __str__(self) -> str:
        counts = {
            "new": self.new,
            "changed": self.changed,
            "downgraded": self.downgraded,
            "revoked": self.revoked,
        }
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LivingFeed:
    """The changes of a feed, one after the other. One thread may use it."""

    def __init__(
        self,
        feed: Feed,
        *,
        threshold: int,
        seed: int = 0,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`threshold` is the confidence that the operator asks for."""
        self._feed = feed
        self._threshold = threshold
        self._random = random.Random(seed)  # noqa: S311 - which indicators change is no secret
        self._now = now
        self._more = SyntheticFeed(2**40, seed=seed)
        self._next = len(feed)
        self._touched: dict[int, dict[str, Any]] = {}
        self._gone: set[int] = set()

    def more(self) -> Change:
        """Return a change of new indicators only: no older version of them can be under way."""
        new = self._more.encoded(self._next, self._next + MORE)
        self._next += len(new)
        return Change(objects=tuple(new), new=len(new))

    def change(self) -> Change:
        """Return the next change."""
        new = self._more.encoded(self._next, self._next + NEW)
        self._next += len(new)
        stamp = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        taken: set[int] = set()
        changed = self._versions(CHANGED, taken, {"modified": stamp})
        downgraded = self._versions(DOWNGRADED, taken, {"modified": stamp, "confidence": LOW})
        revoked = self._versions(REVOKED, taken, {"modified": stamp, "revoked": True})
        return Change(
            objects=(*new, *changed, *downgraded, *revoked),
            new=len(new),
            changed=len(changed),
            downgraded=len(downgraded),
            revoked=len(revoked),
        )

    def _versions(self, count: int, taken: set[int], differing: dict[str, Any]) -> list[bytes]:
        """Return newer versions of up to so many indicators that are not in `taken`."""
        found = []
        for _ in range(count):
            index = self._draw(taken)
            if index is None:
                break
            taken.add(index)
            version = self._object(index) | differing
            self._touched[index] = version
            if not self._passes(version):
                self._gone.add(index)
            found.append(orjson.dumps(version))
        return found

    def _draw(self, taken: set[int]) -> int | None:
        """Return the place of an indicator that can be touched; None where none was found."""
        for _ in range(_TRIES if len(self._feed) else 0):
            index = self._random.randrange(len(self._feed))
            if index in taken or index in self._gone:
                continue
            if self._passes(self._object(index)):
                return index
            self._gone.add(index)
        return None

    def _object(self, index: int) -> Any:
        """Return an object as it was listed last; None where it cannot be read."""
        if index in self._touched:
            return self._touched[index]
        try:
            return orjson.loads(self._feed.encoded(index, index + 1)[0])
        except orjson.JSONDecodeError:
            return None

    def _passes(self, found: Any) -> bool:
        """Whether an object is sent, and older than now: a version of the future stays the last."""
        if not isinstance(found, dict) or not expected_ids(
            ListFeed([found]), threshold=self._threshold
        ):
            return False
        try:
            modified = datetime.fromisoformat(found["modified"])
        except ValueError:
            return False
        if modified.tzinfo is None:
            return False
        return modified < self._now()
