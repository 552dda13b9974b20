"""Azurite's launcher: accounts, persistence, and what it says when something is missing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient
from azure.storage.queue import QueueClient

from local.services.azurite import Azurite, AzuriteUnavailableError, account_key, find_azurite


def test_accounts_are_isolated(azurite: Azurite, new_account: Callable[[], str]) -> None:
    """What one account holds is not there in another, on one Azurite."""
    mine, others = (azurite.connection_string(new_account()) for _ in range(2))
    QueueClient.from_connection_string(mine, "mine").create_queue()
    other = QueueClient.from_connection_string(others, "mine")
    with pytest.raises(ResourceNotFoundError):
        other.get_queue_properties()


def test_unknown_account(azurite: Azurite) -> None:
    """An account that was not created up front is refused at once, by name."""
    with pytest.raises(KeyError, match="stranger"):
        azurite.connection_string("stranger")


def test_keys_differ() -> None:
    """Each account has its own key, so that a mix-up of accounts is an error."""
    assert account_key("world001") != account_key("world002")


def test_restart_keeps_ports_and_data(azurite: Azurite, tmp_path: Path) -> None:
    """With a data folder, a restart keeps ports, messages and entities."""
    with Azurite(data=tmp_path, accounts=["one"]) as server:
        connection = server.connection_string("one")
        queue = QueueClient.from_connection_string(connection, "work")
        queue.create_queue()
        queue.send_message("kept")
        with TableClient.from_connection_string(connection, "ledger") as table:
            table.create_table()
            table.create_entity({"PartitionKey": "a", "RowKey": "b", "count": 7})
            server.restart()
            assert server.connection_string("one") == connection
            assert table.get_entity("a", "b")["count"] == 7
        message = queue.receive_message()
        assert message is not None
        assert message.content == "kept"


def test_missing_azurite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Azurite is not installed, one line says what to run."""
    monkeypatch.setenv("AZURITE_HOME", str(tmp_path))
    with pytest.raises(AzuriteUnavailableError, match="npm ci") as caught:
        find_azurite()
    assert "\n" not in str(caught.value)
