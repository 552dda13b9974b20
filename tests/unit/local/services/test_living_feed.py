"""A living feed: each change is what Lumen would list next, and newer than before."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from local.services.feed import Feed, ListFeed, SyntheticFeed, expected_ids
from local.services.living_feed import CHANGED, DOWNGRADED, LOW, MORE, NEW, REVOKED, LivingFeed

THRESHOLD = 65
START = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Now:
    """A clock that goes on by a second a look."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


def living(feed: Feed) -> LivingFeed:
    """The changes of a feed from `START` on."""
    return LivingFeed(feed, threshold=THRESHOLD, now=Now())


def test_a_change_has_some_of_each_kind() -> None:
    """New ones are of unknown ids, the others newer versions of what was sent; each id once."""
    feed = SyntheticFeed(500)
    sent = expected_ids(feed, threshold=THRESHOLD)
    change = living(feed).change()
    found = [orjson.loads(one) for one in change.objects]
    assert (change.new, change.changed, change.downgraded, change.revoked) == (
        NEW,
        CHANGED,
        DOWNGRADED,
        REVOKED,
    )
    assert str(change) == "5 new, 8 changed, 3 downgraded, 2 revoked"
    assert len({one["id"] for one in found}) == len(found)
    known = {orjson.loads(one)["id"] for one in feed.encoded(0, 500)}
    assert [one["id"] in known for one in found] == [False] * NEW + [True] * (len(found) - NEW)
    assert {one["id"] for one in found[NEW:]} <= sent
    assert {one["confidence"] for one in found[-REVOKED - DOWNGRADED : -REVOKED]} == {LOW}
    assert all(one["revoked"] for one in found[-REVOKED:])


def test_each_version_is_later_than_the_one_before() -> None:
    """Also of what changed before; what was withdrawn stays so."""
    changes = living(SyntheticFeed(40))
    last: dict[str, str] = {}
    gone: set[str] = set()
    for _ in range(12):
        for one in map(orjson.loads, changes.change().objects):
            assert one["id"] not in gone
            assert last.get(one["id"], "") < one["modified"]
            last[one["id"]] = one["modified"]
            if one.get("revoked") or one["confidence"] == LOW:
                gone.add(one["id"])
    assert gone


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [b"no JSON"],
        [{"type": "malware"}],
        [{"modified": "2099-01-01T00:00:00Z"}],
        [{"modified": "2026-01-01T00:00:00"}],
        [{"modified": "some day"}],
    ],
    ids=["empty", "no-json", "other", "future", "no-zone", "no-time"],
)
def test_what_cannot_change_is_left_alone(objects: list[object]) -> None:
    """Then only new ones come: a feed of odd objects is no fault."""
    whole = orjson.loads(SyntheticFeed(1, seed=3).encoded(0, 1)[0]) | {"confidence": 90}
    given = [whole | one if isinstance(one, dict) else one for one in objects]
    changes = living(ListFeed(given))
    change = changes.change()
    assert (change.new, change.changed, change.downgraded, change.revoked) == (NEW, 0, 0, 0)
    assert str(change) == f"{NEW} new"
    assert changes.more().new == MORE
