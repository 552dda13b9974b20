"""The simulated Lumen API: the three calls of a query, and everything Lumen leaves open."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests

from local.services.feed import Feed, ListFeed, SyntheticFeed
from local.services.lumen_api import PAGE_PATH, QUERY_PATH, STATUS_PATH, LumenApi, LumenBehaviour
from local.services.tls import LocalCertificates
from tests.patience import PATIENCE

KEY = "bare-key"
FEED = SyntheticFeed(25)


@pytest.fixture
def lumen(certificates: LocalCertificates) -> Iterator[LumenApi]:
    """A running Lumen with three pages."""
    with LumenApi(FEED, api_key=KEY, certificates=certificates, page_size=10) as simulator:
        yield simulator


class Caller:
    """A plain reader of the API, which follows every token it gets."""

    def __init__(self, lumen: LumenApi, client: requests.Session) -> None:
        self._lumen = lumen
        self._client = client

    def call(self, method: str, path: str, key: str = KEY) -> requests.Response:
        url = self._lumen.url + path
        return self._client.request(method, url, headers={"Authorization": key}, timeout=PATIENCE)

    def start(self) -> str:
        return str(self.call("POST", QUERY_PATH).json()["cache_id"])

    def status(self, cache_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", STATUS_PATH + cache_id).json()
        return found

    def page(self, token: str) -> requests.Response:
        return self.call("GET", PAGE_PATH + quote(token, safe=""))

    def pages(self, cache_id: str) -> list[dict[str, Any]]:
        found = []
        token = self.status(cache_id)["token_id"]
        while token:
            found.append(self.page(token).json())
            token = found[-1]["next_token"]
        return found

    def drain(self, cache_id: str) -> list[Any]:
        return [one for page in self.pages(cache_id) for one in page["results"]["stixobjects"]]


@pytest.fixture
def caller(lumen: LumenApi, client: requests.Session) -> Caller:
    """A reader of the running Lumen."""
    return Caller(lumen, client)


def objects(feed: Feed) -> list[Any]:
    """Every object of a feed."""
    return [json.loads(one) for one in feed.encoded(0, len(feed))]


def claims(token: str) -> dict[str, Any]:
    """What a token says of itself."""
    found: dict[str, Any] = json.loads(base64.b64decode(token, validate=True))
    return found


def test_a_query_hands_out_the_feed_page_by_page(caller: Caller) -> None:
    """All objects in order, from Lumen, ten a page; the last page has no next token."""
    pages = caller.pages(caller.start())
    assert [len(page["results"]["stixobjects"]) for page in pages] == [10, 10, 5]
    assert {page["results"]["sourcesystem"] for page in pages} == {"Lumen"}
    assert [one for page in pages for one in page["results"]["stixobjects"]] == objects(FEED)


def test_tokens_tell_their_place(caller: Caller) -> None:
    """A token is base64 of JSON with index and total, and the same whenever it is asked for."""
    cache_id = caller.start()
    first = caller.status(cache_id)["token_id"]
    second = caller.page(first).json()["next_token"]
    assert (claims(first)["index"], claims(first)["total_chunks"]) == (0, 3)
    assert (claims(second)["index"], claims(second)["total_chunks"]) == (1, 3)
    assert caller.page(first).json()["next_token"] == second


def test_opaque_tokens_lead_through_the_feed_as_well(lumen: LumenApi, caller: Caller) -> None:
    """Tokens that are no JSON can be followed to the end."""
    lumen.behaviour.opaque_tokens = True
    cache_id = caller.start()
    with pytest.raises(ValueError, match=r"."):
        claims(caller.status(cache_id)["token_id"])
    assert caller.drain(cache_id) == objects(FEED)


def test_a_late_token_points_past_the_end(lumen: LumenApi, caller: Caller) -> None:
    """The last page's token has ``index >= total_chunks``; following it is answered 404."""
    lumen.behaviour.late_next_token = True
    token = caller.status(caller.start())["token_id"]
    for _ in range(3):
        token = caller.page(token).json()["next_token"]
    assert claims(token)["index"] == claims(token)["total_chunks"] == 3
    assert caller.page(token).status_code == 404


def test_a_page_can_name_itself_as_the_next(lumen: LumenApi, caller: Caller) -> None:
    """A reader that does not notice would never end."""
    lumen.behaviour.repeat_token_on_page = 1
    first = caller.status(caller.start())["token_id"]
    second = caller.page(first).json()["next_token"]
    assert caller.page(second).json()["next_token"] == second


def test_a_page_can_hold_no_list(lumen: LumenApi, caller: Caller) -> None:
    """``stixobjects`` is an object on the page named, and a list on the others."""
    lumen.behaviour.not_a_list_on_page = 1
    kinds = [type(page["results"]["stixobjects"]) for page in caller.pages(caller.start())]
    assert kinds == [list, dict, list]


