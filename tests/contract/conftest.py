"""Each contract, held by the fake in memory and by the real service alike."""

import pytest

from common.ledger import Ledger, open_ledger
from common.ledger.tables import AzureTables, Tables
from common.settings import Secret, StorageSettings
from local.services.azurite import Azurite
from tests.contract.hooked_tables import HookedTables
from tests.fakes.tables import FakeTables


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> StorageSettings:
    """An account of Azurite that no other test uses."""
    azurite: Azurite = request.getfixturevalue("azurite")
    account: str = request.getfixturevalue("account")
    return StorageSettings(connection_string=Secret(azurite.connection_string(account)))


@pytest.fixture(params=["fake", "azurite"])
def tables(request: pytest.FixtureRequest) -> Tables:
    """Tables in memory, then those of an Azurite account."""
    if request.param == "fake":
        return FakeTables()
    return AzureTables(request.getfixturevalue("storage"))


@pytest.fixture
def hooked(tables: Tables) -> HookedTables:
    """The tables, with a hook."""
    return HookedTables(tables)


@pytest.fixture
def ledger(hooked: HookedTables) -> Ledger:
    """An empty ledger, whose operations pass the hook."""
    return open_ledger(hooked)


@pytest.fixture
def other(tables: Tables) -> Ledger:
    """The same ledger as another instance sees it, without the hook."""
    return open_ledger(tables)
