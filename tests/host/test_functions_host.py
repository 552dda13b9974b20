"""The host around the worker: indexing, HTTP routes and keys, admin endpoints, start and stop."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from local.functions_host.host_settings import (
    HostSettings,
    QueueSettings,
    SettingsError,
    parse_host_settings,
    parse_time_span,
    read_host_settings,
    read_local_settings,
    resolve_connection,
    resolve_placeholders,
)
from local.functions_host.process import HostFailedError, HostProcess, child_environment
from local.functions_host.routes import compile_template
from tests.patience import PATIENCE

type Eventually = Callable[[Callable[[], object]], None]
type World = Any


@pytest.fixture
def host(shared_world: World) -> HostProcess:
    """A host of the worker app whose queue functions do not listen."""
    (started,) = shared_world.hosts
    assert isinstance(started, HostProcess)
    return started


def test_defaults_are_azures() -> None:
    """An empty host.json means Azure's defaults."""
    expected = QueueSettings(
        batch_size=16,
        new_batch_threshold=8,
        visibility_timeout=timedelta(0),
        max_dequeue_count=5,
        max_polling_interval=timedelta(minutes=1),
        message_encoding="base64",
    )
    assert parse_host_settings({"version": "2.0"}) == HostSettings(
        queues=expected, function_timeout=timedelta(minutes=30), route_prefix="api"
    )


def test_threshold_follows_batch_size() -> None:
    """newBatchThreshold defaults to half of the batch size; -1 is an unbounded timeout."""
    settings = parse_host_settings(
        {"functionTimeout": "-1", "extensions": {"queues": {"batchSize": 32}}}
    )
    assert settings.queues.new_batch_threshold == 16
    assert settings.queues.max_in_flight == 48
    assert settings.function_timeout is None


def test_all_faults_in_one_message() -> None:
    """Every fault of host.json is named at once."""
    queues = {"batchSize": 33, "visibilityTimeout": "soon", "messageEncoding": "utf8"}
    with pytest.raises(SettingsError) as caught:
        parse_host_settings({"functionTimeout": "long", "extensions": {"queues": queues}})
    for name in (*queues, "functionTimeout"):
        assert name in str(caught.value)


def test_app_settings_override_host_json(tmp_path: Path) -> None:
    """AzureFunctionsJobHost__a__b takes the place of a.b; what it does not name stays."""
    queues = {"batchSize": 16, "newBatchThreshold": 8, "messageEncoding": "none"}
    (tmp_path / "host.json").write_text(json.dumps({"extensions": {"queues": queues}}))
    settings = read_host_settings(
        tmp_path,
        {
            "AzureFunctionsJobHost__extensions__queues__batchSize": "2",
            "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:03",
            "AzureFunctionsJobHost__functionTimeout": "00:01:00",
            "Something": "else",
        },
    )
    assert settings.queues.batch_size == 2
    assert settings.queues.new_batch_threshold == 8
    assert settings.queues.message_encoding == "none"
    assert settings.queues.max_polling_interval == timedelta(seconds=3)
    assert settings.function_timeout == timedelta(minutes=1)


def test_missing_host_json(tmp_path: Path) -> None:
    """A folder without host.json is no function app."""
    with pytest.raises(SettingsError, match=r"host\.json is missing"):
        read_host_settings(tmp_path)


def test_time_spans() -> None:
    """Time spans may have days and fractions."""
    assert parse_time_span("00:00:00.100") == timedelta(milliseconds=100)
    assert parse_time_span("1.02:00:00") == timedelta(hours=26)


def test_local_settings(tmp_path: Path) -> None:
    """local.settings.json gives its Values, and its absence gives none."""
    assert read_local_settings(tmp_path) == {}
    (tmp_path / "local.settings.json").write_text('{"Values": {"A": "1"}}')
    assert read_local_settings(tmp_path) == {"A": "1"}


def test_placeholders() -> None:
    """%NAME% is replaced by an app setting; an unset or empty one is named in the error."""
    assert resolve_placeholders("%Q%-poison", {"Q": "work"}) == "work-poison"
    for settings in ({}, {"Q": ""}):
        with pytest.raises(SettingsError, match="%Q% does not resolve"):
            resolve_placeholders("%Q%", settings)


