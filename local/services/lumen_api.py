"""A simulated Lumen Defender Threat Feed API, version 3.

Promise: it speaks the three calls of the reputation query (start, status, page) as the published
V2 connector of the Azure-Sentinel repository reads them, the bare API key in ``Authorization``
included. Pages are made from the feed when they are asked for; nothing is held per page but the
token. Everything that Lumen leaves open (does the window belong to the key, how are tokens shaped,
what does an empty feed look like) is a switch of :class:`LumenBehaviour`, changeable at any time.
Not obvious: a query sees the feed as it was when the query was started.
"""

import base64
import hashlib
import json
import secrets
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from local.services.feed import Feed
from local.services.http_simulator import HttpSimulator, Request, Response, json_response
from local.services.tls import LocalCertificates

QUERY_PATH = "/v3/reputation-query"
STATUS_PATH = f"{QUERY_PATH}/query-status/"
PAGE_PATH = f"{QUERY_PATH}/retrieve-results/"

_HASH_BLOCK = 1000


@dataclass(slots=True, kw_only=True)
class LumenBehaviour:
    """What this Lumen is like; the defaults are the plainest of all."""

    statuses: tuple[str, ...] = ()
    """Told one after the other, a query's first polls, before ``final_status``."""
    final_status: Literal["COMPLETED", "FAILED", "EXPIRED"] = "COMPLETED"
    error: str = "The query failed at the source."
    """Told with ``FAILED`` and ``EXPIRED``."""
    inline_results: Literal["no", "empty", "objects"] = "no"
    """The older form of ``COMPLETED``: no token, but ``results`` in the answer."""
    window: Literal["snapshot", "since-last-query"] = "snapshot"
    """Whether a query returns the whole feed, or only what no query of this key has covered.

    In the second form a query that was started and never drained has lost its objects for good.
    """
    late_next_token: bool = False
    """The last page still carries a token, whose ``index`` equals ``total_chunks``."""
    opaque_tokens: bool = False
    """Tokens are random text instead of base64 of JSON."""
    repeat_token_on_page: int | None = None
    """This page (from 0) names its own token as the next one."""
    not_a_list_on_page: int | None = None
    """On this page (from 0) ``stixobjects`` is an object instead of a list."""
    empty_feed: Literal["page", "400"] = "page"
    """What the only page of an empty query is: an empty page, or 400 ``No results found``."""
    compare_as_sent: bool = False
    """Ids and tokens in a path must be spelt as they were given out: ``=`` must not be ``%3D``."""
    wrong_key_status: int = 401
    expired_token_status: int = 404
    expired_token_text: str = "Unknown or expired token"


@dataclass(slots=True)
class _Query:
    """One started query: its part of the feed and how often it was polled."""

    cache_id: str
    feed: Feed
    polls: int = 0
    expired: bool = False


