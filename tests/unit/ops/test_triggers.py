"""The operators' HTTP functions: what they make of a request, and of an answer."""

import base64
import json
import threading

import azure.functions as func
import pytest

from common.errors import UnavailableError
from common.ledger.arrivals import LastCheck
from common.ledger.pulses import Books, Pulse
from ops import triggers
from ops.health_word import KEPT_FOR, HealthWord
from tests.patience import PATIENCE
from tests.unit.ops.samples import Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench behind the functions."""
    bench = Bench()
    word = HealthWord(lambda: bench.toolbox, clock=bench.clock)
    monkeypatch.setattr(triggers, "_toolbox", lambda: bench.toolbox)
    monkeypatch.setattr(triggers, "_health_word", lambda: word)
    return bench


def request(
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    **query: str,
) -> func.HttpRequest:
    """Return a request as the worker gives it to a function."""
    return func.HttpRequest(
        method=method,
        url=f"https://app/api/{path}",
        headers=headers or {},
        params=query,
        route_params={"path": path.partition("/")[2]},
        body=body,
    )


def call(function: object, given: func.HttpRequest) -> func.HttpResponse:
    """Call a function of the blueprint."""
    assert callable(function)
    response: func.HttpResponse = function.build().get_user_function()(given)  # type: ignore[attr-defined]
    return response


@pytest.mark.usefixtures("bench")
def test_an_answer_is_json_that_no_cache_keeps_and_no_page_runs() -> None:
    """The security headers are on every answer."""
    response = call(triggers.read, request("GET", "read/status", code="a key"))
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert dict(response.headers) == triggers.SECURITY_HEADERS
    assert json.loads(response.get_body())["queue_depth"] == 0


@pytest.mark.usefixtures("bench")
def test_a_list_is_csv_where_the_caller_wants_that() -> None:
    """By the header `Accept`."""
    response = call(
        triggers.read, request("GET", "read/rejections", headers={"accept": "text/csv"})
    )
    assert (response.status_code, response.mimetype) == (200, "text/csv")


JSON = "application/json"


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize(
    ("body", "kind", "query", "status"),
    [
        (b"[]", JSON, {}, 400),
        (b"{", JSON, {}, 400),
        (b"\xff", JSON, {}, 400),
        (b"", JSON, {}, 400),
        (b"[" * 100_000, JSON, {}, 400),
        (b"{}", JSON, {"all": "true"}, 400),
        (b"{}", "", {}, 415),
        (b"{}", "text/plain", {}, 415),
        (b"all=true", "application/x-www-form-urlencoded", {}, 415),
        (b" " * (triggers.MAX_BODY + 1), JSON, {}, 413),
        (b'{"all":true}', "Application/JSON; charset=utf-8", {"code": "a key"}, 200),
    ],
)
def test_the_body_of_an_act_is_a_json_object(
    body: bytes, kind: str, query: dict[str, str], status: int
) -> None:
    """Of that type, too: no form of another site can send it. Parameters are nowhere else."""
    headers = {"content-type": kind}
    given = request("POST", "act/poison/replay", body=body, headers=headers, **query)
    response = call(triggers.act, given)
    assert (response.status_code, "error" in json.loads(response.get_body())) == (
        status,
        status != 200,
    )


GUID = "33333333-3333-3333-3333-333333333333"
SIGNED_IN = {"OPERATOR_CLIENT_ID": GUID, "WEBSITE_AUTH_ENABLED": "True"}


def token(*roles: str) -> dict[str, str]:
    """Return the headers of a request of a person with these roles."""
    claims = [{"typ": "upn", "val": "ana@example.com"}]
    claims += [{"typ": "roles", "val": role} for role in roles]
    text = json.dumps({"claims": claims}).encode()
    return {"x-ms-client-principal": base64.b64encode(text).decode(), "content-type": JSON}


@pytest.mark.parametrize(
    ("environ", "headers", "statuses"),
    [
        (SIGNED_IN, {"content-type": JSON}, (401, 401)),
        (SIGNED_IN, token(), (403, 403)),
        (SIGNED_IN, token("reader"), (200, 403)),
        (SIGNED_IN, token("operator"), (200, 200)),
        ({"OPERATOR_CLIENT_ID": GUID}, token("operator"), (500, 500)),
        ({"OPERATOR_CLIENT_ID": "ops"}, token("operator"), (500, 500)),
        ({}, token(), (200, 200)),
    ],
)
def test_who_has_signed_in_may_do_what_the_roles_say(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    headers: dict[str, str],
    statuses: tuple[int, int],
) -> None:
    """Health stays open; what only a setting says, and App Service does not, opens nothing."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    bench.poison(0)
    body = b'{"all":true}'
    discard = request("POST", "act/poison/discard", body=body, headers=headers)
    read = call(triggers.read, request("GET", "read/status", headers=headers))
    act = call(triggers.act, discard)
    which = call(triggers.act, request("GET", "act/", headers=headers))
    assert (read.status_code, act.status_code) == statuses
    has_acted = act.status_code == 200
    assert bool(json.loads(which.get_body()).get("acts")) is has_acted
    name = "ana@example.com" if environ else "a key"
    assert [one.by for one in bench.toolbox.ledger.acts.latest()] == [name] * has_acted
    assert bench.row(0).fate.discarded == 2 * has_acted
    assert call(triggers.health, request("GET", "health")).status_code == 503


