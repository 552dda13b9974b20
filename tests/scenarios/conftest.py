"""Worlds for scenarios: each has its own storage account, simulators and host processes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.cloud import LocalCloud
from local.services.azurite import Azurite
from local.services.feed import Feed, SyntheticFeed
from local.services.tls import LocalCertificates
from tests.log_guard import LogGuard
from tests.scenarios.world import Options, World, open_world

NewWorld = Callable[..., World]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """One throw-away CA for all worlds: making it is the slow part."""
    return LocalCertificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def new_world(
    azurite: Azurite,
    account: str,
    certificates: LocalCertificates,
    tmp_path: Path,
    log_guard: LogGuard,
) -> Iterator[NewWorld]:
    """Makes the test's world; everything in it is stopped, and its logs checked, in the end."""
    clouds: list[LocalCloud] = []
    with ExitStack() as stack:

        def make(feed: Feed | None = None, **options: Options) -> World:
            feed = SyntheticFeed(2500) if feed is None else feed
            cloud = LocalCloud(
                feed,
                azurite=azurite,
                account=account,
                certificates=certificates,
                directory=tmp_path,
                **options,  # type: ignore[arg-type]
            )
            clouds.append(cloud)
            log_guard.forbid(cloud.secrets)
            return open_world(stack.enter_context(cloud), feed)

        yield make
    for path in (path for cloud in clouds for path in cloud.log_paths):
        log_guard.check_file(path)