class LumenApi(HttpSimulator):
    """The service; use it as a context manager, see :class:`HttpSimulator`."""

    def __init__(
        self,
        feed: Feed,
        *,
        api_key: str,
        certificates: LocalCertificates,
        page_size: int = 1000,
        behaviour: LumenBehaviour | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(certificates=certificates, clock=clock)
        self.api_key = api_key
        """The one key that is accepted; may be changed at any time."""
        self.behaviour = behaviour or LumenBehaviour()
        self._feed = feed
        self._page_size = page_size
        self._queries: dict[str, _Query] = {}
        self._tokens: dict[str, tuple[str, int]] = {}
        self._token_generation = 0
        self._handed_out: set[bytes] = set()

    @property
    def queries_started(self) -> int:
        """How many queries were ever started."""
        return len(self._queries)

    def replace_feed(self, feed: Feed) -> None:
        """What queries see that are started from now on."""
        with self._changed:
            self._feed = feed

    def expire_tokens(self) -> None:
        """Forget every page token issued so far; asking for a query's status issues a new one."""
        with self._changed:
            self._tokens.clear()
            self._token_generation += 1

    def expire_queries(self) -> None:
        """Let every query started so far be ``EXPIRED``, its tokens forgotten."""
        with self._changed:
            for query in self._queries.values():
                query.expired = True
            self.expire_tokens()

    def answer(self, request: Request) -> Response:
        """See :class:`HttpSimulator`."""
        if request.headers.get("authorization") != self.api_key:
            return _problem(self.behaviour.wrong_key_status, "Unauthorized")
        path = request.path if self.behaviour.compare_as_sent else unquote(request.path)
        match request.method:
            case "POST" if path == QUERY_PATH:
                return self._start_query()
            case "GET" if path.startswith(STATUS_PATH):
                return self._status(path.removeprefix(STATUS_PATH))
            case "GET" if path.startswith(PAGE_PATH):
                return self._page(path.removeprefix(PAGE_PATH))
        return _problem(404, "Not Found")

    def _start_query(self) -> Response:
        with self._changed:
            cache_id = secrets.token_hex(16)
            self._queries[cache_id] = _Query(cache_id, self._window())
        return json_response({"cache_id": cache_id})

    def _status(self, cache_id: str) -> Response:
        behaviour = self.behaviour
        with self._changed:
            query = self._queries.get(cache_id)
            if query is None:
                return _problem(404, "Unknown cache_id")
            polls, query.polls = query.polls, query.polls + 1
            if query.expired:
                return json_response({"status": "EXPIRED", "error": behaviour.error})
            if polls < len(behaviour.statuses):
                return json_response({"status": behaviour.statuses[polls]})
            if behaviour.final_status != "COMPLETED":
                return json_response({"status": behaviour.final_status, "error": behaviour.error})
            if behaviour.inline_results == "no":
                return json_response({"status": "COMPLETED", "token_id": self._token(query, 0)})
        size = len(query.feed) if behaviour.inline_results == "objects" else 0
        objects = _objects(query.feed, 0, size)
        return Response(body=b'{"status":"COMPLETED","results":' + objects + b"}")

    def _page(self, token: str) -> Response:
        behaviour = self.behaviour
        with self._changed:
            cache_id, index = self._tokens.get(token, ("", 0))
            if not cache_id:
                return _problem(behaviour.expired_token_status, behaviour.expired_token_text)
            query = self._queries[cache_id]
            total = self._pages_of(query)
            if index >= total:
                return _problem(404, "There is no such page")
            if not len(query.feed) and behaviour.empty_feed == "400":
                return _problem(400, "No results found for the given token")
            following = index + 1
            if index == behaviour.repeat_token_on_page:
                following = index
            more = following < total or behaviour.late_next_token
            next_token = self._token(query, following) if more else None
        start = index * self._page_size
        results = _objects(query.feed, start, start + self._page_size)
        if index == behaviour.not_a_list_on_page:
            results = b'{"sourcesystem":"Lumen","stixobjects":{"message":"not a list"}}'
        tail = json.dumps(next_token).encode()
        return Response(body=b'{"results":' + results + b',"next_token":' + tail + b"}")

    def _pages_of(self, query: _Query) -> int:
        return max(1, -(-len(query.feed) // self._page_size))

    def _token(self, query: _Query, index: int) -> str:
        """The token of a page: the same whenever it is asked for, until tokens expire."""
        claims = {
            "cache_id": query.cache_id,
            "index": index,
            "total_chunks": self._pages_of(query),
            "generation": self._token_generation,
        }
        encoded = json.dumps(claims).encode()
        if self.behaviour.opaque_tokens:
            token = hashlib.sha256(encoded).hexdigest()
        else:
            token = base64.b64encode(encoded).decode()
        self._tokens[token] = (query.cache_id, index)
        return token

    def _window(self) -> Feed:
        """What a query started now covers."""
        if self.behaviour.window == "snapshot":
            return self._feed
        fresh = array("Q")
        for start in range(0, len(self._feed), _HASH_BLOCK):
            block = self._feed.encoded(start, start + _HASH_BLOCK)
            for index, encoded in enumerate(block, start):
                mark = hashlib.blake2b(encoded, digest_size=8).digest()
                if mark not in self._handed_out:
                    self._handed_out.add(mark)
                    fresh.append(index)
        return _Selection(self._feed, fresh)


class _Selection:
    """The objects of a feed that have these indices."""

    def __init__(self, feed: Feed, indices: "array[int]") -> None:
        self._feed = feed
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def encoded(self, start: int, stop: int) -> list[bytes]:
        return [self._feed.encoded(at, at + 1)[0] for at in self._indices[start:stop]]


def _objects(feed: Feed, start: int, stop: int) -> bytes:
    listed = b",".join(feed.encoded(start, stop))
    return b'{"sourcesystem":"Lumen","stixobjects":[' + listed + b"]}"


def _problem(status: int, message: str) -> Response:
    return json_response({"message": message}, status=status)
