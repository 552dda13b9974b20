"""A simulated Lumen, and a client of it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.backoff import Backoff
from common.settings import Secret
from common.transport import PlainSession
from local.services.feed import SyntheticFeed
from local.services.lumen_api import LumenApi
from local.services.tls import LocalCertificates
from producer.lumen import LumenClient
from tests.contract.lumen.calls import KEY, TRIES
from tests.fakes.clock import FakeClock


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """Certificates that only this module's client trusts."""
    return LocalCertificates(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def api(certificates: LocalCertificates) -> Iterator[LumenApi]:
    """A running Lumen with five indicators on three pages."""
    feed = SyntheticFeed(5)
    with LumenApi(feed, api_key=KEY, certificates=certificates, page_size=2) as simulator:
        yield simulator


@pytest.fixture
def clock() -> FakeClock:
    """The time between two tries."""
    return FakeClock()


@pytest.fixture
def client(
    api: LumenApi, certificates: LocalCertificates, clock: FakeClock
) -> Iterator[LumenClient]:
    """The client under test."""
    with PlainSession() as session:
        session.trust_env = False
        session.verify = str(certificates.authority)
        yield LumenClient(
            base_url=api.url,
            api_key=Secret(KEY),
            backoff=Backoff(tries=TRIES, base=1.0, cap=60.0),
            clock=clock,
            rng=random.Random(0),  # noqa: S311 - a fixed seed
            session=session,
        )
