"""LumenClient against the simulated API: every row of its contract, and every way to fail."""

import base64
import gzip
import itertools
import json
import random
import tracemalloc
import zlib
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from common.backoff import Backoff
from common.clock import SystemClock
from common.errors import (
    AnswerTooLargeError,
    ContractDriftError,
    CredentialError,
    GapError,
    LeaseLostError,
    OutOfTimeError,
    PipelineError,
    ThrottledError,
    TryLaterError,
    UnavailableError,
)
from common.settings import Secret
from common.transport import PlainSession
from local.services.feed import ListFeed, SyntheticFeed
from local.services.http_simulator import (
    Answer,
    Call,
    Cut,
    Delay,
    Fault,
    Request,
    Reset,
    Trickle,
)
from local.services.lumen_api import LumenApi
from local.services.tls import LocalCertificates
from producer import lumen
from producer.indicators import Filters, Indicator, Invalid
from producer.lumen import LumenClient, Page, QueryState
from producer.ordinary import to_record
from tests.fakes.clock import FakeClock
from tests.unit.producer.samples import judge

KEY = "k3y-of-the-contract-suite"
TRIES = 4
NEVER = float("inf")
STARTING, STATUS, PAGE = "start", "status", "page"
CALLS = (STARTING, STATUS, PAGE)
PATHS = {STARTING: "reputation-query", STATUS: "query-status", PAGE: "retrieve-results"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """Certificates that only this module's client trusts."""
    return LocalCertificates(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def api(certificates: LocalCertificates) -> Iterator[LumenApi]:
    """A running Lumen with five indicators on three pages."""
    feed = SyntheticFeed(5)
    with LumenApi(feed, api_key=KEY, certificates=certificates, page_size=2) as simulator:
        yield simulator


@pytest.fixture
def clock() -> FakeClock:
    """The time between two tries."""
    return FakeClock()


@pytest.fixture
def client(
    api: LumenApi, certificates: LocalCertificates, clock: FakeClock
) -> Iterator[LumenClient]:
    """The client under test."""
    with PlainSession() as session:
        session.trust_env = False
        session.verify = str(certificates.authority)
        yield LumenClient(
            base_url=api.url,
            api_key=Secret(KEY),
            backoff=Backoff(tries=TRIES, base=1.0, cap=60.0),
            clock=clock,
            rng=random.Random(0),  # noqa: S311 - a fixed seed
            session=session,
        )


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


@pytest.mark.parametrize("status", [408, 503])
def test_a_start_that_was_not_taken_on_is_tried_again(
    status: int, api: LumenApi, client: LumenClient
) -> None:
    """No query can have begun: the same tries as for every other call."""
    api.inject(fault(Answer(status), STARTING))
    with pytest.raises(UnavailableError, match=str(status)):
        client.start_query(give_up_at=NEVER)
    assert requests_of(api, STARTING) == TRIES


def test_each_try_to_start_a_query_is_told_before(api: LumenApi, client: LumenClient) -> None:
    """An instance that was overtaken while it waited for its next try asks no more."""
    api.inject(fault(Answer(503), STARTING))
    told: list[int] = []

    def tell() -> None:
        told.append(requests_of(api, STARTING))
        if len(told) == TRIES:
            raise LeaseLostError("another instance goes on")

    with pytest.raises(LeaseLostError):
        client.start_query(before=tell, give_up_at=NEVER)
    assert told == list(range(TRIES))
    assert requests_of(api, STARTING) == TRIES - 1


@pytest.mark.parametrize("status", [500, 501])
def test_a_start_that_lumen_failed_is_left_to_the_next_tick(
    status: int, api: LumenApi, client: LumenClient
) -> None:
    """Lumen says itself that nothing was started; it is not asked a second time at once."""
    api.inject(fault(Answer(status), STARTING))
    with pytest.raises(TryLaterError, match=str(status)):
        client.start_query(give_up_at=NEVER)
    assert requests_of(api, STARTING) == 1


@pytest.mark.parametrize(
    "effect",
    [
        *(Answer(status, body="{}") for status in (502, 504, 520, 599)),
        Answer(200, body='{"cut": '),
        Answer(200, body="<html>a proxy's page</html>"),
        *(Answer(200, body=json.dumps({"cache_id": odd})) for odd in (None, "", 7, ["x"])),
        Answer(200, body="{}"),
        *(Answer(status, body="") for status in (203, 204, 206)),
        Reset(),
        Cut(after_bytes=5),
        Delay(30),
    ],
    ids=lambda effect: repr(effect)[:60],
)
def test_a_start_without_an_answer_is_a_gap(
    effect: Any, api: LumenApi, client: LumenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query may run whose id nobody knows: a second one may not cover what it holds."""
    monkeypatch.setattr(lumen, "READ_TIMEOUT", 0.2)
    api.inject(fault(effect, STARTING))
    with pytest.raises(GapError, match="id is not known") as caught:
        client.start_query(give_up_at=NEVER)
    assert requests_of(api, STARTING) == 1
    assert KEY not in repr(caught.value)


def test_a_start_that_was_never_sent_is_tried_again(
    api: LumenApi, client: LumenClient, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens, no such host, a certificate of another, no CA bundle: no query can run."""
    session = client._session
    trusted = session.verify
    for broken in ("address", "host", "certificate", "bundle"):
        before = len(clock.sleeps)
        match broken:
            case "address":
                monkeypatch.setattr(client, "_queries_url", "https://127.0.0.1:1/q")
            case "host":
                monkeypatch.setattr(client, "_queries_url", "https://lumen.invalid/q")
            case "certificate":
                monkeypatch.undo()
                session.verify = True
            case _:
                session.verify = "/nowhere/ca.pem"
        with pytest.raises(UnavailableError, match="cannot be reached"):
            client.start_query(give_up_at=NEVER)
        assert len(clock.sleeps) - before == TRIES - 1, broken
    session.verify = trusted
    assert api.requests == 0
    assert start(client)


def test_a_start_uses_a_connection_of_its_own(api: LumenApi, client: LumenClient) -> None:
    """One kept since the last run may be dead, which would look like an answer that got lost."""
    adapter = client._session.get_adapter(api.url)
    assert isinstance(adapter, HTTPAdapter)
    pools = adapter.poolmanager.pools
    used = []
    for make_call in (start, first_token, start):
        make_call(client)
        (key,) = pools.keys()
        used.append(pools[key])
    assert [pool.num_connections for pool in used] == [1, 1, 1]
    assert len({id(pool) for pool in used}) == 3
    assert used[1].num_requests == 2  # the status shares the connection of the start before it


@pytest.mark.parametrize("after_bytes", [0, 1, 20, 200])
def test_a_connection_cut_within_a_body_is_tried_again(
    after_bytes: int, api: LumenApi, client: LumenClient
) -> None:
    """Half a page is no page; the next try brings it whole."""
    token = first_token(client)
    api.inject(fault(Cut(after_bytes=after_bytes), PAGE, times=1))
    assert len(client.fetch_page(token, give_up_at=NEVER).objects) == 2
    assert requests_of(api, PAGE) == 2


@pytest.mark.parametrize("call", [STATUS, PAGE])
def test_a_slow_answer_is_tried_again(
    call: str, api: LumenApi, client: LumenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silence longer than the read timeout counts as a failed try."""
    monkeypatch.setattr(lumen, "READ_TIMEOUT", 0.5)
    api.inject(fault(Delay(3600), call))
    with pytest.raises(UnavailableError, match="Timeout"):
        make(call, client)
    api.wait_for(lambda: requests_of(api, call) >= TRIES)
    assert requests_of(api, call) == TRIES


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", list(itertools.product(["answer", "run"], ["body", "head"])))
def test_an_answer_that_trickles_in_counts_as_none(
    call: str,
    how: tuple[str, str],
    api: LumenApi,
    client: LumenClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes that never stop coming last no longer than one answer, or the run, may take."""
    limit, slow_part = how
    clock = SystemClock()
    monkeypatch.setattr(client, "_clock", clock)
    monkeypatch.setattr(client, "_backoff", Backoff(tries=2, base=0.01, cap=0.01))
    give_up_at = NEVER
    if limit == "answer":
        monkeypatch.setattr(lumen, "ANSWER_TIMEOUT", 0.3)
    else:
        give_up_at = clock.monotonic() + 0.3
    api.inject(fault(Trickle(0.1, with_head=slow_part == "head"), call))
    expected, requests_made = {
        (STARTING, "answer"): (GapError, 1),
        (STARTING, "run"): (GapError, 1),
    }.get((call, limit), (UnavailableError, 2) if limit == "answer" else (OutOfTimeError, 1))
    with pytest.raises(expected, match="ReadTimeout"):
        make(call, client, give_up_at=give_up_at)
    assert requests_of(api, call) == requests_made


def test_pages_share_a_connection(api: LumenApi, client: LumenClient) -> None:
    """A body that is read to its end gives the connection back."""
    adapter = client._session.get_adapter(api.url)
    assert isinstance(adapter, HTTPAdapter)
    all_pages(client)
    pools = adapter.poolmanager.pools
    (key,) = pools.keys()
    assert (pools[key].num_connections, pools[key].num_requests) == (1, 5)


def test_a_compressed_page_is_read(api: LumenApi, client: LumenClient) -> None:
    """Compression is undone, whatever its name, and a body cut within it is no page."""
    body = gzip.compress(json.dumps({"results": {"stixobjects": [{}] * 1000}}).encode())
    headers = {"Content-Encoding": "gzip"}
    api.inject(fault(Answer(200, headers=headers, body=body[:-20]), PAGE, times=1))
    api.inject(fault(Answer(200, headers=headers, body=body), PAGE, times=1))
    assert len(client.fetch_page("any", give_up_at=NEVER).objects) == 1000
    assert requests_of(api, PAGE) == 2


def test_a_fault_that_passes_is_not_seen(api: LumenApi, client: LumenClient) -> None:
    """Each call has its own tries: two failures before every answer, and the feed is whole."""
    for effect in (Answer(503), Reset()):
        api.inject(Fault(effect=effect, path="query-status"))
        api.inject(Fault(effect=effect, path="retrieve-results"))
    api.inject(Fault(effect=Answer(503), method="POST"))
    assert sum(len(page.objects) for page in all_pages(client)) == 5


@pytest.mark.parametrize(
    "asked",
    [("7", 7.0), ("0", None), ("61", 60.0), ("date", 30.0), ("soon", None), ("-5", None)],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_429_is_waited_out_as_asked(
    call: str,
    asked: tuple[str, float | None],
    api: LumenApi,
    client: LumenClient,
    clock: FakeClock,
) -> None:
    """Seconds or a date, up to the cap; without a usable header the ordinary schedule holds."""
    header, wait = asked
    if header == "date":
        header = format_datetime(clock.now() + timedelta(seconds=30), usegmt=True)
    api.inject(fault(Answer(429, headers={"Retry-After": header}), call, times=1))
    api.inject(fault(Answer(400, body="No results found"), call))
    make(call, client)
    if wait is None:
        assert 0.5 <= clock.sleeps[0] <= 1.0
    else:
        assert clock.sleeps == [wait]


def test_a_429_that_lasts_is_throttled(api: LumenApi, client: LumenClient) -> None:
    """After the tries the caller learns how long the service wants to be left alone."""
    api.inject(Fault(effect=Answer(429, headers={"Retry-After": "90"}), times=None))
    with pytest.raises(ThrottledError) as caught:
        client.start_query(give_up_at=NEVER)
    assert caught.value.retry_after == 90.0
    assert api.requests == TRIES


def test_no_wait_is_begun_that_ends_after_the_deadline(
    api: LumenApi, client: LumenClient, clock: FakeClock
) -> None:
    """The function ends in time, saying after what."""
    api.inject(Fault(effect=Answer(429, headers={"Retry-After": "50"}), times=None))
    with pytest.raises(OutOfTimeError, match="429"):
        client.start_query(give_up_at=49.0)
    assert (api.requests, clock.elapsed) == (1, 0.0)


def test_a_page_that_is_not_a_list_is_drift(api: LumenApi, client: LumenClient) -> None:
    """It is taken neither for an empty page nor for the end."""
    api.behaviour.not_a_list_on_page = 0
    with pytest.raises(ContractDriftError, match="stixobjects"):
        client.fetch_page(first_token(client), give_up_at=NEVER)


@pytest.mark.parametrize(
    "oddity",
    [
        b'"\\ud800"',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"1" + b"0" * 400,
        b"-1" + b"0" * 5000,
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
        b"[" * 3000 + b"]" * 3000,
    ],
    ids=lambda raw: repr(raw)[:24],
)
def test_one_odd_object_does_not_lose_its_page(
    oddity: bytes, api: LumenApi, client: LumenClient
) -> None:
    """What strict JSON refuses makes one invalid record; its neighbours pass untouched."""
    good = SyntheticFeed(2).encoded(0, 2)
    bad = good[1][:-1] + b',"odd":' + oddity + b"}"
    api.replace_feed(ListFeed([good[0], bad]))
    (page,) = all_pages(client)
    verdicts = [judge(record, Filters(threshold=0)) for record in page.objects]
    assert [type(verdict) for verdict in verdicts] == [Indicator, Invalid]
    alone = judge(json.loads(good[0]), Filters(threshold=0))
    assert verdicts[0] == alone


def test_numbers_of_an_odd_page_keep_their_kind(api: LumenApi, client: LumenClient) -> None:
    """On a page that is cut, integers stay integers and fractions fractions."""
    item = SyntheticFeed(1).encoded(0, 1)[0][:-1]
    good = item + b',"n":[0,-7,1.5,-2.5e3,12345678901]}'
    api.replace_feed(ListFeed([good, item + b',"odd":NaN}']))
    (page,) = all_pages(client)
    numbers = page.objects[0]["n"]
    assert numbers == [0, -7, 1.5, -2500.0, 12345678901]
    assert [type(number) for number in numbers] == [int, int, float, float, int]


def test_an_unreachable_service_is_unavailable(api: LumenApi, client: LumenClient) -> None:
    """Nobody listening is weather like any other, and mended without a restart."""
    api.stop()
    with pytest.raises(UnavailableError, match="cannot be reached"):
        client.start_query(give_up_at=NEVER)
    api.start()
    assert client.start_query(give_up_at=NEVER)


@pytest.mark.parametrize("status", range(400, 600))
def test_every_refusal_is_an_error_of_ours(status: int, api: LumenApi, client: LumenClient) -> None:
    """Whatever the status, the caller meets the pipeline's own errors and not the key."""
    api.inject(fault(Answer(status), PAGE))
    with pytest.raises(PipelineError) as caught:
        client.fetch_page("t", give_up_at=NEVER)
    assert KEY not in repr(caught.value)
    assert str(status) in str(caught.value)