def test_connections() -> None:
    """A connection is looked up with the AzureWebJobs prefix first; identities are refused."""
    assert resolve_connection("", {"AzureWebJobsStorage": "a"}) == "a"
    assert resolve_connection("S", {"S": "a", "AzureWebJobsS": "b"}) == "b"
    with pytest.raises(SettingsError, match="uses an identity"):
        resolve_connection("S", {"S__queueServiceUri": "https://x"})
    with pytest.raises(SettingsError, match="S is not set"):
        resolve_connection("S", {})


@pytest.mark.parametrize(
    ("template", "path", "params"),
    [
        ("/api/runs/{id}", "/api/Runs/7", {"id": "7"}),
        ("/api/runs/{id}", "/api/runs/7/x", None),
        ("/api/runs/{id?}", "/api/runs", {"id": None}),
        ("/api/runs/{id:int}", "/api/runs/x", None),
        ("/api/{*rest}", "/api/a/b.css", {"rest": "a/b.css"}),
        ("/api/act/{*rest}", "/api/act", {"rest": None}),
        ("/api/act/{*rest}", "/api/act/", {"rest": ""}),
        ("/api/act/{*rest}", "/api/action", None),
        ("/api/a.b", "/api/axb", None),
    ],
)
def test_route_templates(template: str, path: str, params: dict[str, str] | None) -> None:
    """Route templates match whole paths, whatever the case, and capture their parameters."""
    found = compile_template(template).fullmatch(path)
    assert (found.groupdict() if found else None) == params


def test_environment_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the caller's environment does not reach the host process."""
    monkeypatch.setenv("LUMEN_API_KEY", "a-secret")
    assert "a-secret" not in child_environment({"A": "1"}).values()
    assert child_environment({"A": "1"})["A"] == "1"


def test_indexing(host: HostProcess) -> None:
    """The worker's own index gives the functions' names and bindings."""
    names = {"work", "poison", "tick", "hello", "echo", "secret", "crash"}
    assert set(host.functions) == names
    listed = {item["name"]: item for item in host.admin("GET", "/admin/functions").json()}
    assert set(listed) == names
    (binding,) = listed["work"]["bindings"]
    assert (binding["type"], binding["queueName"]) == ("queueTrigger", "%QUEUE%")


def test_broken_app(world: World) -> None:
    """An app that cannot be imported ends the host with status 1 and one line that says where."""
    with pytest.raises(HostFailedError) as caught:
        world.start("broken")
    story, line = str(caught.value).splitlines()
    assert "ended with status 1" in story
    assert "KeyError: 'A_SETTING_NOBODY_SET'" in line
    assert 'function_app.py", line 5' in line


def test_unresolved_setting_puts_one_function_in_error(world: World) -> None:
    """A function whose %NAME% is unset is reported in error while the others are served."""
    host = world.start(settings={"SCHEDULE": ""})
    complaint = "The 'tick' function is in error: %SCHEDULE% does not resolve"
    assert complaint in host.log_text()
    status = host.admin("GET", "/admin/host/status").json()
    assert status["state"] == "Running"
    assert [error for error in status["errors"] if complaint in error]
    assert host.get("/api/hello/x").status_code == 207


