"""The operators' API: every operation answers, wrong requests are named, acts are recorded."""

import json
import os
import re
import socket
import time
from dataclasses import replace
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from common.errors import (
    ConflictError,
    CredentialError,
    PipelineError,
    SettingsError,
    ThrottledError,
    UnavailableError,
)
from common.identity import QueryTokens
from common.storage_errors import CALL_WITHIN
from ops import find
from ops.api import answering, slices
from ops.api.answering import answer, match
from ops.api.openapi import document
from ops.api.responses import Response
from ops.api.table import READS, WRITES, Read, Write
from ops.callers import Caller
from ops.cli.direct import READ_WITHIN
from ops.toolbox import Toolbox, open_toolbox
from ops.workspace import open_workspace
from tests.unit.ops.samples import Bench

ROOT = Path(__file__).parents[4]
OPERATOR = Caller(name="Ada")
READER = Caller(name="Rea", may_act=False)
LONGEST_WAIT = 6.0
"""Seconds: the longest wait of a storage client between two tries, and one more."""
LATE = CALL_WITHIN - 1
"""Seconds: without a limit of its own, a call ends when its request to storage does. A busy machine
is slow, but not as slow as that."""
WORKSPACE_LATE = 10.0
"""The same for the workspace, where a token that does not come takes eleven seconds."""

ALL = {"all": True}
GIVEN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("act/poison/replay", "act/poison/discard", "act/rejections/retry"), ALL),
    **dict.fromkeys(("act/chunks/lost", "act/ack"), ALL),
    "act/pause": {"until": "2999-01-01T00:00:00Z"},
    "read/find": {"q": "192.0.2.1"},
}

HALF = r"'\ud800' is not text that UTF-8 can encode"

STRANGER = Caller(name="nobody", may_read=False, may_act=False)


def ask(bench: Bench, method: str, path: str, caller: Caller = OPERATOR, **given: Any) -> Response:
    """Make one call."""
    return answer(lambda: bench.toolbox, method=method, path=path, given=given, caller=caller)


def body(response: Response) -> dict[str, Any]:
    """Return a good answer's values; they are plain JSON."""
    assert response.status is HTTPStatus.OK, response.body
    assert isinstance(response.body, dict)
    found: dict[str, Any] = json.loads(json.dumps(response.body))
    assert found == response.body
    return found


@pytest.mark.parametrize("path", [read.path for read in READS if "{" not in read.path])
def test_everything_can_be_read_of_an_empty_ledger(path: str) -> None:
    """An app that was just deployed answers everything."""
    assert body(ask(Bench(), "GET", path, READER, **GIVEN.get(path, {})))


@pytest.mark.parametrize("path", [write.path for write in WRITES])
def test_only_an_operator_may_act(path: str) -> None:
    """A reader is told so, and nothing is recorded."""
    bench = Bench()
    assert ask(bench, "POST", path, READER).status is HTTPStatus.FORBIDDEN
    assert list(bench.toolbox.ledger.acts.latest()) == []


def test_a_stranger_may_not_read() -> None:
    """Somebody who is signed in without a role."""
    assert ask(Bench(), "GET", "read/status", STRANGER).status is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(("caller", "count"), [(OPERATOR, len(WRITES)), (READER, 0)])
