"""What every test may use: one Azurite for the whole run, and an account of its own for each test.

Without Azurite a test is skipped on a laptop and fails where `CI` is set.
"""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from local.azurite import ACCOUNTS, Azurite, AzuriteUnavailableError

settings.register_profile("pipeline", deadline=None)  # a slow machine is no failure
settings.load_profile("pipeline")


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
    return lambda: next(unused)


@pytest.fixture
def account(new_account: Callable[[], str]) -> str:
    """A storage account that no other test uses."""
    return new_account()
