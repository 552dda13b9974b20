"""The simulated workspace: when rows show, what is left out, and how it refuses."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import requests

from local.services.log_analytics import COLUMNS, LogAnalyticsApi
from local.services.tls import LocalCertificates
from tests.patience import PATIENCE
from tests.unit.local.conftest import Clock

WORKSPACE = "11111111-2222-4333-8444-555555555555"
DAY = "PT86400.0S"

Ask = Callable[..., requests.Response]


@pytest.fixture
def workspace(certificates: LocalCertificates, clock: Clock) -> Iterator[LogAnalyticsApi]:
    """A running workspace that knows one caller."""
    with LogAnalyticsApi(
        workspace_id=WORKSPACE,
        token_is_valid={"good": "app"}.get,
        certificates=certificates,
        wall_clock=clock,
    ) as simulator:
        yield simulator


def text(value: object, columns: Sequence[str] = ("StixId",), *, republished: bool = True) -> str:
    """Return a query for values, as those who ask write it."""
    encoded = base64.b64encode(json.dumps(value).encode()).decode()
    without = "" if republished else '| where LastUpdateMethod != "LogARepublisher"\n'
    return (
        f"let asked = parse_json(base64_decode_tostring('{encoded}'));\n"
        f"ThreatIntelIndicators\n{without}| project {', '.join(columns)}\n"
    )


@pytest.fixture
def ask(workspace: LogAnalyticsApi, client: requests.Session) -> Ask:
    """Send a query."""

    def send(
        query: str, *, token: str = "good", workspace_id: str = WORKSPACE, span: str = DAY
    ) -> Any:
        return client.post(
            f"{workspace.url}/v1/workspaces/{workspace_id}/query",
            json={"query": query, "timespan": span},
            headers={"Authorization": f"Bearer {token}"},
            timeout=PATIENCE,
        )

    return send


def rows(response: requests.Response) -> list[list[Any]]:
    """Return the rows of an answer."""
    found: list[list[Any]] = response.json()["tables"][0]["rows"]
    return found


def indicator(number: int, **changes: Any) -> dict[str, Any]:
    """Return an indicator as Sentinel accepts it."""
    return {
        "id": f"indicator--{number}",
        "modified": "2026-01-01T00:00:00Z",
        "pattern": f"[domain-name:value = 'h{number}.example']",
        "confidence": 80,
        **changes,
    }


def test_a_row_shows_after_the_delay(workspace: LogAnalyticsApi, ask: Ask, clock: Clock) -> None:
    """And with the moment at which it did."""
    workspace.behaviour.delay = 60.0
    workspace.ingest([indicator(1)])
    assert rows(ask(text(["indicator--1"]))) == []
    clock.now += 60
    assert rows(ask(text(["indicator--1", "indicator--2"]))) == [["indicator--1"]]
    clock.now += 86_401
    assert rows(ask(text(["indicator--1"]))) == []


def test_it_has_the_shape_of_the_real_table(workspace: LogAnalyticsApi, ask: Ask) -> None:
    """Every column; the column `Id` is not the STIX id."""
    workspace.ingest([indicator(1, valid_until="2030-01-01T00:00:00Z")])
    response = ask(text(["indicator--1"], list(COLUMNS)))
    (row,) = rows(response)
    found = dict(zip(COLUMNS, row, strict=True))
    assert found["Id"] == "THVtZW4=---indicator--1"
    assert json.loads(found["Data"])["id"] == found["StixId"] == "indicator--1"
    assert (found["IsActive"], found["IsRepublished"], found["Confidence"]) == (True, False, 80)
    assert found["TimeGenerated"] == found["ArrivedAt"] == "2027-01-15T08:00:00Z"
    kinds = {one["name"]: one["type"] for one in response.json()["tables"][0]["columns"]}
    assert kinds == {name: kind for name, (kind, _) in COLUMNS.items()}


@pytest.mark.parametrize("asked", ["h1.example", "H1.example", "indicator--1"])
def test_one_is_found_by_its_value_or_id(workspace: LogAnalyticsApi, ask: Ask, asked: str) -> None:
    """Upper and lower case are one; of several rows the newest is the answer."""
    workspace.ingest([indicator(1), indicator(2), indicator(1, confidence=7)])
    assert rows(ask(text(asked, ["StixId", "Confidence"]))) == [["indicator--1", 7]]
    assert rows(ask(text("a'; b | c"))) == []


def test_what_is_written_again_can_be_left_out(workspace: LogAnalyticsApi, ask: Ask) -> None:
    """The rows from before stay, unless they are gone."""
    workspace.ingest([indicator(1)])
    workspace.republish()
    columns = ["StixId", "IsRepublished"]
    assert rows(ask(text(["indicator--1"], columns))) == [["indicator--1", True]]
    without = text(["indicator--1"], columns, republished=False)
    assert rows(ask(without)) == [["indicator--1", False]]
    counts = "ThreatIntelIndicators | summarize Recent = countif(a), Republished = countif(b)"
    assert rows(ask(counts)) == [[2, 1]]
    workspace.republish(originals_stay=False)
    assert rows(ask(without)) == []


def test_older_rows_count_while_they_are_valid(
    workspace: LogAnalyticsApi, ask: Ask, clock: Clock
) -> None:
    """Rows that ended meanwhile, or were revoked, are not among those to write again."""
    workspace.behaviour.delay = -11 * 86_400.0
    ends = {"valid_until": "2030-01-01T00:00:00Z"}
    workspace.ingest(
        [
            indicator(1, **ends),
            indicator(2, **ends, revoked=True),
            indicator(3, valid_until="2027-01-14T00:00:00Z"),
        ]
    )
    query = "ThreatIntelIndicators | summarize Recent = countif(a), Older = countif(b)"
    assert rows(ask(query, span="PT1728000.0S")) == [[0, 1]]


def test_rules_drop_and_change(workspace: LogAnalyticsApi, ask: Ask) -> None:
    """Before a row is written."""
    workspace.behaviour.drop = lambda found: found["id"] == "indicator--1"
    workspace.behaviour.change = lambda found: {**found, "confidence": 1}
    workspace.ingest([indicator(1), indicator(2)])
    asked = text(["indicator--1", "indicator--2"], ["StixId", "Confidence"])
    assert rows(ask(asked)) == [["indicator--2", 1]]


def test_how_it_refuses(workspace: LogAnalyticsApi, ask: Ask) -> None:
    """Token, workspace, network, role, table, in this order; a part of an answer says so."""
    workspace.ingest([indicator(1), indicator(2)])
    query = text(["indicator--1", "indicator--2"])
    assert ask(query, token="bad").status_code == 401
    assert ask(query, workspace_id=WORKSPACE.replace("1", "9")).status_code == 404
    behaviour = workspace.behaviour
    behaviour.partial = True
    assert ask(query).json()["error"]["code"] == "PartialError"
    assert len(rows(ask(query))) == 1
    behaviour.has_table = False
    assert "SEM0100" in ask(query).text
    assert ask("Heartbeat").status_code == 400
    behaviour.role_granted = False
    assert "insufficient access" in ask(query).text
    behaviour.private_only = True
    refused = ask(query)
    assert (refused.status_code, "private endpoint" in refused.text) == (403, True)
