"""Our own storage throttles, drops connections, or is restarted in the middle of everything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from local.cloud import LocalCloud
from local.services.azurite import Azurite
from local.services.feed import SyntheticFeed
from local.services.storage_proxy import Refusal, Rule
from local.services.storage_requests import Service
from local.services.tls import LocalCertificates
from tests.log_guard import LogGuard
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import (
    CONSUMER,
    PRODUCER,
    World,
    assert_conserved,
    log_lines,
    open_world,
    until,
)

SHORT_LEASE = {"RUN_LEASE": "1"}
SERVICES: tuple[Service, ...] = ("queue", "table")


def test_throttled_storage_delays_and_loses_nothing(new_world: NewWorld) -> None:
    """`ServerBusy` for a stretch, while the run enqueues and chunks are delivered."""
    world = new_world(SyntheticFeed(900), page_size=200, proxied=True, settings=SHORT_LEASE)
    proxy = world.cloud.proxy
    assert proxy is not None
    host = world.cloud.start_host(queue_lease=2)
    stretches = [
        proxy.inject(Rule(service=service, answer=Refusal(), skip=12, times=6))
        for service in SERVICES
    ]
    world.sync(host)
    world.deliver_all()
    assert all(stretch.hits > 3 for stretch in stretches)
    assert not world.poison()
    assert_conserved(world)


@pytest.mark.parametrize("drop", ["before", "after"])
def test_lost_connections_to_storage_cost_repetitions_only(
    new_world: NewWorld, drop: Literal["before", "after"]
) -> None:
    """Of both services every third request is dropped, before storage acted or after it did."""
    world = new_world(SyntheticFeed(900), page_size=200, proxied=True, settings=SHORT_LEASE)
    proxy = world.cloud.proxy
    assert proxy is not None
    host = world.cloud.start_host(queue_lease=2)
    drops = {
        service: [
            proxy.inject(Rule(service=service, drop=drop, skip=skip, times=1))
            for skip in range(3, 30, 3)
        ]
        for service in SERVICES
    }
    world.sync(host)
    world.deliver_all()
    for service in SERVICES:
        assert sum(one.hits for one in drops[service]) > 3
    assert not world.poison()
    assert_conserved(world)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"": (409, "TableBeingDeleted")}, "is being deleted"),
        (
            {"create_table": (409, "TableAlreadyExists"), "": (404, "TableNotFound")},
            "was made just now",
        ),
    ],
    ids=["being deleted", "just made"],
)
def test_tables_that_come_and_go_use_up_no_attempt(
    new_world: NewWorld, answers: dict[str, tuple[int, str]], told: str
) -> None:
    """Every chunk waits and says why, as long as it lasts; then all arrive."""
    world = new_world(SyntheticFeed(600), proxied=True, settings=SHORT_LEASE)
    proxy = world.cloud.proxy
    assert proxy is not None
    world.sync(world.cloud.start_host(disabled=CONSUMER))
    chunks = len(world.chunks())
    rules = [
        proxy.inject(
            Rule(
                service="table",
                operation=operation or None,
                answer=Refusal(status=status, code=code),
            )
        )
        for operation, (status, code) in answers.items()
    ]
    host = world.cloud.start_host(disabled=PRODUCER)
    until(lambda: len(log_lines(host, "chunk-deferred")) >= chunks, "every chunk is deferred")
    for line in log_lines(host, "chunk-deferred"):
        assert told in line
        assert '"attempt":0' in line
    for rule in rules:
        rule.remove()
    world.deliver_all()
    assert not world.poison()
    assert_conserved(world)


@pytest.fixture
def lasting_azurite(tmp_path: Path) -> Iterator[Azurite]:
    """An Azurite of the test's own, which keeps its data when it is restarted."""
    with Azurite(data=tmp_path / "azurite") as server:
        yield server


@pytest.fixture
def lasting_world(
    lasting_azurite: Azurite, certificates: LocalCertificates, tmp_path: Path, log_guard: LogGuard
) -> Iterator[World]:
    """A world whose storage can be restarted."""
    feed = SyntheticFeed(1500)
    with LocalCloud(
        feed,
        azurite=lasting_azurite,
        certificates=certificates,
        directory=tmp_path / "world",
        page_size=150,
        settings=SHORT_LEASE,
    ) as cloud:
        log_guard.forbid(cloud.secrets)
        yield open_world(cloud, feed)
        for path in cloud.log_paths:
            log_guard.check_file(path)


def test_storage_that_restarts_mid_run_keeps_everything(
    lasting_world: World, lasting_azurite: Azurite
) -> None:
    """Storage goes away while pages are enqueued and chunks delivered, and comes back."""
    world = lasting_world
    host = world.cloud.start_host(queue_lease=2)
    world.fire_timer(host)
    until(lambda: world.cloud.sentinel.requests > 2, "chunks are being delivered")
    lasting_azurite.restart()
    world.sync(host)
    world.deliver_all()
    assert not world.poison()
    assert_conserved(world)
