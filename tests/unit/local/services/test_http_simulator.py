"""The server under the simulators: what is recorded, every fault, and how it stops."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from local.services.http_simulator import (
    Answer,
    Call,
    Cut,
    Delay,
    DoThenReset,
    DoThenStall,
    Fault,
    HttpSimulator,
    Request,
    Reset,
    Response,
)
from local.services.tls import LocalCertificates
from tests.patience import PATIENCE

SILENCE = 3600.0
IMPATIENT = (PATIENCE, 0.2)
"""Seconds for the connection, which a busy machine may be slow to make, and for the answer, which
does not come."""


class Echo(HttpSimulator):
    """Answers with the request's body, and counts what it has handled."""

    handled = 0

    def answer(self, request: Request) -> Response:
        with self._changed:
            self.handled += 1
        if request.path == "/bug":
            raise ZeroDivisionError
        return Response(201, request.body, {"X-Query": request.query.get("q", "")})


@pytest.fixture
def echo(certificates: LocalCertificates) -> Iterator[Echo]:
    """A running simulator."""
    with Echo(certificates=certificates) as simulator:
        yield simulator


def test_an_answer_arrives_as_given_and_is_recorded(echo: Echo, client: requests.Session) -> None:
    """Method, path, sizes and status are recorded; the query and the body are not."""
    got = client.post(f"{echo.url}/a/b?q=secret", data=b"body", timeout=PATIENCE)
    assert (got.status_code, got.content, got.headers["X-Query"]) == (201, b"body", "secret")
    (exchange,) = echo.exchanges
    assert (exchange.method, exchange.path, exchange.status) == ("POST", "/a/b", 201)
    assert (exchange.received, exchange.sent) == (4, 4)
    assert "secret" not in repr(exchange)


def test_a_request_shows_neither_headers_nor_body() -> None:
    """A request that is printed by a failing test gives no credential away."""
    shown = repr(Request(method="GET", path="/", headers={"authorization": "hush"}, body=b"hush"))
    assert "hush" not in shown


def test_a_connection_is_kept_alive(echo: Echo, client: requests.Session) -> None:
    """Two requests of one session use one connection."""
    ports = set()
    for _ in range(2):
        got = client.get(echo.url, stream=True, timeout=PATIENCE)
        connection: Any = got.raw.connection
        ports.add(connection.sock.getsockname())
        assert got.content == b""
    assert len(ports) == 1


def test_many_callers_are_served_at_once(echo: Echo, certificates: LocalCertificates) -> None:
    """Forty callers that all wait for each other inside the service are all answered."""
    barrier = threading.Barrier(40)
    echo.inject(Fault(effect=Call(lambda _: barrier.wait(PATIENCE)), times=None))

    def call(_: int) -> int:
        with requests.Session() as session:
            session.trust_env = False
            got = session.get(echo.url, verify=str(certificates.authority), timeout=PATIENCE)
            return got.status_code

    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(call, range(40))) == {201}
    assert echo.requests == 40


def test_a_process_trusts_the_simulator_by_its_environment(
    echo: Echo, certificates: LocalCertificates
) -> None:
    """The two variables are all that another process needs; the port answers on localhost too."""
    port = echo.url.rpartition(":")[2]
    program = f"import requests; requests.get('https://localhost:{port}/x', timeout={PATIENCE})"
    environment = {**certificates.environment(), "NO_PROXY": "*"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=PATIENCE)
    assert echo.count(path="/x", status=201) == 1


