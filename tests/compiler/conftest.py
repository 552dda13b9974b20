"""What the tests that compile share: the running compiler. `make check-template` runs them.

They need `bicep` on the path. `make test` skips them, in CI too: check-template is a step of its
own there, which fails where the compiler should be and is not.
"""

import os
from collections.abc import Iterator

import pytest

from scripts.compiler import Compiler


@pytest.fixture(scope="session")
def compiler() -> Iterator[Compiler]:
    """The compiler; skips unless it was asked for."""
    if not os.environ.get("CHECK_TEMPLATE"):
        pytest.skip("make check-template runs it")
    with Compiler() as running:
        yield running
