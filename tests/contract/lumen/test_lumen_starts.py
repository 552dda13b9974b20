"""A query is started once: what is tried again, and what may be running unknown to us."""

import json
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from common.errors import (
    GapError,
    LeaseLostError,
    TryLaterError,
    UnavailableError,
)
from local.services.http_simulator import (
    Answer,
    Cut,
    Delay,
    Reset,
)
from local.services.lumen_api import LumenApi
from producer import lumen
from producer.lumen import LumenClient
from tests.contract.lumen.calls import (
    KEY,
    NEVER,
    STARTING,
    TRIES,
    fault,
    first_token,
    requests_of,
    start,
)
from tests.fakes.clock import FakeClock


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
