"""The three calls of Lumen's client, as its contract tests make them."""

from typing import Any

from local.services.http_simulator import (
    Fault,
)
from local.services.lumen_api import LumenApi
from producer.lumen import LumenClient, Page

KEY = "k3y-of-the-contract-suite"
TRIES = 4
NEVER = float("inf")
STARTING, STATUS, PAGE = "start", "status", "page"
CALLS = (STARTING, STATUS, PAGE)
PATHS = {STARTING: "reputation-query", STATUS: "query-status", PAGE: "retrieve-results"}


def start(client: LumenClient) -> str:
    """Start a query that has an id."""
    cache_id = client.start_query(give_up_at=NEVER)
    assert cache_id is not None
    return cache_id


def first_token(client: LumenClient) -> str:
    """Start a query and return its first page's token."""
    status = client.query_status(start(client), give_up_at=NEVER)
    assert status.token is not None
    return status.token


def all_pages(client: LumenClient) -> list[Page]:
    """Read the feed from one query to its end."""
    pages = [client.fetch_page(first_token(client), is_first=True, give_up_at=NEVER)]
    while pages[-1].next_token:
        pages.append(client.fetch_page(pages[-1].next_token, give_up_at=NEVER))
    return pages


def fault(effect: Any, call: str, *, times: int | None = None) -> Fault:
    """Return a fault of one of the three calls."""
    method = "POST" if call == STARTING else "GET"
    return Fault(effect=effect, method=method, path=PATHS[call], times=times)


def make(call: str, client: LumenClient, *, give_up_at: float = NEVER) -> object:
    """Make one of the three calls, with an id that the simulator need not know."""
    match call:
        case "start":
            return client.start_query(give_up_at=give_up_at)
        case "status":
            return client.query_status("some-query", give_up_at=give_up_at)
        case _:
            return client.fetch_page("some-token", is_first=True, give_up_at=give_up_at)


def requests_of(api: LumenApi, call: str) -> int:
    """Return how often a call arrived."""
    return api.count(method="POST" if call == STARTING else "GET", path=PATHS[call])
