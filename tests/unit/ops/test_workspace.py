"""The workspace as operators' tools open it: by the settings that it takes, and no other."""

import pytest

from common.errors import SettingsError
from common.workspace import AzureWorkspace
from ops.workspace import open_workspace
from tests.fakes.clock import FakeClock

ENVIRON = {
    "WORKSPACE_ID": "11111111-2222-4333-8444-555555555555",
    "TENANT_ID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "CLIENT_ID": "99999999-8888-7777-6666-555555555555",
}


@pytest.mark.parametrize("name", ["SENTINEL_AUDIENCE", "SENTINEL_BASE_URL", "LUMEN_BASE_URL"])
def test_a_setting_of_another_service_does_not_matter(name: str) -> None:
    """The workspace can be asked while uploads, or the sync, have a wrong setting."""
    workspace = open_workspace(FakeClock(), {**ENVIRON, name: "no address"})
    assert isinstance(workspace, AzureWorkspace)


@pytest.mark.parametrize("name", ["WORKSPACE_ID", "SENTINEL_QUERY_URL", "SENTINEL_QUERY_AUDIENCE"])
def test_a_setting_of_its_own_is_named(name: str) -> None:
    """A wrong one is an error with its name."""
    with pytest.raises(SettingsError, match=name):
        open_workspace(FakeClock(), {**ENVIRON, name: "no address"})
