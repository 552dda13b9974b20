"""Telemetry, alerts and connector page: to whom, and of what they ask."""

import re
from typing import Any

import pytest

from common.settings import DEFAULT_SCHEDULE
from common.uploads import SOURCE_SYSTEM
from tests.bicep.compiled import BICEP, EXAMPLES, ROOT, app_settings, only, resources, template
from tests.kql.texts import named

ALERT = "Microsoft.Insights/scheduledQueryRules"
COMPONENT = "Microsoft.Insights/components"
LOGS = "Microsoft.OperationalInsights/workspaces"
REPUBLISHED = "LastUpdateMethod != 'LogARepublisher'"

PAGE = only("all-new", "Microsoft.SecurityInsights/dataConnectors")
CONFIG = PAGE.properties["connectorUiConfig"]


def alerts(example: str) -> dict[str, dict[str, Any]]:
    """Return the properties of each alert of an example, by its short name."""
    app = only(example, "Microsoft.Web/sites").name
    found = {
        rule.name.removeprefix(f"{app}-"): rule.properties for rule in resources(example, ALERT)
    }
    assert len(found) == len(resources(example, ALERT))
    return found


def test_an_alert_finds_a_row_when_somebody_should_look() -> None:
    """Each is one of the texts that the parser has checked, and fires on any row."""
    checked = set(named().values())
    for name, alert in alerts("all-new").items():
        (criterion,) = alert["criteria"]["allOf"]
        assert criterion["query"] + "\n" in checked, name
        assert (criterion["operator"], criterion["threshold"]) == ("GreaterThan", 0)
        assert criterion["timeAggregation"] == "Count"
        assert criterion["failingPeriods"] == {
            "numberOfEvaluationPeriods": 1,
            "minFailingPeriodsToAlert": 1,
        }


def test_there_is_a_text_for_each_alert() -> None:
    """The list and the files are one; the one about the secret needs to know its last day."""
    texts = {path.stem for path in BICEP.glob("kql/log/alerts/*.kql")}
    assert alerts("all-new").keys() == texts - {"secret"}
    assert alerts("application").keys() == texts
    changes = template()["definitions"]["alertChangeMap"]["properties"]
    assert changes.keys() == texts


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_alerts_of_every_example_tell_somebody(example: str) -> None:
    """They are on, ask the app's own telemetry, mail an address, end by themselves."""
    group = only(example, "Microsoft.Insights/actionGroups")
    (receiver,) = group.properties["emailReceivers"]
    assert receiver["emailAddress"] == "soc@example.com"
    assert len(group.properties["groupShortName"]) <= 12
    for alert in alerts(example).values():
        assert (alert["enabled"], alert["autoMitigate"]) == (True, True)
        assert alert["scopes"] == [only(example, COMPONENT).id]
        assert alert["actions"] == {"actionGroups": [group.id]}


def test_an_alert_gives_a_run_three_ticks() -> None:
    """One late run is no alarm, three missing ones are."""
    assert DEFAULT_SCHEDULE.split()[1] == "*/15"
    windows = {name: alert["windowSize"] for name, alert in alerts("all-new").items()}
    assert windows.pop("backlog") == "PT1H"
    assert set(windows.values()) == {"PT45M"}


def test_an_alert_names_what_to_read() -> None:
    """Its description ends with a heading of the runbook."""
    headings = re.findall(
        r"^### (.*)$", (ROOT / "docs/runbook.md").read_text("utf-8"), re.MULTILINE
    )
    for name, alert in alerts("application").items():
        assert alert["description"].partition("See docs/runbook.md: ")[2].rstrip(".") in headings, (
            name
        )


@pytest.mark.parametrize("example", EXAMPLES)
def test_telemetry_has_a_workspace_of_its_own(example: str) -> None:
    """Not Sentinel's, where it would be billed at Sentinel's price and mixed with evidence."""
    logs = only(example, LOGS)
    assert logs.properties["sku"] == {"name": "PerGB2018"}
    assert only(example, COMPONENT).properties["WorkspaceResourceId"] == logs.id
    for setting in resources(example, "Microsoft.Insights/diagnosticSettings"):
        assert setting.properties["workspaceId"] == logs.id
    connection = app_settings(example)["APPLICATIONINSIGHTS_CONNECTION_STRING"]
    assert connection.startswith(f"[reference('{only(example, COMPONENT).id}'")


