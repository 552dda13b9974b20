"""What simulators are tested with: a throw-away CA, a client that trusts it, a clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local.services.tls import LocalCertificates


class Clock:
    """A clock that stands until it is moved."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The simulator's clock."""
    return Clock()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """Certificates for every simulator of the run."""
    return LocalCertificates(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def client(certificates: LocalCertificates) -> Iterator[requests.Session]:
    """A keep-alive session that trusts the local CA and goes through no proxy."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(certificates.authority)
        yield session
