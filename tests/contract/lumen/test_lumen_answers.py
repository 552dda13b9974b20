"""What each answer of Lumen's means: every row of the client's contract."""

import base64
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest

from common.errors import (
    AnswerTooLargeError,
    ContractDriftError,
    CredentialError,
    GapError,
    UnavailableError,
)
from local.services.feed import ListFeed, SyntheticFeed
from local.services.http_simulator import (
    Answer,
    Call,
    Fault,
    Request,
    Reset,
)
from local.services.lumen_api import LumenApi
from local.services.tls import LocalCertificates
from producer import lumen
from producer.lumen import LumenClient, Page, QueryState
from producer.ordinary import to_record
from tests.contract.lumen.calls import (
    CALLS,
    KEY,
    NEVER,
    PAGE,
    STARTING,
    STATUS,
    TRIES,
    all_pages,
    fault,
    first_token,
    make,
    requests_of,
    start,
)
from tests.fakes.clock import FakeClock


def test_three_steps_bring_the_feed(api: LumenApi, client: LumenClient) -> None:
    """Start, status, pages: every object once and in order, with no request to spare."""
    pages = all_pages(client)
    assert [len(page.objects) for page in pages] == [2, 2, 1]
    found = [record for page in pages for record in page.objects]
    assert list(map(to_record, found)) == list(map(json.loads, SyntheticFeed(5).encoded(0, 5)))
    assert [exchange.method for exchange in api.exchanges] == ["POST", "GET", "GET", "GET", "GET"]


def test_the_key_is_sent_bare(api: LumenApi, client: LumenClient) -> None:
    """Every call carries the key itself in Authorization: no scheme, nothing in the address."""
    seen: list[str] = []

    def note(request: Request) -> None:
        seen.append(request.headers["authorization"])
        assert KEY not in request.path + request.query_string

    api.inject(Fault(effect=Call(note), times=None))
    all_pages(client)
    assert seen == [KEY] * 5


@pytest.mark.parametrize("state", ["QUEUED", "PENDING", "RUNNING"])
def test_a_query_under_way_is_told(state: str, api: LumenApi, client: LumenClient) -> None:
    """The state comes without token and page."""
    api.behaviour.statuses = (state,)
    cache_id = start(client)
    status = client.query_status(cache_id, give_up_at=NEVER)
    assert (status.state, status.token, status.page) == (QueryState(state), None, None)
    assert client.query_status(cache_id, give_up_at=NEVER).state is QueryState.COMPLETED


@pytest.mark.parametrize("state", ["FAILED", "EXPIRED"])
def test_a_query_that_came_to_nothing_is_told(
    state: Any, api: LumenApi, client: LumenClient
) -> None:
    """As a state, not as an error of the call."""
    api.behaviour.final_status = state
    status = client.query_status(start(client), give_up_at=NEVER)
    assert status == lumen.QueryStatus(state=QueryState(state))


@pytest.mark.parametrize(("form", "objects"), [("empty", 0), ("objects", 5)])
def test_results_may_come_with_the_status(
    form: Any, objects: int, api: LumenApi, client: LumenClient
) -> None:
    """The older form: no token, but the one page itself."""
    api.behaviour.inline_results = form
    status = client.query_status(start(client), give_up_at=NEVER)
    assert status.token is None
    assert status.page is not None
    assert (len(status.page.objects), status.page.next_token) == (objects, None)


@pytest.mark.parametrize("page_size", [1, 2, 5, 100])
def test_a_late_next_token_is_the_end(
    page_size: int, certificates: LocalCertificates, api: LumenApi, client: LumenClient
) -> None:
    """The last page's token lies behind the end, where the service would answer 404."""
    api._page_size = page_size
    api.behaviour.late_next_token = True
    assert sum(len(page.objects) for page in all_pages(client)) == 5
    assert api.count(status=404) == 0


def test_opaque_tokens_are_followed(api: LumenApi, client: LumenClient) -> None:
    """A token in no known form is given back as it came."""
    api.behaviour.opaque_tokens = True
    assert sum(len(page.objects) for page in all_pages(client)) == 5


@pytest.mark.parametrize(
    "token",
    [
        base64.b64encode(json.dumps({"index": 0, "total_chunks": 2}).encode()).decode(),
        base64.b64encode(b'{"index":0,"total_chunks":22}').decode().rstrip("="),
        base64.urlsafe_b64encode('{"index":0,"total_chunks":9,"x":"~~~???ÿÿ"}'.encode()).decode(),
        base64.b64encode('{"index":0,"total_chunks":9,"x":"~~~???ÿÿ"}'.encode()).decode(),
        "a/b+c=d?e#f%2F g",
    ],
)
def test_a_token_of_any_spelling_arrives_as_it_is(
    token: str, api: LumenApi, client: LumenClient
) -> None:
    """Slashes, plus signs and padding survive the address; so do those of a cache id."""
    cache_id = start(client)
    api._tokens[token] = (cache_id, 0)
    assert len(client.fetch_page(token, give_up_at=NEVER).objects) == 2
    api._queries[token] = api._queries[cache_id]
    assert client.query_status(token, give_up_at=NEVER).state is QueryState.COMPLETED


