"""The alerts follow the schedule, the changes of an operator, and where incidents are made."""

from pathlib import Path
from typing import Any

import pytest

from scripts.compiler import Compiler
from tests.compiler.inputs import GUID, WORKSPACE, predict

RULES = "Microsoft.Insights/scheduledQueryRules"
INCIDENTS = "Microsoft.SecurityInsights/alertRules"


def made(found: dict[str, Any], type_: str) -> dict[str, dict[str, Any]]:
    """Return the properties of what was made of a type, by their titles."""
    return {
        item["properties"]["displayName"].removeprefix("Lumen feed: "): item["properties"]
        for item in found["predictedResources"]
        if item["type"] == type_
    }


@pytest.mark.parametrize(
    ("schedule", "window"),
    [
        ("0 */5 * * * *", "PT45M"),
        ("0 */15 * * * *", "PT45M"),
        ("0  */20 * * * *", "PT1H"),
        ("30 */30 * * * *", "PT2H"),
        ("0 7 * * * *", "PT3H"),
        ("0 0,15,30,45 * * * *", "PT3H"),  # may be uneven: counts as an hour
        ("0 0 */2 * * *", "PT6H"),
        ("0 0 */8 * * *", "P1D"),
        ("0 0 6 * * *", "P2D"),
        ("0 */15 * * * MON-FRI", "P2D"),
    ],
)
def test_the_window_is_three_ticks(
    schedule: str, window: str, compiler: Compiler, tmp_path: Path
) -> None:
    """Of the schedule, rounded up to what Azure Monitor allows; never less than 45 minutes."""
    found = made(predict(compiler, tmp_path, {"lumenSchedule": schedule}), RULES)
    assert found["no sync run came further in three ticks"]["windowSize"] == window


def test_an_alert_can_be_changed(compiler: Compiler, tmp_path: Path) -> None:
    """Switched off, graver, asked more often, muted; a muted one does not end by itself."""
    changes = {
        "backlog": {"enabled": False},
        "gap": {"severity": 0, "frequency": "PT5M", "mute": "PT4H"},
    }
    found = made(predict(compiler, tmp_path, {"alertChanges": changes}), RULES)
    assert "the backlog has grown for an hour" not in found
    gap = found["a run has a gap"]
    assert (gap["severity"], gap["evaluationFrequency"]) == (0, "PT5M")
    assert (gap["muteActionsDuration"], gap["autoMitigate"]) == ("PT4H", False)
    assert found["the books do not balance"]["muteActionsDuration"] is None


def test_alerts_can_be_incidents(compiler: Compiler, tmp_path: Path) -> None:
    """The same alerts, in Sentinel's workspace and about this app alone; nothing is mailed."""
    inputs: dict[str, object] = {
        "alertsInSentinel": True,
        "logWorkspaceResourceId": WORKSPACE.upper().replace("/SUBSCRIPTIONS", "/subscriptions"),
        "alertEmail": "soc@example.com",
        "applicationClientId": GUID,
        "applicationPrincipalId": GUID,
        "applicationCredentialEnds": "2027-01-31",
    }
    found = predict(compiler, tmp_path, inputs)
    mailed = predict(compiler, tmp_path, inputs | {"alertsInSentinel": False})
    incidents = made(found, INCIDENTS)
    assert incidents.keys() == made(mailed, RULES).keys()
    assert not made(found, RULES)
    types = [item["type"] for item in found["predictedResources"]]
    assert "Microsoft.Insights/actionGroups" not in types
    (component,) = (
        item["id"]
        for item in found["predictedResources"]
        if item["type"] == "Microsoft.Insights/components"
    )
    for incident in incidents.values():
        assert f'_ResourceId =~ "{component}"' in incident["query"]
        assert incident["incidentConfiguration"]["createIncident"]
        assert incident["severity"] in {"High", "Medium", "Low"}