def test_storage_vault_and_app_send_diagnostics() -> None:
    """Each sends its metrics; deletions of code and what happens to secrets are always logged."""
    found = {
        "/".join(setting.id.split("/providers/")[1].split("/")[1::2]): setting.properties
        for setting in resources("all-new", "Microsoft.Insights/diagnosticSettings")
    }
    assert set(found) == {
        "storageAccounts",
        "storageAccounts/blobServices",
        "storageAccounts/queueServices",
        "storageAccounts/tableServices",
        "vaults",
        "sites",
    }
    always = {
        (place, item["category"])
        for place, properties in found.items()
        for item in properties.get("logs", ())
        if item["enabled"]
    }
    assert always == {("storageAccounts/blobServices", "StorageDelete"), ("vaults", "AuditEvent")}
    for properties in found.values():
        assert [item["enabled"] for item in properties["metrics"]] == [True]


def test_the_page_asks_for_our_indicators() -> None:
    """Each of its queries looks at what carries the source system that the uploads carry."""
    queries = [
        *(item["baseQuery"] for item in CONFIG["graphQueries"]),
        *(item["query"] for item in CONFIG["sampleQueries"]),
        *(item["lastDataReceivedQuery"] for item in CONFIG["dataTypes"]),
        *(value for item in CONFIG["connectivityCriteria"] for value in item["value"]),
    ]
    assert len(queries) == 8
    for query in queries:
        assert query.startswith(f"ThreatIntelIndicators\n| where SourceSystem == '{SOURCE_SYSTEM}'")


def test_the_page_judges_the_feed_by_what_it_sends() -> None:
    """Sentinel writes unexpired indicators again by itself: those rows prove nothing.

    learn.microsoft.com/azure/sentinel/work-with-stix-objects-indicators, page of 2026-07-02.
    """
    (graph,) = CONFIG["graphQueries"]
    (type_,) = CONFIG["dataTypes"]
    (criterion,) = CONFIG["connectivityCriteria"]
    (connected,) = criterion["value"]
    for query in (graph["baseQuery"], type_["lastDataReceivedQuery"], connected):
        assert REPUBLISHED in query
    assert criterion["type"] == "IsConnectedQuery"
    assert "project IsConnected = LastReceived > ago(" in connected
    assert "summarize Time = max(TimeGenerated)" in type_["lastDataReceivedQuery"]


def test_the_page_has_the_queries_that_its_users_know() -> None:
    """All, high confidence, addresses, domains, by day; the last of them without the rewritten."""
    queries = {item["description"]: item["query"] for item in CONFIG["sampleQueries"]}
    assert list(queries) == [
        "All indicators",
        "Indicators of high confidence",
        "IPv4 addresses",
        "Domains",
        "Indicators by day",
    ]
    assert "ObservableKey == 'ipv4-addr:value'" in queries["IPv4 addresses"]
    assert "ObservableKey == 'domain-name:value'" in queries["Domains"]
    assert REPUBLISHED in queries["Indicators by day"]


def test_the_page_is_a_preview_of_its_own() -> None:
    """Until it was seen in Sentinel; a second pipeline on the workspace has another one."""
    assert CONFIG["availability"] == {"status": 1, "isPreview": True}
    assert PAGE.body["apiVersion"] == "2025-10-01-preview"
    app = only("all-new", "Microsoft.Web/sites").name
    assert PAGE.name.endswith(f"LumenThreatFeedQueued-{app}")
    assert app in CONFIG["title"]
    steps = " ".join(step["description"] for step in CONFIG["instructionSteps"])
    assert f"**{app}**" in steps
    assert not re.search(r"\{\w+\}", steps)


def test_every_query_is_used() -> None:
    """Each file of bicep/kql is in the template, as it is there."""
    source = "".join(path.read_text(encoding="utf-8") for path in BICEP.glob("modules/*.bicep"))
    for path in BICEP.rglob("*.kql"):
        assert f"loadTextContent('../{path.relative_to(BICEP)}')" in source