@pytest.mark.parametrize("form", ["page", "400"])
def test_an_empty_feed_is_an_empty_page(form: Any, api: LumenApi, client: LumenClient) -> None:
    """Both forms of saying so are success."""
    api.replace_feed(ListFeed())
    api.behaviour.empty_feed = form
    assert all_pages(client) == [Page(objects=[], next_token=None)]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "body", ['{"message": "No results found"}', '{"message": "NO RESULTS FOUND for it."}']
)
def test_no_results_found_is_success_up_to_the_first_page(
    call: str, body: str, api: LumenApi, client: LumenClient
) -> None:
    """That 400 means an empty feed, at each of the three calls, and is not tried again."""
    api.inject(fault(Answer(400, body=body), call))
    answer = make(call, client)
    empty = Page(objects=[], next_token=None)
    match call:
        case "start":
            assert answer is None
        case "status":
            assert isinstance(answer, lumen.QueryStatus)
            assert (answer.state, answer.page) == (QueryState.COMPLETED, empty)
        case _:
            assert answer == empty
    assert requests_of(api, call) == 1


def test_no_results_found_behind_the_first_page_is_a_gap(
    api: LumenApi, client: LumenClient
) -> None:
    """What was announced is missing, whatever Lumen calls it: that is no end of the feed."""
    api.inject(fault(Answer(400, body="No results found"), PAGE))
    with pytest.raises(GapError, match=r"does not know .* \(400\)"):
        client.fetch_page("some-token", give_up_at=NEVER)
    assert requests_of(api, PAGE) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_with_its_remedy_and_not_shown(
    call: str, status: int, api: LumenApi, client: LumenClient
) -> None:
    """It is not tried again: only a person can mend it."""
    api.api_key = "another"
    api.behaviour.wrong_key_status = status
    with pytest.raises(CredentialError, match="LUMEN_API_KEY") as caught:
        make(call, client)
    assert str(status) in str(caught.value)
    assert "Bearer" in str(caught.value)
    assert KEY not in repr(caught.value)
    assert requests_of(api, call) == 1


@pytest.mark.parametrize("status", [404, 410, 400])
def test_what_lumen_no_longer_knows_is_a_gap(
    status: int, api: LumenApi, client: LumenClient
) -> None:
    """An unknown query or page token will not become known by asking again."""
    for call in (STATUS, PAGE):
        api.inject(fault(Answer(status, body='{"message": "unknown"}'), call))
        with pytest.raises(GapError, match=str(status)):
            make(call, client)
        assert requests_of(api, call) == 1


def test_expired_tokens_and_queries_are_a_gap(api: LumenApi, client: LumenClient) -> None:
    """What the service has forgotten is not taken for the end of the feed."""
    token = first_token(client)
    api.expire_tokens()
    with pytest.raises(GapError):
        client.fetch_page(token, give_up_at=NEVER)
    with pytest.raises(GapError):
        client.query_status("never-started", give_up_at=NEVER)


@pytest.mark.parametrize("status", [400, 404, 410])
def test_starting_a_query_cannot_be_a_gap(status: int, api: LumenApi, client: LumenClient) -> None:
    """Nothing is lost yet: an address that does not answer as named is drift."""
    api.inject(fault(Answer(status, body="{}"), STARTING))
    with pytest.raises(ContractDriftError, match=str(status)):
        client.start_query(give_up_at=NEVER)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [302, 304, 307, 402, 405, 409, 418, 451])
def test_a_status_without_a_name_is_drift(
    call: str, status: int, api: LumenApi, client: LumenClient
) -> None:
    """It is never retried, and a redirect is not followed with the key in hand."""
    api.inject(fault(Answer(status, headers={"Location": "https://127.0.0.1:1/"}), call))
    with pytest.raises(ContractDriftError, match=str(status)):
        make(call, client)
    assert requests_of(api, call) == 1


@pytest.mark.parametrize("call", [STATUS, PAGE])
@pytest.mark.parametrize(
    "effect",
    [
        *(Answer(status, body="{}") for status in (408, 500, 502, 503, 504, 520, 599)),
        Answer(200, body='{"cut": '),
        Answer(200, body="<html>a proxy's page</html>"),
        Answer(200, body="[]"),
        Answer(200, body='"text"'),
        Answer(200, body="null"),
        Answer(200, body="[" * 200_000),
        Reset(),
    ],
    ids=lambda effect: repr(effect)[:60],
)
def test_no_usable_answer_is_tried_again_and_then_unavailable(
    call: str, effect: Any, api: LumenApi, client: LumenClient, clock: FakeClock
) -> None:
    """Exactly as many requests as the schedule has tries, each wait longer than nothing."""
    api.inject(fault(effect, call))
    with pytest.raises(UnavailableError) as caught:
        make(call, client)
    assert KEY not in repr(caught.value)
    assert requests_of(api, call) == TRIES
    assert len(clock.sleeps) == TRIES - 1
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(clock.sleeps))


