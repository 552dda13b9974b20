"""What the tests of the template share: the resource types, asked once."""

import os
from pathlib import Path

import pytest

from tests.bicep.arm_types import ResourceType, SchemaToolMissingError, describe
from tests.bicep.template import templates


@pytest.fixture(scope="session")
def arm_types(pytestconfig: pytest.Config) -> dict[str, ResourceType]:
    """Every type that the template uses; skips without the schema tool, but fails in CI."""
    used = {resource.type for item in templates() for resource in item.resources.values()}
    assert pytestconfig.cache is not None
    try:
        return describe(used, cache=Path(pytestconfig.cache.mkdir("arm-types")))
    except SchemaToolMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