def test_the_acts_that_a_caller_may_do_are_listed(caller: Caller, count: int) -> None:
    """So that a page offers only what is allowed."""
    found = body(ask(Bench(), "GET", "act", caller))
    assert (found["name"], len(found["acts"])) == (caller.name, count)


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "said"),
    [
        ("GET", "read/nothing", {}, 404, "nothing at read/nothing"),
        ("POST", "read/status", {}, 405, "use GET"),
        ("GET", "act/ack", {}, 405, "use POST"),
        ("GET", "read/status", {"runs": "0"}, 400, "parameter runs"),
        ("GET", "read/status", {"runs": "many"}, 400, "parameter runs"),
        ("GET", "read/status", {"runs": "9" * 5000}, 400, "parameter runs"),
        ("GET", "read/status", {"colour": "red"}, 400, "no parameter `colour`"),
        ("GET", "read/find", {}, 400, "parameter `q`"),
        ("GET", "read/find", {"q": " . "}, 400, "give an address"),
        ("GET", "read/find", {"q": "x" * 301}, 400, "parameter q"),
        ("GET", "read/runs/x", {}, 404, "no run called x"),
        ("GET", "read/poison/x", {}, 404, "no poison called x"),
        ("POST", "act/poison/replay", {}, 400, "choose in one way"),
        ("POST", "act/poison/replay", {"all": True, "reason": "x"}, 400, "choose in one way"),
        ("POST", "act/poison/replay", {"names": ["a/b"]}, 404, "no poison called a/b"),
        ("POST", "act/poison/replay", {"names": "a"}, 400, "parameter names"),
        ("POST", "act/rejections/retry", {"names": ["a"]}, 404, "no rejection called a"),
        ("POST", "act/purge", {"days": 0}, 400, "parameter days"),
        ("POST", "act/purge", {"days": "90"}, 400, "parameter days"),
        ("POST", "act/purge", {"dryRun": 0}, 400, "parameter dryRun"),
        ("GET", "read/problems", {"ended": "perhaps"}, 400, "parameter ended"),
        ("POST", "act/pause", {"until": "2025-01-01T00:00:00Z"}, 400, "has passed"),
        ("POST", "act/pause", {"until": "2026-01-09T00:00:00Z"}, 400, "too far away"),
        ("POST", "act/pause", {"until": "2026-01-02T00:00:00"}, 400, "parameter until"),
        ("POST", "act/pause", {}, 400, "parameter `until`"),
        ("POST", "act/sync", {"full": True, "takeBack": True}, 400, "exclude each other"),
        ("POST", "act/sync", {"full": True}, 400, "no sync run is on record"),
        ("POST", "act/ack", {"all": True, "note": "n" * 301}, 400, "parameter note"),
        ("POST", "act/rejections/retry", {"run": "\ud800"}, 400, HALF),
        ("POST", "act/poison/replay", {"names": ["\ud800"]}, 400, HALF),
        ("POST", "act/ack", {"all": True, "\ud800": 1}, 400, HALF),
        ("GET", "read/find", {"q": "\ud800"}, 400, HALF),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    method: str, path: str, given: dict[str, Any], status: int, said: str
) -> None:
    """A status of the 400s and one sentence."""
    response = ask(Bench(), method, path, **given)
    assert response.status == status
    assert isinstance(response.body, dict)
    assert said in response.body["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("away"), 503),
        (ThrottledError("away"), 503),
        (CredentialError("away"), 503),
        (ConflictError("away"), 409),
        (SettingsError(["away"]), 500),
    ],
)
def test_trouble_of_services_has_a_status(error: PipelineError, status: int) -> None:
    """And the reason, so that it is not taken for the feed's state."""
    bench = Bench()

    def fail(_table: str, _operation: str) -> None:
        raise error

    bench.tables.before = fail
    response = ask(bench, "GET", "read/status")
    assert response.status == status
    assert isinstance(response.body, dict)
    assert "away" in response.body["error"]


def test_poison_is_listed_by_pages_and_grouped_by_reason() -> None:
    """Pages go on behind the token, also when what came before is settled in between."""
    bench = Bench()
    for number in range(5):
        bench.poison(number, reason="odd" if number % 2 else "even")
        bench.clock.advance(1)
    first = body(ask(bench, "GET", "read/poison", limit=2))
    names = [row["poison"] for row in first["poison"]]
    body(ask(bench, "POST", "act/poison/replay", names=names))
    second = body(ask(bench, "GET", "read/poison", limit=2, after=first["next"]))
    third = body(ask(bench, "GET", "read/poison", limit=2, after=second["next"]))
    assert (first["total"], first["indicators"], third["next"]) == (5, 10, None)
    assert {row["reason"]: row["messages"] for row in first["groups"]} == {"even": 3, "odd": 2}
    shown = [*first["poison"], *second["poison"], *third["poison"]]
    assert len({row["poison"] for row in shown}) == 5