@pytest.mark.parametrize("status", [200, 202, 204, 205])
@pytest.mark.parametrize("body", ["", " \r\n"])
def test_a_page_without_content_is_an_empty_page(
    status: int, body: str, api: LumenApi, client: LumenClient
) -> None:
    """Whatever its 2xx: there is nothing, and nothing behind it."""
    api.inject(fault(Answer(status, body="" if status == 204 else body), PAGE))
    assert client.fetch_page("opaque", give_up_at=NEVER) == Page(objects=[], next_token=None)
    assert requests_of(api, PAGE) == 1


def test_a_page_without_content_that_announces_others_is_not_the_end(
    api: LumenApi, client: LumenClient
) -> None:
    """Its own token says that pages follow: to take it for the last would lose them."""
    token = first_token(client)
    api.inject(fault(Answer(204), PAGE))
    with pytest.raises(UnavailableError):
        client.fetch_page(token, is_first=True, give_up_at=NEVER)
    assert requests_of(api, PAGE) == TRIES


def test_a_status_without_content_is_no_status(api: LumenApi, client: LumenClient) -> None:
    """It does not say that the query has completed."""
    api.inject(fault(Answer(204), STATUS))
    with pytest.raises(UnavailableError):
        client.query_status("some-query", give_up_at=NEVER)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip", "identity"])
@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_is_too_large_is_an_error_of_its_own(
    call: str,
    coding: str,
    api: LumenApi,
    client: LumenClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not read to its end, not asked for again, and never decompressed beyond the limit."""
    monkeypatch.setattr(lumen, "MAX_ANSWER", 4 << 20)
    body = {
        "gzip": lambda: gzip.compress(b" " * (64 << 20)),
        "deflate": lambda: zlib.compress(b" " * (64 << 20)),
        "gzip, gzip": lambda: gzip.compress(gzip.compress(b" " * (64 << 20))),
        "identity": lambda: b" " * (8 << 20),
    }[coding]()
    api.inject(fault(Answer(200, headers={"Content-Encoding": coding}, body=body), call))
    tracemalloc.start()
    try:
        if call == STARTING:
            with pytest.raises(GapError, match="too large"):
                make(call, client)
        else:
            with pytest.raises(AnswerTooLargeError, match="larger than 4 MiB"):
                make(call, client)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 32 << 20
    assert requests_of(api, call) == 1


def test_ids_and_tokens_are_sent_as_the_public_connector_sends_them(
    api: LumenApi, client: LumenClient
) -> None:
    """A server that compares the segments of the path with what it gave out reads them all."""
    api.behaviour.compare_as_sent = True
    assert sum(len(page.objects) for page in all_pages(client)) == 5
    cache_id = start(client)
    for token in ("YQ==", "YWI=", "a+b=", "a-b_c"):
        api._tokens[token] = (cache_id, 0)
        assert len(client.fetch_page(token, give_up_at=NEVER).objects) == 2


@pytest.mark.parametrize(
    ("token", "segment"),
    [
        ("YWI=", "YWI="),
        ("YQ==", "YQ=="),
        ("a+b/c==", "a+b%2Fc=="),
        ("-._~!$&'()*+,;=:@", "-._~!$&'()*+,;=:@"),
        ("a b?c#d%e", "a%20b%3Fc%23d%25e"),
        ('"<>[]^`{|}\\', "%22%3C%3E%5B%5D%5E%60%7B%7C%7D%5C"),
        ("\x00\n\x7f", "%00%0A%7F"),
        ("...", "..."),
    ],
)
def test_only_what_a_segment_cannot_hold_is_escaped(
    token: str, segment: str, api: LumenApi, client: LumenClient
) -> None:
    """RFC 3986, `pchar`, for a query's id as for a page's token."""
    with pytest.raises(GapError):
        client.fetch_page(token, give_up_at=NEVER)
    with pytest.raises(GapError):
        client.query_status(token, give_up_at=NEVER)
    assert [exchange.path.rpartition("/")[2] for exchange in api.exchanges] == [segment] * 2


@pytest.mark.parametrize("odd", [b'"\\ud800"', b'"\xc3\xbc"', b"7", b'".."', b'"\xff"', b"[]"])
def test_an_id_or_token_that_cannot_be_sent_is_said_so(
    odd: bytes, api: LumenApi, client: LumenClient
) -> None:
    """A start without a usable id is a gap; a token of a query or a page is drift."""
    api.inject(fault(Answer(200, body=b'{"cache_id":%s}' % odd), STARTING))
    with pytest.raises(GapError, match="cache_id"):
        client.start_query(give_up_at=NEVER)
    api.inject(fault(Answer(200, body=b'{"status":"COMPLETED","token_id":%s}' % odd), STATUS))
    with pytest.raises(ContractDriftError, match="token_id"):
        client.query_status("q", give_up_at=NEVER)
    body = b'{"results":{"stixobjects":[]},"next_token":%s}' % odd
    api.inject(fault(Answer(200, body=body), PAGE))
    with pytest.raises(ContractDriftError, match="next_token"):
        client.fetch_page("t", give_up_at=NEVER)
