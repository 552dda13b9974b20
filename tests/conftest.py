"""What every test may use: one Azurite for the whole run, an account for each test, a log guard.

Without Azurite a test is skipped on a laptop and fails where `CI` is set.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from local.services.azurite import ACCOUNTS, Azurite, AzuriteUnavailableError
from tests.log_guard import LogGuard
from tests.patience import PATIENCE

SETTLE = 0.02

# A slow machine is no failure, and the same examples are tried each time: a change is judged by
# what it changes. `make test ARGS=--hypothesis-profile=search` looks for new ones.
settings.register_profile(
    "search", deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "pipeline", settings.get_profile("search"), derandomize=True, database=None
)
settings.load_profile("pipeline")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names binary values after their parameter; pytest numbers them.

    What is compressed or encrypted may hold the time, and then two workers collect different tests.
    """
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return argname
    return None


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azurite, started when the first test asks for it."""
    try:
        server = Azurite()
    except AzuriteUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def new_account() -> Callable[[], str]:
    """Returns, at each call, the name of a storage account that nobody else uses."""
    unused = iter(ACCOUNTS[1:])

    def take() -> str:
        name = next(unused, None)
        assert name, f"all {len(ACCOUNTS)} accounts are taken: raise their number in azurite.py"
        return name

    return take


@pytest.fixture
def account(new_account: Callable[[], str]) -> str:
    """A storage account that no other test uses."""
    return new_account()


@pytest.fixture(autouse=True)
def log_guard() -> Iterator[LogGuard]:
    """Fails the test that logs a secret, a credential or an indicator's body."""
    guard = LogGuard()
    root = logging.getLogger()
    level = root.level
    root.addHandler(guard)
    root.setLevel(logging.INFO)
    try:
        yield guard
    finally:
        root.setLevel(level)
        root.removeHandler(guard)
    assert not guard.offences


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds; fails when it does not come true in good time."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(SETTLE)

    return wait