def test_an_act_names_the_operator(bench: Bench) -> None:
    """By the header that the operator's program sends."""
    bench.poison(0)
    body = json.dumps({"all": True}).encode()
    given = request(
        "POST", "act/poison/replay", body=body, headers={"x-operator": "Ada", "content-type": JSON}
    )
    assert call(triggers.act, given).status_code == 200
    (act,) = bench.toolbox.ledger.acts.latest()
    assert act.by == "Ada"


@pytest.mark.parametrize(
    ("verdict", "age_minutes", "expected"),
    [
        ("healthy", 1, (200, "healthy")),
        ("degraded", 1, (200, "degraded")),
        ("paused", 1, (200, "paused")),
        ("down", 1, (503, "down")),
        ("healthy", 60, (503, "unknown")),
        ("wonderful", 1, (503, "unknown")),
        (None, 0, (503, "unknown")),
    ],
)
def test_health_is_one_word(
    bench: Bench, verdict: str | None, age_minutes: int, expected: tuple[int, str]
) -> None:
    """From the last pulse; without a fresh one it is unknown."""
    if verdict is not None:
        bench.toolbox.ledger.pulses.write(Pulse(at=bench.clock.now(), verdict=verdict), Books())
    bench.clock.advance(60 * age_minutes)
    response = call(triggers.health, request("GET", "health"))
    assert (response.status_code, json.loads(response.get_body())["health"]) == expected


def test_probes_do_not_wait_for_the_one_that_asks(bench: Bench) -> None:
    """They get the last word at once, *unknown* before there is one; a hung storage holds one."""
    bench.toolbox.ledger.pulses.write(Pulse(at=bench.clock.now(), verdict="healthy"), Books())
    asked: list[str] = []
    others: list[str] = []

    def another(_table: str, operation: str) -> None:
        asked.append(operation)
        thread = threading.Thread(target=lambda: others.append(word.get()))
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()

    bench.tables.before = another
    word = HealthWord(lambda: bench.toolbox, clock=bench.clock)
    assert word.get() == "healthy"
    bench.clock.advance(KEPT_FOR)
    assert word.get() == "healthy"
    assert others == ["unknown", "healthy"]
    assert len(asked) == 2


def test_health_asks_the_storage_at_most_every_ten_seconds(bench: Bench) -> None:
    """A flood of probes costs nothing; after ten seconds the word is asked for once more."""
    calls: list[str] = []
    bench.tables.before = lambda table, _operation: calls.append(table)
    for _ in range(5):
        call(triggers.health, request("GET", "health"))
    assert calls == ["pulses"]
    bench.clock.advance(11)
    call(triggers.health, request("GET", "health"))
    assert calls == ["pulses"] * 2


def check(monkeypatch: pytest.MonkeyPatch, bench: Bench, value: str) -> LastCheck | None:
    """Fire the timer of arrivals under a setting; return what is kept of the check."""
    monkeypatch.setenv("ARRIVAL_CHECK", value)
    triggers._arrival_tools.cache_clear()
    triggers.arrival_check.build().get_user_function()(None)
    return bench.toolbox.ledger.arrivals.read().last


@pytest.mark.parametrize(("value", "is_off"), [("", False), ("true", False), ("false", True)])
def test_the_check_of_arrivals_can_be_switched_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, value: str, *, is_off: bool
) -> None:
    """By the setting as it is at each call."""
    last = check(monkeypatch, bench, value)
    assert last is not None
    assert (last.is_off, last.trouble) == (is_off, "")


def test_a_check_that_cannot_be_made_fails_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong setting, or a storage that is away: one line says why."""
    caplog.set_level("INFO")
    assert check(monkeypatch, bench, "perhaps") is None
    assert "ARRIVAL_CHECK: 'perhaps' is neither" in caplog.text

    def away(table: str, operation: str) -> None:
        raise UnavailableError("table control cannot be reached")

    bench.tables.before = away
    with pytest.raises(UnavailableError):
        check(monkeypatch, bench, "true")  # of the look behind it: the check itself returned
    assert "table control cannot be reached" in caplog.text
