"""Alert and connector page ask for what the code writes."""

import re

from common.events import Event
from common.settings import DEFAULT_SCHEDULE
from consumer.sentinel import SOURCE_SYSTEM
from tests.bicep.template import BICEP, MAIN, load, parse_values

ALERT = load(BICEP / "modules/alert-no-complete-sync.bicep")
PAGE = load(BICEP / "modules/sentinel-page.bicep")


def test_the_alert_waits_for_the_event_of_success() -> None:
    """It counts the line that a complete sync run logs, as the code spells it."""
    query = ALERT.variables["completeRuns"]
    assert re.findall(r'startswith "(.*?) "', query) == [Event.SYNC_COMPLETE.value]
    (criterion,) = ALERT.resources["alert"].body["properties"]["criteria"]["allOf"]
    assert f"{criterion['metricMeasureColumn']} = count()" in query
    assert (criterion["operator"], criterion["threshold"]) == ("LessThan", 1)


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
    assert all(query == "received" or query.startswith("${received}") for query in queries)


def test_the_page_and_the_alert_can_be_left_out() -> None:
    """Both are optional, and the page is deployed to where the workspace is."""
    modules = load(MAIN).modules
    assert modules["sentinelPage"].condition == "createSentinelPage"
    assert modules["alertNoCompleteSync"].condition == "createAlerts"
    assert modules["sentinelPage"].body["scope"] == modules["sentinelAccess"].body["scope"]
