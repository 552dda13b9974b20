"""Connections, waits and pages that are odd: every way in which Lumen may fail."""

import gzip
import itertools
import json
from datetime import timedelta
from email.utils import format_datetime

import pytest
from requests.adapters import HTTPAdapter

from common.backoff import Backoff
from common.clock import SystemClock
from common.errors import (
    ContractDriftError,
    GapError,
    OutOfTimeError,
    PipelineError,
    ThrottledError,
    UnavailableError,
)
from local.services.feed import ListFeed, SyntheticFeed
from local.services.http_simulator import (
    Answer,
    Cut,
    Delay,
    Fault,
    Reset,
    Trickle,
)
from local.services.lumen_api import LumenApi
from producer import lumen
from producer.indicators import Filters, Indicator, Invalid
from producer.lumen import LumenClient
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
)
from tests.fakes.clock import FakeClock
from tests.unit.producer.samples import judge


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