@pytest.mark.parametrize("settled", [False, True])
def test_a_page_of_poison_costs_what_it_shows(settled: bool) -> None:
    """Only the first one reads everything, to group it: a long list is read twice, not again."""
    bench = Bench()
    count, limit = 300, 10
    for number in range(count):
        bench.poison(number)
    if settled:
        body(ask(bench, "POST", "act/poison/discard", reason="broken"))
        bench.poison(7)  # kept once more: one entry all the same
    bench.tables.rows_read = 0
    names, token, read = [], "", []
    while token is not None:
        page = body(ask(bench, "GET", "read/poison", limit=limit, after=token, settled=settled))
        names += [row["poison"] for row in page["poison"]]
        token = page["next"]
        read.append(bench.tables.rows_read)
    assert names == sorted(set(names))
    assert len(names) == count
    # The fake reads a query whole; what is read behind the token falls from page to page.
    assert all(later - before <= count + 2 for before, later in pairwise(read))
    assert read[-1] - read[-2] <= limit + 2


@pytest.mark.parametrize("count", [1, 3, 4, 6, 7, 12])
def test_a_later_slice_reads_no_more_than_it_can_handle(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one counts all that is left; nothing is left out, and nothing done twice."""
    monkeypatch.setattr("ops.api.acting.LOOK_AHEAD", 3)
    bench = Bench()
    for number in range(count):
        bench.poison(number)
    handled: list[str] = []
    token, left = "0", []
    while token is not None:
        found = body(ask(bench, "POST", "act/poison/replay", all=True, after=token))
        handled += [row["poison"] for row in found["handled"]]
        left.append(found["remaining"])
        token = found["next"]
    assert len(handled) == len(set(handled)) == len(bench.queue.sent) == count
    assert len(left) == -(-count // 3)
    assert left == [1] * (len(left) - 1) + [0]


def test_a_later_slice_of_names_reads_no_more_than_it_can_handle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one reads all, so that nothing is done if one is wrong; each is handled once."""
    monkeypatch.setattr("ops.api.acting.NAMED_AHEAD", 3)
    bench = Bench()
    names = [bench.poison(number).name for number in range(12)]
    calls: list[str] = []
    bench.tables.before = lambda _table, operation: calls.append(operation)
    handled: list[str] = []
    token: str | None = ""
    read = []
    while token is not None:
        calls.clear()
        given: dict[str, Any] = {"names": names, "after": token, "dryRun": True}
        found = body(ask(bench, "POST", "act/poison/discard", **given))
        handled += [row["poison"] for row in found["handled"]]
        read.append(calls.count("get"))
        token = found["next"]
    assert handled == names
    assert read[0] >= len(names)
    assert len(read) == 4
    assert max(read[1:]) <= 3 + 1 + 2 * 3  # once before the slice; then record and chunk of each
    wrong = ask(bench, "POST", "act/poison/discard", names=[*names, "no/such"])
    assert wrong.status is HTTPStatus.NOT_FOUND
    assert body(ask(bench, "GET", "read/poison"))["total"] == len(names)


def test_a_slice_does_not_look_at_what_was_done_before() -> None:
    """Neither at entries nor at names before its token."""
    bench = Bench()
    names = [bench.poison(number).name for number in range(50)]
    for choice in ({"all": True}, {"names": names}):
        bench.tables.rows_read = 0
        given: dict[str, Any] = {**choice, "after": names[44], "dryRun": True}
        done = body(ask(bench, "POST", "act/poison/replay", **given))
        assert [row["poison"] for row in done["handled"]] == names[45:]
        assert bench.tables.rows_read <= 6


def test_long_work_is_done_in_slices() -> None:
    """Each call says what is left; the token leads to the end, and each is handled once."""
    bench = Bench()
    for number in range(5):
        bench.poison(number)
    bench.tables.before = lambda _table, _operation: bench.clock.advance(slices.SLICE)
    handled: list[str] = []
    token, left = "", []
    while token is not None:
        found = body(ask(bench, "POST", "act/poison/replay", all=True, after=token))
        handled += [row["poison"] for row in found["handled"]]
        left.append(found["remaining"])
        token = found["next"]
    assert left == [4, 3, 2, 1, 0]
    assert len(handled) == len(set(handled)) == 5


def test_a_slice_that_meets_a_fault_tells_what_was_done() -> None:
    """What was done before it is not lost from sight; the next call meets it and says so."""
    bench = Bench()
    for number in range(3):
        bench.poison(number)
    sent: list[str] = []

    def fail(text: str) -> None:
        if len(sent) == 2:
            raise UnavailableError("queue sentinel-upload cannot be reached")
        sent.append(text)

    bench.queue.before = fail
    found = body(ask(bench, "POST", "act/poison/replay", all=True))
    assert (found["totals"], found["remaining"]) == ({"replayed": 2}, 1)
    again = ask(bench, "POST", "act/poison/replay", all=True)
    assert again.status is HTTPStatus.SERVICE_UNAVAILABLE
    bench.queue.before = lambda _text: None
    assert body(ask(bench, "POST", "act/poison/replay", all=True))["remaining"] == 0
    assert len(bench.queue.sent) == 3


@pytest.mark.parametrize("operation", [*READS, *WRITES], ids=lambda operation: operation.path)
def test_storage_that_never_answers_ends_no_call_late(
    operation: Read | Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts the connection and is silent; the answer says what was waited for."""
    monkeypatch.setattr(answering, "ANSWER_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/account"
        connection = (
            f"AccountName=a;AccountKey=a2V5;QueueEndpoint={address};TableEndpoint={address}"
        )
        monkeypatch.setenv("PipelineStorage", f"DefaultEndpointsProtocol=http;{connection}")
        method = "GET" if isinstance(operation, Read) else "POST"
        path = operation.path.replace("{id}", "x")
        begun = time.monotonic()
        response = answer(
            open_toolbox, method=method, path=path, given=GIVEN.get(path, {}), caller=OPERATOR
        )
        assert time.monotonic() - begun < LATE
    assert isinstance(response.body, dict)
    if operation.path == "read/doctor":  # that is its answer
        assert not response.body["is_well"]
        return
    assert response.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert re.search("table|queue", response.body["error"])


@pytest.mark.parametrize("silent", ["ENTRA_AUTHORITY_HOST", "SENTINEL_QUERY_URL"])
def test_a_workspace_that_never_answers_costs_its_own_part_alone(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entra or the query API accept and are silent; the ledger's part comes all the same."""
    monkeypatch.setattr(find, "WORKSPACE_WITHIN", 0.2)
    guid = "00000000-0000-4000-8000-000000000000"
    for name in ("WORKSPACE_ID", "TENANT_ID", "CLIENT_ID"):
        monkeypatch.setenv(name, guid)
    monkeypatch.setenv("CLIENT_SECRET", "secret")
    monkeypatch.setattr(QueryTokens, "get_token", token_of(silent))
    indicator = "indicator--00000000-0000-4000-8000-000000000001"
    bench = Bench()
    bench.hold(indicator)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(silent, f"https://127.0.0.1:{server.getsockname()[1]}")
        toolbox = replace(bench.toolbox, workspace=lambda: open_workspace(bench.clock))
        begun = time.monotonic()
        response = answer(
            lambda: toolbox,
            method="GET",
            path="read/find",
            given={"q": indicator},
            caller=READER,
        )
        assert time.monotonic() - begun < WORKSPACE_LATE
    found = body(response)
    assert not found["workspace"]["was_asked"]
    assert found["ledger"]["indicators"][0]["is"] == "on its way"


def token_of(silent: str) -> Any:
    """Return the real way to a token, or one that needs no Entra."""
    if silent == "ENTRA_AUTHORITY_HOST":
        return QueryTokens.get_token
    return lambda *_scopes, **_options: AccessToken("token", 2_000_000_000)


def test_the_limits_of_a_call_leave_room() -> None:
    """A wait of the client's own may begin right before the end."""
    assert answering.ANSWER_WITHIN + LONGEST_WAIT <= 30
    assert slices.SLICE < answering.ANSWER_WITHIN
    assert find.WORKSPACE_WITHIN + find.SPARE < READ_WITHIN < answering.ANSWER_WITHIN


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_act_is_recorded_unless_it_is_only_said(dry_run: bool) -> None:
    """With who, why, on what and what came of it."""
    bench = Bench()
    bench.poison(0)
    given: dict[str, Any] = {"all": True, "dryRun": dry_run, "note": "fixed"}
    body(ask(bench, "POST", "act/poison/discard", **given))
    acts = body(ask(bench, "GET", "read/acts"))["acts"]
    expected = {
        "at": "2026-01-01T00:00:00+00:00",
        "by": "Ada",
        "act": "poison discard",
        "on": "all",
        "note": "fixed",
        "result": "1 discarded",
    }
    assert acts == ([] if dry_run else [expected])


def test_a_pause_shows_until_it_is_ended() -> None:
    """In the status; ending it twice says so."""
    bench = Bench()
    body(ask(bench, "POST", "act/pause", until="2026-01-02T00:00:00Z"))
    assert body(ask(bench, "GET", "read/status"))["health"] == "paused"
    assert body(ask(bench, "POST", "act/resume")) == {"was_paused": True}
    assert body(ask(bench, "POST", "act/resume")) == {"was_paused": False}


def test_a_run_that_was_asked_for_can_be_taken_back() -> None:
    """Once; the message that wakes the producer then finds nothing to do."""
    bench = Bench()
    bench.run()
    assert body(ask(bench, "POST", "act/sync", full=True))["full"] is True
    assert body(ask(bench, "POST", "act/sync", takeBack=True))["taken_back"] is True
    assert body(ask(bench, "POST", "act/sync", takeBack=True))["taken_back"] is False


def test_an_act_that_cannot_be_recorded_is_not_done() -> None:
    """Nothing changes that no record tells of."""
    bench = Bench()
    bench.poison(0)

    def fail(table: str, operation: str) -> None:
        if (table, operation) == ("acts", "merge"):
            raise UnavailableError("away")

    bench.tables.before = fail
    assert ask(bench, "POST", "act/poison/discard", all=True).status == 503
    assert body(ask(bench, "GET", "read/poison"))["total"] == 1


def test_an_act_whose_result_cannot_be_recorded_is_done_all_the_same() -> None:
    """The caller hears what was done; the record has no result."""
    bench = Bench()
    bench.poison(0)

    def fail(table: str, operation: str) -> None:
        if (table, operation) == ("acts", "update"):
            raise UnavailableError("away")

    bench.tables.before = fail
    assert body(ask(bench, "POST", "act/poison/discard", all=True))["totals"] == {"discarded": 1}
    (act,) = bench.toolbox.ledger.acts.latest()
    assert act.result == ""


def test_an_act_that_fails_says_so_in_its_record() -> None:
    """The record tells the error."""
    bench = Bench()
    assert ask(bench, "POST", "act/ack").status == 400
    (act,) = bench.toolbox.ledger.acts.latest()
    assert act.result.startswith("failed: choose in one way")


def test_one_thing_is_found_by_the_beginning_of_its_name() -> None:
    """Where only one begins so."""
    bench = Bench()
    record = bench.poison(0)
    bench.poison(1)
    assert body(ask(bench, "GET", f"read/poison/{record.name}"))["poison"] == record.name
    assert body(ask(bench, "GET", f"read/poison/{record.name[:-2]}"))["poison"] == record.name
    assert ask(bench, "GET", f"read/poison/{record.run_id}").status == 400
    run = bench.run()
    assert body(ask(bench, "GET", f"read/runs/{run.run_id[:12]}"))["run"]["run"] == run.run_id


@pytest.mark.parametrize(
    ("template", "path", "found"),
    [
        ("read/runs", "read/runs", {}),
        ("read/runs", "read/runs/x", None),
        ("read/runs/{id}", "read/runs/x", {"id": "x"}),
        ("read/runs/{id}", "read/runs", None),
        ("read/runs/{id}", "read/runs/", None),
        ("read/poison/{id}", "read/poison/run/chunk", {"id": "run/chunk"}),
    ],
)
def test_a_path_is_matched(template: str, path: str, found: dict[str, str] | None) -> None:
    """The name at the end takes the rest."""
    assert match(template, path) == found


def test_the_openapi_document_is_the_one_in_the_repository() -> None:
    """`python -m ops.api.openapi > docs/openapi.json` writes it."""
    assert json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8")) == document()


def test_the_doctor_answers_while_no_toolbox_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the storage settings wrong, too: that is a line, and what needs them is not asked."""
    for name in list(os.environ):
        if name.startswith("PipelineStorage"):
            monkeypatch.delenv(name)

    def no_toolbox() -> Toolbox:
        raise SettingsError(["PipelineStorage: is required and not set"])

    found = answer(no_toolbox, method="GET", path="read/doctor", given={}, caller=READER)
    assert isinstance(found.body, dict)
    lines = {line["name"]: line for line in found.body["lines"]}
    assert (found.status, found.body["is_well"]) == (HTTPStatus.OK, False)
    assert lines["storage settings"]["state"] == "problem"
    assert lines["tables"]["state"] == "not asked"
