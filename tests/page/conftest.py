"""What the tests of the page share: a browser, and a local cloud with much on record.

They need the set-up of `make test-page`, which runs them; `make test` skips them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import open_browser
from benchmarks.full_ledger import fill
from local.cloud import LocalCloud
from local.functions_host.process import HostProcess
from local.services.azurite import Azurite
from local.services.feed import ListFeed
from local.services.tls import LocalCertificates
from tests.scenarios.world import CONSUMER, PRODUCER, World, open_world

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium: an installed one, else the one of the npm package."""
    if not os.environ.get("TEST_PAGE"):
        pytest.skip("make test-page runs it")
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def full(
    azurite: Azurite,
    new_account: Any,
    certificates: LocalCertificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[World, HostProcess]]:
    """A world with a thousand runs and ten thousand kept messages, and its app."""
    feed = ListFeed()
    with LocalCloud(
        feed,
        azurite=azurite,
        account=new_account(),
        certificates=certificates,
        directory=tmp_path_factory.mktemp("page"),
    ) as cloud:
        world = open_world(cloud, feed)
        fill(world.tables, destination=world.destination)
        yield world, cloud.start_host(disabled=(*CONSUMER, *PRODUCER))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """One throw-away CA."""
    return LocalCertificates(tmp_path_factory.mktemp("tls"))


def run_of_poison(world: World) -> str:
    """Return the run of which all messages were given up."""
    return next(iter(world.ledger.poison.entries())).run_id
