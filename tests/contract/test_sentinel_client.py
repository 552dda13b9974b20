"""SentinelClient against the simulated API: what arrives, and what each trouble becomes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from consumer import sentinel
from consumer.sentinel import (
    Drift,
    OperatorNeeded,
    RecordError,
    RefreshToken,
    Refused,
    SentinelClient,
    Throttled,
    Unavailable,
    Uploaded,
)
from local.services.feed import SyntheticFeed
from local.services.http_simulator import (
    Answer,
    Call,
    Cut,
    Delay,
    DoThenReset,
    DoThenStall,
    Fault,
    Reset,
    Trickle,
)
from local.services.sentinel_api import SentinelApi
from local.services.tls import LocalCertificates
from tests.fakes.clock import FakeClock

SHORT, SILENCE = 0.05, 3600.0
"""Seconds that the client waits for an answer, and for which the service says nothing."""

WORKSPACE = "00000000-0000-4000-8000-0000000000aa"
TOKEN = "t0ken-of-the-contract-suite"

OBJECTS = [
    {**json.loads(item), "confidence": 80, "name": "Zürich \U0001f600"}
    for item in SyntheticFeed(5).encoded(0, 5)
]
BODY = json.dumps(OBJECTS, ensure_ascii=False, separators=(",", ":")).encode()
IDS = [found["id"] for found in OBJECTS]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """Certificates that only this module's client trusts."""
    return LocalCertificates(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def api(certificates: LocalCertificates) -> Iterator[SentinelApi]:
    """A running Sentinel that keeps what it accepts; its clock stands still."""
    with SentinelApi(
        workspace_id=WORKSPACE,
        token_is_valid=lambda token: "pipeline" if token == TOKEN else None,
        certificates=certificates,
        keep_objects=True,
        clock=lambda: 0.0,
    ) as simulator:
        yield simulator


@pytest.fixture
def clock() -> FakeClock:
    """The time between two posts."""
    return FakeClock()


@pytest.fixture
def client(
    api: SentinelApi,
    certificates: LocalCertificates,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> SentinelClient:
    """The client under test; as in Azure, only the environment says whom it trusts."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    monkeypatch.setenv("NO_PROXY", "*")
    return made(api, clock)


def made(api: SentinelApi, clock: FakeClock, *, workspace: str = WORKSPACE) -> SentinelClient:
    """Return a client of a workspace."""
    return SentinelClient(
        base_url=api.url,
        workspace_id=workspace,
        clock=clock,
        connections=2,
    )


def upload(client: SentinelClient, *, token: str = TOKEN) -> sentinel.Answer:
    """Upload the five objects."""
    return client.upload(BODY, count=len(OBJECTS), token=token)


def test_exactly_these_bytes_arrive(api: SentinelApi, client: SentinelClient) -> None:
    """The array goes out byte for byte, in an object whose sourcesystem is Lumen."""
    bodies: list[bytes] = []
    headers: list[dict[str, str]] = []

    def note(request: Any) -> None:
        bodies.append(request.body)
        headers.append(dict(request.headers))

    api.inject(Fault(effect=Call(note)))
    assert upload(client) == Uploaded()
    assert bodies == [b'{"sourcesystem":"Lumen","stixobjects":' + BODY + b"}"]
    assert headers[0]["authorization"] == f"Bearer {TOKEN}"
    assert headers[0]["content-type"] == "application/json"
    assert api.objects == {found["id"]: found for found in OBJECTS}
    (exchange,) = api.exchanges
    assert (exchange.method, exchange.status) == ("POST", 200)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"errors": []}', b" \n"])
def test_every_form_of_success_is_success(
    body: bytes, api: SentinelApi, client: SentinelClient
) -> None:
    """The service may say nothing at all."""
    api.behaviour.success_body = body
    assert upload(client) == Uploaded()


def test_rejected_records_are_named_and_the_others_accepted(
    api: SentinelApi, client: SentinelClient
) -> None:
    """Two of five are refused: by index, with the service's own message."""
    api.behaviour.reject_record = lambda found: found["id"] in {IDS[1], IDS[4]}
    answer = upload(client)
    assert isinstance(answer, Uploaded)
    assert [error.index for error in answer.rejected] == [1, 4]
    assert answer.rejected[0] == RecordError(index=1, messages=("The record was rejected.",))
    assert api.missing(IDS) == {IDS[1], IDS[4]}


@pytest.mark.parametrize("listed", [True, False])
def test_a_request_refused_as_a_whole_is_to_be_isolated(
    listed: bool, api: SentinelApi, client: SentinelClient
) -> None:
    """Nothing of it was accepted, whether or not the answer names the bad record."""
    api.behaviour.reject_record = lambda found: found["id"] == IDS[2]
    api.behaviour.refuse_whole_on_bad_record = True
    api.behaviour.refusal_lists_errors = listed
    answer = upload(client)
    assert isinstance(answer, Refused)
    assert "400" in answer.reason
    assert api.accepted_total == 0


def test_a_throttle_that_only_the_body_tells_is_obeyed(
    api: SentinelApi, client: SentinelClient, clock: FakeClock
) -> None:
    """The 101st request of a minute is asked to wait, and is not tried again here."""
    api.requests_per_minute = 1
    assert upload(client) == Uploaded()
    answer = upload(client)
    assert answer == Throttled(reason="Sentinel asked to slow down (429)", wait=60.0)
    assert clock.sleeps == []
    assert api.requests == 2


def test_a_throttle_by_header_is_obeyed(api: SentinelApi, client: SentinelClient) -> None:
    """The header goes before the text."""
    api.requests_per_minute = 0
    api.behaviour.retry_after = "11"
    answer = upload(client)
    assert isinstance(answer, Throttled)
    assert answer.wait == 11.0


def test_a_bad_token_asks_for_another(api: SentinelApi, client: SentinelClient) -> None:
    """One request, and the token is not in the answer."""
    answer = upload(client, token="0ld")
    assert isinstance(answer, RefreshToken)
    assert "0ld" not in answer.reason
    assert api.requests == 1


def test_a_missing_role_and_an_unknown_workspace_need_an_operator(
    api: SentinelApi, client: SentinelClient, clock: FakeClock
) -> None:
    """Both are answered at once, each with its remedy."""
    api.behaviour.role_granted = False
    answer = upload(client)
    assert isinstance(answer, OperatorNeeded)
    assert "role" in answer.reason
    other = upload(made(api, clock, workspace="00000000-0000-4000-8000-0000000000bb"))
    assert isinstance(other, OperatorNeeded)
    assert "WORKSPACE_ID" in other.reason
    assert api.requests == 2


@pytest.mark.parametrize(
    "effect",
    [
        Answer(500),
        Answer(503, body="<html>"),
        Answer(408),
        Reset(),
        DoThenReset(),
        Cut(after_bytes=3),
    ],
    ids=lambda effect: repr(effect)[:40],
)
def test_a_passing_trouble_is_an_answer_and_repeating_is_safe(
    effect: Any, api: SentinelApi, client: SentinelClient
) -> None:
    """One call is one request: the next call succeeds, and accepted twice is stored once."""
    api.behaviour.success_body = b'{"errors": []}'
    api.inject(Fault(effect=effect, times=1))
    assert isinstance(upload(client), Unavailable | Drift)
    assert api.requests == 1
    assert upload(client) == Uploaded()
    assert api.missing(IDS) == set()
    assert len(api.accepted) == len(IDS)


@pytest.mark.parametrize("effect", [Answer(500), Answer(502), Reset()], ids=repr)
def test_lasting_trouble_is_an_answer_not_an_error(
    effect: Any, api: SentinelApi, client: SentinelClient
) -> None:
    """The chunk is given back, to be deferred."""
    api.inject(Fault(effect=effect, times=None))
    answer = upload(client)
    assert isinstance(answer, Unavailable)
    assert TOKEN not in answer.reason
    assert api.requests == 1


def test_accepted_but_never_told_is_unavailable_and_repeating_is_safe(
    api: SentinelApi, client: SentinelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has the objects and answers too late: later it takes them again."""
    monkeypatch.setattr(sentinel, "READ_TIMEOUT", SHORT)
    api.inject(Fault(effect=DoThenStall(SILENCE), times=1))
    assert isinstance(upload(client), Unavailable)
    api.wait_for(lambda: api.missing(IDS) == set())
    monkeypatch.undo()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(api._certificates.authority))
    monkeypatch.setenv("NO_PROXY", "*")
    assert upload(client) == Uploaded()
    assert len(api.accepted) == len(IDS)


def test_a_silent_service_is_unavailable(
    api: SentinelApi, client: SentinelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout is trouble like any other."""
    monkeypatch.setattr(sentinel, "READ_TIMEOUT", SHORT)
    api.inject(Fault(effect=Delay(SILENCE), times=None))
    answer = upload(client)
    assert isinstance(answer, Unavailable)
    assert "Timeout" in answer.reason


@pytest.mark.usefixtures("client")  # it lets this process trust the simulator
@pytest.mark.parametrize("with_head", [False, True])
def test_an_answer_that_never_ends_is_unavailable(
    with_head: bool, api: SentinelApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily its bytes come in, a request is over within its limit as a whole."""
    monkeypatch.setattr(sentinel, "REQUEST_WITHIN", 1.0)
    api.behaviour.success_body = b'{"errors": []' + b" " * 10_000 + b"}"
    api.inject(Fault(effect=Trickle(SHORT, with_head=with_head), times=1))
    patient = SentinelClient(
        base_url=api.url, workspace_id=WORKSPACE, clock=SystemClock(), connections=1
    )
    answer = upload(patient)
    assert isinstance(answer, Unavailable)
    assert "Timeout" in answer.reason


def test_an_answer_beyond_its_largest_size_is_drift(
    api: SentinelApi, client: SentinelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read to its end."""
    monkeypatch.setattr(sentinel, "MAX_ANSWER", 100)
    api.behaviour.success_body = b" " * 200_000
    answer = upload(client)
    assert isinstance(answer, Drift)
    assert "larger than 100 bytes" in answer.reason


def test_an_unreachable_service_is_unavailable(api: SentinelApi, client: SentinelClient) -> None:
    """Nobody listening is mended without a new client."""
    api.stop()
    assert isinstance(upload(client), Unavailable)
    api.start()
    assert upload(client) == Uploaded()


@pytest.mark.parametrize("status", [201, 202, 204])
def test_every_success_is_an_upload_that_is_sent_once(
    status: int, api: SentinelApi, client: SentinelClient
) -> None:
    """Whatever success it is, also without a body."""
    api.inject(Fault(effect=Answer(status)))
    assert upload(client) == Uploaded()
    assert api.requests == 1


@pytest.mark.parametrize("status", [302, 307, 409, 418])
def test_an_answer_without_a_name_is_drift(
    status: int, api: SentinelApi, client: SentinelClient
) -> None:
    """It is not retried, and a redirect is not followed with the token in hand."""
    api.inject(Fault(effect=Answer(status, headers={"Location": "https://127.0.0.1:1/"})))
    answer = upload(client)
    assert isinstance(answer, Drift)
    assert str(status) in answer.reason
    assert api.requests == 1


def test_a_proxys_page_for_a_200_is_drift(api: SentinelApi, client: SentinelClient) -> None:
    """Somebody else's success is not Sentinel's."""
    api.inject(Fault(effect=Answer(200, body="<html>sign in</html>")))
    assert isinstance(upload(client), Drift)