def test_the_bundle_keeps_what_was_trusted_before(
    certificates: LocalCertificates,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bundle made where one is configured holds that one and the new CA."""
    first = certificates.bundle.read_bytes()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
    second = LocalCertificates(tmp_path_factory.mktemp("tls")).bundle.read_bytes()
    assert second.startswith(first)
    assert second.count(b"BEGIN CERTIFICATE") == first.count(b"BEGIN CERTIFICATE") + 1


def test_an_injected_answer_spares_and_meets_as_many_as_told(
    echo: Echo, client: requests.Session
) -> None:
    """``after`` requests pass, ``times`` are met, the service sees only the others."""
    rule = echo.inject(Fault(effect=Answer(503, {"Retry-After": "7"}, "no"), after=1, times=2))
    got = [client.get(echo.url, timeout=PATIENCE) for _ in range(4)]
    assert [one.status_code for one in got] == [201, 503, 503, 201]
    assert (got[1].headers["Retry-After"], got[1].text) == ("7", "no")
    assert (rule.hits, echo.handled) == (2, 2)


@pytest.mark.parametrize(
    ("fault", "met"),
    [
        (Fault(effect=Answer(500), method="POST"), [False, True, False]),
        (Fault(effect=Answer(500), path="/v1/"), [True, False, False]),
        (Fault(effect=Answer(500), path=re.compile("^/v[23]/x$")), [False, True, False]),
        (
            Fault(effect=Answer(500), when=lambda request: b"!" in request.body),
            [False, False, True],
        ),
        (Fault(effect=Answer(500), method="POST", path="/v3/"), [False, False, True]),
    ],
)
def test_a_fault_meets_only_the_requests_it_names(
    echo: Echo, client: requests.Session, fault: Fault, met: list[bool]
) -> None:
    """Method, text, pattern and predicate each choose, and all given ones must hold."""
    echo.inject(fault)
    answers = [
        client.get(f"{echo.url}/v1/x", timeout=PATIENCE),
        client.post(f"{echo.url}/v2/x", timeout=PATIENCE),
        client.post(f"{echo.url}/v3/y", data="!", timeout=PATIENCE),
    ]
    assert [one.status_code == 500 for one in answers] == met


def test_faults_follow_each_other_and_can_be_lifted(echo: Echo, client: requests.Session) -> None:
    """A final fault hides the request from later ones; removed and cleared faults are gone."""
    first = echo.inject(Fault(effect=Answer(500)))
    second = echo.inject(Fault(effect=Answer(502), times=None))
    got = [client.get(echo.url, timeout=PATIENCE).status_code for _ in range(2)]
    second.remove()
    second.remove()
    got.append(client.get(echo.url, timeout=PATIENCE).status_code)
    echo.inject(Fault(effect=Answer(504), times=None))
    echo.clear_faults()
    got.append(client.get(echo.url, timeout=PATIENCE).status_code)
    assert got == [500, 502, 201, 201]
    assert (first.hits, second.hits) == (1, 1)


def test_a_cut_answer_promises_more_than_it_delivers(echo: Echo, client: requests.Session) -> None:
    """The header tells the true length; after the given bytes the connection ends."""
    echo.inject(Fault(effect=Cut(after_bytes=3)))
    got = client.post(echo.url, data=b"0123456789", stream=True, timeout=PATIENCE)
    assert got.headers["Content-Length"] == "10"
    with pytest.raises(requests.RequestException):
        got.content  # noqa: B018 - reads the body
    assert (echo.exchanges[0].status, echo.exchanges[0].sent) == (201, 3)
    assert client.post(echo.url, data=b"again", timeout=PATIENCE).content == b"again"


@pytest.mark.parametrize(("effect", "handled"), [(Reset(), 0), (DoThenReset(), 1)])
def test_a_reset_leaves_the_caller_without_an_answer(
    echo: Echo, client: requests.Session, effect: Reset | DoThenReset, handled: int
) -> None:
    """The one never reaches the service, the other does; neither is answered."""
    echo.inject(Fault(effect=effect))
    with pytest.raises(requests.ConnectionError):
        client.get(echo.url, timeout=PATIENCE)
    assert (echo.handled, echo.exchanges[0].status) == (handled, None)


def test_a_stalled_answer_was_handled_all_the_same(echo: Echo, client: requests.Session) -> None:
    """The caller times out while the service has long done the work."""
    rule = echo.inject(Fault(effect=DoThenStall(SILENCE)))
    with pytest.raises(requests.ReadTimeout):
        client.get(echo.url, timeout=IMPATIENT)
    echo.wait_for(lambda: echo.handled == 1)
    assert (rule.hits, echo.exchanges[0].status) == (1, None)


def test_a_delayed_request_is_handled_after_the_delay(echo: Echo, client: requests.Session) -> None:
    """A delay holds back the work, too."""
    rule = echo.inject(Fault(effect=Delay(SILENCE)))
    with pytest.raises(requests.ReadTimeout):
        client.get(echo.url, timeout=IMPATIENT)
    echo.wait_for(lambda: rule.hits == 1)
    assert echo.handled == 0


def test_hooks_are_called_before_and_after_the_work(echo: Echo, client: requests.Session) -> None:
    """A hook sees the request at its point and does not change the answer."""
    seen: list[tuple[str, str, int]] = []

    def note(point: str) -> Callable[[Request], None]:
        return lambda request: seen.append((point, request.path, echo.handled))

    echo.inject(Fault(effect=Call(note("after"), when="after")))
    echo.inject(Fault(effect=Call(note("before"))))
    assert client.get(f"{echo.url}/x", timeout=PATIENCE).status_code == 201
    assert seen == [("before", "/x", 0), ("after", "/x", 1)]


def test_waiting_ends_with_the_request_waited_for(echo: Echo, client: requests.Session) -> None:
    """A waiter wakes up by the request itself; what never comes is a timeout."""
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(echo.wait_for, lambda: echo.count(status=201) == 2, timeout=PATIENCE)
        client.get(echo.url, timeout=PATIENCE)
        assert not waiter.done()
        client.get(echo.url, timeout=PATIENCE)
        waiter.result(PATIENCE)
    with pytest.raises(TimeoutError, match="2 requests"):
        echo.wait_for(lambda: False, timeout=0.01)


def test_stopping_does_not_wait_for_sleepers(certificates: LocalCertificates) -> None:
    """Idle connections are closed, a delayed request is dropped; the time limit is the proof."""
    simulator = Echo(certificates=certificates)
    simulator.start()
    simulator.inject(Fault(effect=Delay(3600), path="/slow"))
    with requests.Session() as session, ThreadPoolExecutor(1) as pool:
        session.trust_env = False
        session.verify = str(certificates.authority)
        session.get(simulator.url, timeout=PATIENCE)
        slow = pool.submit(requests.Session.get, session, f"{simulator.url}/slow", timeout=3000)
        simulator.wait_for(lambda: simulator.requests == 2)
        simulator.stop()
        simulator.stop()
        assert isinstance(slow.exception(PATIENCE), requests.ConnectionError)


def test_a_restarted_simulator_keeps_its_address_and_memory(
    echo: Echo, client: requests.Session
) -> None:
    """An outage: the port refuses while stopped, then answers as before."""
    url = echo.url
    client.get(url, timeout=PATIENCE)
    echo.stop()
    with pytest.raises(requests.ConnectionError):
        client.get(url, timeout=PATIENCE)
    echo.start()
    assert client.get(url, timeout=PATIENCE).status_code == 201
    assert (echo.url, echo.requests) == (url, 2)


def test_a_bug_of_the_simulator_is_not_weather(certificates: LocalCertificates) -> None:
    """The caller sees a 500, and the ``with`` block raises the bug itself."""
    with pytest.raises(ExceptionGroup, match="Echo") as caught:  # noqa: PT012, SIM117 - one act
        with Echo(certificates=certificates) as simulator, requests.Session() as session:
            session.trust_env = False
            got = session.get(
                f"{simulator.url}/bug", verify=str(certificates.authority), timeout=PATIENCE
            )
            assert got.status_code == 500
    assert caught.group_contains(ZeroDivisionError)


def test_a_body_of_unknown_length_is_refused(echo: Echo, client: requests.Session) -> None:
    """Chunked request bodies are not spoken: 411 rather than a request half read."""
    got = client.post(echo.url, data=iter([b"a"]), timeout=PATIENCE)
    assert (got.status_code, echo.requests) == (411, 0)


def test_a_url_exists_only_after_the_first_start(certificates: LocalCertificates) -> None:
    """Asking too early is an error that says so, as is starting twice."""
    simulator = Echo(certificates=certificates)
    with pytest.raises(RuntimeError, match="before its first start"):
        simulator.url  # noqa: B018 - the property raises
    with simulator, pytest.raises(RuntimeError, match="running already"):
        simulator.start()
