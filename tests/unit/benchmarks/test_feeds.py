"""Feeds of benchmarks: as long as asked for, each copy another indicator, changes where meant."""

import gzip
import json
from pathlib import Path

import orjson

from benchmarks.feeds import Changed, Repeated, open_feed
from benchmarks.pages import encode_page
from local.services.feed import ListFeed, SyntheticFeed


def test_a_file_is_repeated_with_new_ids(tmp_path: Path) -> None:
    """Three indicators become eight, all of different ids, otherwise copies."""
    lines = SyntheticFeed(3).encoded(0, 3)
    path = tmp_path / "feed.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    feed = open_feed(path, 8)
    found = [orjson.loads(one) for one in feed.encoded(0, len(feed) + 5)]
    assert len(feed) == len(found) == 8
    assert len({one["id"] for one in found}) == 8
    assert all(len(one["id"]) == len(found[0]["id"]) for one in found)
    assert {**found[7], "id": ""} == {**json.loads(lines[1]), "id": ""}
    assert feed.encoded(0, 3) == lines


def test_pages_hold_the_feed_and_end() -> None:
    """A thousand a page; the last one leads to none, however full it is."""
    feed = SyntheticFeed(2_000)
    pages = [orjson.loads(encode_page(feed, at, following="next")) for at in (0, 1_000)]
    assert [page["next_token"] for page in pages] == ["next", None]
    found = [one["id"] for page in pages for one in page["results"]["stixobjects"]]
    assert found == [orjson.loads(one)["id"] for one in feed.encoded(0, 2_000)]


def test_without_a_file_the_feed_is_made_up() -> None:
    """The synthetic feed of that size."""
    assert open_feed(None, 7) == SyntheticFeed(7)


def test_every_step_th_object_changes() -> None:
    """The same ones, however the feed is cut into slices; all others stay as they were."""
    before = Repeated(SyntheticFeed(10), 25)
    after = Changed(before, 10)
    whole = after.encoded(0, 25)
    assert [at for at in range(25) if whole[at] != before.encoded(at, at + 1)[0]] == [0, 10, 20]
    assert whole == [one for at in range(0, 25, 7) for one in after.encoded(at, min(at + 7, 25))]
    changes = after.changes()
    assert isinstance(changes, ListFeed)
    assert changes.encoded(0, 9) == [whole[0], whole[10], whole[20]]