def test_http_round_trip(host: HostProcess) -> None:
    """Route, query and trace reach the function; status, headers and body come back."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    answer = host.get("/api/hello/w%C3%B6rld?q=1&q2=2", headers={"traceparent": trace})
    assert answer.status_code == 207
    assert answer.headers["X-Test"] == "yes"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"name": "wörld", "query": "1", "trace": trace}


def test_http_bodies(host: HostProcess) -> None:
    """A body passes both ways byte by byte on one kept-alive connection."""
    with requests.Session() as session:
        for body in (b"", bytes(range(256)) * 400):
            headers = {"Content-Type": "application/octet-stream"}
            answer = session.post(
                f"{host.url}/api/echo", data=body, headers=headers, timeout=PATIENCE
            )
            assert answer.content == body


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/hello/x", "", 401),
        ("/api/hello/x", "wrong", 401),
        ("/api/hello/x", "host", 207),
        ("/api/hello/x", "hello", 207),
        ("/api/hello/x", "secret", 401),
        ("/api/hello/x", "master", 207),
        ("/api/secret", "host", 401),
        ("/api/secret", "secret", 401),
        ("/api/secret", "master", 200),
        ("/api/crash", "", 500),
        ("/api/nothing", "master", 404),
        ("/admin/host/status", "host", 401),
        ("/admin/host/status", "hello", 401),
        ("/admin/host/status", "master", 200),
    ],
)
def test_keys(host: HostProcess, path: str, key: str, status: int) -> None:
    """A function opens to its own key, the host key and the master key, in header or query."""
    keys = {"host": host.host_key, "master": host.master_key, **host.function_keys}
    value = keys.get(key, key)
    in_header = requests.get(host.url + path, headers={"X-Functions-Key": value}, timeout=PATIENCE)
    in_query = requests.get(host.url + path, params={"code": value}, timeout=PATIENCE)
    assert (in_header.status_code, in_query.status_code) == (status, status)


def test_method_is_part_of_the_route(host: HostProcess) -> None:
    """A method that a function does not take is not found, as in the service."""
    assert host.request("POST", "/api/hello/x").status_code == 404


def test_admin_runs_a_timer(host: HostProcess, shared_world: World, eventually: Eventually) -> None:
    """POST /admin/functions runs a timer function now, with the document a timer gets."""
    host.invoke_admin("tick")
    eventually(lambda: shared_world.journal("tick"))
    (tick,) = shared_world.journal("tick")
    assert tick["past_due"] is False
    assert set(tick["status"]) == {"Last", "Next", "LastUpdated"}


def test_admin_runs_a_queue_function(
    host: HostProcess, shared_world: World, eventually: Eventually
) -> None:
    """POST /admin/functions gives its input to a queue function as the message."""
    order = json.dumps({"do": "succeed", "id": "by hand"})
    host.invoke_admin("work", order)
    eventually(lambda: shared_world.journal("end"))
    assert shared_world.journal("end")[0]["text"] == order


def test_admin_refuses_what_it_cannot_run(host: HostProcess) -> None:
    """An unknown function is 404, an HTTP function 400, the host key is not enough."""
    assert host.admin("POST", "/admin/functions/none", json={}).status_code == 404
    assert host.admin("POST", "/admin/functions/hello", json={}).status_code == 400
    assert host.request("POST", "/admin/functions/tick", json={}).status_code == 401


def test_sigterm_drains(world: World, eventually: Eventually) -> None:
    """After SIGTERM what runs ends and is deleted, the rest is untouched, the status is 0."""
    for name in ("1", "2", "3", "4"):
        world.send("wait", name)
    host = world.start()
    eventually(lambda: world.journal("start"))
    host.process.terminate()
    eventually(lambda: "waiting for running invocations" in host.log_text())
    world.release()
    assert host.process.wait(PATIENCE) == 0
    ended = len(world.journal("end"))
    assert ended == len(world.journal("start")) < 4
    assert world.queue_length() == 4 - ended


def test_drain_is_bounded(world: World, eventually: Eventually) -> None:
    """A function that does not end is left behind when the drain's time is over."""
    world.send("wait")
    host = world.start(drain=0.2)
    eventually(lambda: world.journal("start"))
    assert host.terminate() == 0
    assert "still running" in host.log_text()
    assert world.queue_length() == 1


def test_local_settings_are_defaults(world: World, tmp_path: Path, eventually: Eventually) -> None:
    """local.settings.json fills in what the environment lacks, and only that."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "host.json").write_text("{}")
    (app / "local.settings.json").write_text('{"Values": {"A": "file", "B": "file"}}')
    (app / "function_app.py").write_text(
        "import os, azure.functions as func\n"
        "app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)\n"
        "@app.route(route='settings')\n"
        "def settings(req: func.HttpRequest) -> str:\n"
        "    return os.environ['A'] + os.environ['B'] + os.getcwd()\n"
    )
    host = world.start(str(app), settings={"A": "environment"})
    assert host.get("/api/settings").text == f"environmentfile{os.path.realpath(app)}"


def test_timer_fires_on_schedule(world: World, eventually: Eventually) -> None:
    """With timers on, a function runs when it is due, once per due time."""
    world.start(enable=(), timers=True, settings={"SCHEDULE": "* * * * * *"})
    eventually(lambda: len(world.journal("tick")) >= 2)
    first, second = (tick["status"] for tick in world.journal("tick")[:2])
    assert first["Next"] <= second["Last"] < second["Next"]