def test_statuses_are_told_one_a_poll(lumen: LumenApi, caller: Caller) -> None:
    """Each query goes through the list for itself before it is complete."""
    lumen.behaviour.statuses = ("QUEUED", "RUNNING")
    for cache_id in (caller.start(), caller.start()):
        told = [caller.status(cache_id)["status"] for _ in range(3)]
        assert told == ["QUEUED", "RUNNING", "COMPLETED"]


@pytest.mark.parametrize("final", ["FAILED", "EXPIRED"])
def test_a_query_can_end_badly(
    certificates: LocalCertificates, client: requests.Session, final: Any
) -> None:
    """The final status comes with the error and without a token."""
    behaviour = LumenBehaviour(final_status=final, error="why")
    with LumenApi(FEED, api_key=KEY, certificates=certificates, behaviour=behaviour) as simulator:
        caller = Caller(simulator, client)
        assert caller.status(caller.start()) == {"status": final, "error": "why"}


@pytest.mark.parametrize(("form", "count"), [("empty", 0), ("objects", 25)])
def test_results_can_come_inline(lumen: LumenApi, caller: Caller, form: Any, count: int) -> None:
    """The older form has the results in the status answer, and no token."""
    lumen.behaviour.inline_results = form
    told = caller.status(caller.start())
    assert told["status"] == "COMPLETED"
    assert "token_id" not in told
    assert told["results"]["stixobjects"] == objects(FEED)[:count]


def test_an_empty_feed_is_one_empty_page_or_a_400(lumen: LumenApi, caller: Caller) -> None:
    """Both forms that Lumen is known for."""
    lumen.replace_feed(ListFeed())
    cache_id = caller.start()
    assert [page["results"]["stixobjects"] for page in caller.pages(cache_id)] == [[]]
    lumen.behaviour.empty_feed = "400"
    refused = caller.page(caller.status(cache_id)["token_id"])
    assert refused.status_code == 400
    assert "No results found" in refused.json()["message"]


def test_only_the_bare_key_opens(lumen: LumenApi, caller: Caller) -> None:
    """A wrong key, and the right one behind ``Bearer``, are refused; the key can be changed."""
    for wrong in ("other", f"Bearer {KEY}"):
        assert caller.call("POST", QUERY_PATH, wrong).status_code == 401
    lumen.behaviour.wrong_key_status = 403
    assert caller.call("POST", QUERY_PATH, "other").status_code == 403
    lumen.api_key = "other"
    assert caller.call("POST", QUERY_PATH, "other").status_code == 200
    assert lumen.queries_started == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", STATUS_PATH + "nobody"), ("GET", PAGE_PATH + "nobody"), ("GET", QUERY_PATH)],
)
def test_what_is_not_known_is_not_found(caller: Caller, method: str, path: str) -> None:
    """Unknown queries, tokens and calls are answered 404."""
    assert caller.call(method, path).status_code == 404


def test_expired_tokens_are_unknown_but_their_query_lives(lumen: LumenApi, caller: Caller) -> None:
    """The old token is refused with the status set; the query's status issues a new one."""
    cache_id = caller.start()
    token = caller.status(cache_id)["token_id"]
    lumen.expire_tokens()
    assert caller.page(token).status_code == 404
    lumen.behaviour.expired_token_status = 410
    assert caller.page(token).status_code == 410
    assert caller.drain(cache_id) == objects(FEED)


def test_an_expired_query_is_gone(lumen: LumenApi, caller: Caller) -> None:
    """Its status is ``EXPIRED``, its tokens are unknown, and a new query is not touched."""
    cache_id = caller.start()
    token = caller.status(cache_id)["token_id"]
    lumen.expire_queries()
    assert caller.status(cache_id)["status"] == "EXPIRED"
    assert caller.page(token).status_code == 404
    assert caller.drain(caller.start()) == objects(FEED)


def test_a_query_keeps_the_feed_it_was_started_on(lumen: LumenApi, caller: Caller) -> None:
    """A replaced feed is for later queries, also while an earlier one is being read."""
    earlier = caller.start()
    lumen.replace_feed(FEED.changed(1.0, 1))
    assert caller.drain(earlier) == objects(FEED)
    assert caller.drain(caller.start()) == objects(FEED.changed(1.0, 1))


def test_a_snapshot_is_whole_every_time(caller: Caller) -> None:
    """By default each query covers the whole feed."""
    assert caller.drain(caller.start()) == caller.drain(caller.start()) == objects(FEED)


def test_a_window_of_the_key_covers_each_object_once(lumen: LumenApi, caller: Caller) -> None:
    """What a query has covered no later one does, drained or not, until it changes."""
    lumen.behaviour.window = "since-last-query"
    undrained = caller.start()
    assert caller.drain(caller.start()) == []
    changed = FEED.changed(0.3, 1)
    lumen.replace_feed(changed)
    fresh = [one for one in objects(changed) if one not in objects(FEED)]
    assert 0 < len(fresh) < 25
    assert caller.drain(caller.start()) == fresh
    assert caller.drain(undrained) == objects(FEED)
