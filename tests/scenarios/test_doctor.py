"""The doctor on the local cloud: all is well, then what each service really answers to a fault."""

from datetime import UTC, datetime, timedelta

import pytest

from local.services.feed import ListFeed
from local.services.tls import BUNDLE_VARIABLES
from ops.checks import examine_all
from ops.doctor import State
from tests.scenarios.conftest import NewWorld
from tests.scenarios.versions import version
from tests.scenarios.world import World

NOWHERE = (
    "DefaultEndpointsProtocol=http;AccountName=gone;AccountKey=Z29uZQ==;"
    "QueueEndpoint=http://127.0.0.1:1/gone;TableEndpoint=http://127.0.0.1:1/gone;"
)


def examined(world: World, **changes: str) -> dict[str, tuple[State, str]]:
    """Examine a world with some settings changed; return state and words by line."""
    found = examine_all({**world.cloud.app_settings(), **changes})
    return {line.name: (line.state, f"{line.text}; {line.remedy}") for line in found}


def test_the_doctor_asks_the_real_services(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Green as a whole; then one fault after the other shows in its line, and nowhere else."""
    world = new_world(ListFeed())
    for name in BUNDLE_VARIABLES:
        monkeypatch.setenv(name, world.cloud.app_settings()[name])
    found = examined(world)
    assert {name: line for name, line in found.items() if line[0] is State.PROBLEM} == {}
    assert found["upload"][0] is State.OK
    assert "accepted (404" in found["key for Lumen"][1]
    assert "a row was written" in found["writing to a table"][1]
    assert found["asking the workspace"][0] is State.OK
    assert "this shows nothing" in found["republished rows"][1]
    assert world.cloud.lumen.queries_started == 0
    assert not world.cloud.sentinel.accepted
    assert world.slots.next_free() is not None

    for name, told, changes in (
        ("key for Lumen", "refuses it (401)", {"LUMEN_API_KEY": "another"}),
        ("token", "AADSTS", {"CLIENT_SECRET": "another"}),
        ("upload", "WORKSPACE_ID", {"WORKSPACE_ID": world.cloud.app_settings()["TENANT_ID"]}),
        ("key for Lumen", "no answer", {"LUMEN_BASE_URL": "https://127.0.0.1:1"}),
        ("queue sentinel-upload", "private endpoints", {"PipelineStorage": NOWHERE}),
    ):
        found = examined(world, **changes)
        assert found[name][0] is State.PROBLEM
        assert told in found[name][1]
    world.cloud.workspace.behaviour.role_granted = False
    found = examined(world)
    assert found["asking the workspace"][0] is State.PROBLEM
    assert "Sentinel Contributor" in found["asking the workspace"][1]
    assert found["republished rows"][0] is State.NOT_ASKED
    found = examined(world, ARRIVAL_CHECK="false")
    assert found["asking the workspace"][0] is State.NOT_ASKED
    world.cloud.workspace.behaviour.role_granted = True
    now = datetime.now(UTC)
    for number, days, said in (
        (1, 7, "this shows nothing"),
        (2, 30, "though 1 older rows are valid"),
    ):
        ends = (now + timedelta(days=days)).isoformat()
        world.cloud.workspace.ahead = 0.0
        world.cloud.workspace.ingest([{**version(number), "valid_until": ends}])
        world.cloud.workspace.ahead = timedelta(days=15).total_seconds()
        assert said in examined(world)["republished rows"][1]
    world.cloud.sentinel.behaviour.role_granted = False
    found = examined(world)
    assert "Sentinel Contributor" in found["upload"][1]
    assert "set REUPLOAD_AFTER_DAYS to 7" in found["republished rows"][1]
    world.cloud.workspace.republish()
    assert "REUPLOAD_AFTER_DAYS may stay 0" in examined(world)["republished rows"][1]
