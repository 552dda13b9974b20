"""Worlds for the local host: each has an account, a queue, a journal and its host processes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.storage.queue import QueueClient, QueueMessage

from local.functions_host.process import HostProcess
from local.services.azurite import Azurite

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True, kw_only=True)
class World:
    """What one test has to itself: a storage account, a queue, a journal and its hosts."""

    connection: str
    folder: Path
    hosts: list[HostProcess]

    @property
    def queue(self) -> QueueClient:
        return QueueClient.from_connection_string(self.connection, "work")

    @property
    def poison_queue(self) -> QueueClient:
        return QueueClient.from_connection_string(self.connection, "work-poison")

    def start(
        self, app: str = "worker", *, enable: tuple[str, ...] = ("work",), **options: Any
    ) -> HostProcess:
        """A host of a fixture app; of its queue functions only those in `enable` listen."""
        disabled = {"work", "poison"} - set(enable)
        settings = {
            "STORAGE": self.connection,
            "QUEUE": "work",
            "SCHEDULE": "0 0 0 1 1 *",
            "JOURNAL": str(self.folder),
            "PYTHON_THREADPOOL_THREAD_COUNT": "8",
            **{f"AzureWebJobs.{name}.Disabled": "true" for name in disabled},
            **options.pop("settings", {}),
        }
        log_path = self.folder / f"host-{len(self.hosts)}.log"
        host = HostProcess.start(APPS / app, settings, log_path=log_path, **options)
        self.hosts.append(host)
        return host

    def send(self, do: str, name: str = "1") -> None:
        self.queue.send_message(json.dumps({"do": do, "id": name}))

    def release(self, name: str = "all") -> None:
        (self.folder / f"release-{name}").touch()

    def journal(self, *events: str) -> list[dict[str, Any]]:
        """What the functions wrote so far, of these events."""
        path = self.folder / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if entry["event"] in events]

    def poisoned(self) -> list[QueueMessage]:
        """The messages that are visible in the poison queue; none while there is no queue."""
        service = self.poison_queue
        try:
            return list(service.peek_messages(max_messages=32))
        except Exception as error:
            if getattr(error, "status_code", None) != 404:
                raise
            return []

    def queue_length(self) -> int:
        return self.queue.get_queue_properties().approximate_message_count or 0


@contextmanager
def new_world(azurite: Azurite, account: str, folder: Path) -> Iterator[World]:
    """A world with its queue; its hosts are killed in the end."""
    connection = azurite.connection_string(account)
    world = World(connection=connection, folder=folder, hosts=[])
    world.queue.create_queue()
    try:
        yield world
    finally:
        for host in world.hosts:
            host.kill()


@pytest.fixture
def world(azurite: Azurite, account: str, tmp_path: Path) -> Iterator[World]:
    """A world of the test's own."""
    with new_world(azurite, account, tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def shared_world(
    azurite: Azurite,
    new_account: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A world with one running host for the tests of a module that leave it as it is."""
    with new_world(azurite, new_account(), tmp_path_factory.mktemp("world")) as world:
        world.start(enable=())
        yield world
