"""Alert and connector page ask for what the code writes."""

import re

from common.events import Event
from common.settings import DEFAULT_SCHEDULE
from consumer.sentinel import SOURCE_SYSTEM
from tests.bicep.template import BICEP, MAIN, load, names_in, parse_values, resources

ALERT = load(BICEP / "modules/alert-no-complete-sync.bicep")
PAGE = load(BICEP / "modules/sentinel-page.bicep")


def test_the_alert_waits_for_the_event_of_success() -> None:
    """It counts the line that a complete sync run logs, as the code spells it."""
    query = ALERT.variables["completeRuns"]
    assert re.findall(r'startswith "(.*?) "', query) == [Event.SYNC_COMPLETE.value]
    (criterion,) = ALERT.resources["alert"].body["properties"]["criteria"]["allOf"]
    assert f"{criterion['metricMeasureColumn']} = count()" in query
    assert (criterion["operator"], criterion["threshold"]) == ("LessThan", 1)
    assert criterion["timeAggregation"] == "Total"  # of the one row that `count()` always gives
    assert criterion["failingPeriods"] == {
        "numberOfEvaluationPeriods": 1,
        "minFailingPeriodsToAlert": 1,
    }


def test_the_alert_is_on_and_told_to_somebody() -> None:
    """It asks the app's own telemetry, tells every action group, and ends when a run completes."""
    properties = ALERT.resources["alert"].body["properties"]
    assert (properties["enabled"], properties["autoMitigate"]) == (True, True)
    assert properties["scopes"] == ["componentId"]
    assert properties["actions"] == {"actionGroups": "actionGroupIds"}
    groups = load(MAIN).modules["alertNoCompleteSync"].arguments["actionGroupIds"]
    assert names_in(load(MAIN), groups) == {"alertActionGroupIds", "ownActionGroupIds"}
    own = load(MAIN).variables["ownActionGroupIds"]["operator"]["operands"]
    assert (own["condition"], own["false_value"]) == ("makeActionGroup", [])
    made = load(MAIN).variables["makeActionGroup"]
    assert names_in(load(MAIN), made) == {"createAlerts", "alertEmail"}
    assert load(MAIN).parameters["createAlerts"].default is True


def test_storage_vault_and_app_send_diagnostics() -> None:
    """Each service sends its metrics to the workspace; deletions of code and secrets are logged."""
    found = {
        (template.path.stem, str(resource.body["scope"])): resource.body["properties"]
        for template, resource in resources("Microsoft.Insights/diagnosticSettings")
    }
    assert set(found) == {
        ("storage", "account"),
        ("storage", "blobServices"),
        ("storage", "queueServices"),
        ("storage", "tableServices"),
        ("key-vault", "vault"),
        ("function-app", "app"),
    }
    for properties in found.values():
        assert properties["workspaceId"] == "logWorkspaceId"
        assert [item["enabled"] for item in properties["metrics"]] == [True]
    always = {
        (*place, item["category"])
        for place, properties in found.items()
        for item in properties.get("logs", ())
        if item["enabled"] is True
    }
    assert always == {
        ("storage", "blobServices", "StorageDelete"),
        ("key-vault", "vault", "AuditEvent"),
    }


def test_the_alert_gives_a_run_three_ticks() -> None:
    """One late run is no alarm, three missing ones are."""
    assert DEFAULT_SCHEDULE.split()[1] == "*/15"
    properties = ALERT.resources["alert"].body["properties"]
    assert (properties["windowSize"], properties["evaluationFrequency"]) == ("PT45M", "PT15M")


def test_the_page_asks_for_our_indicators() -> None:
    """Each of its queries looks at what carries the source system that the uploads carry."""
    assert PAGE.variables["received"].endswith(f"where SourceSystem == \\'{SOURCE_SYSTEM}\\'")
    config = PAGE.resources["page"].body["properties"]["connectorUiConfig"]
    queries = [
        value
        for part in ("graphQueries", "sampleQueries", "dataTypes", "connectivityCriteria")
        for value in parse_values(config[part])
        if isinstance(value, str) and ("\n" in value or "\\n" in value or value == "received")
    ]
    assert len(queries) == 6
    (criterion,) = config["connectivityCriteria"]
    assert criterion["type"] == "IsConnectedQuery"
    assert "project IsConnected = LastReceived > ago(" in criterion["value"][0]
    assert "summarize Time = max(TimeGenerated)" in config["dataTypes"][0]["lastDataReceivedQuery"]
    assert all(query == "received" or query.startswith("${received}") for query in queries)


def test_the_page_and_the_alert_can_be_left_out() -> None:
    """Both are optional, and the page is deployed to where the workspace is."""
    modules = load(MAIN).modules
    assert modules["sentinelPage"].condition == "createSentinelPage"
    assert modules["alertNoCompleteSync"].condition == "createAlerts"
    assert modules["sentinelPage"].body["scope"] == modules["sentinelAccess"].body["scope"]
